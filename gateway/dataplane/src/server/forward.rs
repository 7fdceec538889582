//! Forwards requests for paths that another process serves, once, and passes its answer back unchanged.
//!
//! The whole body is read first, within the bounds of a request that is answered here. Every failure on the way is a 503: the
//! sender retries, and an event that was stored although its answer was lost comes twice, with the same id. A request that was
//! forwarded already is not forwarded again, so that two processes cannot forward to each other for ever.
//!
//! About an unknown path the other processes are asked first, without a body: a sender to paths that do not exist costs them
//! a few bytes. Answers are not cached: a path that does not exist now may be created in a moment.

use std::{sync::Arc, time::Duration};

use adapter::chain;
use bytes::Bytes;
use connect::{Connector, Dialer};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{
        CONNECTION, CONTENT_LENGTH, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
        UPGRADE,
    },
    request::Parts,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use spec::Reason;
use tokio::sync::Semaphore;

/// Marks a forwarded request. A sender that sets it itself is answered by the process it reached.
static FORWARDED: HeaderName = HeaderName::from_static("headgate-forwarded");

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Passed on at once. Each holds a body in memory, of which there is a budget, and a connection; a process that is slow for
/// this many is not helped by more.
const AT_ONCE: usize = 256;

/// Questions in flight at once. An answer comes from memory, in a millisecond: this is room for thousands of unknown paths a
/// second, more than a mistaken sender causes; and few enough to leave the permits above to known paths.
const QUESTIONS_AT_ONCE: usize = 32;

/// A process that needs longer to answer a question counts as down.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(3);

/// A process of the same cluster accepts a connection at once, or is gone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Longer than an append takes anywhere, a broker's timeouts included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers are a status and a line of text.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// Closed earlier than the other end does it (120 s), so that no request is written into a closing connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct Forwarder {
    client: Client<Connector, Full<Bytes>>,
    permits: Semaphore,
    questions: Semaphore,
}

/// Why a request was not passed on, or not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("it was passed on already, and is not here")]
    Twice,
    #[error("nobody has it right now")]
    NoOwner,
    #[error("nobody knows right now which replica would know")]
    Leaderless,
    #[error("too many requests are being passed on")]
    Full,
    #[error("the replica that has it does not answer: {0}")]
    Away(String),
}

impl Default for Forwarder {
    fn default() -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connect::replica_connector(Dialer::direct(CONNECT_TIMEOUT)));
        Self {
            client,
            permits: Semaphore::new(AT_ONCE),
            questions: Semaphore::new(QUESTIONS_AT_ONCE),
        }
    }
}

impl Forwarder {
    /// Whether it may be passed on to `owner`; asked before its body is read.
    pub(super) fn may_forward(headers: &HeaderMap, owner: Option<&Arc<str>>) -> Result<(), Unanswered> {
        match owner {
            _ if headers.contains_key(&FORWARDED) => Err(Unanswered::Twice),
            None => Err(Unanswered::NoOwner),
            Some(_) => Ok(()),
        }
    }

    /// Which of the others has something at `path`; none of them where all of them say so. Cancel safe.
    pub(super) async fn ask(
        &self,
        headers: &HeaderMap,
        others: &[Option<Arc<str>>],
        path: &str,
    ) -> Result<Option<Arc<str>>, Unanswered> {
        let others: Option<Vec<_>> = others.iter().map(Option::as_ref).collect();
        let others = others.ok_or(Unanswered::Leaderless)?;
        // The other process asks on its own behalf alone: two processes without the path must not ask on for each other.
        if others.is_empty() || headers.contains_key(&FORWARDED) {
            return Ok(None);
        }
        let _permit = self.questions.try_acquire().map_err(|_| Unanswered::Full)?;
        let mut unsaid = None;
        for other in others {
            let mut question = Request::new(());
            *question.method_mut() = Method::OPTIONS;
            let (head, ()) = question.into_parts();
            let asked = tokio::time::timeout(QUESTION_TIMEOUT, self.forward(head, Bytes::new(), other, path)).await;
            match asked {
                Ok(Ok(answer)) if answer.status() == StatusCode::NOT_FOUND => {}
                Ok(Ok(answer)) if answer.status().is_server_error() => {
                    unsaid = Some(Unanswered::Away(format!("{other} answers {}", answer.status())));
                }
                Ok(Ok(_)) => return Ok(Some(other.clone())),
                Ok(Err(why)) => unsaid = Some(why),
                Err(_elapsed) => {
                    let seconds = QUESTION_TIMEOUT.as_secs();
                    unsaid = Some(Unanswered::Away(format!("no answer within {seconds} s")));
                }
            }
        }
        unsaid.map_or(Ok(None), Err)
    }

