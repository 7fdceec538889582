//! Desired state as users write it, and observed state, without any runtime and without Kubernetes.
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
pub mod expression;
mod fault;
mod files;
mod json_schema;
mod listing;
mod load;
pub mod model;
pub mod nearest;
mod objects;
pub mod observed;
mod provisioners;
mod publisher;
mod redact;
mod resolver;
pub mod resource;
mod scalar;
mod schema;
mod secrets;
mod set;
mod tree;
mod unsupported;
mod userinfo;
mod validate;

pub use crds::{columns, crds};
pub use defaults::{DEFAULTS_KEY, Defaults};
pub use fault::{Fault, Warning};
pub use files::{Error, Files, Reload, files};
pub use json_schema::json_schema;
pub use load::{DEFAULT_PROVISIONER, FilesSettings, Loaded, PathUnreadable, load};
pub use model::{Kind, ObjectKey, ObjectName, Spec};
pub use objects::{Objects, Reference, References, ResolvedReferences};
pub use observed::Observed;
pub use status;
pub use status::{Cause, Condition, Conditions, Reason, Severity, Status, Truth};
pub use unsupported::Unsupported;
pub use userinfo::without_userinfo;
