//! A disk that forgets: files in memory, of which a crash keeps only what was synced and a random part of the rest.
//!
//! Unsynced writes survive a crash block by block or not, and a block may be torn. Names that were created, renamed or
//! removed without a sync of their folder survive or not, each on its own. A failed sync loses for good what it should
//! have written: it can be read until the crash, or not even that, as file systems differ. The disk also runs out of
//! space, and counts what is read. All choices come from a seed.

mod faults;
mod storage;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

pub(crate) use self::faults::{Fault, Operation, Trouble};
use crate::disk::Space;

/// The unit that survives or is lost.
const BLOCK: usize = 512;
/// One block in this many is torn: only its beginning reached the disk.
const TORN: u64 = 8;

#[derive(Default)]
struct Inode {
    durable: Vec<u8>,
    /// The contents as read now.
    current: Vec<u8>,
    /// Unsynced changes, in order.
    pending: Vec<Change>,
    /// Bytes read.
    read: u64,
    /// A `syncfs` lost some of it. The file's own next sync reports that.
    failed: bool,
}

impl Inode {
    fn keep(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// The pages are marked clean and dropped, now or later: the next sync succeeds and writes nothing.
    fn lose(&mut self, random: &mut u64) {
        for change in std::mem::take(&mut self.pending) {
            lose_some(&change, &mut self.durable, random);
        }
        if next(random).is_multiple_of(2) {
            self.current = self.durable.clone();
        }
    }
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, data) => {
                if bytes.len() < at + data.len() {
                    bytes.resize(at + data.len(), 0);
                }
                bytes[*at..at + data.len()].copy_from_slice(data);
            }
            Self::Truncate(length) => bytes.resize(*length, 0),
        }
    }
}

type Names = BTreeMap<PathBuf, usize>;

/// A change of a folder.
enum Renaming {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Move(PathBuf, PathBuf, usize),
}

impl Renaming {
    fn is_in(&self, dir: &Path) -> bool {
        let (Self::Link(path, _) | Self::Unlink(path) | Self::Move(_, path, _)) = self;
        path.parent() == Some(dir)
    }

    fn apply(self, names: &mut Names) {
        match self {
            Self::Link(path, inode) => drop(names.insert(path, inode)),
            Self::Unlink(path) => drop(names.remove(&path)),
            Self::Move(from, to, inode) => {
                names.remove(&from);
                names.insert(to, inode);
            }
        }
    }
}

struct State {
    inodes: Vec<Inode>,
    names: Names,
    durable_names: Names,
    /// Folder changes that are not synced yet.
    pending_names: Vec<Renaming>,
    random: u64,
    trouble: Option<Trouble>,
    /// Bytes that all files may have in total.
    room: usize,
    /// Grows with every crash, which invalidates handles from before.
    life: u64,
    whole_syncs: u64,
    space: Option<Space>,
}

/// A disk as one process sees it. After a crash the next process gets its own, and this one fails.
#[derive(Clone)]
pub(crate) struct Twin(Arc<Mutex<State>>, u64);

impl Twin {
    pub(crate) fn new(seed: u64) -> Self {
        Self(
            Arc::new(Mutex::new(State {
                inodes: Vec::new(),
                names: Names::new(),
                durable_names: Names::new(),
                pending_names: Vec::new(),
                random: seed.wrapping_mul(2).wrapping_add(1),
                trouble: None,
                room: usize::MAX,
                life: 0,
                whole_syncs: 0,
                space: None,
            })),
            0,
        )
    }

    /// Sets the size that the file system reports.
    pub(crate) fn space(&self, space: Option<Space>) {
        self.0.lock().space = space;
    }

    /// Creates a disk with these files, durable.
    pub(crate) fn holding(files: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let twin = Self::new(0);
        let mut state = twin.0.lock();
        for (path, bytes) in files {
            state.inodes.push(Inode {
                durable: bytes.clone(),
                current: bytes.clone(),
                ..Inode::default()
            });
            let inode = state.inodes.len() - 1;
            state.names.insert(path.clone(), inode);
        }
        state.durable_names = state.names.clone();
        drop(state);
        twin
    }

    /// Begins to fail after this many changing operations, or stops failing.
    pub(crate) fn fail(&self, fault: Option<Fault>, after: u64) {
        self.0.lock().trouble = fault.map(|fault| Trouble {
            fault,
            after,
            times: None,
            only: None,
        });
    }

    pub(crate) fn is_in_trouble(&self) -> bool {
        let state = self.0.lock();
        state.trouble.is_some() || state.room < usize::MAX
    }

    pub(crate) fn trouble(&self, trouble: Trouble) {
        self.0.lock().trouble = Some(trouble);
    }

