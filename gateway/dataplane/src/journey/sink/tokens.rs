//! The tokens of one destination: OAuth 2.0 client credentials (RFC 6749, 4.4), sent as RFC 6750 says.
//!
//! A token is kept until shortly before it expires. While it is fetched all deliveries wait for that one request, and share its
//! failure. A fetch is part of the attempt that needs the token, and counts into its timeout.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST},
};
use http_body_util::Full;
use parking_lot::Mutex;
use serde_json::Value;
use spec::{Reason, model::OAuth2};
use tokio::time::{Instant, timeout_at};
use url::form_urlencoded;

use super::{
    FAILURE_BODY_MAX, NoAnswer, authority,
    connections::{Connections, Peer},
    credentials::{Unusable, basic, bearer, hidden},
    path_and_query, read_up_to, refused_host, without_credentials,
};

/// The wait for a token endpoint; the attempt's own timeout may be shorter.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Longer than any token with claims; what is longer is no answer of a token endpoint.
const ANSWER_MAX_BYTES: usize = FAILURE_BODY_MAX;

/// The lifetime of a token whose answer names none (RFC 6749, 5.1 recommends that it does).
const LIFETIME_DEFAULT: Duration = Duration::from_secs(300);

/// A token that says to be good for longer is fetched again after this time: a withdrawn right ends some day.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// A token is not used in the last tenth of its life, and never in its last 30 s: the request has to arrive, and clocks differ.
const SPARE_SHARE: u32 = 10;
const SPARE_MAX: Duration = Duration::from_secs(30);

/// The longest error code of a token endpoint that is shown.
const CODE_MAX: usize = 64;

/// There is no token, so nothing was sent to the destination.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct TokenFailure {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
    /// The answer's body, at most [`FAILURE_BODY_MAX`] bytes of it, where it is no success: that one holds a token.
    pub(crate) body: Bytes,
}

#[derive(Clone)]
struct Token {
    /// `Bearer TOKEN`.
    value: HeaderValue,
    good_until: Instant,
}

/// A failed fetch, and when it ended.
type Failed = (Instant, Arc<TokenFailure>);

pub(super) struct Tokens {
    /// The endpoint, without credentials and query.
    display: String,
    target: Uri,
    headers: HeaderMap,
    body: Bytes,
    connections: Connections,
    /// The client's secret in the forms that an endpoint may repeat.
    secrets: Vec<Bytes>,
    current: Mutex<Option<Token>>,
    /// Held during a fetch.
    fetching: tokio::sync::Mutex<Option<Failed>>,
}

impl Tokens {
    pub(super) fn new(client: &OAuth2) -> Result<Self, Unusable> {
        let url = &client.token_url;
        let display = without_credentials(url);
        let invalid = |why: String| (Reason::InvalidTarget, format!("auth.oauth2.tokenURL {display}: {why}"));
        refused_host(url).map_err(|why| (Reason::EgressRefused, format!("auth.oauth2.tokenURL {display}: {why}")))?;
        let connections = Connections::new(url, Peer::Subscriber, 1, None).map_err(|(_, why)| invalid(why))?;
        // RFC 6749, 2.3.1: both are encoded as in a form before they are joined.
        let form = |bytes: &[u8]| form_urlencoded::byte_serialize(bytes).collect::<String>();
        let secret = form(client.client_secret.expose());
        let (authorization, encoded) = basic(form(client.client_id.as_bytes()).as_bytes(), secret.as_bytes());
        let mut headers = HeaderMap::new();
        headers.insert(HOST, authority(url).map_err(&invalid)?);
        headers.insert(AUTHORIZATION, authorization);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        let secrets = [client.client_secret.expose(), secret.as_bytes(), encoded.as_bytes()];
        Ok(Self {
            target: path_and_query(url).map_err(&invalid)?,
            headers,
            body: body(client),
            connections,
            secrets: secrets.map(Bytes::copy_from_slice).into(),
            current: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            display,
        })
    }

    /// Returns the current token, and fetches one where there is none.
    ///
    /// # Cancel safety
    /// Dropped, the fetch ends; the next delivery begins another one.
    pub(super) async fn token(&self, deadline: Instant) -> Result<HeaderValue, NoAnswer> {
        match self.current() {
            Some(token) => Ok(token),
            None => self.fetched(None, deadline).await,
        }
    }

    /// Returns another token than this one, which the destination refused.
    pub(super) async fn instead_of(&self, refused: &HeaderValue, deadline: Instant) -> Result<HeaderValue, NoAnswer> {
        self.fetched(Some(refused), deadline).await
    }

    fn current(&self) -> Option<HeaderValue> {
        let current = self.current.lock();
        let token = current.as_ref().filter(|token| token.good_until > Instant::now());
        token.map(|token| token.value.clone())
    }

    async fn fetched(&self, refused: Option<&HeaderValue>, deadline: Instant) -> Result<HeaderValue, NoAnswer> {
        let asked = Instant::now();
        let turn = timeout_at(deadline, self.fetching.lock()).await;
        let mut last = turn.map_err(|_elapsed| NoAnswer::Token(self.timed_out()))?;
        // Another delivery may have fetched it during the wait.
        if let Some(token) = self.current().filter(|token| Some(token) != refused) {
            return Ok(token);
        }
        if let Some((at, failure)) = &*last
            && *at >= asked
        {
            return Err(NoAnswer::Token(failure.clone()));
        }
        let fetch = timeout_at(deadline.min(Instant::now() + FETCH_TIMEOUT), self.fetch());
        let failure = match fetch
            .await
            .unwrap_or_else(|_elapsed| Err(NoAnswer::Token(self.timed_out())))
        {
            Ok(token) => {
                *last = None;
                let value = token.value.clone();
                *self.current.lock() = Some(token);
                return Ok(value);
            }
            Err(NoAnswer::Token(failure)) => failure,
            Err(other) => return Err(other),
        };
        *last = Some((Instant::now(), failure.clone()));
        Err(NoAnswer::Token(failure))
    }

