//! When the mark is saved: at once while it is small, and never for more than a twentieth of the time.
//!
//! A crash between storing and saving repeats what lies between, with the same ids; so saving early is worth something, and a
//! mark of a hundred thousand objects takes a while to write.

use std::time::Duration;

use adapter::{Accepted, Cause, Reason, Severity, Source, Truth};
use tokio::time::Instant;

use crate::mark::Mark;

/// Between two saves passes at least this many times what the last one took.
const PAUSE: u32 = 19;

/// That all was well is saved this often when nothing happens: a gap is told from the time saved last.
const QUIET: Duration = Duration::from_secs(60);

/// A disk that is full stays so for a while.
const AGAIN: Duration = Duration::from_secs(10);

/// Whether restarts repeat nothing.
const SAVED: &str = "CheckpointSaved";

/// Whether everything that is known is kept.
const WHOLE: &str = "CheckpointWhole";

#[derive(Debug, Default)]
pub(super) struct Saver {
    changed: bool,
    proof: Option<Accepted>,
    last: Option<Instant>,
    next: Option<Instant>,
}

impl Saver {
    pub(super) fn changed(&mut self) {
        self.changed = true;
    }

    pub(super) fn proven(&mut self, proof: Accepted) {
        self.proof = Some(proof);
    }

    pub(super) fn needs_proof(&self) -> bool {
        self.proof.is_none()
    }

    /// Nothing has changed but the time.
    pub(super) fn touch(&mut self, now: Instant) {
        self.changed |= self.last.is_none_or(|last| now.duration_since(last) >= QUIET);
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.changed && self.next.is_none_or(|next| next <= now)
    }

    /// When a save that was put off may be made.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.next.filter(|_| self.changed)
    }

    /// Saves the mark when it has changed and what it says is proven. One that cannot be saved is told of and tried again: going on is worth more than an early end.
    pub(super) async fn save(&mut self, source: &Source, mark: &Mark) {
        let Some(proof) = self.proof.filter(|_| self.changed) else {
            return;
        };
        let begun = Instant::now();
        let (text, is_shortened) = mark.write_within(source.checkpoint.mark_max_bytes());
        let saved = source.checkpoint.save_mark(&proof, text).await;
        let done = Instant::now();
        self.last = Some(done);
        self.next = Some(done + done.duration_since(begun) * PAUSE);
        match saved {
            Ok(()) => {
                self.changed = false;
                source.report.note(SAVED, (Truth::True, Severity::Warning), None);
                self.tell_whole(source, is_shortened);
            }
            Err(error) => {
                self.next = Some(done + AGAIN);
                let message = format!(
                    "{}: after a restart the events since the last save are repeated; see that it can be written",
                    adapter::chain(&error)
                );
                source.report.note(
                    SAVED,
                    (Truth::False, Severity::Warning),
                    Cause::new(Reason::CheckpointNotSaved, message),
                );
            }
        }
    }

    /// Reports the condition only while the mark is shortened: few sources ever come near.
    fn tell_whole(&self, source: &Source, is_shortened: bool) {
        if !is_shortened {
            source.report.withdraw(WHOLE);
            return;
        }
        let message = format!(
            "there are more Event objects than {} bytes can name, where the source's state is kept: the oldest are left out; \
             watch fewer of them in one source (namespace, kinds, reasons)",
            source.checkpoint.mark_max_bytes()
        );
        let truth = (Truth::False, Severity::Warning);
        source
            .report
            .note(WHOLE, truth, Cause::new(Reason::CheckpointShortened, message));
    }
}
