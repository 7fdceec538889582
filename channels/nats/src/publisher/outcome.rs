//! Why messages were not stored, and whether publishing them again helps.

use async_nats::jetstream::{
    ErrorCode,
    context::{PublishError, PublishErrorKind},
};

use crate::error::answer;

/// Why messages were not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// A limit of the stream.
    #[error("the stream is full: {0}")]
    Full(String),
    #[error("the server has no space: {0}")]
    NoSpace(String),
    #[error("a message of {0} bytes is larger than the server or the stream takes")]
    TooLarge(usize),
    #[error("NATS is not connected")]
    NotConnected,
    /// Whether it is stored is unknown.
    #[error("no acknowledgement from JetStream")]
    Unknown(#[source] PublishError),
    /// The fault of the group that it was in.
    #[error("{0}")]
    Group(String),
    #[error("JetStream refused")]
    Refused(#[source] PublishError),
}

/// How to go on after messages were not stored.
pub(crate) enum Verdict {
    /// Publishing them again may help.
    Retry(Fault),
    /// It does not help.
    GiveUp(Fault),
    /// The batch contains messages that are stored already.
    Duplicates,
    /// The stream accepts no batches.
    NoBatches,
}

/// Reads the error of a message of that many bytes.
pub(crate) fn judge(error: PublishError, size: usize) -> Verdict {
    if let Some(refused) = answer(&error) {
        let text = refused.to_string();
        return match refused.error_code() {
            ErrorCode::STREAM_STORE_FAILED if text.contains("maximum") => Verdict::GiveUp(Fault::Full(text)),
            ErrorCode::STORAGE_RESOURCES_EXCEEDED
            | ErrorCode::MEMORY_RESOURCES_EXCEEDED
            | ErrorCode::INSUFFICIENT_RESOURCES => Verdict::GiveUp(Fault::NoSpace(text)),
            ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => Verdict::GiveUp(Fault::TooLarge(size)),
            ErrorCode::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE => Verdict::Duplicates,
            ErrorCode::ATOMIC_PUBLISH_DISABLED => Verdict::NoBatches,
            _ => Verdict::Retry(Fault::Refused(error)),
        };
    }
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => Verdict::GiveUp(Fault::TooLarge(size)),
        // No server answers for the stream: it is gone, or has no leader yet.
        PublishErrorKind::StreamNotFound => Verdict::Retry(Fault::Refused(error)),
        _ => Verdict::Retry(Fault::Unknown(error)),
    }
}
