//! The lease of a cursor: says whether the cursor has a holder, wakes the holder, and ends it when the cursor is gone.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::{sync::Notify, time::Instant};

use crate::ReadError;

/// Shared by a cursor and the channel behind it.
#[derive(Debug, Default)]
pub struct CursorLease {
    taken: AtomicBool,
    ended: AtomicBool,
    wake: Notify,
}

impl CursorLease {
    /// Takes the lease; `false` when it is taken. A cursor has one holder at a time ([`ReadError::InUse`]).
    pub fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::SeqCst)
    }

    /// Releases the lease: the holder is gone.
    pub fn leave(&self) {
        self.taken.store(false, Ordering::SeqCst);
    }

    /// Wakes the holder, because there may be something to hand out. Cheap when the holder is awake: no lock, no system call.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Ends the lease: the cursor was deleted, or its channel closed.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Whether [`Self::end`] was called.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Waits until the holder is woken, or until it is time to poll again. Cancel safe: an unused wake-up is kept for the next call.
    pub async fn woken(&self, poll_at: Option<Instant>) {
        match poll_at {
            None => self.wake.notified().await,
            Some(time) => {
                let _ = tokio::time::timeout_at(time, self.wake.notified()).await;
            }
        }
    }

    /// Polls `take` until it returns something. Its error is the time to poll again, if there is one.
    ///
    /// # Errors
    /// [`ReadError::Closed`] after [`Self::end`].
    ///
    /// # Cancel safety
    /// Nothing is lost: what `take` gave is returned at once.
    pub async fn wait_for<T>(&self, mut take: impl FnMut() -> Result<T, Option<Instant>>) -> Result<T, ReadError> {
        loop {
            if self.has_ended() {
                return Err(ReadError::Closed);
            }
            match take() {
                Ok(taken) => return Ok(taken),
                Err(poll_at) => self.woken(poll_at).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let lease = CursorLease::default();
        assert!(lease.take());
        assert!(!lease.take());
        lease.leave();
        assert!(lease.take());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_holder_polls_when_due_when_woken_and_ends() {
        let lease = CursorLease::default();
        let in_a_second = Instant::now() + std::time::Duration::from_secs(1);
        let mut polls = [Err(Some(in_a_second)), Err(None), Ok(7)].into_iter();
        // Kept for the next call.
        lease.wake();
        let found = lease.wait_for(|| {
            let poll = polls.next().unwrap_or(Err(None));
            if poll == Err(None) {
                lease.wake();
            }
            poll
        });
        assert_eq!(found.await.ok(), Some(7));
        assert!(Instant::now() < in_a_second);
        lease.woken(Some(in_a_second)).await;
        assert_eq!(Instant::now(), in_a_second);
        lease.end();
        let ended = lease.wait_for(|| Ok(7)).await;
        assert!(matches!(ended, Err(ReadError::Closed)));
    }
}
