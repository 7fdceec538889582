//! Opens the files of a channel, and logs in one line what recovery found.

use std::{path::Path, sync::Arc, time::Duration};

use channel::Offset;
use tokio::time::Instant;

use super::DataFolder;
use crate::{
    Settings,
    dead_letters::EmbeddedDeadLetters,
    log::{LogError, OpenReport, Opening, Purpose},
    name::DEAD_LETTERS,
    state::{StateFile, StateReport},
    store::{Claim, Store},
};

impl DataFolder {
    /// Opens the files of a channel, recovers them, and logs what was found. Blocks.
    pub(super) fn open_store(&self, dir: &Path, settings: Settings, claim: Claim) -> Result<Arc<Store>, LogError> {
        let (started, services) = (Instant::now(), &self.services);
        let opening = |dir: &Path, purpose| Opening {
            storage: services.storage.clone(),
            dir: dir.to_path_buf(),
            segment_bytes: settings.effective_segment_bytes(),
            budget: services.budget.clone(),
            committers: services.committers.clone(),
            reserved_space: services.reserved_space.clone(),
            purpose,
            checkpoint: None,
            floor: 0,
            gaps: Vec::new(),
            salt: None,
        };
        let (file, mut saved, state) = StateFile::open(services.storage.clone(), services.reserved_space.clone(), dir)?;
        let (log, events) = Opening {
            checkpoint: saved.checkpoint,
            floor: saved.floor(),
            gaps: saved.gaps.clone(),
            ..opening(dir, Purpose::Events)
        }
        .open()?;
        for id in &state.restored_from_copy {
            // Whatever the cursor settled after the copy was made is lost. That includes everything retention has
            // deleted.
            if let Some(cursor) = saved.cursors.get_mut(id) {
                cursor.settled.settle_range(Offset(0)..Offset(log.earliest()));
            }
        }
        let (dead_letters, dead_letters_found, dead_letters_state) = EmbeddedDeadLetters::open(Opening {
            salt: Some(log.salt()),
            segment_bytes: settings.dead_letters_segment_bytes(),
            ..opening(&dir.join(DEAD_LETTERS), Purpose::DeadLetters)
        })?;
        dead_letters.configure(settings.dead_letters_bytes, settings.dead_letters_segment_bytes());
        let recovery = Recovery {
            events,
            dead_letters: dead_letters_found,
            state,
            dead_letters_state,
        };
        recovery.log(dir, started.elapsed());
        let dedup = settings.dedup;
        let store = Store::new(log, dead_letters, settings, file, saved, services.clone(), claim);
        store.log.dedup(dedup);
        store.log.load_backlog_ages(true);
        if store.log.has_unsaved_gaps() {
            // Saved before anything is written behind it, so that what recovery dropped stays dropped.
            store.save(true)?;
        }
        Ok(store)
    }
}

/// The result of opening a channel.
struct Recovery {
    events: OpenReport,
    dead_letters: OpenReport,
    state: StateReport,
    dead_letters_state: StateReport,
}

impl Recovery {
    /// Writes one log line if there is something to report. A channel that was closed cleanly and is intact opens
    /// silently.
    fn log(&self, dir: &Path, took: Duration) {
        let Self {
            events,
            dead_letters,
            state,
            dead_letters_state,
        } = self;
        let states = [state, dead_letters_state];
        let unfinished: usize = states.iter().map(|state| state.unfinished.len()).sum();
        let is_quiet = *events == OpenReport::default() && *dead_letters == OpenReport::default();
        let damaged: usize = states
            .iter()
            .flat_map(|state| state.damaged.iter().chain(&state.damaged_copy))
            .map(ExactSizeIterator::len)
            .sum();
        if is_quiet && unfinished == 0 && damaged == 0 && state.restored_from_copy.is_empty() {
            return;
        }
        let misplaced = events.misplaced + dead_letters.misplaced;
        let is_bad = events.missing + dead_letters.missing + misplaced + damaged as u64 > 0
            || !state.restored_from_copy.is_empty();
        macro_rules! recovered {
            ($level:ident) => {
                tracing::$level!(
                    path = %dir.display(),
                    records = events.records,
                    cut_bytes = events.cut_bytes,
                    missing = events.missing,
                    dead_letters = dead_letters.records,
                    dead_letters_cut_bytes = dead_letters.cut_bytes,
                    dead_letters_missing = dead_letters.missing,
                    misplaced,
                    bad_headers = events.bad_headers + dead_letters.bad_headers,
                    state_unfinished_bytes = unfinished,
                    state_damaged_bytes = damaged,
                    cursors_from_copy = state.restored_from_copy.len(),
                    ?took,
                    "channel recovered"
                )
            };
        }
        if is_bad {
            recovered!(error);
        } else {
            recovered!(info);
        }
    }
}
