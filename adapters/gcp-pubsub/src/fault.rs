//! Faults at Google, as a condition reports them: a stable reason, and what to do.
//!
//! Messages are Google's own words where there are any. They never hold credentials: those go in headers, which are not shown
//! (CONTRACT SR-6).

use adapter::Reason;
use google_cloud_gax::error::{
    Error,
    rpc::{Code, Status},
};

/// Why messages do not come. The adapter retries all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

pub(crate) const CREDENTIALS_INVALID: Reason = Reason::CredentialsInvalid;
pub(crate) const CREDENTIALS_REJECTED: Reason = Reason::CredentialsRejected;
pub(crate) const ORDERING_OFF: Reason = Reason::OrderingOff;
pub(crate) const PERMISSION_DENIED: Reason = Reason::PermissionDenied;
pub(crate) const REFUSED: Reason = Reason::PubSubRefused;
pub(crate) const SUBSCRIPTION_MISMATCH: Reason = Reason::SubscriptionMismatch;
pub(crate) const SUBSCRIPTION_NOT_FOUND: Reason = Reason::SubscriptionNotFound;
pub(crate) const SUBSCRIPTION_NOT_OURS: Reason = Reason::SubscriptionNotOurs;
pub(crate) const TOPIC_NOT_FOUND: Reason = Reason::TopicNotFound;
pub(crate) const UNREACHABLE: Reason = Reason::PubSubUnreachable;

impl Fault {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// No answer within the time of a request.
    pub(crate) fn late(act: &str) -> Self {
        Self::new(
            UNREACHABLE,
            format!("cannot {act}: no answer from Pub/Sub; tried again by itself"),
        )
    }

    /// Explains Google's error. `act` is what was tried, as in "cannot ACT".
    pub(crate) fn of(act: &str, error: &Error) -> Self {
        if error.is_authentication() {
            return Self::new(
                CREDENTIALS_REJECTED,
                format!("cannot {act}: {error}: check the key in gcpCredsSecret, or Application Default Credentials"),
            );
        }
        let words = match error.status() {
            Some(Status { message, .. }) if !message.is_empty() => message.clone(),
            _ => error.to_string(),
        };
        let (reason, remedy) = match code(error) {
            Some(Code::NotFound) => (SUBSCRIPTION_NOT_FOUND, "it is looked for again"),
            Some(Code::PermissionDenied) => (
                PERMISSION_DENIED,
                "grant the account roles/pubsub.editor, or roles/pubsub.subscriber for a subscription that is there; tried again by itself",
            ),
            Some(Code::Unauthenticated) => (
                CREDENTIALS_REJECTED,
                "the key may have been deleted, or its account disabled: put a new one into the secret",
            ),
            Some(Code::Unavailable | Code::DeadlineExceeded | Code::Internal | Code::Aborted | Code::Cancelled)
            | None => (UNREACHABLE, "tried again by itself"),
            Some(_) => (REFUSED, "tried again by itself"),
        };
        Self::new(reason, format!("cannot {act}: {words}: {remedy}"))
    }
}

/// The service's status code; `None` if it was not reached.
pub(crate) fn code(error: &Error) -> Option<Code> {
    if let Some(status) = error.status() {
        return Some(status.code);
    }
    // A proxy between us and Google answers without a status of Google's.
    match error.http_status_code()? {
        401 => Some(Code::Unauthenticated),
        403 => Some(Code::PermissionDenied),
        404 => Some(Code::NotFound),
        409 => Some(Code::AlreadyExists),
        429 => Some(Code::ResourceExhausted),
        400..=499 => Some(Code::InvalidArgument),
        _ => Some(Code::Unavailable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_a_reason_of_its_own() {
        let reason = |code| {
            let status = Status::default().set_code(code).set_message("said by Google");
            let fault = Fault::of("read s", &Error::service(status));
            assert!(
                fault.message.starts_with("cannot read s: said by Google: "),
                "{fault:?}"
            );
            fault.reason
        };
        let cases = [
            (Code::NotFound, SUBSCRIPTION_NOT_FOUND),
            (Code::PermissionDenied, PERMISSION_DENIED),
            (Code::Unauthenticated, CREDENTIALS_REJECTED),
            (Code::Unavailable, UNREACHABLE),
            (Code::FailedPrecondition, REFUSED),
            (Code::ResourceExhausted, REFUSED),
        ];
        for (code, expected) in cases {
            assert_eq!(reason(code), expected, "{code:?}");
        }
        assert_eq!(Fault::of("read s", &Error::io("reset")).reason, UNREACHABLE);
        let proxy = Error::http(503, [].into_iter().collect(), "".into());
        assert_eq!(Fault::of("read s", &proxy).reason, UNREACHABLE);
    }
}
