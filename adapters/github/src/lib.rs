//! GitHub webhooks become CloudEvents.
//!
//! A delivery is checked, converted and stored before GitHub is answered; a delivery that cannot be stored is answered 503, so
//! that GitHub records the failure (CONTRACT SR-1, SR-5). The payload is passed on as received (SR-3), under the delivery's GUID
//! (SR-2). Registering hooks, healing failed deliveries and polling are not here yet.
//!
//! In the order a delivery passes: hook.rs (answers), check.rs (the checks in their order), signature.rs, form.rs, convert.rs
//! (the event), subject.rs (what it is about), json.rs (single values of a document).

mod check;
mod config;
mod convert;
mod form;
mod hook;
mod json;
mod metrics;
mod outcome;
mod signature;
mod subject;

pub use config::{Config, Secret};
pub use hook::GitHubHook;
pub use metrics::{Counters, Metrics};
pub use outcome::Outcome;
