//! A disk that forgets: files in memory, of which a crash keeps only what was synced and a random part of the rest.
//!
//! What was written and not synced survives a crash block by block or not; a name that was created, renamed or removed
//! and whose folder was not synced survives up to a random step. A failed sync loses what it should have written for
//! good, although it can still be read until the crash: what file systems do. All choices come from a seed.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::storage::{File, Mode, Storage};

/// What survives a crash or not, as one piece.
const BLOCK: usize = 512;

/// What happens to the next operations that change the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No space: a write stops half way.
    Full,
    /// No space, and it is only noticed when what was written is put in its place.
    FullAtSync,
    /// The device failed: a write may have happened in part, a sync has lost what it should have written.
    Broken,
    /// Nothing can be changed.
    ReadOnly,
}

#[derive(Default)]
struct Inode {
    durable: Vec<u8>,
    /// As it is read now.
    current: Vec<u8>,
    /// Not synced yet, in order.
    pending: Vec<Change>,
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

struct State {
    inodes: Vec<Inode>,
    names: Names,
    durable_names: Names,
    /// The names after each change since the folders were synced last.
    steps: Vec<Names>,
    random: u64,
    fault: Option<Fault>,
    /// Operations until the fault begins.
    fault_in: u64,
    /// Grows with every crash: handles from before are dead.
    life: u64,
}

/// A disk, as one process sees it: after a crash the next process gets its own, and this one is dead.
#[derive(Clone)]
pub(super) struct Twin(Arc<Mutex<State>>, u64);

impl Twin {
    pub(super) fn new(seed: u64) -> Self {
        Self(
            Arc::new(Mutex::new(State {
                inodes: Vec::new(),
                names: Names::new(),
                durable_names: Names::new(),
                steps: Vec::new(),
                random: seed.wrapping_mul(2).wrapping_add(1),
                fault: None,
                fault_in: 0,
                life: 0,
            })),
            0,
        )
    }

    /// Begins to fail after so many changing operations, or stops failing.
    pub(super) fn fail(&self, fault: Option<Fault>, after: u64) {
        let mut state = self.0.lock();
        (state.fault, state.fault_in) = (fault, after);
    }

    /// The power goes: what was not synced is kept or lost at random. Returns the disk of the next life.
    pub(super) fn crash(&self) -> Self {
        let mut state = self.0.lock();
        let State { inodes, random, .. } = &mut *state;
        for inode in inodes.iter_mut() {
            for change in std::mem::take(&mut inode.pending) {
                lose_some(&change, &mut inode.durable, random);
            }
            inode.current = inode.durable.clone();
        }
        let step = usize::try_from(next(random)).unwrap() % (state.steps.len() + 1);
        if step > 0 {
            state.durable_names = state.steps[step - 1].clone();
        }
        state.steps.clear();
        state.names = state.durable_names.clone();
        state.fault = None;
        state.life += 1;
        Self(self.0.clone(), state.life)
    }

    /// The process is killed, the system lives: everything written is there. Returns the disk of the next life.
    pub(super) fn kill(&self) -> Self {
        let mut state = self.0.lock();
        state.fault = None;
        state.life += 1;
        Self(self.0.clone(), state.life)
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
    pub(super) fn flip(&self, path: &Path, at: usize) {
        let mut state = self.0.lock();
        let inode = state.names[path];
        state.inodes[inode].current[at] ^= 0x20;
        if let Some(byte) = state.inodes[inode].durable.get_mut(at) {
            *byte ^= 0x20;
        }
    }

    pub(super) fn files(&self) -> Vec<(PathBuf, usize)> {
        let state = self.0.lock();
        state
            .names
            .iter()
            .map(|(path, inode)| (path.clone(), state.inodes[*inode].current.len()))
            .collect()
    }

    /// Everything on the disk as it is read now.
    pub(super) fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.0.lock();
        state
            .names
            .iter()
            .map(|(path, inode)| (path.clone(), state.inodes[*inode].current.clone()))
            .collect()
    }
}

/// Each block of a write, and each truncation, survives or does not.
fn lose_some(change: &Change, durable: &mut Vec<u8>, random: &mut u64) {
    match change {
        Change::Write(at, data) => {
            // A kept length without kept contents reads as zeros.
            if next(random).is_multiple_of(2) && durable.len() < at + data.len() {
                durable.resize(at + data.len(), 0);
            }
            for (index, block) in data.chunks(BLOCK).enumerate() {
                if next(random).is_multiple_of(2) {
                    Change::Write(at + index * BLOCK, block.to_vec()).apply(durable);
                }
            }
        }
        Change::Truncate(_) if next(random).is_multiple_of(2) => change.apply(durable),
        Change::Truncate(_) => {}
    }
}

/// SplitMix64: small, and the same everywhere.
pub(super) fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl State {
    /// Should this operation fail?
    fn faulty(&mut self) -> Option<Fault> {
        let fault = self.fault?;
        if self.fault_in > 0 {
            self.fault_in -= 1;
            return None;
        }
        Some(fault)
    }

    fn ensure_changeable(&mut self) -> io::Result<()> {
        self.faulty().map_or(Ok(()), |fault| Err(error(fault)))
    }

    fn renamed(&mut self) {
        self.steps.push(self.names.clone());
    }
}

fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::Full | Fault::FullAtSync => io::ErrorKind::StorageFull.into(),
        Fault::Broken => io::Error::other("device failed"),
        Fault::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
    }
}

impl Storage for Twin {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        self.live()?.ensure_changeable()
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
                state.ensure_changeable()?;
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
                        state.renamed();
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
        state.ensure_changeable()?;
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_path_buf(), inode);
        state.renamed();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.live()?;
        state.ensure_changeable()?;
        state.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        state.renamed();
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut state = self.live()?;
        state.ensure_changeable()?;
        state.durable_names = state.names.clone();
        state.steps.clear();
        Ok(())
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
            let fault = state.faulty().filter(|fault| *fault != Fault::FullAtSync);
            let written = match fault {
                None => bytes.len(),
                Some(Fault::ReadOnly) => 0,
                Some(_) => usize::try_from(next(&mut state.random)).unwrap() % (bytes.len() + 1),
            };
            let change = Change::Write(at, bytes[..written].to_vec());
            change.apply(&mut state.inodes[inode].current);
            state.inodes[inode].pending.push(change);
            fault.map_or(Ok(()), |fault| Err(error(fault)))
        })
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.with(|state, inode| {
            // Giving space back works on a full disk.
            let full = [Fault::Full, Fault::FullAtSync];
            if let Some(fault) = state.faulty().filter(|fault| !full.contains(fault)) {
                return Err(error(fault));
            }
            let change = Change::Truncate(usize::try_from(length).unwrap());
            change.apply(&mut state.inodes[inode].current);
            state.inodes[inode].pending.push(change);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state, inode| {
            match state.faulty() {
                Some(Fault::ReadOnly) => return Err(error(Fault::ReadOnly)),
                Some(fault @ (Fault::Broken | Fault::FullAtSync)) => {
                    // The pages are marked clean and dropped one day: the next sync succeeds and writes nothing.
                    let State { inodes, random, .. } = state;
                    for change in std::mem::take(&mut inodes[inode].pending) {
                        lose_some(&change, &mut inodes[inode].durable, random);
                    }
                    return Err(error(fault));
                }
                Some(Fault::Full) | None => {}
            }
            let Inode { durable, pending, .. } = &mut state.inodes[inode];
            for change in pending.drain(..) {
                change.apply(durable);
            }
            Ok(())
        })
    }
}
