//! A stream on which nothing comes is looked after: is the subscription still there, and do messages wait in it?
//!
//! The client hides from us that it cannot reach Google, and a connection can be dead without anybody noticing. So after some
//! quiet seconds the subscription is looked at, which says what is wrong if something is; and after more of them Pub/Sub is
//! asked whether a message waits. If one does and the stream does not bring it, another takes the stream's place, over a
//! connection of its own.

use std::time::Duration;

use crate::{
    Access,
    fault::{Fault, PERMISSION_DENIED, SUBSCRIPTION_NOT_FOUND},
    subscription::{self, Found},
    upstream::Upstream,
};

/// After this much quiet the subscription is looked at: a few admin calls a minute, of Google's 6000.
pub(crate) const LOOK_AFTER: Duration = Duration::from_secs(10);
/// Every third look asks for messages as well.
const ASK_EVERY: u32 = 3;
/// Where nobody can tell whether messages wait, a stream is given up after so many looks: two minutes of quiet.
const GIVE_UP_AFTER: u32 = 12;
/// A message that was given back comes on a stream that works within its redelivery pause, 1 s, and a round trip.
const COMES_WITHIN: Duration = Duration::from_secs(5);

/// What a look found.
pub(crate) enum Seen {
    /// All is well; the subscription as it is now, and whether it is known to be empty.
    Quiet {
        found: Found,
        empty: bool,
    },
    /// Messages wait and do not come, or nobody can tell for too long: to be read over this connection instead.
    Silent(Box<Upstream>),
    Fault(Fault),
}

/// The `look`-th look in a row, from 1. Dropped when a message comes after all.
pub(crate) async fn look(upstream: Upstream, access: Access, known: Found, look: u32) -> Seen {
    let found = match upstream.get(&known.name).await {
        Ok(Some(found)) => subscription::adopted(&found, known.own),
        Ok(None) => {
            let why = format!("{} was deleted", known.name);
            return Seen::Fault(Fault::new(SUBSCRIPTION_NOT_FOUND, why));
        }
        // One that is not ours may be read by an account that may not look at it.
        Err(fault) if fault.reason == PERMISSION_DENIED && !known.own => known,
        Err(fault) => return Seen::Fault(fault),
    };
    if !look.is_multiple_of(ASK_EVERY) {
        return Seen::Quiet { found, empty: false };
    }
    match upstream.waits(&found.name).await {
        Some(false) => return Seen::Quiet { found, empty: true },
        Some(true) => tokio::time::sleep(COMES_WITHIN).await,
        None if look < GIVE_UP_AFTER => return Seen::Quiet { found, empty: false },
        None => {}
    }
    match Upstream::connect(&access).await {
        Ok(other) => Seen::Silent(Box::new(other)),
        Err(fault) => Seen::Fault(fault),
    }
}
