//! Why a channel could not be opened, and what Kafka's errors mean for those who append and read.

use std::time::Duration;

use channel::{AppendError, ReadError};
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

/// What a refused publisher is told: brokers that restart are back in seconds.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Why a channel could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Worth another try.
    #[error("Kafka at {servers} cannot be reached, or refused us{said}")]
    Unreachable {
        servers: String,
        /// What the client said last about a connection, in brackets.
        said: String,
        #[source]
        source: Box<KafkaError>,
    },
    /// The connection's settings do not fit together.
    #[error("the settings for Kafka are not usable")]
    Settings(#[source] Box<KafkaError>),
    /// The broker refused to make a topic.
    #[error("topic {topic} cannot be made: {why}")]
    NotMade { topic: String, why: String },
    /// The topic is there and cannot be a channel.
    #[error("topic {topic} cannot be a channel: {why}")]
    Unfit { topic: String, why: String },
}

/// Whatever went wrong while appending, with nobody's fault but the backend's.
pub(crate) fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> AppendError {
    AppendError::Unavailable {
        retry_after: RETRY_AFTER,
        source: source.into(),
    }
}

pub(crate) fn unreadable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ReadError {
    ReadError::Unavailable(source.into())
}

/// A blocking call's task was cancelled or panicked.
#[derive(Debug, thiserror::Error)]
#[error("the call to Kafka ended without an answer")]
pub(crate) struct NoAnswer;

/// A report about a record that says it is larger than the topic takes.
pub(crate) fn is_too_large(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge)
    )
}
