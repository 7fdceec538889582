//! Requests to the API server: pages of Event objects, and the lines of a watch. Whatever an answer's size, memory has a bound.

use std::time::Duration;

use adapter::chain;
use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::{Client, client::Body};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::timeout;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use crate::{
    config::Config,
    failure::{Failure, Verb},
    identity::{Access, access},
    wire::Status,
};

/// The server may take a minute for a request (`--request-timeout`); a page of 500 takes it milliseconds.
const ANSWER_MAX: Duration = Duration::from_secs(70);

/// A page of 500 Event objects is about 600 KiB; a larger one is asked for again in smaller pages.
const PAGE_MAX_BYTES: usize = 16 * 1024 * 1024;

/// etcd takes objects of 1.5 MiB; as JSON, and with what is escaped in them, they stay far below this.
const LINE_MAX_BYTES: usize = 16 * 1024 * 1024;

/// A refusal's message is a sentence.
const STATUS_MAX_BYTES: usize = 64 * 1024;

/// How long one watch lasts. Rights and credentials are checked when one begins: what was taken away is noticed, and what was
/// rotated is used, within this.
pub(crate) const WATCH: Duration = Duration::from_secs(30);

pub(crate) struct Upstream {
    client: Client,
    server: String,
    path: String,
}

impl Upstream {
    pub(crate) async fn connect(config: &Config) -> Result<Self, Failure> {
        let Access { client, server } = access(&config.identity).await?;
        let path = match &config.namespace {
            Some(namespace) => format!(
                "/api/v1/namespaces/{}/events",
                utf8_percent_encode(namespace, NON_ALPHANUMERIC)
            ),
            None => "/api/v1/events".to_owned(),
        };
        Ok(Self { client, server, path })
    }

    /// The API server's address: holds no credential.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// One page of the list, `limit` objects at most; `next` is from the page before.
    pub(crate) async fn page(&self, limit: u32, next: Option<&str>) -> Result<Bytes, Failure> {
        let mut query = format!("limit={limit}");
        if let Some(next) = next {
            query += &format!("&continue={}", utf8_percent_encode(next, NON_ALPHANUMERIC));
        }
        let read = async {
            let answer = self.get(&query, Verb::List).await?;
            body(answer, PAGE_MAX_BYTES).await
        };
        in_time(read.with_subscriber(NoSubscriber::new())).await
    }

    /// Changes after a version.
    pub(crate) async fn watch(&self, version: u64) -> Result<Lines, Failure> {
        let seconds = WATCH.as_secs();
        let query = format!("watch=true&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={seconds}");
        let answer = in_time(self.get(&query, Verb::Watch).with_subscriber(NoSubscriber::new())).await?;
        Ok(Lines {
            body: answer.into_body(),
            buffer: BytesMut::new(),
            scanned: 0,
        })
    }

    async fn get(&self, query: &str, verb: Verb) -> Result<Response<Body>, Failure> {
        let request = Request::get(format!("{}?{query}", self.path))
            .header(header::ACCEPT, "application/json")
            // Newer servers compress each line of a watch by itself, which few clients can read.
            .header(header::ACCEPT_ENCODING, "identity")
            .body(Body::empty())
            .map_err(|error| Failure::Malformed(error.to_string()))?;
        let answer = self.client.send(request).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(refusal(answer, verb).await)
    }
}

/// The library logs each failed request as an error; here it is a condition, so callers let it log nothing.
async fn in_time<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = |_| Failure::Unreachable(format!("no answer within {} s", ANSWER_MAX.as_secs()));
    timeout(ANSWER_MAX, work).await.map_err(late)?
}

async fn refusal(answer: Response<Body>, verb: Verb) -> Failure {
    let code = answer.status();
    let retry_after = answer
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let retry_after = retry_after
        .and_then(|value| value.trim().parse().ok())
        .map(Duration::from_secs);
    let text = body(answer, STATUS_MAX_BYTES).await.unwrap_or_default();
    let status = serde_json::from_slice(&text).unwrap_or_else(|_| Status {
        code: code.as_u16(),
        message: code.canonical_reason().unwrap_or_default().to_owned(),
    });
    failed(status, code.as_u16(), verb, retry_after)
}

/// A refusal, whether it came as an answer or as a line of a watch.
pub(crate) fn failed(status: Status, code: u16, verb: Verb, retry_after: Option<Duration>) -> Failure {
    let answer = status.message;
    match StatusCode::from_u16(code) {
        Ok(StatusCode::GONE) => Failure::Gone,
        Ok(StatusCode::UNAUTHORIZED) => Failure::Rejected,
        Ok(StatusCode::FORBIDDEN) => Failure::Forbidden { verb, answer },
        _ => Failure::Status {
            code,
            answer,
            retry_after,
        },
    }
}

async fn body(answer: Response<Body>, limit: usize) -> Result<Bytes, Failure> {
    let collected = Limited::new(answer.into_body(), limit).collect().await;
    let collected = collected.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => Failure::TooLarge { limit },
        None => Failure::Unreachable(chain(&*error)),
    })?;
    Ok(collected.to_bytes())
}

/// The lines of a watch.
pub(crate) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// The buffer's first bytes that are known to hold no line's end.
    scanned: usize,
}

impl Lines {
    /// The next line; `None` at the watch's end. A line that the end cuts off is dropped: it is read again by the next watch.
    ///
    /// Cancel safe: what came stays in the buffer.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(line) = self.buffered_line() {
                return Ok(Some(line));
            }
            if self.buffer.len() > LINE_MAX_BYTES {
                return Err(Failure::TooLarge { limit: LINE_MAX_BYTES });
            }
            let frame = self.body.frame().with_subscriber(NoSubscriber::new()).await;
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Failure::Unreachable(chain(&error))),
            }
        }
    }

    /// Takes a line that is in the buffer already.
    pub(crate) fn buffered_line(&mut self) -> Option<Bytes> {
        let end = self.buffer.get(self.scanned..)?.iter().position(|byte| *byte == b'\n');
        let Some(end) = end else {
            self.scanned = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.scanned + end).freeze();
        self.buffer.advance(1);
        self.scanned = 0;
        Some(line)
    }
}
