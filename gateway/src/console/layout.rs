//! The frame of every page: head, navigation, the search for an event, and how the gateway is.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Console, Trouble, guard::Visitor, parts, urls};
use parts::Health;

/// The type of every page.
pub(super) const HTML: &str = "text/html; charset=utf-8";

/// The pages that navigation leads to.
const SECTIONS: [(&str, &str); 5] = [
    ("/", "Flow"),
    ("/ui/deadletters", "Dead letters"),
    ("/ui/sources", "Sources"),
    ("/ui/documents", "Documents"),
    ("/ui/health", "Health"),
];

/// The title of a page, and what makes it move.
pub(super) struct Head {
    title: String,
    /// The address of the page's stream, where something on it moves.
    live: Option<String>,
}

impl Head {
    pub(super) fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            live: None,
        }
    }

    /// The page is asked for again when this channel moves.
    pub(super) fn following(self, channel: &spec::ObjectName) -> Self {
        Self {
            live: Some(urls::with_query("/ui/live", [("channel", &*channel.to_string())])),
            ..self
        }
    }

    /// The page is asked for again every few seconds.
    pub(super) fn ticking(self) -> Self {
        Self {
            live: Some("/ui/live".to_owned()),
            ..self
        }
    }
}

fn answer(markup: Markup) -> Response {
    let mut answer = markup.into_string().into_response();
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(HTML));
    answer
}

/// A whole page.
pub(super) fn page(console: &Console, visitor: &Visitor, head: &Head, body: &Markup) -> Response {
    answer(html! {
        (DOCTYPE)
        html lang="en" {
            (self::head(&head.title))
            body data-live=[head.live.as_deref()] {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    a.brand href="/" { (PreEscaped(include_str!("assets/mark.svg"))) "Headgate" }
                    (navigation(console, visitor))
                    (search())
                    (state(console))
                    (who(visitor))
                }
                main #main tabindex="-1" { (body) }
                footer.bottom {
                    span { "Headgate " (env!("CARGO_PKG_VERSION")) }
                    span.live hidden { button type="button" data-pause="" { "Pause updates" } " " span role="status" {} }
                    noscript { span { "Without JavaScript this page shows the moment it was loaded: reload it." } }
                }
            }
        }
    })
}

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " · Headgate" }
            link rel="icon" href="/ui/icon.svg" type="image/svg+xml";
            link rel="stylesheet" href="/ui/style.css";
            script src="/ui/console.js" defer {}
        }
    }
}

fn navigation(console: &Console, visitor: &Visitor) -> Markup {
    let path = visitor.address.split('?').next().unwrap_or_default();
    let dead_letters = console.plane().count_dead_letters(None);
    html! {
        nav aria-label="Pages" {
            ul {
                @for (address, name) in SECTIONS {
                    @let is_here = path == address || (address != "/" && path.starts_with(&format!("{address}/")));
                    li { a href=(address) aria-current=[is_here.then_some("page")] {
                        (name)
                        @if address == "/ui/deadletters" && dead_letters > 0 { " " span.count { (parts::number(dead_letters)) } }
                    } }
                }
            }
        }
    }
}

fn search() -> Markup {
    html! {
        form.search role="search" action="/ui/events" {
            label.unseen for="search" { "Event id" }
            input #search name="id" type="search" placeholder="Event id" required autocomplete="off" spellcheck="false";
            button type="submit" { "Find" }
        }
    }
}

/// Whether the gateway is ready, in a word.
fn state(console: &Console) -> Markup {
    let readiness = console.0.admin.readiness();
    let (health, word) = match (readiness.ready, readiness.degraded.is_empty()) {
        (false, _) => (Health::Bad, "Not ready"),
        (true, false) => (Health::Warning, "Degraded"),
        (true, true) => (Health::Good, "Ready"),
    };
    let why = readiness.reasons.iter().chain(&readiness.degraded).map(String::as_str);
    let why = why.collect::<Vec<_>>().join("; ");
    html! { span.state title=[(!why.is_empty()).then_some(why)] { (parts::chip(health, word)) } }
}

fn who(visitor: &Visitor) -> Markup {
    html! {
        @if visitor.has_session {
            form.who method="post" action="/ui/logout" {
                input type="hidden" name="form" value=(visitor.form_token);
                span { "logged in: " (visitor.token.as_str()) }
                button.link type="submit" { "Log out" }
            }
        } @else if visitor.may_log_in && !visitor.may_operate {
            a.who href=(urls::with_query("/ui/login", [("next", visitor.address.as_str())])) { "Log in" }
        }
    }
}

/// The page of something that did not work.
pub(super) fn trouble(console: &Console, visitor: &Visitor, trouble: &Trouble) -> Response {
    let mut answer = page(console, visitor, &Head::new(&*trouble.title), &explanation(trouble));
    *answer.status_mut() = trouble.status;
    answer
}

fn explanation(trouble: &Trouble) -> Markup {
    html! {
        h1 { (trouble.title) }
        p { (trouble.message) }
        @if let Some(reason) = trouble.reason { p { "Reason: " (parts::reason(reason.as_str())) } }
    }
}

/// The same for who may see nothing of this gateway.
pub(super) fn stranger(trouble: &Trouble) -> Response {
    let mut answer = answer(html! {
        (DOCTYPE)
        html lang="en" {
            (head(&trouble.title))
            body {
                main #main {
                    h1 { (trouble.title) }
                    p { (trouble.message) }
                    @if let Some(reason) = trouble.reason { p { "Reason: " code { (reason) } } }
                    p { a href="/ui/login" { "Log in" } }
                }
            }
        }
    });
    *answer.status_mut() = trouble.status;
    answer
}

/// A page that loads another one of this gateway at once.
pub(super) fn again(address: &str) -> Response {
    let mut answer = answer(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content=(format!("0; url={address}"));
                title { "Headgate" }
            }
            body { main { h1 { "Headgate" } p { a href=(address) { "Continue" } } } }
        }
    });
    *answer.status_mut() = StatusCode::OK;
    answer
}
