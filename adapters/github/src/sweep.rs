//! Looks through GitHub's list of deliveries for what did not arrive, and stores it.
//!
//! The list is read from its newest entry back to where the last sweep ended; what is missing is fetched and stored oldest
//! first, one after another, as GitHub asks its clients to do. The mark follows what is stored and never runs ahead of it
//! (CONTRACT SR-1): after a crash at most what was stored since the mark was written comes again, under its old id (SR-2).

use std::time::Duration;

use adapter::{Accepted, Cause, Reason, Severity, Source, StateError, Truth, Unstored};
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    api::{Api, ApiError},
    convert::{self, PayloadFields},
    gap,
    hook::FITS,
    listing::{Listing, Missing},
    sources::SourceMemory,
    state::{Gap, Mark},
};

/// Written down after this many recovered deliveries: as many may come twice after a crash. The mark has up to 0.5 MB.
const SAVE_EVERY: usize = 32;

/// A list that had nothing new is written down this often at most.
const SAVE_IDLE: Duration = Duration::from_secs(60);

/// Two million deliveries in three days: more pages than that are no list of deliveries.
const PAGES_MAX: usize = 20_000;

/// Says that GitHub's own delivery of the event failed.
const RECOVERED: &str = "githubrecovered";

/// Why a sweep broke off. What it stored stays stored.
#[derive(Debug)]
pub(crate) enum Broken {
    Api(ApiError),
    Stopped,
    State(StateError),
}

impl From<ApiError> for Broken {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<StateError> for Broken {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

pub(crate) struct Sweep<'a> {
    pub(crate) config: &'a Config,
    pub(crate) source: &'a Source,
    pub(crate) memory: &'a SourceMemory,
    pub(crate) api: &'a Api,
    pub(crate) hook: u64,
    pub(crate) stop: &'a CancellationToken,
}

/// The result of reading a list.
struct Listed {
    /// When it was made, by GitHub's clock.
    at: Timestamp,
    /// Oldest first.
    missing: Vec<Missing>,
    /// From here on more may be missing.
    left_from: Option<Timestamp>,
}

/// The mark, and what of it is not written down yet.
pub(crate) struct Progress {
    pub(crate) mark: Mark,
    /// Found on the way and stored as an event; not shown yet.
    pub(crate) gap: Option<Gap>,
    unsaved: usize,
    saved: Instant,
}

impl Progress {
    pub(crate) fn new(mark: Mark) -> Self {
        Self {
            mark,
            gap: None,
            unsaved: 0,
            saved: Instant::now(),
        }
    }

    /// Writes down what is stored.
    pub(crate) async fn save(
        &mut self,
        source: &Source,
        memory: &SourceMemory,
        proof: &Accepted,
    ) -> Result<(), StateError> {
        self.mark.delivered_ids = memory.delivered_ids.lock().save();
        self.mark.save(&*source.checkpoint, proof).await?;
        self.mark.delivered_ids = Vec::new();
        self.unsaved = 0;
        self.saved = Instant::now();
        Ok(())
    }

    fn moved_to(&mut self, at: Timestamp) {
        self.mark.through = self.mark.through.max(Some(at));
    }
}

impl Sweep<'_> {
    /// One sweep. False when there is more to do at once.
    pub(crate) async fn run(&self, progress: &mut Progress) -> Result<bool, Broken> {
        let Listed { at, missing, left_from } = self.list(progress.mark.through).await?;
        if let Some(gap) = gap::beyond_retention(progress.mark.through, at) {
            let (to, proof) = (gap.to, self.announce(gap, progress).await?);
            progress.moved_to(to);
            progress.save(self.source, self.memory, &proof).await?;
        }
        for missing in missing {
            self.recover(&missing, progress).await?;
        }
        let through = left_from.map_or(at, |left| left.min(at));
        progress.moved_to(through);
        let is_idle = progress.unsaved == 0 && self.memory.delivered_ids.lock().unsaved().is_none();
        if !is_idle || progress.saved.elapsed() >= SAVE_IDLE {
            let proof = self
                .source
                .store(Vec::new(), self.stop)
                .await
                .map_err(|_| Broken::Stopped)?;
            progress.save(self.source, self.memory, &proof).await?;
        }
        Ok(left_from.is_none())
    }

    /// Reads the list back to what is done with.
    async fn list(&self, through: Option<Timestamp>) -> Result<Listed, Broken> {
        let takes = |event: &str| self.config.takes(event);
        let mut listing = Listing::new(&takes, self.config.is_polling(), through);
        let page = self.api.deliveries(self.hook, None).await?;
        let at = page.at;
        let mut next = self.read(&mut listing, page);
        for _ in 0..PAGES_MAX {
            let Some(cursor) = next else {
                let (missing, left_from) = listing.finish();
                return Ok(Listed { at, missing, left_from });
            };
            let page = self.api.deliveries(self.hook, Some(&cursor)).await?;
            next = self.read(&mut listing, page);
        }
        Err(ApiError::unreadable("deliveries", &"the list does not end").into())
    }

