//! The contract suite of [`Hook`]: cases that every implementation must pass.
//!
//! An implementation describes itself with [`Sample`]: how it is made over an outlet, and a delivery it takes. Time is paused
//! where a case waits.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use channel::{Durability, Offset, Stored};
use event::Event;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::{Accept, Accepted, Counters, Hook, HookRequest, MemoryCheckpoint, Outlet, Refused, Report, Source};

/// Longer than a hook could wait for anything but its outlet.
const LONG: Duration = Duration::from_secs(3600);

/// How the suite makes a hook, and what it sends.
pub trait Sample {
    fn hook(&self, outlet: Outlet) -> Arc<dyn Hook>;

    /// A delivery the hook takes; the same one at each call.
    fn delivery(&self) -> HookRequest;
}

/// An outlet that does what a test says and remembers what it stored.
pub struct Scripted {
    refusal: Mutex<Option<fn() -> Refused>>,
    stored: Mutex<Vec<Event>>,
    /// Storing takes a permit: none at first when the test wants to look before.
    permits: Semaphore,
}

impl Scripted {
    /// Stores at once.
    pub fn storing() -> Arc<Self> {
        Self::with(None, Semaphore::MAX_PERMITS)
    }

    /// Refuses everything.
    pub fn refusing(refusal: fn() -> Refused) -> Arc<Self> {
        Self::with(Some(refusal), Semaphore::MAX_PERMITS)
    }

    /// Stores nothing before [`Scripted::open`].
    pub fn held() -> Arc<Self> {
        Self::with(None, 0)
    }

    fn with(refusal: Option<fn() -> Refused>, permits: usize) -> Arc<Self> {
        Arc::new(Self {
            refusal: Mutex::new(refusal),
            stored: Mutex::default(),
            permits: Semaphore::new(permits),
        })
    }

    /// Lets the appends that are held go on.
    pub fn open(&self) {
        self.permits.add_permits(1);
    }

    /// Refuses everything from now on.
    pub fn refuse_from_now_on(&self, refusal: fn() -> Refused) {
        *self.refusal.lock() = Some(refusal);
    }

    /// Stores every later event.
    pub fn accept_from_now_on(&self) {
        *self.refusal.lock() = None;
    }

    /// Everything stored so far, in order.
    pub fn stored(&self) -> Vec<Event> {
        self.stored.lock().clone()
    }
}

#[async_trait]
impl Accept for Scripted {
    async fn accept(&self, events: Vec<Event>) -> Result<Accepted, Refused> {
        let _permit = self.permits.acquire().await;
        let refusal = *self.refusal.lock();
        if let Some(refusal) = refusal {
            return Err(refusal());
        }
        self.stored.lock().extend(events);
        Ok(Accepted::stored(Stored::at(Durability::Process, Offset(0))))
    }
}

/// The metrics of `registry` as a scrape shows them.
pub fn shown(registry: &prometheus_client::registry::Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).expect("metrics are text");
    text
}

/// A source `default/test` over an outlet, its state in memory.
pub fn source(outlet: Outlet) -> Source {
    Source {
        name: "default/test".to_owned(),
        uid: "5f0c7a3e-9d1b-4f6a-8a53-0d6b1f2c9e77".to_owned(),
        gateway: "b1a7c2d4-1e9f-4c58-9d36-7f0a2b6c8e11".to_owned(),
        outlet,
        checkpoint: Arc::new(MemoryCheckpoint::default()),
        report: Report::new("default/test"),
        counters: Arc::new(Counters::default()),
    }
}

/// Every way in which an outlet refuses.
pub const REFUSALS: [fn() -> Refused; 6] = [
    || Refused::Full {
        retry_after: Duration::from_secs(3),
    },
    || Refused::DiskFull {
        retry_after: Duration::from_secs(3),
    },
    || Refused::Unavailable {
        reason: "scripted".into(),
        retry_after: Duration::from_secs(3),
    },
    || Refused::TooLarge { bytes: 2, limit: 1 },
    || Refused::Draining {
        retry_after: Duration::from_secs(3),
    },
    || Refused::NoChannel,
];

/// A 2xx is an acknowledgement: it comes after storage, never before (CONTRACT SR-1).
pub async fn a_2xx_comes_only_after_storage(sample: &impl Sample) {
    tokio::time::pause();
    let outlet = Scripted::held();
    let hook = sample.hook(outlet.clone());
    let mut call = hook.call(sample.delivery());
    assert!(
        tokio::time::timeout(LONG, &mut call).await.is_err(),
        "answered before the event was stored"
    );
    assert!(outlet.stored().is_empty());
    outlet.open();
    let answer = call.await;
    assert!(answer.status.is_success(), "{answer:?}");
    assert_eq!(outlet.stored().len(), 1);
}

/// A refusal is passed on: no 2xx, and a time to try again unless trying again cannot help (CONTRACT SR-1, SR-5).
pub async fn a_refusal_is_passed_on(sample: &impl Sample) {
    for refusal in REFUSALS {
        let answer = sample.hook(Scripted::refusing(refusal)).call(sample.delivery()).await;
        let refused = refusal();
        match refused {
            Refused::TooLarge { .. } => assert_eq!(answer.status.as_u16(), 413, "{refused}"),
            _ => {
                // 429 says "later" as well, to callers that know it.
                let later = answer.status.is_server_error() || answer.status.as_u16() == 429;
                assert!(later, "{refused}: {answer:?}");
                assert!(answer.retry_after.is_some(), "{refused}: {answer:?}");
            }
        }
    }
}

/// The same delivery twice is the same event: same `source`, same `id` (CONTRACT SR-2).
pub async fn a_repeat_is_the_same_event(sample: &impl Sample) {
    let outlet = Scripted::storing();
    for _ in 0..2 {
        // Another hook each time: nothing may depend on what one process remembers.
        let answer = sample.hook(outlet.clone()).call(sample.delivery()).await;
        assert!(answer.status.is_success(), "{answer:?}");
    }
    let stored = outlet.stored();
    let names: Vec<_> = stored.iter().map(|event| (event.source(), event.id())).collect();
    assert_eq!(names.len(), 2);
    assert_eq!(names[0], names[1]);
}
