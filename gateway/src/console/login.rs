//! Logging in with a token, and out again.

use axum::{
    Extension,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    Console,
    guard::{Form, Visitor},
    layout::{self, Head},
};
use crate::admin::access::{SESSION_SECONDS, Token};

pub(super) const PATH: &str = "/ui/login";

#[derive(Default, Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

/// The session of a request, if it has one. Cookies do not know ports: each gateway of a machine has a name of its own.
pub(super) fn session(headers: &HeaderMap, console: &Console) -> Option<String> {
    let name = cookie(console);
    let cookies = headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.to_owned())
}

fn cookie(console: &Console) -> String {
    format!("headgate-console-{}", console.0.admin.address().port())
}

pub(super) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Query(query): Query<Next>,
) -> Response {
    layout::page(
        &console,
        &visitor,
        &Head::new("Log in"),
        &body(&visitor, &query.next, None),
    )
}

fn body(visitor: &Visitor, next: &str, fault: Option<&str>) -> Markup {
    html! {
        h1 { "Log in" }
        @if !visitor.may_log_in {
            p { "This gateway has no token: everything is open on this machine. Start it with " code { "--admin-token-file" }
                " to ask for one before changes, and with " code { "--admin-read-token-file" } " before reading." }
        } @else {
            @match visitor.token {
                Token::Operate => p { "You are logged in and may change things." },
                Token::Read => p { "You are logged in and may read. To change things, log in with the operate token." },
                Token::None => p { "Type the operate token (" code { "--admin-token" } "), or the read token to see things only." },
            }
            form.stack method="post" action=(PATH) {
                input type="hidden" name="form" value=(visitor.form_token);
                input type="hidden" name="next" value=(next);
                @if let Some(fault) = fault { p.fault role="alert" { (fault) } }
                label for="token" { "Token" }
                input #token type="password" name="token" autocomplete="current-password" required autofocus spellcheck="false";
                button.primary type="submit" { "Log in" }
            }
            p.quiet { "The session lasts 12 hours. It ends at once when the token is replaced." }
        }
    }
}

pub(super) async fn log_in(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Extension(form): Extension<Form>,
    headers: HeaderMap,
) -> Response {
    let next = form.text("next");
    match console.0.admin.access().log_in(form.text("token"), visitor.remote) {
        Ok(session) => {
            let mut answer = Redirect::to(inside(next)).into_response();
            set(&mut answer, &console, &session, SESSION_SECONDS, &headers);
            answer
        }
        Err(refusal) => {
            let fault = body(&visitor, next, Some(&refusal.message));
            let mut answer = layout::page(&console, &visitor, &Head::new("Log in"), &fault);
            *answer.status_mut() = StatusCode::UNAUTHORIZED;
            answer
        }
    }
}

pub(super) async fn log_out(State(console): State<Console>, headers: HeaderMap) -> Response {
    let mut answer = Redirect::to(PATH).into_response();
    set(&mut answer, &console, "", 0, &headers);
    answer
}

fn set(answer: &mut Response, console: &Console, session: &str, seconds: i64, headers: &HeaderMap) {
    // The browser knows better than this process whether it speaks TLS: a proxy may do that.
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
    let secure = if origin.is_some_and(|origin| origin.starts_with(b"https:")) {
        "; Secure"
    } else {
        ""
    };
    let cookie = cookie(console);
    let cookie = format!("{cookie}={session}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

/// An address of the console; the home page for any other.
fn inside(next: &str) -> &str {
    let is_ours = next == "/" || next.starts_with("/?") || next.starts_with("/ui/");
    if is_ours && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        next
    } else {
        "/"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_logging_in_nothing_leads_to_another_site() {
        for address in ["/", "/?namespace=a", "/ui/events/1?channel=a%2Fb"] {
            assert_eq!(inside(address), address);
        }
        for address in [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "/ui/\r\nx: y",
            "",
            "/metrics",
            "ui/",
        ] {
            assert_eq!(inside(address), "/", "{address:?}");
        }
    }
}
