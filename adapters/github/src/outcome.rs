//! The outcome of a delivery: its name in metrics and logs, and the answer to GitHub.

use std::time::Duration;

use adapter::{HookAnswer, Refused};
use http::StatusCode;

/// A channel that is not open yet usually is within seconds.
const NO_CHANNEL_RETRY_AFTER: Duration = Duration::from_secs(5);

/// The outcomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Stored,
    /// GitHub's greeting to a new webhook.
    Ping,
    /// Its event is not in `eventTypes`.
    Filtered,
    /// Not sent by GitHub: a header is missing.
    HeaderMissing,
    SignatureInvalid,
    UnsupportedFormat,
    /// The body is no JSON object, or what it says cannot be an event.
    Invalid,
    TooLarge,
    Full,
    DiskFull,
    Unavailable,
    Draining,
    NoChannel,
}

impl Outcome {
    /// In the order of their declaration.
    pub const ALL: [Self; 13] = [
        Self::Stored,
        Self::Ping,
        Self::Filtered,
        Self::HeaderMissing,
        Self::SignatureInvalid,
        Self::UnsupportedFormat,
        Self::Invalid,
        Self::TooLarge,
        Self::Full,
        Self::DiskFull,
        Self::Unavailable,
        Self::Draining,
        Self::NoChannel,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "Stored",
            Self::Ping => "Ping",
            Self::Filtered => "NotWanted",
            Self::HeaderMissing => "HeaderMissing",
            Self::SignatureInvalid => "SignatureInvalid",
            Self::UnsupportedFormat => "UnsupportedFormat",
            Self::Invalid => "Invalid",
            Self::TooLarge => "TooLarge",
            Self::Full => "Full",
            Self::DiskFull => "DiskFull",
            Self::Unavailable => "Unavailable",
            Self::Draining => "Draining",
            Self::NoChannel => "NoChannel",
        }
    }

    /// Counts it among what all sources count alike. What a stranger sent is no fact of upstream.
    pub(crate) fn count(self, counters: &adapter::Counters) {
        match self {
            Self::Stored => {
                counters.received(1);
                counters.stored(1);
            }
            Self::Filtered => counters.filtered(1),
            Self::UnsupportedFormat | Self::Invalid => counters.invalid(1),
            Self::TooLarge | Self::Full | Self::DiskFull | Self::Unavailable | Self::Draining | Self::NoChannel => {
                counters.received(1);
                counters.refused(1);
            }
            Self::Ping | Self::HeaderMissing | Self::SignatureInvalid => {}
        }
    }

    /// Whether a person may have to look: everything but the usual.
    pub(crate) fn is_refusal(self) -> bool {
        !matches!(self, Self::Stored | Self::Ping | Self::Filtered)
    }
}

/// A delivery's end: the word, and what GitHub is told.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) outcome: Outcome,
    pub(crate) answer: HookAnswer,
}

impl Answered {
    pub(crate) fn new(outcome: Outcome, status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            outcome,
            answer: HookAnswer::new(status, message),
        }
    }
}

/// 503 makes GitHub record a failed delivery, which can be delivered again; what is too large will not fit later either.
impl From<Refused> for Answered {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        let (outcome, retry_after) = match refused {
            Refused::TooLarge { .. } => return Self::new(Outcome::TooLarge, StatusCode::PAYLOAD_TOO_LARGE, message),
            Refused::Full { retry_after } => (Outcome::Full, retry_after),
            Refused::DiskFull { retry_after } => (Outcome::DiskFull, retry_after),
            Refused::Unavailable { retry_after, .. } => (Outcome::Unavailable, retry_after),
            Refused::Draining { retry_after } => (Outcome::Draining, retry_after),
            Refused::NoChannel => (Outcome::NoChannel, NO_CHANNEL_RETRY_AFTER),
        };
        let mut answered = Self::new(outcome, StatusCode::SERVICE_UNAVAILABLE, message);
        answered.answer.retry_after = Some(retry_after);
        answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_counted_in_its_own_place() {
        for (place, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, place, "{outcome:?}");
        }
    }
}