    async fn fetch(&self) -> Result<Token, NoAnswer> {
        let asked = Instant::now();
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.headers.clone();
        let sent = self.connections.send(request).await;
        let (response, used) = sent.map_err(|none| self.no_answer(none))?;
        let (head, body) = response.into_parts();
        let read = read_up_to(body, ANSWER_MAX_BYTES).await;
        let (bytes, is_whole) = read.map_err(|none| self.no_answer(none))?;
        if is_whole {
            self.connections.give_back(used);
        }
        if !head.status.is_success() {
            let code = error_code(&bytes).map(|code| format!(" ({code})")).unwrap_or_default();
            let mut failure = self.failure(&format!("answered {}{code}", head.status.as_u16()));
            failure.body = hidden(bytes, self.secrets.iter().map(|secret| &**secret));
            return Err(NoAnswer::Token(failure.into()));
        }
        let token = parse(&bytes, asked).map_err(|why| NoAnswer::Token(self.failure(why).into()))?;
        tracing::debug!(endpoint = self.display, "fetched a token");
        Ok(token)
    }

    fn no_answer(&self, none: NoAnswer) -> NoAnswer {
        match none {
            // The gateway itself lacks something: that is no attempt.
            NoAnswer::NotSent(why) => NoAnswer::NotSent(why),
            NoAnswer::Egress(refused) => NoAnswer::Token(Arc::new(TokenFailure {
                reason: Reason::EgressRefused,
                ..self.failure(&format!("is not connected to: its address {refused}"))
            })),
            other => NoAnswer::Token(self.failure(&format!("gives no answer: {other}")).into()),
        }
    }

    fn timed_out(&self) -> Arc<TokenFailure> {
        self.failure("gives no answer in time").into()
    }

    fn failure(&self, what: &str) -> TokenFailure {
        TokenFailure {
            reason: Reason::TokenUnavailable,
            detail: format!("the token endpoint {} {what}", self.display),
            body: Bytes::new(),
        }
    }
}

fn body(client: &OAuth2) -> Bytes {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !client.scopes.is_empty() {
        form.append_pair("scope", &client.scopes.join(" "));
    }
    if let Some(audience) = &client.audience {
        form.append_pair("audience", audience);
    }
    form.finish().into()
}

/// Reads a successful answer (RFC 6749, 5.1). The message repeats nothing of it.
fn parse(answer: &[u8], asked: Instant) -> Result<Token, &'static str> {
    let answer: Value = serde_json::from_slice(answer).map_err(|_| "answered with something else than JSON")?;
    let is_bearer = answer["token_type"]
        .as_str()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
    if !is_bearer {
        return Err("answered with a token_type that is not Bearer");
    }
    let token = answer["access_token"].as_str().filter(|token| !token.is_empty());
    let token = token.ok_or("answered without an access_token")?;
    let value = bearer(token.as_bytes()).ok_or("answered with an access_token that no header can carry")?;
    let lifetime = lifetime(&answer["expires_in"]).min(LIFETIME_MAX);
    let spare = (lifetime / SPARE_SHARE).min(SPARE_MAX);
    Ok(Token {
        value,
        good_until: asked + (lifetime - spare),
    })
}

/// Some servers write the number as text.
fn lifetime(expires_in: &Value) -> Duration {
    let seconds = match expires_in {
        Value::String(text) => text.parse().ok(),
        other => other.as_f64(),
    };
    let lifetime = seconds.map(|seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO));
    lifetime.unwrap_or(LIFETIME_DEFAULT)
}

/// The `error` of RFC 6749, 5.2: one word.
fn error_code(answer: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let code = answer["error"].as_str()?;
    let is_word = code
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    (is_word && code.len() <= CODE_MAX).then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_used_until_shortly_before_it_expires() {
        let now = Instant::now();
        for (expires_in, good_secs) in [
            ("3600", 3570),
            ("\"3600\"", 3570),
            ("100", 90),
            ("0", 0),
            ("-5", 0),
            ("1e300", 0),
            ("99999999", 86_370),
            ("null", 270),
        ] {
            let answer = format!(r#"{{"access_token":"t","token_type":"bearer","expires_in":{expires_in}}}"#);
            let token = parse(answer.as_bytes(), now).expect(expires_in);
            assert_eq!(token.good_until - now, Duration::from_secs(good_secs), "{expires_in}");
            assert_eq!(token.value, "Bearer t");
        }
    }

    /// Proves: SR-6
    #[tokio::test(start_paused = true)]
    async fn an_answer_that_holds_no_usable_token_is_not_repeated() {
        for answer in [
            "hunter2",
            r#"{"access_token":"hunter2","token_type":"mac"}"#,
            r#"{"access_token":"hunter2"}"#,
            r#"{"access_token":"hunter2\n","token_type":"Bearer"}"#,
            r#"{"access_token":"","token_type":"Bearer"}"#,
        ] {
            let why = parse(answer.as_bytes(), Instant::now()).err().expect(answer);
            assert!(!why.contains("hunter2"), "{why}");
        }
        assert_eq!(
            error_code(br#"{"error":"invalid_client"}"#).as_deref(),
            Some("invalid_client")
        );
        assert_eq!(error_code(br#"{"error":"a secret, perhaps"}"#), None);
    }
}
