//! A subscription whose channel and subscriber are well gets its events at once, whatever happens to others (CONTRACT CH-2).

use super::View;
use crate::{
    history::{Fact, Millis, Purpose},
    scenario::Action,
};

/// From the acceptance to the subscriber: some milliseconds, and what a subscription needs to begin.
const PROMPT: Millis = 1500;

/// After a fault of the channel: the longest wait before it is opened again, and before a cursor that ended is.
const RECOVERY: Millis = 31_000;

pub(super) fn check(view: &View<'_>) -> Result<(), String> {
    for life in view.lives.iter().filter(|life| life.subscription.is_neighbor) {
        let of = life.subscription;
        // Whatever is in order waits for nothing here but the subscriber, which answers at once.
        for event in view.stored[of.channel]
            .iter()
            .filter(|event| of.matches(event) && event.at > life.begin)
        {
            let stored_at = view.records[event.at].at;
            if is_excused(view, of.channel, stored_at) {
                continue;
            }
            let arrived = view.records[event.at..].iter().find(|record| {
                matches!(&record.fact, Fact::Arrived { subscription, id, purpose: Purpose::Delivery, .. } if subscription == life.cursor && id == event.id)
            });
            let Some(arrived) = arrived else { continue };
            if arrived.at > stored_at + PROMPT {
                return Err(format!(
                    "{} of {} waited {} ms",
                    event.id,
                    life.cursor,
                    arrived.at - stored_at
                ));
            }
        }
    }
    Ok(())
}

/// Whether the channel itself or the process was disturbed around that time.
fn is_excused(view: &View<'_>, channel: usize, stored_at: Millis) -> bool {
    let end = stored_at + PROMPT;
    let faults = view.records.iter().any(|record| match &record.fact {
        Fact::Step(Action::Channel { number, lasts, .. }) => {
            *number == channel && record.at < end && stored_at < record.at + lasts + RECOVERY
        }
        Fact::Step(Action::Reopen(number)) => *number == channel && record.at < end && stored_at < record.at + RECOVERY,
        _ => false,
    });
    let restarts = view.records.iter().any(|record| {
        matches!(
            record.fact,
            Fact::Crashed | Fact::DrainBegan { .. } | Fact::DrainEnded | Fact::Began
        ) && record.at < end
            && stored_at < record.at + 3000
    });
    faults
        || restarts
        || view
            .records
            .iter()
            .any(|record| matches!(record.fact, Fact::DrainEnded) && record.at > end && is_draining(view, stored_at))
}

fn is_draining(view: &View<'_>, at: Millis) -> bool {
    let mut draining = false;
    for record in view.records.iter().take_while(|record| record.at <= at) {
        match record.fact {
            Fact::DrainBegan { .. } => draining = true,
            Fact::DrainEnded => draining = false,
            _ => {}
        }
    }
    draining
}
