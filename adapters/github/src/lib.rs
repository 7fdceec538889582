//! GitHub webhooks become CloudEvents.
//!
//! A delivery is checked, converted and stored before GitHub is answered; a delivery that cannot be stored is answered 503, so
//! that GitHub records the failure (CONTRACT SR-1, SR-5). The payload is passed on as received (SR-3), under the delivery's GUID
//! (SR-2). With credentials the source manages its webhook on GitHub, and fetches deliveries that did not arrive from its
//! list; in poll mode that list is the only way in. Deliveries that GitHub no longer keeps are reported as a gap (SR-4).
//!
//! In the order a delivery passes: hook.rs (answers), check.rs (the checks in their order), secrets.rs and signature.rs,
//! form.rs, convert.rs (the event), subject.rs (what it is about), json.rs (single values of a document).
//! In the order of a run: adapter.rs (when what is done), registration.rs (the webhook), sweep.rs and listing.rs (what is
//! missing), gap.rs; api.rs is the client of GitHub; state.rs holds what outlives the process, delivered.rs
//! and sources.rs what outlives an edit.

mod adapter;
mod api;
mod bodies;
mod check;
mod config;
mod convert;
mod delivered;
mod form;
mod gap;
mod hook;
mod json;
mod listing;
mod outcome;
mod registration;
mod secrets;
mod signature;
mod sources;
mod state;
mod subject;
mod sweep;
#[cfg(test)]
mod tests;

pub use crate::adapter::GitHubAdapter;
pub use config::{Config, Credentials, Secret, Transport};
pub use hook::GitHubHook;
pub use outcome::Outcome;
pub use sources::{Counters, Sources};
