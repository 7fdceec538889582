//! A source that is known and cannot take deliveries now: its secret or its sink is missing.
//!
//! The caller is asked to retry, so that an upstream that records failures can deliver later. Only the source's conditions
//! report what is missing: the caller is a stranger (CONTRACT SR-6).

use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;

use crate::{Hook, HookAnswer, HookRequest};

/// A person has to add what is missing; sooner is of no use.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// As much as the largest of our hooks takes, so that a body of any delivery gets the same answer.
const BODY_MAX_BYTES: usize = 25 * 1024 * 1024;

/// Refuses every delivery with 503.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unready;

#[async_trait]
impl Hook for Unready {
    fn max_body_bytes(&self) -> usize {
        BODY_MAX_BYTES
    }

    async fn call(&self, _: HookRequest) -> HookAnswer {
        HookAnswer {
            retry_after: Some(RETRY_AFTER),
            ..HookAnswer::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "source is not ready: its conditions say why",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;

    /// Proves: SR-1
    #[tokio::test]
    async fn a_source_that_is_not_ready_asks_to_come_again() {
        let answer = Unready
            .call(HookRequest {
                headers: HeaderMap::new(),
                body: Bytes::from_static(b"{}"),
            })
            .await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.retry_after.is_some());
    }
}
