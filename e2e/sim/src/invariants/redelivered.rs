//! A replay that reports that it is done delivered all that it matched (CONTRACT CH-7): every event from its first offset on. A redrive
//! that does has delivered every dead letter that it matched, or written a new one.

use super::{View, short};
use crate::history::{Fact, Purpose};

pub(super) fn check(view: &View<'_>) -> Result<(), String> {
    replays(view)?;
    redrives(view)
}

fn redrives(view: &View<'_>) -> Result<(), String> {
    for record in view.records {
        let Fact::RedriveEnded {
            subscription,
            is_done: true,
            delivered,
            dead_lettered,
            gone,
            matched,
        } = &record.fact
        else {
            continue;
        };
        if delivered + dead_lettered + gone != *matched {
            return Err(format!(
                "a redrive to {subscription} matched {matched}, delivered {delivered}, gave up {dead_lettered}, and missed {gone}"
            ));
        }
    }
    Ok(())
}

fn replays(view: &View<'_>) -> Result<(), String> {
    for (end, record) in view.records.iter().enumerate() {
        let Fact::ReplayEnded {
            subscription,
            is_done: true,
            delivered,
            dead_lettered,
            matched,
        } = &record.fact
        else {
            continue;
        };
        if delivered + dead_lettered != *matched {
            return Err(format!(
                "a replay to {subscription} matched {matched}, delivered {delivered} and gave up {dead_lettered}"
            ));
        }
        let began = view.records[..end].iter().rposition(
            |record| matches!(&record.fact, Fact::ReplayBegan { subscription: of, .. } if of == subscription),
        );
        let Some(began) = began else { continue };
        let Fact::ReplayBegan { from, .. } = &view.records[began].fact else {
            continue;
        };
        let Some(life) = view.life(subscription, began) else {
            continue;
        };
        let of = life.subscription;
        let stored = view.stored[of.channel].iter().enumerate();
        let from = usize::try_from(*from).unwrap_or(usize::MAX);
        for (offset, event) in stored.filter(|(offset, event)| *offset >= from && event.at < began && of.matches(event))
        {
            let reached = view.records[began..end].iter().any(|record| match &record.fact {
                Fact::Answered {
                    subscription: of,
                    id,
                    purpose: Purpose::Replay | Purpose::DeadLetter,
                    status: 200..=299,
                    ..
                } => of == subscription && id == event.id,
                Fact::DeadLetterStored {
                    subscription: of, id, ..
                } => of == subscription && id == event.id,
                Fact::Stored { id, .. } => matches!(of.target, crate::scenario::Target::Channel(_)) && id == event.id,
                _ => false,
            });
            if !reached {
                return Err(format!(
                    "a replay left out {} at {offset} of {}",
                    event.id,
                    short(subscription)
                ));
            }
        }
    }
    Ok(())
}
