//! A source's checkpoint in a ConfigMap.

use std::sync::Arc;

use adapter::{Accepted, Checkpoint, StateError};
use async_trait::async_trait;
use kubernetes::State;

pub(super) struct InConfigMap(pub(super) Arc<State>);

impl InConfigMap {
    fn error(&self, act: &'static str, error: kubernetes::StateError) -> StateError {
        StateError::new(act, self.0.location(), std::io::Error::other(error))
    }
}

#[async_trait]
impl Checkpoint for InConfigMap {
    async fn mark(&self) -> Result<Option<Vec<u8>>, StateError> {
        self.0.mark().await.map_err(|error| self.error("read", error))
    }

    fn mark_max_bytes(&self) -> usize {
        kubernetes::MARK_MAX_BYTES
    }

    async fn save_mark(&self, _: &Accepted, mark: Vec<u8>) -> Result<(), StateError> {
        self.0.save_mark(mark).await.map_err(|error| self.error("write", error))
    }

    async fn flush(&self) -> Result<(), StateError> {
        self.0.flush().await.map_err(|error| self.error("write", error))
    }

    async fn notes(&self) -> Result<Option<Vec<u8>>, StateError> {
        self.0.notes().await.map_err(|error| self.error("read", error))
    }

    async fn save_notes(&self, notes: Vec<u8>) -> Result<(), StateError> {
        self.0
            .save_notes(notes)
            .await
            .map_err(|error| self.error("write", error))
    }
}
