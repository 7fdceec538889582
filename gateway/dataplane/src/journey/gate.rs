//! Decides whether another event of a subscription may start: its breaker, shared by the dispatcher, replays and redrives.
//!
//! While the sink takes events a flag answers, and a delivery locks nothing here.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use channel::Offset;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    breaker::{Breaker, Health, Permission, Probe},
    failure::Failure,
};

pub(crate) struct Gate {
    /// The sink is healthy and no failure is remembered: the breaker need not be asked, and a success is no news to it.
    is_calm: AtomicBool,
    breaker: Mutex<Breaker>,
    /// Why the last failed attempt failed, for the subscription's conditions.
    last_failure: Mutex<Option<String>>,
    /// While the sink is failing, one dead letter at a time is redriven.
    redrive_probe: Arc<Semaphore>,
    /// Notified when the dispatcher may do more: after a change of the route, a switch, the breaker or what is held.
    pub(crate) changed: Notify,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            is_calm: AtomicBool::new(true),
            breaker: Mutex::default(),
            last_failure: Mutex::default(),
            redrive_probe: Arc::new(Semaphore::new(1)),
            changed: Notify::new(),
        }
    }
}

/// Why the next event may not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// A probe is in flight: [`Gate::changed`] is notified when it ends.
    Probe,
    Until(Instant),
}

/// An event that was let start. If it is the probe, the next one may probe when this is dropped.
#[derive(Default)]
pub(crate) struct Started {
    probe: Option<(Arc<Gate>, Probe)>,
    _redrive_probe: Option<OwnedSemaphorePermit>,
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some((gate, probe)) = self.probe.take() {
            gate.update(|breaker| breaker.ended(probe));
            gate.changed.notify_one();
        }
    }
}

impl Gate {
    fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Acquire)
    }

    fn update<T>(&self, update: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.breaker.lock();
        let result = update(&mut breaker);
        self.is_calm.store(breaker.is_calm(), Ordering::Release);
        result
    }

    /// How many events may start now.
    pub(crate) fn permission(&self) -> Permission {
        if self.is_calm() {
            return Permission::Start;
        }
        self.breaker.lock().permission(Instant::now())
    }

    /// Lets one more event start, if the breaker does.
    pub(crate) fn start(self: &Arc<Self>) -> Result<Started, Hold> {
        if self.is_calm() {
            return Ok(Started::default());
        }
        let now = Instant::now();
        self.update(|breaker| match breaker.permission(now) {
            Permission::Start => Ok(Started::default()),
            Permission::StartOne => Ok(Started {
                probe: breaker.started(now).map(|probe| (self.clone(), probe)),
                _redrive_probe: None,
            }),
            Permission::Wait => Err(Hold::Probe),
            Permission::WaitUntil(at) => Err(Hold::Until(at)),
        })
    }

    /// Lets a dead letter start that a person asked to redrive. It does not wait for the probe, whose next attempt may be minutes
    /// away: one such letter at a time probes as well.
    pub(crate) fn start_redrive(self: &Arc<Self>) -> Result<Started, Hold> {
        let held = match self.start() {
            Err(Hold::Probe) => Hold::Probe,
            result => return result,
        };
        let permit = self.redrive_probe.clone().try_acquire_owned().map_err(|_taken| held)?;
        Ok(Started {
            probe: None,
            _redrive_probe: Some(permit),
        })
    }

    /// The sink took an event. Returns true when it was not healthy before.
    pub(crate) fn succeeded(&self) -> bool {
        if self.is_calm() || !self.update(Breaker::taken) {
            return false;
        }
        self.changed.notify_one();
        true
    }

    /// An attempt of the event at `offset` failed. Returns the sink's health when it changed.
    pub(crate) fn failed(&self, offset: Offset, failure: &Failure) -> Option<Health> {
        *self.last_failure.lock() = Some(format!("{}: {}", failure.destination, failure.detail));
        self.update(|breaker| match failure.not_taken() {
            Some(how) => breaker.not_taken(offset, how),
            None => {
                breaker.answered();
                None
            }
        })
    }

    /// Returns the sink's health and its last failure; `None` while it is healthy.
    pub(crate) fn outage(&self) -> Option<(Health, String)> {
        let health = self.breaker.lock().health();
        if health == Health::Healthy {
            return None;
        }
        let last = self.last_failure.lock().clone();
        Some((health, last.unwrap_or_else(|| "deliveries fail".into())))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;
    use crate::journey::failure::Reason;

    /// Whether the sink can take an event within five seconds while another thread has the breaker locked.
    fn delivers_beside_a_lock(gate: &Arc<Gate>) -> bool {
        let _locked = gate.breaker.lock();
        let (sender, done) = mpsc::channel();
        let gate = gate.clone();
        thread::spawn(move || {
            let started = gate.start();
            gate.permission();
            gate.succeeded();
            sender.send(started.is_ok())
        });
        done.recv_timeout(Duration::from_secs(5)).is_ok_and(|started| started)
    }

    #[test]
    fn while_the_sink_is_healthy_a_delivery_takes_no_lock() {
        let gate = Arc::new(Gate::default());
        assert!(delivers_beside_a_lock(&gate));
        let failure = Failure::new(Reason::SinkTimeout, "http://sink/", "");
        for offset in 0..10 {
            gate.failed(Offset(offset), &failure);
        }
        assert_eq!(gate.permission(), Permission::StartOne);
        assert!(gate.succeeded(), "it was failing");
        assert!(delivers_beside_a_lock(&gate), "also after it failed and recovered");
    }
}
