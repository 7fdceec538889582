//! Where what documents refer to is looked for: standalone among documents and files, in a cluster at its API server.

use std::collections::{BTreeMap, BTreeSet};

use url::Url;

use crate::{ObjectName, model::Unresolved, secrets::Folder};

/// Given to a build, which itself asks nobody.
#[derive(Clone, Copy)]
pub(crate) enum Surroundings<'a> {
    /// Services and Secrets are documents; Secrets may lie in a folder, too.
    Files(&'a Folder),
    /// What the API server said.
    Cluster(&'a Found),
}

/// An object that events are sent to, and that is no Channel of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    pub api_version: String,
    pub kind: String,
    pub name: ObjectName,
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            api_version,
            kind,
            name,
        } = self;
        write!(f, "{api_version} {kind} {name}")
    }
}

/// All that documents refer to and that must be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    pub targets: BTreeSet<Reference>,
    pub secrets: BTreeSet<ObjectName>,
}

/// What the API server said of [`References`]. What is in neither map is still being asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    pub addresses: BTreeMap<Reference, Result<Url, Unresolved>>,
    /// Secrets that may not be read, and why. Those that may are documents, or are not there.
    pub withheld: BTreeMap<ObjectName, Unresolved>,
}
