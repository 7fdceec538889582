//! The one vocabulary of state: why something is refused ([`Reason`], [`Cause`]) and how an object is ([`Condition`],
//! [`Conditions`]), in the shape of Kubernetes status (API.md 2.6).
//!
//! A leaf: it knows no object, no runtime and no Kubernetes, so that adapters and the gateway say the same words.

mod chain;
mod conditions;
mod objects;
mod reason;

use std::fmt;

use serde::Serialize;

pub use chain::chain;
pub use conditions::{Condition, Conditions, Severity, Truth};
pub use objects::*;
pub use reason::Reason;

/// Why something is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// The stable word.
    pub reason: Reason,
    /// Says what is wrong, where, and what to do. No secrets (CONTRACT SR-6).
    pub message: String,
}

impl Cause {
    /// Makes a cause.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

impl std::error::Error for Cause {}
