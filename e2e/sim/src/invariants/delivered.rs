//! Every event that a channel stored is delivered to each subscription that had a cursor by then, or it is a dead letter, unless a
//! filter leaves it out (CONTRACT CH-1, DL-5). Its payload arrives as it was sent. What was accepted is stored.

use super::View;
use crate::{history::Fact, scenario::Target};

pub(super) fn check(view: &View<'_>) -> Result<(), String> {
    for record in view.records {
        match &record.fact {
            Fact::Arrived {
                subscription,
                id,
                intact: false,
                ..
            } => return Err(format!("{id} reached {subscription} changed")),
            Fact::DeadLetterStored {
                subscription,
                id,
                intact: false,
                ..
            } => {
                return Err(format!("the dead letter of {id} of {subscription} has another event"));
            }
            Fact::Stored { id, intact: false, .. } => return Err(format!("{id} was stored changed")),
            Fact::Accepted { channel, id, offset } => {
                let stored = usize::try_from(*offset)
                    .ok()
                    .and_then(|offset| view.stored[*channel].get(offset));
                if stored.is_none_or(|stored| stored.id != id) {
                    return Err(format!(
                        "{id} was accepted at {offset} of channel {channel}, which does not have it there"
                    ));
                }
            }
            Fact::Rested { unsettled, .. } if !unsettled.is_empty() => {
                return Err(format!("the data plane never came to rest: {unsettled:?} are left"));
            }
            Fact::Rested { awaited, .. } if *awaited > 0 => {
                return Err(format!("{awaited} replays and redrives never ended"));
            }
            Fact::Panicked(panic) => return Err(format!("the data plane panicked: {panic}")),
            Fact::Overflowed => return Err("the data plane does something again and again".to_owned()),
            _ => {}
        }
    }
    for life in view.lives.iter().filter(|life| !life.is_deleted) {
        let stored = view.stored[life.subscription.channel].iter().enumerate();
        let from = usize::try_from(life.start).unwrap_or(usize::MAX);
        for (offset, event) in stored.filter(|(offset, _)| *offset >= from) {
            let is_meant = life.subscription.matches(event);
            let has_ended = view.ended(life.subscription, event.id, life.begin.max(event.at)..life.end);
            if is_meant && !has_ended {
                return Err(format!("{} at {offset} never reached {}", event.id, life.cursor));
            }
            if !is_meant && matches!(life.subscription.target, Target::Subscriber(_)) && has_ended {
                return Err(format!(
                    "{} reached {}, whose filter leaves it out",
                    event.id, life.cursor
                ));
            }
        }
    }
    Ok(())
}
