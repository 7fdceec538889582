//! The faults of a disk.

use std::io;

/// How operations that change the disk fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No space: a write stops half way.
    Full,
    /// No space, noticed only when data is written back.
    FullAtSync,
    /// The device failed: a write may be partial, a sync has lost what it should have written.
    Broken,
    /// Nothing can be changed.
    ReadOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    CreateDir,
    Create,
    Write,
    Truncate,
    Sync,
    Rename,
    Remove,
    SyncDir,
    SyncWhole,
}

impl Fault {
    /// Only operations that need space fail for want of it.
    pub(super) fn hits(self, operation: Operation) -> bool {
        use Operation::{Create, CreateDir, Rename, Sync, SyncWhole, Write};
        match self {
            Self::Full => matches!(operation, CreateDir | Create | Write | Rename),
            Self::FullAtSync => matches!(operation, Sync | SyncWhole),
            Self::Broken | Self::ReadOnly => true,
        }
    }

    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Full | Self::FullAtSync => io::ErrorKind::StorageFull.into(),
            Self::Broken => io::Error::other("device failed"),
            Self::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
        }
    }
}

/// A fault to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    pub(crate) fault: Fault,
    /// Operations of its kind that succeed before.
    pub(crate) after: u64,
    /// Operations that fail; `None` for all.
    pub(crate) times: Option<u64>,
    /// Only operations of this kind fail.
    pub(crate) only: Option<Operation>,
}
