//! Nothing is acknowledged before its consequence: the subscriber's 2xx, the stored reply, the stored or accepted dead letter
//! (CONTRACT DL-5, RP-2). A dead letter is removed only after its event was delivered again, or has a new dead letter.

use super::{View, short};
use crate::history::{Fact, Purpose};

pub(super) fn check(view: &View<'_>) -> Result<(), String> {
    for (at, record) in view.records.iter().enumerate() {
        match &record.fact {
            Fact::Acknowledged {
                channel,
                cursor,
                offset,
            } => {
                let Some(life) = view.life(cursor, at) else { continue };
                let event = &view.stored[*channel][usize::try_from(*offset).unwrap_or(usize::MAX)];
                if life.subscription.matches(event) && !view.ended(life.subscription, event.id, event.at..at) {
                    return Err(format!(
                        "{} at {offset} was acknowledged for {cursor} before anybody had it",
                        event.id
                    ));
                }
                let Some(target) = life.subscription.reply else {
                    continue;
                };
                if life.subscription.matches(event) && !has_reply_end(view, cursor, event.id, target, event.at..at) {
                    return Err(format!(
                        "{} at {offset} was acknowledged for {cursor} before its reply was stored",
                        event.id
                    ));
                }
            }
            Fact::DeadLetterRemoved {
                channel,
                place,
                id,
                subscription,
            } => {
                let stored = view.records[..at].iter().position(|record| {
                    matches!(&record.fact, Fact::DeadLetterStored { channel: of, place: known, .. } if (of, known) == (channel, place))
                });
                let since = stored.map_or(0, |stored| stored + 1);
                let ends = view.ends.get(&(short(subscription), id.as_str()));
                if !ends.is_some_and(|ends| ends.iter().any(|end| (since..at).contains(end))) {
                    return Err(format!(
                        "the dead letter {place} of {id} was removed before {subscription} had the event again"
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// An answer without a reply, a reply that is stored, or a dead letter.
fn has_reply_end(view: &View<'_>, cursor: &str, id: &str, target: usize, within: std::ops::Range<usize>) -> bool {
    let mut answers = view.records[within.clone()].iter();
    let is_plain = answers.any(|record| match &record.fact {
        Fact::Answered {
            subscription,
            id: of,
            status: 200..=299,
            purpose,
            reply,
            ..
        } => subscription == cursor && of == id && (reply.is_none() || *purpose == Purpose::DeadLetter),
        Fact::DeadLetterStored {
            subscription, id: of, ..
        } => subscription == cursor && of == id,
        _ => false,
    });
    let reply = format!("r{id}");
    is_plain
        || view.stored[target]
            .iter()
            .any(|stored| stored.id == reply && within.contains(&stored.at))
}
