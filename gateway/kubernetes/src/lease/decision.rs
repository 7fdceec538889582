//! Whether a candidate takes, renews or leaves the lease. Pure.

use k8s_openapi::api::coordination::v1::LeaseSpec;
use tokio::time::Instant;

use super::LEASE_DURATION;

/// The record of another holder, and since when it is unchanged by our clock.
#[derive(Debug)]
pub(super) struct Unchanged {
    record: String,
    since: Instant,
}

/// The action that follows from the state of the lease.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Create,
    /// The lease is free, ours from an earlier term, or its holder has been silent for too long.
    Take {
        epoch: u64,
    },
    Renew {
        epoch: u64,
    },
    Wait,
}

/// Decides about a lease with `spec` at `now`, for the candidate `identity` that holds the epoch `held`. Pure: the record
/// that was observed goes in and comes out.
pub(super) fn decide(
    identity: &str,
    held: Option<u64>,
    before: Option<Unchanged>,
    spec: &LeaseSpec,
    now: Instant,
) -> (Option<Unchanged>, Step) {
    let epoch = u64::try_from(spec.lease_transitions.unwrap_or(0)).unwrap_or(0);
    let next = Step::Take { epoch: epoch + 1 };
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if holder.is_empty() {
        return (before, next);
    }
    if holder == identity {
        // Otherwise it is held by our predecessor, or by us in a term that we no longer trust.
        let is_held = held == Some(epoch);
        return (before, if is_held { Step::Renew { epoch } } else { next });
    }
    let renewed = spec.renew_time.as_ref().map(|time| time.0.to_string());
    let record = format!("{holder} {epoch} {}", renewed.unwrap_or_default());
    let same = before.filter(|before| before.record == record);
    let unchanged = same.unwrap_or(Unchanged { record, since: now });
    let is_expired = now.duration_since(unchanged.since) >= LEASE_DURATION;
    (Some(unchanged), if is_expired { next } else { Step::Wait })
}
