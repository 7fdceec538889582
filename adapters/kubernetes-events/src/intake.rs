//! Turns objects into stored events, and records their storage in the mark.
//!
//! Objects are collected into a batch. [`Intake::store`] stores the batch, and only then updates the mark (CONTRACT SR-1).
//! While the sink refuses, the source waits and reads nothing (SR-5): the mark makes that safe however long it takes.

mod batch;
mod saver;

use adapter::{Cause, Reason, Severity, Source, Truth, Unstored};
use bytes::Bytes;
use event::Event;
use jiff::Timestamp;
use log_limit::LogLimit;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    coalesce::{Coalescer, Key, ObjectVersion},
    convert::{bundle, convert},
    event_fields::EventFields,
    mark::{Gap, List, Mark},
    path,
};
use batch::Batch;
use saver::Saver;

/// Whether the source has seen everything.
const COMPLETE: &str = "Complete";

/// How long the condition shows a gap: long enough for an operator to see it.
const GAP_SHOWN: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// The source was asked to stop.
#[derive(Debug)]
pub(crate) struct Stopped;

pub(crate) struct Intake {
    config: Config,
    source: Source,
    mark: Mark,
    coalescer: Option<Coalescer>,
    batch: Batch,
    saver: Saver,
    /// One line a minute about objects that become no events; each is counted.
    unfit_logged: LogLimit,
}

impl Intake {
    /// Resumes from the checkpoint.
    pub(crate) async fn open(config: Config, source: Source) -> Result<Self, Cause> {
        let text = source.checkpoint.mark().await.map_err(|error| Cause {
            reason: Reason::CheckpointUnusable,
            message: format!("{}: check the folder given by --data", adapter::chain(&error)),
        })?;
        let mark = text.and_then(|text| {
            let mark = Mark::read(&text);
            if mark.is_none() {
                tracing::warn!(
                    source = source.name,
                    "the source's mark cannot be read, events of the last hour are repeated"
                );
            }
            mark
        });
        let mark = mark.unwrap_or_default();
        match mark
            .gap()
            .filter(|gap| Timestamp::now().duration_since(gap.to) < GAP_SHOWN)
        {
            Some(gap) => incomplete(&source, Reason::EventsMissing, gap.message()),
            None => source.report.note(COMPLETE, (Truth::True, Severity::Warning), None),
        }
        Ok(Self {
            coalescer: config.coalesce.map(Coalescer::new),
            config,
            source,
            mark,
            batch: Batch::default(),
            saver: Saver::default(),
            unfit_logged: LogLimit::default(),
        })
    }

    pub(crate) fn set_scope(&mut self, scope: &str) {
        self.mark.set_scope(scope);
    }

    /// Where a watch goes on; `None` when the objects must be listed.
    pub(crate) fn resume(&self) -> Option<u64> {
        self.mark.resume()
    }

    /// An object that the watch brings.
    pub(crate) fn written(&mut self, object: &RawValue) {
        let Some((fields, object_version)) = self.read(object) else {
            return;
        };
        self.batch.version = self.batch.version.max(object_version.version);
        if self.mark.is_new(&object_version.uid, object_version.version) {
            self.offer(&fields, object_version, object);
        }
    }

    /// The watch says that an object is gone.
    pub(crate) fn deleted(&mut self, object: &RawValue) {
        if let Some((_, object_version)) = self.read(object) {
            self.batch.version = self.batch.version.max(object_version.version);
            self.batch.gone.push(object_version.uid);
        }
    }

    /// Takes a bookmark: the watch sends nothing more up to its version.
    pub(crate) fn bookmark(&mut self, object: &RawValue) {
        let version = EventFields::read(object.get()).and_then(|fields| fields.version());
        self.batch.version = self.batch.version.max(version.unwrap_or_default());
    }

    /// Records that the watch has brought everything there is.
    pub(crate) fn caught_up(&mut self) {
        self.mark.synced(Timestamp::now());
        self.saver.touch(Instant::now());
    }

    pub(crate) fn begin_list(&mut self, version: u64) -> List {
        self.mark.begin_list(version)
    }

