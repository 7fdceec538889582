//! Room on the disk that is kept for what must be written when there is none: cursors, gaps, dead letters.
//!
//! It is a file of zeros in the data folder. What has to be written and finds the disk full takes from its end; events never
//! do. While some of it is gone no event is taken, so what is given back to the disk is not eaten by the next publisher;
//! the upkeep thread fills it again once there is space, and with that the channels take events by themselves.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::storage::{File, Mode, Storage, is_full};

/// Bytes kept. A letter of the largest event that HTTP takes by default (1 MiB, and 64 KiB of its answer) fits beside what
/// is the state's; a disk that stays full refuses letters in the end, and their events wait in the channel.
pub(crate) const HEADROOM_BYTES: u64 = 2 << 20;
/// The share, in eighths, that letters leave: of 2 MiB it is room for 20 000 attempts, or for a state file of 10 000 saved
/// anew beside the old one.
const STATE_EIGHTHS: u64 = 3;
/// Given back at once, so that many small writes ask rarely.
const STEP: u64 = 64 << 10;
/// Zeros written at once.
const CHUNK: usize = 256 << 10;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Cursors, attempts, gaps: all of it.
    State,
    /// Dead letters: what the state can spare.
    Letters,
}

pub(crate) struct Headroom {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    file: Option<Arc<dyn File>>,
    held: u64,
    /// It was filled once or tried to: before that nobody asked for it.
    begun: bool,
}

impl Headroom {
    pub(crate) fn new(storage: Arc<dyn Storage>, root: &Path, bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            storage,
            path: root.join("headroom"),
            bytes,
            state: Mutex::default(),
        })
    }

    /// Is all of it there? Events are taken only then.
    pub(crate) fn is_whole(&self) -> bool {
        self.used() == 0
    }

    /// Bytes that are not there.
    pub(crate) fn used(&self) -> u64 {
        let state = self.state.lock();
        match state.begun {
            true => self.bytes.saturating_sub(state.held),
            false => 0,
        }
    }

    /// Fills it as far as the disk allows. Cheap when it is whole. Blocks.
    pub(crate) fn fill(&self) {
        let mut state = self.state.lock();
        let was_short = state.begun && state.held < self.bytes;
        state.begun = true;
        if state.held >= self.bytes {
            return;
        }
        match self.fill_up(&mut state) {
            Ok(()) if was_short => {
                tracing::info!(path = %self.path.display(), "headroom is filled again, events are taken");
            }
            Ok(()) => {}
            Err(error) => {
                if !was_short {
                    tracing::warn!(path = %self.path.display(), %error, "headroom cannot be filled, events are refused");
                }
                // Neither its length nor its handle is known to be good.
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
                // What fitted is kept: it can be given back.
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

    /// Gives at least so many bytes back to the disk, and at least one; `false` when there are not that many for this need.
    /// Blocks.
    pub(crate) fn give(&self, bytes: u64, need: Need) -> bool {
        let bytes = bytes.max(1);
        let keep = match need {
            Need::State => 0,
            Need::Letters => self.bytes / 8 * STATE_EIGHTHS,
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
            tracing::warn!(path = %self.path.display(), %error, "headroom cannot be given back");
            return false;
        }
        if state.held >= self.bytes {
            tracing::warn!(path = %self.path.display(), "disk is full, headroom is used for cursors and dead letters");
        }
        state.held = left;
        state.begun = true;
        true
    }

    /// Does something that writes; while the disk is full, again with room given back. It ends: each time there is less.
    pub(crate) fn lend<T>(&self, bytes: u64, need: Need, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match write() {
                Err(error) if is_full(&error) && self.give(bytes, need) => {}
                done => return done,
            }
        }
    }
}

/// Why events are refused while the headroom is not whole.
pub(crate) fn short() -> io::Error {
    io::Error::new(
        io::ErrorKind::StorageFull,
        "the disk is full: what is left is kept for cursors and dead letters",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::twin::Twin;

    fn headroom(twin: &Twin) -> Arc<Headroom> {
        Headroom::new(Arc::new(twin.clone()), Path::new("/data"), HEADROOM_BYTES)
    }

    /// Proves: OP-4
    #[test]
    fn letters_leave_what_the_state_may_need_and_all_of_it_comes_back() {
        const STATE_BYTES: u64 = HEADROOM_BYTES / 8 * STATE_EIGHTHS;
        let twin = Twin::new(1);
        let held = headroom(&twin);
        held.fill();
        assert!(held.is_whole());
        twin.room(Some(0));
        let refused = held.lend(0, Need::Letters, || Err::<(), _>(short()));
        assert!(
            refused.is_err(),
            "what asks for nothing and is refused does not try for ever"
        );
        held.fill();
        assert!(held.give(HEADROOM_BYTES - STATE_BYTES, Need::Letters));
        assert!(!held.is_whole());
        assert!(!held.give(1, Need::Letters), "the rest is the state's");
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
            headroom(&twin).give(STEP, Need::State),
            "it is found again by the next process"
        );
    }
}
