//! A `syncfs` of a whole file system, where it is known to be as good as a sync of each file.
//!
//! `syncfs` writes everything there is to write. Since Linux 5.8 it also reports data that could not be written
//! (`errseq` of the superblock), for file systems that write their own pages; on overlays, network and FUSE mounts it
//! may not even reach the disk. Where no metadata changed, some file systems (xfs, ext2) do not flush the device's
//! cache: a sync of one regular file afterwards does.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use rustix::fs::{FsWord, fdatasync, fstatfs, syncfs};

/// `statfs(2)`: ext2 to ext4, xfs, btrfs.
const KNOWN: [FsWord; 3] = [0xEF53, 0x5846_5342, 0x9123_683E];
/// The first kernel whose `syncfs` reports errors.
const KERNEL: (u32, u32) = (5, 8);

pub(super) struct Syncfs {
    /// Held open from the start: it reports errors that happened after it was opened.
    file: fs::File,
    device: u64,
}

impl Syncfs {
    /// Creates it from a regular file of the file system; `None` if that file system cannot be trusted.
    pub(super) fn of(file: fs::File) -> Option<Self> {
        let kind = fstatfs(&file).ok()?.f_type;
        let kernel = rustix::system::uname();
        let is_known = KNOWN.contains(&kind) && is_recent(&kernel.release().to_string_lossy());
        let device = file.metadata().ok()?.dev();
        is_known.then_some(Self { file, device })
    }

    /// Syncs everything; `false` if one of the folders is on another device.
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
