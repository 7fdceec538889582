//! The twin as a file system: what each operation does, and how it fails.

use std::{io, path::Path, sync::Arc};

use super::{Change, Fault, Inode, Operation, Renaming, State, Trouble, Twin, next};
use crate::{
    disk::Space,
    storage::{File, Mode, Storage},
};

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

    fn sync_filesystem(&self, dirs: &[&Path]) -> io::Result<bool> {
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
            // Any file may lose data.
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

    fn ensure_writable(&self, _: &Path) -> io::Result<()> {
        match self.live()?.trouble {
            Some(Trouble {
                fault: Fault::ReadOnly, ..
            }) => Err(Fault::ReadOnly.error()),
            _ => Ok(()),
        }
    }

    fn space(&self, _: &Path) -> io::Result<Option<Space>> {
        Ok(self.live()?.space)
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
            if std::mem::take(&mut inode.failed) {
                Err(Fault::Broken.error())
            } else {
                Ok(())
            }
        })
    }
}
