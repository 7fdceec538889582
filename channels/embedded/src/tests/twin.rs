//! A disk that forgets: files in memory, of which a crash keeps only what was synced and a random part of the rest.
//!
//! What was written and not synced survives a crash block by block or not, and a block may be torn; a name that was
//! created, renamed or removed and whose folder was not synced survives or not, each on its own. A failed sync loses what
//! it should have written for good: it can be read until the crash, or not even that, as file systems differ. It also
//! runs out of space, and counts what is read. All choices come from a seed.

mod faults;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

pub(crate) use self::faults::{Fault, Operation, Trouble};
use crate::storage::{File, Mode, Storage};

/// What survives what, as one piece.
const BLOCK: usize = 512;
/// One block in so many is torn: only its beginning reached the disk.
const TORN: u64 = 8;

#[derive(Default)]
struct Inode {
    durable: Vec<u8>,
    /// As it is read now.
    current: Vec<u8>,
    /// Not synced yet, in order.
    pending: Vec<Change>,
    /// Bytes that were read of it.
    read: u64,
    /// Some of it was lost by a sync of everything, which its own next sync tells.
    failed: bool,
}

impl Inode {
    fn keep(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// The pages are marked clean and dropped one day, or now: the next sync succeeds and writes nothing.
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
    /// Changes of folders that were not synced since.
    pending_names: Vec<Renaming>,
    random: u64,
    trouble: Option<Trouble>,
    /// Bytes all files may have together.
    room: usize,
    /// Grows with every crash: handles from before are dead.
    life: u64,
    whole_syncs: u64,
}

/// A disk, as one process sees it: after a crash the next process gets its own, and this one is dead.
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
            })),
            0,
        )
    }

    /// A disk that holds these files, durably.
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

    /// Begins to fail after so many changing operations, or stops failing.
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

    /// Room for so many bytes more than there are; for any number without one.
    pub(crate) fn room(&self, more: Option<usize>) {
        let mut state = self.0.lock();
        state.room = more.map_or(usize::MAX, |more| state.used() + more);
    }

    /// The power goes: what was not synced is kept or lost at random. Returns the disk of the next life.
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

    /// The process is killed, the system lives: everything written is there. Returns the disk of the next life.
    pub(crate) fn kill(&self) -> Self {
        let mut state = self.0.lock();
        state.trouble = None;
        state.life += 1;
        Self(self.0.clone(), state.life)
    }

    /// How often everything was synced at once.
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

    /// Everything on the disk as it is read now.
    pub(crate) fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.0.lock();
        state
            .names
            .iter()
            .map(|(path, inode)| (path.clone(), state.inodes[*inode].current.clone()))
            .collect()
    }

    /// How many bytes were read of each file since the last call.
    pub(crate) fn reads(&self) -> BTreeMap<PathBuf, u64> {
        let mut state = self.0.lock();
        let State { inodes, names, .. } = &mut *state;
        names
            .iter()
            .map(|(path, inode)| (path.clone(), std::mem::take(&mut inodes[*inode].read)))
            .collect()
    }
}

