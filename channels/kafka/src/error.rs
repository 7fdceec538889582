//! Why a channel could not be opened, and what Kafka's errors mean.

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

/// Why a channel could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Worth another try.
    #[error("Kafka at {servers} cannot be reached, or refused us{reported}")]
    Unreachable {
        servers: String,
        /// The client's last report about a connection, in brackets.
        reported: String,
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
