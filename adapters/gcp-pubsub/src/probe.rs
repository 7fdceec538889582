//! Probes a quiet stream: is the subscription still there, and do messages wait in it?
//!
//! The client hides that it cannot reach Google, and a connection can die unnoticed. So after some quiet seconds a probe reads
//! the subscription, which reports a fault if there is one; every third probe also asks Pub/Sub whether a message waits. If
//! one waits and the stream does not bring it, another stream replaces it, over a connection of its own.

use std::time::Duration;

use crate::{
    Access,
    fault::{Fault, PERMISSION_DENIED, SUBSCRIPTION_NOT_FOUND},
    subscription::{self, ReadableSubscription},
    upstream::Upstream,
};

/// After this much quiet the stream is probed: a few admin calls a minute, of Google's 6000.
pub(crate) const PROBE_AFTER: Duration = Duration::from_secs(10);
/// Every third probe pulls for a message as well.
const PULL_EVERY: u32 = 3;
/// Where a pull cannot tell whether messages wait, the stream is replaced after so many probes: two minutes of quiet.
const GIVE_UP_AFTER: u32 = 12;
/// A message that was released comes on a stream that works within its redelivery pause, 1 s, and a round trip.
const COMES_WITHIN: Duration = Duration::from_secs(5);

/// The result of one probe.
pub(crate) enum ProbeResult {
    /// All is well; the subscription as it is now, and whether it is known to be empty.
    Quiet {
        found: ReadableSubscription,
        empty: bool,
    },
    /// Messages wait and do not come, or the probes cannot tell for too long: read over this connection instead.
    Silent(Box<Upstream>),
    Fault(Fault),
}

/// Probes the stream, for the `number`-th time since the last message, from 1.
///
/// # Cancel safety
/// Cancel safe: the reader drops it when a message comes after all.
pub(crate) async fn probe(upstream: Upstream, access: Access, known: ReadableSubscription, number: u32) -> ProbeResult {
    let found = match upstream.get(&known.name).await {
        Ok(Some(found)) => subscription::adopted(&found, known.own),
        Ok(None) => {
            let why = format!("{} was deleted", known.name);
            return ProbeResult::Fault(Fault::new(SUBSCRIPTION_NOT_FOUND, why));
        }
        // One that is not ours may be read by an account that may not look at it.
        Err(fault) if fault.reason == PERMISSION_DENIED && !known.own => known,
        Err(fault) => return ProbeResult::Fault(fault),
    };
    if !number.is_multiple_of(PULL_EVERY) {
        return ProbeResult::Quiet { found, empty: false };
    }
    match upstream.waits(&found.name).await {
        Some(false) => return ProbeResult::Quiet { found, empty: true },
        Some(true) => tokio::time::sleep(COMES_WITHIN).await,
        None if number < GIVE_UP_AFTER => return ProbeResult::Quiet { found, empty: false },
        None => {}
    }
    match Upstream::connect(&access).await {
        Ok(other) => ProbeResult::Silent(Box::new(other)),
        Err(fault) => ProbeResult::Fault(fault),
    }
}
