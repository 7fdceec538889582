//! Keeps the data folder private to the gateway: other users of the machine may not read events.
//!
//! A folder that was created with a generous umask, or by an earlier version of the program, becomes private when it
//! is opened. The folder itself is changed only if it holds nothing but the gateway's own files: `--data /tmp` must
//! not close `/tmp`.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use rustix::process::geteuid;

/// The entries that a gateway creates in its data folder.
const OWN: [&str; 7] = [
    "LOCK",
    "channels",
    "reserved-space",
    "gateway-id",
    "paused.json",
    "paused.new",
    "sources",
];
/// The folder that a file system creates in its own root.
const LOST_AND_FOUND: &str = "lost+found";
/// Permissions of the group and of others.
const OTHERS: u32 = 0o077;

/// Removes the permissions of the group and of others from everything the gateway created below `root`. Blocks.
pub(crate) fn make_private(root: &Path) {
    if let Err(error) = restrict_all(root) {
        tracing::warn!(
            data = %root.display(), %error,
            "other users may be able to read the data folder: its permissions cannot be changed; run chmod -R go= on it"
        );
    }
}

fn restrict_all(root: &Path) -> io::Result<()> {
    let mut is_ours_alone = true;
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        if OWN.iter().any(|own| name == **own) {
            restrict_tree(&entry.path())?;
        } else {
            is_ours_alone &= name == LOST_AND_FOUND;
        }
    }
    if is_ours_alone {
        restrict_one(root, &fs::symlink_metadata(root)?)
    } else {
        Ok(())
    }
}

fn restrict_tree(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    restrict_one(path, &metadata)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            restrict_tree(&entry?.path())?;
        }
    }
    Ok(())
}

/// Only the owner of a file may change it: a volume of a cluster belongs to root, and to the pod's group.
fn restrict_one(path: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    let mode = metadata.permissions().mode();
    let is_file_or_folder = metadata.is_file() || metadata.is_dir();
    if mode & OTHERS == 0 || !is_file_or_folder || metadata.uid() != geteuid().as_raw() {
        return Ok(());
    }
    match fs::set_permissions(path, fs::Permissions::from_mode(mode & !OTHERS)) {
        // A read-only file system: it was made private before, or will be at the next start.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        changed => changed,
    }
}