    /// Limits the space to `more` bytes above the current use; `None` removes the limit.
    pub(crate) fn room(&self, more: Option<usize>) {
        let mut state = self.0.lock();
        state.room = more.map_or(usize::MAX, |more| state.used() + more);
    }

    /// Simulates a power cut: unsynced changes are kept or lost at random. Returns the disk of the next process.
    pub(crate) fn crash(&self) -> Self {
        let mut state = self.0.lock();
        let State {
            inodes,
            random,
            pending_names,
            durable_names,
            ..
        } = &mut *state;
        for inode in inodes.iter_mut() {
            for change in std::mem::take(&mut inode.pending) {
                lose_some(&change, &mut inode.durable, random);
            }
            inode.current = inode.durable.clone();
            inode.failed = false;
        }
        for renaming in pending_names.drain(..) {
            if next(random).is_multiple_of(2) {
                renaming.apply(durable_names);
            }
        }
        state.names = state.durable_names.clone();
        state.trouble = None;
        state.life += 1;
        Self(self.0.clone(), state.life)
    }

    /// Simulates a kill of the process: everything written is kept. Returns the disk of the next process.
    pub(crate) fn kill(&self) -> Self {
        let mut state = self.0.lock();
        state.trouble = None;
        state.life += 1;
        Self(self.0.clone(), state.life)
    }

    /// Number of `syncfs` calls.
    pub(crate) fn whole_syncs(&self) -> u64 {
        self.0.lock().whole_syncs
    }

    fn live(&self) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let state = self.0.lock();
        if state.life == self.1 {
            Ok(state)
        } else {
            Err(io::Error::other("this process is dead"))
        }
    }

    /// Changes one byte of a file, as a failing device does.
    pub(crate) fn flip(&self, path: &Path, at: usize) {
        let mut state = self.0.lock();
        let inode = state.names[path];
        state.inodes[inode].current[at] ^= 0x20;
        if let Some(byte) = state.inodes[inode].durable.get_mut(at) {
            *byte ^= 0x20;
        }
    }

    pub(crate) fn files(&self) -> Vec<(PathBuf, usize)> {
        let state = self.0.lock();
        state
            .names
            .iter()
            .map(|(path, inode)| (path.clone(), state.inodes[*inode].current.len()))
            .collect()
    }

    /// The contents of all files as read now.
    pub(crate) fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.0.lock();
        state
            .names
            .iter()
            .map(|(path, inode)| (path.clone(), state.inodes[*inode].current.clone()))
            .collect()
    }

    /// Bytes read of each file since the last call.
    pub(crate) fn reads(&self) -> BTreeMap<PathBuf, u64> {
        let mut state = self.0.lock();
        let State { inodes, names, .. } = &mut *state;
        names
            .iter()
            .map(|(path, inode)| (path.clone(), std::mem::take(&mut inodes[*inode].read)))
            .collect()
    }
}

/// Applies a random part of a change: each block of a write, and each truncation, survives or not.
fn lose_some(change: &Change, durable: &mut Vec<u8>, random: &mut u64) {
    let Change::Write(at, data) = change else {
        if next(random).is_multiple_of(2) {
            change.apply(durable);
        }
        return;
    };
    // A kept length without kept contents reads as zeros.
    if next(random).is_multiple_of(2) && durable.len() < at + data.len() {
        durable.resize(at + data.len(), 0);
    }
    let mut from = 0;
    while from < data.len() {
        let to = (from + BLOCK - (at + from) % BLOCK).min(data.len());
        if next(random).is_multiple_of(2) {
            let whole = to - from;
            let kept = if next(random).is_multiple_of(TORN) {
                usize::try_from(next(random)).unwrap() % whole
            } else {
                whole
            };
            Change::Write(at + from, data[from..from + kept].to_vec()).apply(durable);
        }
        from = to;
    }
}

/// SplitMix64: small, and the same everywhere.
pub(crate) fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl State {
    /// Whether this operation fails, and how.
    fn faulty(&mut self, operation: Operation) -> Option<Fault> {
        let trouble = self.trouble.as_mut()?;
        if !trouble.fault.hits(operation) || trouble.only.is_some_and(|only| only != operation) {
            return None;
        }
        if trouble.after > 0 {
            trouble.after -= 1;
            return None;
        }
        match &mut trouble.times {
            Some(0) => return None,
            Some(times) => *times -= 1,
            None => {}
        }
        Some(trouble.fault)
    }

    fn ensure(&mut self, operation: Operation) -> io::Result<()> {
        self.faulty(operation).map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn used(&self) -> usize {
        self.names.values().map(|inode| self.inodes[*inode].current.len()).sum()
    }
}
