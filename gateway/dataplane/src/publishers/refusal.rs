//! Why a request of a publisher is refused, and how that is answered.

use std::time::Duration;

use http::StatusCode;
use spec::{Cause, Reason};

use super::limit::Exceeded;

/// A person has to act, or an identity provider has to come back.
const LATER: Duration = Duration::from_secs(10);

/// A refused request. The message goes to the sender and into the log: it holds no credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The secret of a publisher is missing or unusable, or the keys of its identity provider are. What exactly is a condition
    /// of the channel: it is the operator's to know.
    pub(super) fn unavailable(cause: &Cause) -> Self {
        let message = "the credential cannot be checked right now, see the channel's conditions: come again";
        Self {
            retry_after: Some(LATER),
            ..Self::new(cause.reason, message)
        }
    }

    pub(super) fn unknown_token() -> Self {
        let message = "the token is none of a publisher of this channel";
        Self::new(Reason::CredentialInvalid, message)
    }

    /// Says what the channel takes: a token, a signature in one of these headers, or either.
    pub(super) fn no_credential(takes_tokens: bool, headers: &[&str]) -> Self {
        let token = takes_tokens.then(|| "a token (Authorization: Bearer TOKEN)".to_owned());
        let signature = (!headers.is_empty()).then(|| format!("a signature ({})", headers.join(" or ")));
        let ways: Vec<String> = token.into_iter().chain(signature).collect();
        let message = format!(
            "this channel takes events of its publishers alone: send {}",
            ways.join(", or ")
        );
        Self::new(Reason::CredentialMissing, message)
    }

    /// The signature covers a part of the event alone.
    pub(super) fn signed_in_part() -> Self {
        let message = "a signature covers the body alone, and this event has attributes in headers: send it in structured \
                       mode (content-type: application/cloudevents+json) or as a batch";
        Self::new(Reason::SignatureInvalid, message)
    }

    /// Whether the same request may be good later.
    pub(super) fn is_retriable(&self) -> bool {
        self.retry_after.is_some()
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self.reason {
            Reason::CredentialMissing | Reason::CredentialInvalid | Reason::SignatureInvalid => {
                StatusCode::UNAUTHORIZED
            }
            Reason::PublisherForbidden => StatusCode::FORBIDDEN,
            Reason::LimitReached => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<Exceeded> for Refusal {
    fn from(exceeded: Exceeded) -> Self {
        Self {
            retry_after: Some(exceeded.retry_after),
            ..Self::new(Reason::LimitReached, exceeded.to_string())
        }
    }
}
