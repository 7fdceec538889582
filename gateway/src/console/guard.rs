//! Whom the console lets pass, and the headers of everything it sends.
//!
//! The rules are those of the admin API (`admin::access`). A browser sends a cookie instead of a token, so a change needs more: it must
//! come from a page of ours, which the browser says in `Origin` or `Sec-Fetch-Site`, and carry the text that our form holds.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use spec::{ObjectName, Reason};
use subtle::ConstantTimeEq;
use url::{Url, form_urlencoded};

use super::{Console, Trouble, assets, documents, layout, login, urls};
use crate::admin::{
    Refusal, Remote,
    access::{Intent, Token},
    guard::log_change,
};

/// Forms are a few fields; the largest holds pasted documents.
const FORM_MAX_BYTES: usize = 1024 * 1024;

/// A form must be whole within this time.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// An error's text that is not ours is a phrase.
const ERROR_MAX_BYTES: usize = 4096;

/// Nothing inline, nothing from elsewhere, in no other page's frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // Browsers say `Origin: null` for forms where no address may be told at all.
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    ),
];

/// The visitor of a page.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    pub(super) token: Token,
    /// May change things.
    pub(super) may_operate: bool,
    /// Has a session that can be ended.
    pub(super) has_session: bool,
    /// Whether there are tokens to log in with.
    pub(super) may_log_in: bool,
    /// The text that forms must carry.
    pub(super) form_token: String,
    pub(super) remote: SocketAddr,
    /// Path and query of the page.
    pub(super) address: String,
}

impl Visitor {
    /// Logs a change as the admin API does.
    pub(super) fn log(&self, what: &str, subscription: &ObjectName, count: usize) {
        log_change(what, &subscription.to_string(), count, self.token, self.remote);
    }
}

/// The fields of a form that was sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    /// Returns a field, empty when there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// Lets pass who may, and sees to it that every answer is safe to show.
pub(super) async fn guard(State(console): State<Console>, request: Request<Body>, next: Next) -> Response {
    let visitor = visitor(&console, &request);
    let mut answer = match admit(&console, &visitor, request).await {
        Ok(request) => {
            let answer = next.run(request).await;
            explained(&console, &visitor, answer).await
        }
        Err(answer) => answer,
    };
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let cache = headers.entry(header::CACHE_CONTROL);
    cache.or_insert(HeaderValue::from_static("no-store"));
    answer
}

fn visitor(console: &Console, request: &Request<Body>) -> Visitor {
    let access = console.0.admin.access();
    let session = login::session(request.headers(), console);
    let token = access.token(request.headers(), session.as_deref());
    let remote = request.extensions().get::<Remote>();
    Visitor {
        token,
        may_operate: access.allows(Intent::Change, token),
        has_session: session.is_some() && token != Token::None,
        may_log_in: access.has_tokens(),
        form_token: access.form_token(session.as_deref()),
        remote: remote.map_or_else(|| console.0.admin.address(), |remote| remote.0),
        address: request
            .uri()
            .path_and_query()
            .map_or("/", |address| address.as_str())
            .to_owned(),
    }
}

/// The request with who sent it, and with its form; or the answer to one that is not let pass.
async fn admit(console: &Console, visitor: &Visitor, request: Request<Body>) -> Result<Request<Body>, Response> {
    let access = console.0.admin.access();
    let refuse = |refusal: Refusal| layout::stranger(&Trouble::from(refusal));
    access.check_host(&request).map_err(refuse)?;
    let path = request.uri().path();
    let is_open = assets::is_asset(path) || path == login::PATH;
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
    if is_reading && !is_open {
        access
            .permit(Intent::Read, visitor.token)
            .map_err(|refusal| match refusal.reason {
                Reason::Unauthorized => to_login(visitor, request.headers()),
                _ => refuse(refusal),
            })?;
    }
    let mut request = request;
    if !is_reading {
        if !came_from_here(&request) {
            let message = "the request does not come from a page of this gateway: changes need `Origin` or `Sec-Fetch-Site` of its own \
                           pages; programs use the admin API";
            return Err(refuse(access.refuse(
                StatusCode::FORBIDDEN,
                Reason::ForeignForm,
                message,
            )));
        }
        if let Some(intent) = intent(request.uri().path()) {
            access.permit(intent, visitor.token).map_err(refuse)?;
        }
        let fields = form(&mut request).await.map_err(refuse)?;
        if !bool::from(fields.text("form").as_bytes().ct_eq(visitor.form_token.as_bytes())) {
            let message = "the form is not one of this session: go back, load the page again and repeat it";
            return Err(refuse(access.refuse(
                StatusCode::FORBIDDEN,
                Reason::ForeignForm,
                message,
            )));
        }
        request.extensions_mut().insert(fields);
    }
    request.extensions_mut().insert(visitor.clone());
    Ok(request)
}