    /// Takes an object of a list.
    pub(crate) fn listed(&mut self, list: &mut List, object: &RawValue) {
        let Some((fields, object_version)) = self.read(object) else {
            return;
        };
        if self.mark.meet(list, &object_version.uid, object_version.version) {
            // A new source has missed nothing.
            self.batch.recovered += u64::from(self.mark.has_looked());
            self.offer(&fields, object_version, object);
        }
    }

    /// The list was read to its end.
    pub(crate) async fn finish_list(
        &mut self,
        list: &List,
        version: u64,
        stop: &CancellationToken,
    ) -> Result<(), Stopped> {
        self.store(stop).await?;
        let now = Timestamp::now();
        let gap = self.mark.judge(list, now);
        if let Some(gap) = &gap {
            self.report_gap(gap, stop).await?;
        }
        self.mark.finish_list(list, version, self.first_held(), now, gap);
        self.saver.changed();
        self.prove(stop).await?;
        self.saver.save(&self.source, &self.mark).await;
        Ok(())
    }

    /// When there is something to do even if nothing is read.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        let bundle = self.coalescer.as_ref().and_then(|coalescer| coalescer.next_end(now));
        [bundle, self.saver.next_due()].into_iter().flatten().min()
    }

    /// Reading on would make the batch too large.
    pub(crate) fn is_full(&self) -> bool {
        self.batch.is_full()
    }

    /// Stores what was read, and saves the mark when that is due.
    pub(crate) async fn store(&mut self, stop: &CancellationToken) -> Result<(), Stopped> {
        self.release();
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            let proof = self.put(&batch.events, stop).await?;
            let now = Timestamp::now();
            self.count(&batch, now);
            for object_version in batch.object_versions {
                self.mark.learn(object_version.uid, object_version.version, now);
            }
            for uid in batch.gone {
                self.mark.remove(&uid);
            }
            if batch.version > 0 {
                let before = self.first_held().map_or(u64::MAX, |held| held.saturating_sub(1));
                self.mark.advance(batch.version.min(before));
                if let Some((newest, _)) = batch.newest {
                    // A watch that is never quiet has still brought everything up to here.
                    self.mark.synced(newest.min(now));
                }
            }
            self.saver.proven(proof);
            self.saver.changed();
        }
        if self.saver.is_due(Instant::now()) {
            self.prove(stop).await?;
            self.saver.save(&self.source, &self.mark).await;
        }
        Ok(())
    }

    /// Saves what is stored, for the next process.
    pub(crate) async fn close(mut self) {
        self.saver.save(&self.source, &self.mark).await;
    }

    fn read(&mut self, object: &RawValue) -> Option<(EventFields, ObjectVersion)> {
        let read = EventFields::read(object.get()).and_then(|fields| {
            let object_version = ObjectVersion {
                uid: fields.uid().into(),
                version: fields.version()?,
            };
            (!object_version.uid.is_empty()).then_some((fields, object_version))
        });
        if read.is_none() {
            self.source.counters.invalid(1);
            if self.unfit_logged.admits(unfit(&self.source.name)) {
                tracing::warn!(
                    source = self.source.name,
                    "object without uid or resourceVersion, passed over"
                );
            }
        }
        read
    }

    fn offer(&mut self, fields: &EventFields, object_version: ObjectVersion, object: &RawValue) {
        if !self.config.takes(fields) {
            self.source.counters.filtered(1);
            self.batch.object_versions.push(object_version);
            return;
        }
        // A copy, so that a kept event does not keep the page it came in.
        let data = Bytes::copy_from_slice(object.get().as_bytes());
        let event = match convert(&self.config, fields, data) {
            Ok(event) => event,
            Err(error) => {
                self.source.counters.invalid(1);
                if self.unfit_logged.admits(unfit(&self.source.name)) {
                    tracing::warn!(source = self.source.name, uid = &*object_version.uid, %error, "object cannot become an event, passed over");
                }
                self.batch.object_versions.push(object_version);
                return;
            }
        };
        self.batch.read(fields.last_time());
        let out = match &mut self.coalescer {
            Some(coalescer) => coalescer.offer(key(fields), object_version.clone(), event, Instant::now()),
            None => Some(event),
        };
        if let Some(event) = out {
            self.batch.push(event, [object_version]);
        }
    }

    /// Bundles whose window has ended join the batch.
    fn release(&mut self) {
        let due = self.coalescer.as_mut().map(|coalescer| coalescer.due(Instant::now()));
        for held in due.unwrap_or_default() {
            match bundle(&held.event, held.suppressed) {
                Ok(event) => self.batch.push(event, held.versions),
                Err(error) => tracing::error!(source = self.source.name, %error, "a bundle is no event"),
            }
        }
    }

    fn first_held(&self) -> Option<u64> {
        self.coalescer.as_ref().and_then(Coalescer::first_held)
    }

    /// Stores all of them, one by one where one is too large for the sink: that one is passed over and told of.
    async fn put(&mut self, events: &[Event], stop: &CancellationToken) -> Result<adapter::Accepted, Stopped> {
        match self.source.store(events.to_vec(), stop).await {
            Ok(proof) => return Ok(proof),
            Err(Unstored::Stopped) => return Err(Stopped),
            Err(Unstored::TooLarge { .. }) => {}
        }
        for event in events {
            match self.source.store(vec![event.clone()], stop).await {
                Ok(_) => {}
                Err(Unstored::Stopped) => return Err(Stopped),
                Err(Unstored::TooLarge { bytes, limit }) => {
                    self.source.counters.invalid(1);
                    let subject = event.text("subject").unwrap_or_default();
                    let message = format!("{subject} has {bytes} bytes and the sink takes {limit}: it was passed over");
                    incomplete(&self.source, Reason::TooLarge, message);
                }
            }
        }
        self.source.store(Vec::new(), stop).await.map_err(|_| Stopped)
    }

    /// Gets a proof for saving a checkpoint when nothing new was stored.
    async fn prove(&mut self, stop: &CancellationToken) -> Result<(), Stopped> {
        if self.saver.needs_proof() {
            let proof = self.put(&[], stop).await?;
            self.saver.proven(proof);
        }
        Ok(())
    }

    async fn report_gap(&mut self, gap: &Gap, stop: &CancellationToken) -> Result<(), Stopped> {
        let namespace = self.config.namespace.as_deref().unwrap_or_default();
        let event = gap.event(
            &path::collection(namespace, "events"),
            &self.source.uid,
            &self.config.extensions,
        );
        match event {
            Ok(event) => {
                let proof = self.put(&[event], stop).await?;
                self.saver.proven(proof);
            }
            Err(error) => tracing::error!(source = self.source.name, %error, "a gap is no event"),
        }
        incomplete(&self.source, Reason::EventsMissing, gap.message());
        Ok(())
    }

    fn count(&self, batch: &Batch, now: Timestamp) {
        self.source.counters.recovered(batch.recovered);
        if let Some((newest, text)) = &batch.newest {
            self.source
                .counters
                .lag(now.duration_since(*newest).try_into().unwrap_or_default());
            self.source.report.field("lastEventTime", text.as_str());
        }
    }
}

fn incomplete(source: &Source, reason: Reason, message: String) {
    source
        .report
        .note(COMPLETE, (Truth::False, Severity::Warning), Cause::new(reason, message));
}

/// The key of repeats: one object and one reason. Writers that leave the uid out name the object.
fn key(fields: &EventFields) -> Key {
    let involved = fields.involved();
    let object = match involved.uid() {
        "" => format!("{}/{}/{}", involved.kind(), involved.namespace(), involved.name()),
        uid => uid.to_owned(),
    };
    Key {
        object,
        reason: fields.reason().to_owned(),
    }
}

/// The line that counts the objects that were passed over without one of their own.
fn unfit(source: &str) -> impl FnOnce(u64) + Send + use<> {
    let source = source.to_owned();
    move |unlogged| tracing::warn!(source, unlogged, "more objects were passed over")
}