    /// Passes it on to `path` at `owner`. Not cancel safe: dropped, it may have arrived.
    pub(super) async fn forward(
        &self,
        head: Parts,
        body: Bytes,
        owner: &str,
        path: &str,
    ) -> Result<Response<Full<Bytes>>, Unanswered> {
        let _permit = self.permits.try_acquire().map_err(|_| Unanswered::Full)?;
        let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let uri: Uri = format!("{owner}/{path}{query}")
            .parse()
            .map_err(|error| Unanswered::Away(format!("{owner}: {error}")))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = head.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = end_to_end(head.headers);
        request.headers_mut().remove(HOST);
        request.headers_mut().remove(CONTENT_LENGTH);
        request.headers_mut().insert(&FORWARDED, HeaderValue::from_static("1"));
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, self.send(request)).await;
        answered.unwrap_or_else(|_elapsed| {
            Err(Unanswered::Away(format!(
                "no answer within {} s",
                ANSWER_TIMEOUT.as_secs()
            )))
        })
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Unanswered> {
        let answer = self.client.request(request).await;
        let (head, body) = answer.map_err(|error| Unanswered::Away(chain(&error)))?.into_parts();
        let body = Limited::new(body, ANSWER_MAX_BYTES).collect().await;
        let body = body.map_err(|error| Unanswered::Away(error.to_string()))?.to_bytes();
        let mut answer = Response::new(Full::new(body));
        *answer.status_mut() = head.status;
        *answer.headers_mut() = end_to_end(head.headers);
        Ok(answer)
    }
}

impl Unanswered {
    /// The refusal's name in metrics and docs/reasons.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Full => Reason::Overloaded,
            Self::Twice | Self::NoOwner | Self::Leaderless | Self::Away(_) => Reason::Elsewhere,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// Without what is between two ends of one connection (RFC 9110, 7.6.1).
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let always = [
        CONNECTION,
        KEEP_ALIVE.clone(),
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    for name in always.iter().chain(&named) {
        headers.remove(name);
    }
    headers
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_belongs_to_a_connection_stays_behind() {
        let sent = headers(&[
            ("connection", "close, x-mine"),
            ("x-mine", "1"),
            ("keep-alive", "5"),
            ("transfer-encoding", "chunked"),
            ("ce-id", "1"),
            ("authorization", "Bearer a"),
        ]);
        let passed = end_to_end(sent);
        assert_eq!(passed, headers(&[("ce-id", "1"), ("authorization", "Bearer a")]));
    }

    #[test]
    fn nothing_is_passed_on_twice_or_to_nobody() {
        let owner: Arc<str> = "http://headgate-0:8080".into();
        assert!(Forwarder::may_forward(&headers(&[]), Some(&owner)).is_ok());
        let twice = Forwarder::may_forward(&headers(&[("headgate-forwarded", "1")]), Some(&owner));
        assert!(matches!(twice, Err(Unanswered::Twice)));
        assert!(matches!(
            Forwarder::may_forward(&headers(&[]), None),
            Err(Unanswered::NoOwner)
        ));
    }

    #[tokio::test]
    async fn more_questions_than_there_is_room_for_are_not_asked() {
        let forwarder = Forwarder::default();
        let others = [Some("http://127.0.0.1:1".into())];
        let all = forwarder
            .questions
            .acquire_many(u32::try_from(QUESTIONS_AT_ONCE).unwrap());
        let all = all.await.unwrap();
        let refused = forwarder.ask(&headers(&[]), &others, "shop/log").await.unwrap_err();
        assert_eq!(refused.reason(), "Overloaded");
        drop(all);
        let away = forwarder.ask(&headers(&[]), &others, "shop/log").await.unwrap_err();
        assert_eq!(away.reason(), "Elsewhere");
    }

    #[tokio::test]
    async fn an_owner_that_is_away_is_said() {
        let (head, ()) = Request::post("/shop/log").body(()).unwrap().into_parts();
        let forwarder = Forwarder::default();
        let gone = forwarder.forward(head, Bytes::new(), "http://127.0.0.1:1", "shop/log");
        let unanswered = gone.await.unwrap_err();
        assert_eq!(
            (unanswered.reason(), unanswered.status()),
            (Reason::Elsewhere, StatusCode::SERVICE_UNAVAILABLE)
        );
    }
}
