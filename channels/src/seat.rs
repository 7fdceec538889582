//! The seat of a cursor: who holds it sits there, is woken there, and hears there that the cursor is at its end.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::{sync::Notify, time::Instant};

use crate::ReadError;

/// What an implementation's cursor and the channel behind it have in common.
#[derive(Debug, Default)]
pub struct Seat {
    taken: AtomicBool,
    ended: AtomicBool,
    wake: Notify,
}

impl Seat {
    /// Whether it was free: a cursor has one holder at a time ([`ReadError::InUse`]).
    pub fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::SeqCst)
    }

    /// The holder is gone.
    pub fn leave(&self) {
        self.taken.store(false, Ordering::SeqCst);
    }

    /// There may be something to hand out. Cheap when the holder is awake: no lock, no system call.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// The cursor is forgotten, or its channel closed.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// After [`Self::end`].
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Waits to be woken, or until it is time to look again. Cancel safe: a wake-up nobody consumed is kept for the next call.
    pub async fn woken(&self, look_again: Option<Instant>) {
        match look_again {
            None => self.wake.notified().await,
            Some(time) => {
                let _ = tokio::time::timeout_at(time, self.wake.notified()).await;
            }
        }
    }

    /// Waits until `take` has something. What it has nothing for is the time to look again, if there is one.
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
                Err(look_again) => self.woken(look_again).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let seat = Seat::default();
        assert!(seat.take());
        assert!(!seat.take());
        seat.leave();
        assert!(seat.take());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_looks_again_in_time_and_when_woken_and_hears_of_the_end() {
        let seat = Seat::default();
        let in_a_second = Instant::now() + std::time::Duration::from_secs(1);
        let mut looks = [Err(Some(in_a_second)), Err(None), Ok(7)].into_iter();
        // Kept for whoever waits next.
        seat.wake();
        let found = seat.wait_for(|| {
            let look = looks.next().unwrap_or(Err(None));
            if look == Err(None) {
                seat.wake();
            }
            look
        });
        assert_eq!(found.await.ok(), Some(7));
        assert!(Instant::now() < in_a_second);
        seat.woken(Some(in_a_second)).await;
        assert_eq!(Instant::now(), in_a_second);
        seat.end();
        let ended = seat.wait_for(|| Ok(7)).await;
        assert!(matches!(ended, Err(ReadError::Closed)));
    }
}
