//! An `/etc/hosts` of a test's own: what a name means to one process.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

/// A file of the test's own in the place of `/etc/hosts`, in a mount namespace that ends with the process.
const OWN_HOSTS: &str = r#"set -e
mount --bind "$0" /etc/hosts
exec "$@""#;

/// The names that one process resolves.
#[derive(Debug)]
pub struct Hosts(PathBuf);

impl Hosts {
    /// A copy of the machine's file, in this folder.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn new(folder: &Path) -> Self {
        let file = folder.join("hosts");
        fs::copy("/etc/hosts", &file).expect("a copy of /etc/hosts");
        Self(file)
    }

    /// For [`crate::gateway::Setup::wrapped_by`].
    pub fn wrapper(&self) -> Vec<String> {
        // Root mounts in a namespace of its own; anybody else needs a user namespace for that.
        let namespace: &[&str] = if rustix::process::geteuid().is_root() {
            &["-m"]
        } else {
            &["-r", "-m"]
        };
        let file = self.0.to_string_lossy();
        let wrapper = [&["unshare"], namespace, &["sh", "-c", OWN_HOSTS, &file]].concat();
        wrapper.into_iter().map(str::to_owned).collect()
    }

    /// Adds a name, also while the process runs: the file that is mounted is this one.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn add(&self, name: &str, address: Ipv4Addr) {
        let before = fs::read_to_string(&self.0).expect("the file");
        fs::write(&self.0, format!("{before}{address} {name}\n")).expect("the file is written");
    }
    /// Gives a name another address.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn replace(&self, name: &str, address: Ipv4Addr) {
        let before = fs::read_to_string(&self.0).expect("the file");
        let others: String = before
            .split_inclusive('\n')
            .filter(|line| !line.trim_end().ends_with(name))
            .collect();
        fs::write(&self.0, others).expect("the file is written");
        self.add(name, address);
    }
}
