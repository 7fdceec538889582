//! What a disk may do to an operation instead of doing it.

use std::io;

/// What happens to operations that change the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No space: a write stops half way.
    Full,
    /// No space, and it is only noticed when what was written is put in its place.
    FullAtSync,
    /// The device failed: a write may have happened in part, a sync has lost what it should have written.
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
    /// Space is needed by some operations, and giving it back is none of them.
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
    /// So many operations that it would hit succeed before.
    pub(crate) after: u64,
    /// So many fail; all of them without a number.
    pub(crate) times: Option<u64>,
    /// Hits operations of this kind only.
    pub(crate) only: Option<Operation>,
}
