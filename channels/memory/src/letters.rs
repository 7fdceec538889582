//! Letters in memory: bounded, and full rather than forgetful.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use channel::{AppendError, Durability, Letter, Letters, Offset, ReadError, Stored};
use event::Event;
use parking_lot::Mutex;

use crate::PAGE_BYTES;

/// Letters held at most: as many as the channel holds events, so that a channel whose every event fails still has room.
const LETTERS_MAX: usize = 10_000;

/// Bytes of letters held at most. Beside the ring's own bound this keeps the process under 100 MB.
const LETTER_BYTES_MAX: usize = 16 << 20;

/// A person has to make room, so there is no hurry.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The dead-letter log of a memory channel.
#[derive(Default)]
pub(crate) struct MemoryLetters {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: BTreeMap<Offset, Letter>,
    bytes: usize,
    next: Offset,
    closed: bool,
}

impl MemoryLetters {
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
    }
}

#[async_trait]
impl Letters for MemoryLetters {
    async fn store(&self, letter: &Event) -> Result<Stored, AppendError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(AppendError::Closed);
        }
        let size = letter.size();
        // The first one is taken whatever its size: a letter may be as large as the largest event, and more.
        let fits = state.held.is_empty() || (state.held.len() < LETTERS_MAX && state.bytes + size <= LETTER_BYTES_MAX);
        if !fits {
            return Err(AppendError::Full {
                retry_after: RETRY_AFTER,
            });
        }
        let offset = state.next;
        state.next = offset.next();
        state.bytes += size;
        state.held.insert(
            offset,
            Letter {
                offset,
                stored_at: SystemTime::now(),
                event: letter.clone(),
            },
        );
        Ok(Stored::at(Durability::Process, offset))
    }

    async fn list(&self, from: Offset, max: usize) -> Result<Vec<Letter>, ReadError> {
        let state = self.state.lock();
        if state.closed {
            return Err(ReadError::Closed);
        }
        let (mut page, mut bytes) = (Vec::new(), 0);
        for letter in state.held.range(from..).map(|(_, letter)| letter).take(max) {
            bytes += letter.event.size();
            if bytes > PAGE_BYTES && !page.is_empty() {
                break;
            }
            page.push(letter.clone());
        }
        Ok(page)
    }

    async fn remove(&self, offsets: &[Offset]) -> Result<usize, ReadError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(ReadError::Closed);
        }
        let removed: Vec<Letter> = offsets.iter().filter_map(|offset| state.held.remove(offset)).collect();
        state.bytes -= removed.iter().map(|letter| letter.event.size()).sum::<usize>();
        Ok(removed.len())
    }

    fn count(&self) -> u64 {
        self.state.lock().held.len() as u64
    }
}
