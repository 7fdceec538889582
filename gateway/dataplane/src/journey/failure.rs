//! The failure of a delivery, with the facts that retries, dead letters, log lines and metric labels need.

use std::time::Duration;

use bytes::Bytes;
pub(crate) use spec::Reason;

use super::{breaker::NotTaken, sink::NoAnswer};

/// One failed attempt, or why there was none.
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
            NoAnswer::Egress(_) => Reason::EgressRefused,
            NoAnswer::Token(failure) => failure.reason,
            NoAnswer::Connect(_) | NoAnswer::Broken(_) | NoAnswer::NotSent(_) => Reason::SinkUnreachable,
        };
        let mut failure = Self::new(reason, destination, none.to_string());
        if let NoAnswer::Token(token) = none {
            failure.body = token.body.clone();
        }
        failure
    }

    /// Returns what the failure shows about the sink (DL-8). `None`: nothing, as with a 409, which may concern this event alone.
    pub(crate) fn not_taken(&self) -> Option<NotTaken> {
        match (self.reason, self.code) {
            (Reason::SinkRejected, _) => Some(NotTaken::Refused),
            (_, Some(404 | 408 | 425 | 429 | 500..=599))
            | (
                Reason::SinkUnreachable | Reason::SinkTimeout | Reason::EgressRefused | Reason::TokenUnavailable,
                None,
            ) => Some(NotTaken::Failed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: DL-8
    #[test]
    fn each_failure_says_what_the_contract_lists() {
        let failure = |reason, code| Failure {
            code,
            ..Failure::new(reason, "http://sink/", "")
        };
        for code in [404, 408, 425, 429, 500, 503, 599] {
            let verdict = failure(Reason::SinkError, Some(code)).not_taken();
            assert_eq!(verdict, Some(NotTaken::Failed), "{code}");
        }
        assert_eq!(failure(Reason::SinkError, Some(409)).not_taken(), None);
        for code in [301, 400, 401, 403, 410, 413, 422] {
            let verdict = failure(Reason::SinkRejected, Some(code)).not_taken();
            assert_eq!(verdict, Some(NotTaken::Refused), "{code}");
        }
        for reason in [
            Reason::SinkUnreachable,
            Reason::SinkTimeout,
            Reason::EgressRefused,
            Reason::TokenUnavailable,
        ] {
            assert_eq!(failure(reason, None).not_taken(), Some(NotTaken::Failed));
        }
        // The subscriber took the event.
        assert_eq!(failure(Reason::ReplyTooLarge, None).not_taken(), None);
    }
}
