//! The sink of adapters that run alone, reached by HTTP: its 2xx is the proof of storage (CONTRACT SR-1).
//!
//! Events go one after the other, so that their order is the adapter's. When one is refused those before it are at the sink
//! already and come again with the next try: the same `source` and `id` (CONTRACT SR-2).

use std::time::Duration;

use adapter::{Accept, Accepted, Refused};
use async_trait::async_trait;
use channel::{Durability, Offset, Stored};
use event::Event;
use spec::model::Format;
use url::Url;

use crate::journey::sink::{Answer, HttpSink, NoAnswer, Peer, SendOptions, Unsendable};

/// As long as an attempt of a subscription takes by default.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The wait before a retry, when a refusal names none.
const SOON: Duration = Duration::from_secs(1);

/// The wait after an answer that retrying soon will not change: a person has to act.
const LATER: Duration = Duration::from_secs(30);

/// Connections kept open: adapters store few batches at a time.
const IDLE_MAX: usize = 16;

/// Replies are ignored.
const REPLY_MAX_BYTES: usize = 0;

pub(crate) struct Remote {
    sink: HttpSink,
}

impl Remote {
    pub(crate) fn new(url: &Url) -> Result<Self, Unsendable> {
        Ok(Self {
            sink: HttpSink::new(url, Peer::Operator, IDLE_MAX)?,
        })
    }

    /// Returns the URL without credentials.
    pub(crate) fn display(&self) -> &str {
        self.sink.display()
    }
}

#[async_trait]
impl Accept for Remote {
    async fn accept(&self, events: Vec<Event>) -> Result<Accepted, Refused> {
        let options = SendOptions {
            format: Format::Binary,
            timeout: TIMEOUT,
            max_reply_bytes: REPLY_MAX_BYTES,
        };
        for event in &events {
            let answer = self.sink.send(event, options).await;
            if let Some(refused) = refusal(&answer, event.size(), self.display()) {
                return Err(refused);
            }
        }
        // How durably the sink stored it is unknown: the weakest promise.
        Ok(Accepted::stored(Stored::at(Durability::Process, Offset(0))))
    }
}

/// Returns the refusal that an answer stands for; `None` for a 2xx.
fn refusal(answer: &Result<Answer, NoAnswer>, bytes: usize, sink: &str) -> Option<Refused> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(none) => {
            return Some(Refused::Unavailable {
                reason: format!("{sink}: {none}"),
                retry_after: SOON,
            });
        }
    };
    let retry_after = |otherwise| answer.retry_after.unwrap_or(otherwise);
    match answer.status {
        200..=299 => None,
        // The sink's limit is unknown; it is below this size.
        413 => Some(Refused::TooLarge {
            bytes,
            limit: bytes.saturating_sub(1),
        }),
        429 => Some(Refused::Full {
            retry_after: retry_after(SOON),
        }),
        507 => Some(Refused::DiskFull {
            retry_after: retry_after(LATER),
        }),
        status => Some(Refused::Unavailable {
            reason: format!("{sink} answered {status}"),
            retry_after: retry_after(match status {
                408 | 425 | 500..=599 => SOON,
                _ => LATER,
            }),
        }),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::journey::sink::Body;

    /// Proves: SR-1, SR-5
    #[test]
    fn only_a_2xx_is_proof_and_a_refusal_says_when_to_come_again() {
        let answered = |status, retry_after: Option<u64>| {
            let answer = Answer {
                status,
                retry_after: retry_after.map(Duration::from_secs),
                body: Body::Bytes(Bytes::new()),
            };
            refusal(&Ok(answer), 10, "http://sink/")
        };
        for status in [200, 202, 204] {
            assert!(answered(status, None).is_none(), "{status}");
        }
        let cases = [
            (429, Some(7), "Full", Some(7)),
            (503, Some(7), "Unavailable", Some(7)),
            (503, None, "Unavailable", Some(1)),
            (507, None, "DiskFull", Some(30)),
            (302, None, "Unavailable", Some(30)),
            (404, None, "Unavailable", Some(30)),
            (413, None, "TooLarge", None),
        ];
        for (status, asked, reason, again) in cases {
            let found = answered(status, asked).map(|refused| (refused.reason().as_str(), refused.retry_after()));
            assert_eq!(found, Some((reason, again.map(Duration::from_secs))), "{status}");
        }
        let none = refusal(&Err(NoAnswer::Timeout), 10, "http://sink/").map(|refused| refused.to_string());
        assert!(none.is_some_and(|text| text.contains("http://sink/")));
    }
}
