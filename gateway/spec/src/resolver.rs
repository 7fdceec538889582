//! How references are resolved: from documents and files when standalone, through the API server in a cluster.

use std::collections::{BTreeMap, BTreeSet};

use status::Cause;
use url::Url;

use crate::{ObjectName, secrets::Folder};

/// Resolves the references of a build, which itself does no I/O.
#[derive(Clone, Copy)]
pub(crate) enum Resolver<'a> {
    /// Services and Secrets are documents; Secrets may lie in a folder, too.
    Files(&'a Folder),
    /// The answers of the API server.
    Cluster(&'a ResolvedReferences),
}

/// An object that events are sent to, and that is no Channel of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The `apiVersion` of the object.
    pub api_version: String,
    /// The `kind` of the object.
    pub kind: String,
    /// The name of the object.
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

/// The references that the API server has to be asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Objects with an address that documents refer to.
    pub targets: BTreeSet<Reference>,
    /// Secrets that documents refer to.
    pub secrets: BTreeSet<ObjectName>,
}

/// The answers of the API server about [`References`]. The request for a reference that is in neither map is still pending.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResolvedReferences {
    /// The address of each, or why it has none.
    pub addresses: BTreeMap<Reference, Result<Url, Cause>>,
    /// Secrets that may not be read, and why. Those that may are documents, or are not there.
    pub withheld: BTreeMap<ObjectName, Cause>,
}
