//! Packages of PyPI, installed once into the cache: pip checks the hash of each.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{cache::Entry, process::run};

/// Where the packages of a requirements file are, installed when they are not there yet.
///
/// # Panics
/// When they cannot be had, with `hint`.
pub fn installed(name: &str, requirements: &Path, hint: &str) -> PathBuf {
    let entry = Entry::of(name, &[requirements.to_owned()]);
    if let Some(draft) = &entry.draft {
        let mut install = Command::new("python3");
        install
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"])
            .arg("--target")
            .arg(draft)
            .arg("-r")
            .arg(requirements);
        run(&mut install, hint);
    }
    entry.publish()
}
