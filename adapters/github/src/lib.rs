//! GitHub webhooks become CloudEvents.
//!
//! A delivery is checked, converted and stored before GitHub is answered; a delivery that cannot be stored is answered 503, so
//! that GitHub records the failure (CONTRACT SR-1, SR-5). The payload is passed on as received (SR-3), under the delivery's GUID
//! (SR-2). Registering hooks, healing failed deliveries and polling are not here yet.

mod config;
mod convert;
mod hook;
mod signature;

pub use config::{Config, Secret};
pub use hook::{Counters, GitHubHook};
