//! Dead letters in memory: bounded. A full log refuses new ones and keeps what it has.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use channel::{AppendError, DeadLetterLog, Durability, Offset, ReadError, Stored, StoredDeadLetter};
use event::Event;
use parking_lot::Mutex;

use crate::{PAGE_BYTES, budget::Account};

/// Dead letters held at most: as many as the channel holds events, so that there is room if every event fails.
const DEAD_LETTERS_MAX: usize = 10_000;

/// Bytes of dead letters held at most. Together with the ring's bound this keeps the process under 100 MB.
const DEAD_LETTER_BYTES_MAX: usize = 16 << 20;

const FULL: &str = "10 000 letters or 16 MiB are the most that an in-memory channel keeps";
const BUDGET_EXHAUSTED: &str = "the memory of all in-memory channels together (--memory-budget) is used up";

/// A person has to make room, so there is no hurry.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The dead-letter log of a memory channel.
pub(crate) struct MemoryDeadLetters {
    state: Mutex<State>,
}

struct State {
    /// Its account in the shared memory budget.
    account: Account,
    /// Why the last one was refused, until one is stored or removed.
    refused: Option<&'static str>,
    held: BTreeMap<Offset, StoredDeadLetter>,
    bytes: usize,
    next: Offset,
    closed: bool,
}

impl MemoryDeadLetters {
    pub(crate) fn new(account: Account) -> Self {
        Self {
            state: Mutex::new(State {
                account,
                refused: None,
                held: BTreeMap::new(),
                bytes: 0,
                next: Offset::default(),
                closed: false,
            }),
        }
    }

    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
    }
}

#[async_trait]
impl DeadLetterLog for MemoryDeadLetters {
    async fn store(&self, event: &Event, facts: &Bytes) -> Result<Stored, AppendError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(AppendError::Closed);
        }
        let size = event.size() + facts.len();
        // The first one is always accepted: a dead letter may be larger than the largest event.
        let fits = state.held.is_empty()
            || (state.held.len() < DEAD_LETTERS_MAX && state.bytes + size <= DEAD_LETTER_BYTES_MAX);
        let needed = state.bytes + size;
        state.refused = match fits {
            false => Some(FULL),
            true if !state.account.hold(needed) => Some(BUDGET_EXHAUSTED),
            true => None,
        };
        if state.refused.is_some() {
            return Err(AppendError::Full {
                retry_after: RETRY_AFTER,
            });
        }
        let offset = state.next;
        state.next = offset.next();
        state.bytes += size;
        state.held.insert(
            offset,
            StoredDeadLetter {
                offset,
                stored_at: SystemTime::now(),
                event: event.clone(),
                facts: facts.clone(),
            },
        );
        Ok(Stored::at(Durability::Process, offset))
    }

    async fn list(&self, from: Offset, max: usize) -> Result<Vec<StoredDeadLetter>, ReadError> {
        let state = self.state.lock();
        if state.closed {
            return Err(ReadError::Closed);
        }
        let (mut page, mut bytes) = (Vec::new(), 0);
        for dead_letter in state.held.range(from..).map(|(_, dead_letter)| dead_letter).take(max) {
            bytes += dead_letter.size();
            if bytes > PAGE_BYTES && !page.is_empty() {
                break;
            }
            page.push(dead_letter.clone());
        }
        Ok(page)
    }

    async fn remove(&self, offsets: &[Offset]) -> Result<usize, ReadError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(ReadError::Closed);
        }
        let removed: Vec<StoredDeadLetter> = offsets.iter().filter_map(|offset| state.held.remove(offset)).collect();
        state.bytes -= removed.iter().map(StoredDeadLetter::size).sum::<usize>();
        if !removed.is_empty() {
            let bytes = state.bytes;
            state.account.shrink(bytes);
            state.refused = None;
        }
        Ok(removed.len())
    }

    async fn end(&self) -> Result<Offset, ReadError> {
        let state = self.state.lock();
        if state.closed {
            Err(ReadError::Closed)
        } else {
            Ok(state.next)
        }
    }

    fn count(&self) -> u64 {
        self.state.lock().held.len() as u64
    }

    fn refusing(&self) -> Option<String> {
        let state = self.state.lock();
        let why = state.refused?;
        Some(format!(
            "{} dead letters, {} bytes are kept in memory; {why}",
            state.held.len(),
            state.bytes
        ))
    }
}
