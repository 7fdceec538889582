//! GitHub webhooks become CloudEvents.
//!
//! A delivery is checked, converted and stored before GitHub is answered; a delivery that cannot be stored is answered 503, so
//! that GitHub records the failure (CONTRACT SR-1, SR-5). The payload is passed on as received (SR-3), under the delivery's GUID
//! (SR-2). With credentials the webhook is looked after on GitHub, and deliveries that did not arrive are fetched from its
//! list; in poll mode that list is the only way in. What cannot be had any more is a gap that is said (SR-4).
//!
//! In the order a delivery passes: hook.rs (answers), check.rs (the checks in their order), secrets.rs and signature.rs,
//! form.rs, convert.rs (the event), subject.rs (what it is about), json.rs (single values of a document).
//! In the order of a run: adapter.rs (when what is done), registration.rs (the webhook), sweep.rs and listing.rs (what is
//! missing), gap.rs; api.rs speaks with GitHub; state.rs, handled.rs and kept.rs remember.

mod adapter;
mod api;
mod check;
mod config;
mod convert;
mod form;
mod gap;
mod handled;
mod hook;
mod json;
mod kept;
mod listing;
mod outcome;
mod registration;
mod secrets;
mod signature;
mod state;
mod subject;
mod sweep;
#[cfg(test)]
mod tests;

pub use crate::adapter::GitHubAdapter;
pub use config::{Config, Credentials, Secret, Transport};
pub use hook::GitHubHook;
pub use kept::{Counters, Sources};
pub use outcome::Outcome;
