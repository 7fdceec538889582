//! What users want (desired state) and what is observed, without any runtime and without Kubernetes.
//!
//! The way of a document: `documents` cuts a file, `tree` reads a document with positions, `document` checks it against
//! `schema` and `validate` into a [`resource`], `set` merges it with what ran before, `build` resolves it into a [`model`].
//! [`load()`] goes that way once; [`Files`] again and again, and only there anything waits. [`Objects`] goes it with what an API
//! server has instead of files.

mod build;
mod crds;
mod defaults;
mod document;
mod documents;
mod duration;
mod fault;
mod files;
mod listing;
mod load;
pub mod model;
pub mod nearest;
mod objects;
pub mod observed;
mod provisioners;
mod publisher;
pub mod resource;
mod scalar;
mod schema;
mod secrets;
mod set;
mod surroundings;
mod tree;
mod validate;

pub use crds::crds;
pub use defaults::{DEFAULTS_KEY, Defaults};
pub use duration::{Iso, parse as parse_duration};
pub use fault::{Fault, Warning};
pub use files::{Error, Files, files};
pub use load::{DEFAULT_PROVISIONER, FilesSettings, Loaded, PathUnreadable, load};
pub use model::{Kind, ObjectKey, ObjectName, Spec};
pub use objects::{Found, Objects, Reference, References};
pub use observed::{Condition, Observed, Severity, Status};
