//! Whether this process holds the lease now, by its own clock.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{RENEW_DEADLINE, RETRY_PERIOD};

/// Tells before each write whether this process holds the lease. Cheap: it reads the clock and sends no request. A
/// handle: clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Fence(Arc<Mutex<Option<(u64, Instant)>>>);

impl Fence {
    /// Returns the epoch of the lease, if this process holds it now.
    pub fn epoch(&self) -> Option<u64> {
        let granted = *self.0.lock();
        granted
            .filter(|(_, until)| Instant::now() < *until)
            .map(|(epoch, _)| epoch)
    }

    /// Returns whether this process holds the lease now.
    pub fn is_mine(&self) -> bool {
        self.epoch().is_some()
    }

    /// Grants the lease for [`RENEW_DEADLINE`] from `asked`, the time before the request.
    pub(crate) fn grant(&self, epoch: u64, asked: Instant) {
        *self.0.lock() = Some((epoch, asked + RENEW_DEADLINE));
    }

    /// Waits until this process no longer holds the lease, by its own clock. Cancel safe.
    pub async fn lost(&self) {
        while let Some(until) = self.until().filter(|until| Instant::now() < *until) {
            tokio::time::sleep_until(until).await;
        }
    }

    /// Waits until this process holds the lease. Cancel safe.
    pub async fn gained(&self) {
        while !self.is_mine() {
            tokio::time::sleep(RETRY_PERIOD).await;
        }
    }

    /// Runs `work` while this process holds the lease: the token is cancelled when the lease is lost by this process's
    /// clock, and the work starts again when the lease is regained. Returns the result of work that ended by itself or
    /// by `stop`, and `None` if `stop` came while another replica held the lease.
    pub async fn during<F: Future>(
        &self,
        stop: &CancellationToken,
        work: impl Fn(CancellationToken) -> F,
    ) -> Option<F::Output> {
        loop {
            stop.run_until_cancelled(self.gained()).await?;
            let end = stop.child_token();
            let mut working = std::pin::pin!(work(end.clone()));
            tokio::select! {
                done = &mut working => return Some(done),
                () = self.lost() => {}
            }
            end.cancel();
            working.await;
        }
    }

    pub(super) fn revoke(&self) {
        *self.0.lock() = None;
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.0.lock().map(|(_, until)| until)
    }
}