    fn read(&self, listing: &mut Listing<'_>, page: crate::api::Page) -> Option<crate::api::Cursor> {
        let goes_on = listing.page(page.attempts, &self.memory.delivered_ids.lock());
        page.next.filter(|_| goes_on)
    }

    /// Fetches and stores one delivery.
    async fn recover(&self, missing: &Missing, progress: &mut Progress) -> Result<(), Broken> {
        // It may have come in by itself while others were fetched.
        if self.memory.delivered_ids.lock().contains(&missing.guid) {
            return Ok(());
        }
        let stored = match self.fetch(missing, progress).await? {
            Some(event) => self.source.store(vec![event], self.stop).await,
            None => {
                self.memory.delivered_ids.lock().settled(&missing.guid);
                progress.unsaved += 1;
                return Ok(());
            }
        };
        match stored {
            Ok(proof) => {
                self.memory.delivered_ids.lock().stored(&missing.guid, proof);
                self.count(missing, progress);
                progress.moved_to(missing.at);
                progress.unsaved += 1;
                if progress.unsaved >= SAVE_EVERY {
                    progress.save(self.source, self.memory, &proof).await?;
                }
                Ok(())
            }
            Err(Unstored::Stopped) => Err(Broken::Stopped),
            Err(too_large) => {
                let message = format!("delivery {} of {}: {too_large}", missing.guid, missing.at);
                let message = format!("{message}: raise the channel's maxEventBytes or use another channel");
                let weight = (Truth::False, Severity::Warning);
                self.source
                    .report
                    .note(FITS, weight, Cause::new(Reason::TooLarge, message));
                self.memory.delivered_ids.lock().settled(&missing.guid);
                progress.unsaved += 1;
                Ok(())
            }
        }
    }

    fn count(&self, missing: &Missing, progress: &mut Progress) {
        let (counters, report) = (&self.source.counters, &self.source.report);
        let age = Timestamp::now().duration_since(missing.at);
        counters.lag(Duration::try_from(age).unwrap_or_default());
        self.memory.delivered(report, missing.at);
        if !self.config.is_polling() {
            counters.recovered(1);
            progress.mark.recovered += 1;
            report.field("recoveredDeliveries", progress.mark.recovered);
            tracing::info!(
                source = self.source.name,
                delivery = missing.guid,
                event = missing.event,
                "delivery recovered"
            );
        }
    }

    /// The event that a delivery is; `None` when nothing can be made of it, which is said.
    async fn fetch(&self, missing: &Missing, progress: &mut Progress) -> Result<Option<event::Event>, Broken> {
        let Some(payload) = self.api.payload(self.hook, missing.attempt).await? else {
            // Where the webhook is out of sight, too, it is the repository or the token that went.
            self.api.hook(self.hook).await?;
            let gap = Gap {
                from: missing.at,
                to: missing.at,
                reason: gap::PAYLOAD_GONE.to_owned(),
            };
            let _proof = self.announce(gap, progress).await?;
            return Ok(None);
        };
        let event = self.convert(missing, payload.0);
        if event.is_none() {
            self.source.counters.invalid(1);
            tracing::warn!(
                source = self.source.name,
                delivery = missing.guid,
                event = missing.event,
                "listed delivery is no event"
            );
        }
        Ok(event)
    }

    fn convert(&self, missing: &Missing, payload: bytes::Bytes) -> Option<event::Event> {
        let fields = PayloadFields::read(&missing.event, &payload)?;
        let hook = self.hook.to_string();
        let headers = convert::Headers {
            event: &missing.event,
            delivery: &missing.guid,
            hook_id: Some(&hook),
        };
        let event = convert::convert(self.config, &headers, &fields, payload, missing.at).ok()?;
        if self.config.is_polling() {
            return Some(event);
        }
        event.edit().set(RECOVERED, "true").finish().ok()
    }

    /// Stores the event that says what is missing.
    async fn announce(&self, gap: Gap, progress: &mut Progress) -> Result<Accepted, Broken> {
        let proof = announce(self.config, self.source, &gap, self.stop).await?;
        progress.gap = Some(gap);
        Ok(proof)
    }
}

/// Stores the event that says what is missing.
pub(crate) async fn announce(
    config: &Config,
    source: &Source,
    gap: &Gap,
    stop: &CancellationToken,
) -> Result<Accepted, Broken> {
    let Gap { from, to, reason } = gap;
    tracing::warn!(source = source.name, %from, %to, reason, "deliveries may be missing for good");
    // Its attributes are times, names and what other events of the source carry, too.
    let event = gap::event(config, gap).map_err(|error| ApiError::setting(&error))?;
    source
        .store(vec![event], stop)
        .await
        .map_err(|unstored| match unstored {
            Unstored::Stopped => Broken::Stopped,
            too_large @ Unstored::TooLarge { .. } => {
                ApiError::setting(&format!("the sink's channel: {too_large}")).into()
            }
        })
}
