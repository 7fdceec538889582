//! A sync of a whole file system, where that is known to be as good as one of each file.
//!
//! `syncfs` writes everything there is to write. That it also tells when some of it could not be written is so since Linux
//! 5.8 (`errseq` of the superblock), for file systems that write their own pages; on overlays, network and FUSE mounts it may
//! not even reach the disk. What it does not do everywhere is to empty the device's cache where no metadata changed (xfs, ext2):
//! a sync of one regular file afterwards does.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use rustix::fs::{FsWord, fdatasync, fstatfs, syncfs};

/// `statfs(2)`: ext2 to ext4, xfs, btrfs.
const KNOWN: [FsWord; 3] = [0xEF53, 0x5846_5342, 0x9123_683E];
/// The first kernel whose `syncfs` reports errors.
const KERNEL: (u32, u32) = (5, 8);

pub(super) struct Whole {
    /// Held open from the beginning: it is told of errors that came after it was opened.
    file: fs::File,
    device: u64,
}

impl Whole {
    /// By a regular file of the file system; `None` where it cannot be trusted.
    pub(super) fn of(file: fs::File) -> Option<Self> {
        let kind = fstatfs(&file).ok()?.f_type;
        let kernel = rustix::system::uname();
        let is_known = KNOWN.contains(&kind) && is_recent(&kernel.release().to_string_lossy());
        let device = file.metadata().ok()?.dev();
        is_known.then_some(Self { file, device })
    }

    /// `false`: one of the folders is elsewhere.
    pub(super) fn sync(&self, dirs: &[&Path]) -> io::Result<bool> {
        for dir in dirs {
            if fs::metadata(dir)?.dev() != self.device {
                return Ok(false);
            }
        }
        syncfs(&self.file)?;
        fdatasync(&self.file)?;
        Ok(true)
    }
}

fn is_recent(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= KERNEL,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_recent;

    #[test]
    fn a_kernel_is_recent_from_5_8_on() {
        for (release, recent) in [
            ("5.8.0", true),
            ("5.10.0-28-amd64", true),
            ("6.18-rc1", true),
            ("5.7.19", false),
            ("4.19.0", false),
            ("unknown", false),
        ] {
            assert_eq!(is_recent(release), recent, "{release}");
        }
    }
}