/// Each block of a write, and each truncation, survives or does not.
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
            let kept = match next(random).is_multiple_of(TORN) {
                true => usize::try_from(next(random)).unwrap() % whole,
                false => whole,
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
    /// Should this operation fail?
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

impl Storage for Twin {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        self.live()?.ensure(Operation::CreateDir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let state = self.live()?;
        let inside = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        Ok(inside
            .map(|(path, inode)| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (name, state.inodes[*inode].current.len() as u64)
            })
            .collect())
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let mut state = self.live()?;
        let inode = match (state.names.get(path), mode) {
            (Some(inode), Mode::Existing) => *inode,
            (None, Mode::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (found, Mode::New) => {
                let found = found.copied();
                state.ensure(Operation::Create)?;
                match found {
                    Some(inode) => {
                        state.inodes[inode].current.clear();
                        state.inodes[inode].pending.push(Change::Truncate(0));
                        inode
                    }
                    None => {
                        state.inodes.push(Inode::default());
                        let inode = state.inodes.len() - 1;
                        state.names.insert(path.to_path_buf(), inode);
                        state.pending_names.push(Renaming::Link(path.to_path_buf(), inode));
                        inode
                    }
                }
            }
        };
        Ok(Arc::new(Handle {
            twin: self.clone(),
            inode,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.live()?;
        state.ensure(Operation::Rename)?;
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_path_buf(), inode);
        state
            .pending_names
            .push(Renaming::Move(from.to_path_buf(), to.to_path_buf(), inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.live()?;
        state.ensure(Operation::Remove)?;
        state.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        state.pending_names.push(Renaming::Unlink(path.to_path_buf()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.live()?;
        state.ensure(Operation::SyncDir)?;
        let State {
            pending_names,
            durable_names,
            ..
        } = &mut *state;
        let (here, elsewhere) = std::mem::take(pending_names)
            .into_iter()
            .partition::<Vec<_>, _>(|renaming| renaming.is_in(dir));
        *pending_names = elsewhere;
        for renaming in here {
            renaming.apply(durable_names);
        }
        Ok(())
    }

    fn sync_whole(&self, dirs: &[&Path]) -> io::Result<bool> {
        let mut state = self.live()?;
        state.whole_syncs += 1;
        let fault = state.faulty(Operation::SyncWhole);
        let State {
            inodes,
            names,
            random,
            pending_names,
            durable_names,
            ..
        } = &mut *state;
        let is_here = |path: &Path| dirs.iter().any(|dir| path.parent() == Some(dir));
        for (path, inode) in names.iter() {
            let inode = &mut inodes[*inode];
            // What it loses may be anybody's.
            match fault {
                Some(Fault::Broken | Fault::FullAtSync) if next(random).is_multiple_of(2) => {
                    inode.failed = !inode.pending.is_empty();
                    inode.lose(random);
                }
                None if is_here(path) => inode.keep(),
                _ => {}
            }
        }
        if let Some(fault) = fault {
            return Err(fault.error());
        }
        let (here, elsewhere) = std::mem::take(pending_names)
            .into_iter()
            .partition::<Vec<_>, _>(|renaming| dirs.iter().any(|dir| renaming.is_in(dir)));
        *pending_names = elsewhere;
        for renaming in here {
            renaming.apply(durable_names);
        }
        Ok(true)
    }
}

struct Handle {
    twin: Twin,
    inode: usize,
}

impl Handle {
    fn with<T>(&self, work: impl FnOnce(&mut State, usize) -> io::Result<T>) -> io::Result<T> {
        work(&mut *self.twin.live()?, self.inode)
    }
}

impl File for Handle {
    fn length(&self) -> io::Result<u64> {
        self.with(|state, inode| Ok(state.inodes[inode].current.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.with(|state, inode| {
            state.inodes[inode].read += buffer.len() as u64;
            let bytes = &state.inodes[inode].current;
            let from = usize::try_from(at).unwrap().min(bytes.len());
            let count = buffer.len().min(bytes.len() - from);
            buffer[..count].copy_from_slice(&bytes[from..from + count]);
            Ok(count)
        })
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.with(|state, inode| {
            let at = usize::try_from(at).unwrap();
            let grown = (at + bytes.len()).saturating_sub(state.inodes[inode].current.len());
            let mut fault = state.faulty(Operation::Write);
            if fault.is_none() && grown > 0 && state.used() + grown > state.room {
                fault = Some(Fault::Full);
            }
            let written = match fault {
                None => bytes.len(),
                Some(Fault::ReadOnly) => 0,
                Some(Fault::Full) if state.used() + grown > state.room => {
                    bytes.len().saturating_sub(state.used() + grown - state.room)
                }
                Some(_) => usize::try_from(next(&mut state.random)).unwrap() % (bytes.len() + 1),
            };
            let change = Change::Write(at, bytes[..written].to_vec());
            if written > 0 {
                change.apply(&mut state.inodes[inode].current);
                state.inodes[inode].pending.push(change);
            }
            fault.map_or(Ok(()), |fault| Err(fault.error()))
        })
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.with(|state, inode| {
            state.ensure(Operation::Truncate)?;
            let change = Change::Truncate(usize::try_from(length).unwrap());
            change.apply(&mut state.inodes[inode].current);
            state.inodes[inode].pending.push(change);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state, inode| {
            match state.faulty(Operation::Sync) {
                Some(fault @ (Fault::Broken | Fault::FullAtSync)) => {
                    let State { inodes, random, .. } = state;
                    inodes[inode].lose(random);
                    return Err(fault.error());
                }
                Some(fault) => return Err(fault.error()),
                None => {}
            }
            let inode = &mut state.inodes[inode];
            inode.keep();
            match std::mem::take(&mut inode.failed) {
                true => Err(Fault::Broken.error()),
                false => Ok(()),
            }
        })
    }
}
