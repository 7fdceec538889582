//! Reserved disk space for what must be written on a full disk: cursors, gaps, dead letters.
//!
//! It is a file of zeros in the data folder. A write of that kind that finds the disk full truncates the file; events
//! never do. While a part of it is missing, no event is accepted, so that publishers do not consume the space that was
//! freed. The upkeep thread refills it once the disk has space, and channels accept events again.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::storage::{File, Mode, Storage, is_full, is_read_only};

/// Reserved bytes. A dead letter of the largest event that HTTP accepts by default (1 MiB, and 64 KiB of answer) fits
/// beside the share of the state. A disk that stays full refuses dead letters in the end, and their events wait in the
/// channel.
pub(crate) const RESERVED_BYTES: u64 = 2 << 20;
/// The share, in eighths, that dead letters leave for the state: of 2 MiB it is space for 20 000 attempts, or for
/// rewriting a state file of 10 000 beside the old one.
const STATE_EIGHTHS: u64 = 3;
/// Bytes freed at once, so that small writes rarely need to.
const STEP: u64 = 64 << 10;
/// Zeros written at once.
const CHUNK: usize = 256 << 10;

/// The purpose of a write, which decides how much of the reserved space it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Cursors, attempts, gaps: all of it.
    State,
    /// Dead letters: all but the share of the state.
    DeadLetters,
}

pub(crate) struct ReservedSpace {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    file: Option<Arc<dyn File>>,
    held: u64,
    /// It was filled once, or that was tried. Before that it does not count as missing.
    begun: bool,
    /// Why it could not be filled, if the disk was not full.
    read_only: Option<io::ErrorKind>,
}

impl ReservedSpace {
    pub(crate) fn new(storage: Arc<dyn Storage>, root: &Path, bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            storage,
            path: root.join("reserved-space"),
            bytes,
            state: Mutex::default(),
        })
    }

    /// Whether all of it exists. Events are accepted only then.
    pub(crate) fn is_whole(&self) -> bool {
        self.used() == 0
    }

    /// Missing bytes.
    pub(crate) fn used(&self) -> u64 {
        let state = self.state.lock();
        if state.begun {
            self.bytes.saturating_sub(state.held)
        } else {
            0
        }
    }

    /// The error that refuses events while it is incomplete.
    pub(crate) fn short(&self) -> io::Error {
        match self.state.lock().read_only {
            Some(kind) => kind.into(),
            None => short(),
        }
    }

    /// Fills it as far as the disk allows. Cheap if it is complete. Blocks.
    pub(crate) fn fill(&self) {
        let mut state = self.state.lock();
        let was_short = state.begun && state.held < self.bytes;
        state.begun = true;
        if state.held >= self.bytes {
            return;
        }
        let filled = self.fill_up(&mut state);
        state.read_only = filled
            .as_ref()
            .err()
            .filter(|error| is_read_only(error))
            .map(io::Error::kind);
        match filled {
            Ok(()) if was_short => {
                tracing::info!(path = %self.path.display(), "reserved space is complete again, events are accepted");
            }
            Ok(()) => {}
            Err(error) => {
                if !was_short {
                    tracing::warn!(path = %self.path.display(), %error, "reserved space cannot be filled, events are refused");
                }
                // Neither the length nor the handle can be trusted.
                state.file = None;
            }
        }
    }

    fn fill_up(&self, state: &mut State) -> io::Result<()> {
        let file = match state.file.clone() {
            Some(file) => file,
            None => self.open(state)?,
        };
        let zeros = vec![0; CHUNK];
        while state.held < self.bytes {
            let more = usize::try_from(self.bytes - state.held).unwrap_or(CHUNK).min(CHUNK);
            let written = file.write_at(&zeros[..more], state.held);
            if written.is_err() {
                // The part that fit is kept, and can be freed again.
                state.held = file.length()?.min(self.bytes);
            }
            written?;
            state.held += more as u64;
        }
        file.sync()
    }

    fn open(&self, state: &mut State) -> io::Result<Arc<dyn File>> {
        let file = match self.storage.open(&self.path, Mode::Existing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.storage.open(&self.path, Mode::New)?,
            file => file?,
        };
        state.held = file.length()?.min(self.bytes);
        state.file = Some(file.clone());
        Ok(file)
    }

    /// Frees at least `bytes` bytes of the disk, and at least one; `false` if this need may not use that many. Blocks.
    pub(crate) fn give(&self, bytes: u64, need: Need) -> bool {
        let bytes = bytes.max(1);
        let keep = match need {
            Need::State => 0,
            Need::DeadLetters => self.bytes / 8 * STATE_EIGHTHS,
        };
        let mut state = self.state.lock();
        if state.file.is_none() && self.open(&mut state).is_err() {
            return false;
        }
        let spare = state.held.saturating_sub(keep);
        if spare < bytes {
            return false;
        }
        let left = state.held - bytes.next_multiple_of(STEP).min(spare);
        let Some(file) = state.file.clone() else {
            return false;
        };
        if let Err(error) = file.truncate(left) {
            tracing::warn!(path = %self.path.display(), %error, "reserved space cannot be freed");
            // The file may have been opened while the disk was read-only.
            state.file = None;
            return false;
        }
        if state.held >= self.bytes {
            tracing::warn!(path = %self.path.display(), "disk is full, reserved space is used for cursors and dead letters");
        }
        state.held = left;
        state.begun = true;
        true
    }

    /// Runs `write`; while it fails for want of space, frees `bytes` and runs it again. Ends because the reserved
    /// space shrinks each time.
    pub(crate) fn lend<T>(&self, bytes: u64, need: Need, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match write() {
                Err(error) if is_full(&error) && self.give(bytes, need) => {}
                done => return done,
            }
        }
    }
}

/// The error of a disk that is full and nothing else.
fn short() -> io::Error {
    io::Error::new(
        io::ErrorKind::StorageFull,
        "the disk is full: the remaining space is reserved for cursors and dead letters",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::twin::Twin;

    fn reserved_space(twin: &Twin) -> Arc<ReservedSpace> {
        ReservedSpace::new(Arc::new(twin.clone()), Path::new("/data"), RESERVED_BYTES)
    }

    /// Proves: OP-4
    #[test]
    fn letters_leave_what_the_state_may_need_and_all_of_it_comes_back() {
        const STATE_BYTES: u64 = RESERVED_BYTES / 8 * STATE_EIGHTHS;
        let twin = Twin::new(1);
        let held = reserved_space(&twin);
        held.fill();
        assert!(held.is_whole());
        twin.room(Some(0));
        let refused = held.lend(0, Need::DeadLetters, || Err::<(), _>(short()));
        assert!(
            refused.is_err(),
            "what asks for nothing and is refused does not try for ever"
        );
        held.fill();
        assert!(held.give(RESERVED_BYTES - STATE_BYTES, Need::DeadLetters));
        assert!(!held.is_whole());
        assert!(!held.give(1, Need::DeadLetters), "the rest is the state's");
        assert!(held.give(STATE_BYTES, Need::State));
        assert!(!held.give(1, Need::State), "there is nothing left");
        twin.room(Some(1 << 20));
        held.fill();
        assert!(!held.is_whole());
        assert!(held.give(1 << 20, Need::State), "what fitted can be given back");
        twin.room(None);
        held.fill();
        assert!(held.is_whole());
        assert!(
            reserved_space(&twin).give(STEP, Need::State),
            "it is found again by the next process"
        );
    }
}
