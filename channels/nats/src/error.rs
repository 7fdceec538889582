//! Why a channel could not be opened, and what JetStream answered.

use std::error::Error;

use async_nats::jetstream;

type Source = Box<dyn Error + Send + Sync>;

/// Why a channel could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Worth another try.
    #[error("NATS at {servers} cannot be reached, or refused us")]
    Unreachable {
        servers: String,
        #[source]
        source: Source,
    },
    /// The connection's settings do not fit together.
    #[error("the settings for NATS are not usable")]
    Settings(#[source] Source),
    /// The server refused to make a stream.
    #[error("stream {stream} cannot be made: {why}")]
    NotMade { stream: String, why: String },
    /// The stream is there and cannot be a channel.
    #[error("stream {stream} cannot be a channel: {why}")]
    Unfit { stream: String, why: String },
}

/// Returns JetStream's own answer from the chain of an error of the client.
pub(crate) fn answer<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a jetstream::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<jetstream::Error>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
