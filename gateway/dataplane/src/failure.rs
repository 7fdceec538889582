//! Why a delivery did not succeed: the facts that a retry, a dead letter, a log line and a metric label need alike.

use std::time::Duration;

use bytes::Bytes;

use crate::sink::NoAnswer;

/// Stable words, the same in `headgatereason`, in metric labels, in logs and in docs/reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// No connection, or it broke before an answer.
    SinkUnreachable,
    /// No whole answer within `delivery.timeout`.
    SinkTimeout,
    /// An answer that is retried, and the attempts ran out.
    SinkError,
    /// An answer that is not retried.
    SinkRejected,
    /// The reply's target refused it for good.
    ReplyRefused,
    /// The reply's target could not take it, and the attempts ran out.
    ReplyFailed,
    ReplyTooLarge,
    FilterError,
    /// More channels passed than `--max-hops`.
    Loop,
}

impl Reason {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::SinkUnreachable => "SinkUnreachable",
            Self::SinkTimeout => "SinkTimeout",
            Self::SinkError => "SinkError",
            Self::SinkRejected => "SinkRejected",
            Self::ReplyRefused => "ReplyRefused",
            Self::ReplyFailed => "ReplyFailed",
            Self::ReplyTooLarge => "ReplyTooLarge",
            Self::FilterError => "FilterError",
            Self::Loop => "Loop",
        }
    }
}

/// One failed try, or why there was none.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    /// Where it was going: a URL without credentials, or `channel NAMESPACE/NAME`.
    pub(crate) destination: String,
    /// The HTTP status; `None` when there was no answer.
    pub(crate) code: Option<u16>,
    /// The answer's body, at most `sink::FAILURE_BODY_MAX` bytes of it.
    pub(crate) body: Bytes,
    pub(crate) retry_after: Option<Duration>,
    /// For people: what happened, in a phrase.
    pub(crate) detail: String,
}

impl Failure {
    pub(crate) fn new(reason: Reason, destination: &str, detail: impl Into<String>) -> Self {
        let (code, body, retry_after) = (None, Bytes::new(), None);
        Self {
            reason,
            destination: destination.to_owned(),
            code,
            body,
            retry_after,
            detail: detail.into(),
        }
    }

    pub(crate) fn no_answer(none: &NoAnswer, destination: &str) -> Self {
        let reason = match none {
            NoAnswer::Timeout => Reason::SinkTimeout,
            NoAnswer::Connect(_) | NoAnswer::Broken(_) => Reason::SinkUnreachable,
        };
        Self::new(reason, destination, none.to_string())
    }

    /// Does it look as if the sink were down (DL-8)? No answer, 5xx or 429.
    pub(crate) fn is_outage(&self) -> bool {
        match self.code {
            Some(code) => code == 429 || code >= 500,
            None => matches!(self.reason, Reason::SinkUnreachable | Reason::SinkTimeout),
        }
    }
}