/// The right that a form needs. Logging in and out changes nothing of the gateway.
fn intent(path: &str) -> Option<Intent> {
    match path {
        login::PATH | "/ui/logout" => None,
        documents::VALIDATE_PATH => Some(Intent::Read),
        _ => Some(Intent::Change),
    }
}

/// A link in another site's page, an alert for example, sends no cookie along. The page is then loaded once more by a page of ours.
fn to_login(visitor: &Visitor, headers: &HeaderMap) -> Response {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site == Some(b"cross-site") && !visitor.has_session {
        return layout::again(&visitor.address);
    }
    let next = urls::with_query(login::PATH, [("next", visitor.address.as_str())]);
    Redirect::to(&next).into_response()
}

/// Whether a form was sent by a page of ours: browsers say where it stood, and a page cannot make them say another thing.
fn came_from_here<T>(request: &Request<T>) -> bool {
    let text = |name: HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    let site = text(HeaderName::from_static("sec-fetch-site"));
    // HTTP/2 has the host in the target.
    let host = text(header::HOST).or_else(|| request.uri().authority().map(Authority::as_str));
    match (site, text(header::ORIGIN)) {
        (Some(site), _) if site != "same-origin" => false,
        (_, Some(origin)) => host.is_some_and(|host| is_at(origin, host)),
        (site, None) => site.is_some(),
    }
}

/// Whether an origin is at this host and port, whichever of http and https.
fn is_at(origin: &str, host: &str) -> bool {
    let Ok(origin) = Url::parse(origin) else { return false };
    if !matches!(origin.scheme(), "http" | "https") {
        return false;
    }
    let asked = Url::parse(&format!("{}://{host}/", origin.scheme()));
    asked.is_ok_and(|asked| asked.origin() == origin.origin())
}

async fn form(request: &mut Request<Body>) -> Result<Form, Refusal> {
    let body = std::mem::take(request.body_mut());
    let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !kind.is_some_and(|kind| kind.starts_with(b"application/x-www-form-urlencoded")) {
        let message = "the console takes forms: send application/x-www-form-urlencoded, or use the admin API";
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Reason::UnsupportedMediaType,
            message,
        ));
    }
    let body = tokio::time::timeout(FORM_TIMEOUT, axum::body::to_bytes(body, FORM_MAX_BYTES)).await;
    let body = match body {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => {
            let message = format!("the form cannot be read, or is larger than {FORM_MAX_BYTES} bytes: {error}");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Reason::TooLarge, message));
        }
        Err(_elapsed) => {
            let message = format!("the form did not come within {} s", FORM_TIMEOUT.as_secs());
            return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, Reason::Stalled, message));
        }
    };
    let fields = form_urlencoded::parse(&body);
    Ok(Form(
        fields
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect(),
    ))
}

/// Makes a page of what went wrong, also of the framework's own refusals.
async fn explained(console: &Console, visitor: &Visitor, answer: Response) -> Response {
    if let Some(trouble) = answer.extensions().get::<Trouble>().cloned() {
        return layout::trouble(console, visitor, &trouble);
    }
    let is_page = answer
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == layout::HTML);
    let status = answer.status();
    if is_page || !(status.is_client_error() || status.is_server_error()) {
        return answer;
    }
    let body = axum::body::to_bytes(answer.into_body(), ERROR_MAX_BYTES).await;
    let message = match &body {
        Ok(body) if !body.is_empty() => String::from_utf8_lossy(body).into_owned(),
        Ok(_) | Err(_) => status.to_string(),
    };
    layout::trouble(console, visitor, &Trouble::new(status, "This did not work", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: OP-3
    #[test]
    fn a_form_of_another_site_is_not_ours() {
        let cases = [
            (Some("same-origin"), Some("http://localhost:8081"), true),
            (Some("same-origin"), None, true),
            (None, Some("http://localhost:8081"), true),
            (None, Some("https://localhost:8081"), true),
            (None, None, false),
            (None, Some("null"), false),
            (None, Some("http://localhost:8082"), false),
            (None, Some("http://localhost"), false),
            (None, Some("http://evil.example"), false),
            (None, Some("http://localhost:8081.evil.example"), false),
            (None, Some("file://localhost:8081"), false),
            (Some("cross-site"), Some("http://localhost:8081"), false),
            (Some("same-site"), Some("http://localhost:8081"), false),
            (Some("none"), None, false),
            (Some("same-origin"), Some("http://evil.example"), false),
        ];
        for (site, origin, is_ours) in cases {
            let mut request = Request::new(());
            let headers = request.headers_mut();
            headers.insert(header::HOST, HeaderValue::from_static("localhost:8081"));
            if let Some(site) = site {
                headers.insert("sec-fetch-site", HeaderValue::from_static(site));
            }
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(came_from_here(&request), is_ours, "{site:?} {origin:?}");
        }
        assert!(is_at("https://gateway.example", "gateway.example") && is_at("http://[::1]:81", "[::1]:81"));
    }
}
