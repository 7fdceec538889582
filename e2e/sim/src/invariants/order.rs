//! With `ordering: key` an event is sent only after the earlier ones of its key have ended, with `total` after all earlier ones
//! (CONTRACT CH-6). What a replay or a redrive delivers again is in no order with the rest.

use super::View;
use crate::{
    history::{Fact, Purpose},
    scenario::Ordering,
};

pub(super) fn check(view: &View<'_>) -> Result<(), String> {
    for (at, record) in view.records.iter().enumerate() {
        let Fact::Arrived {
            subscription,
            id,
            purpose: Purpose::Delivery,
            ..
        } = &record.fact
        else {
            continue;
        };
        let Some(life) = view.life(subscription, at) else {
            continue;
        };
        let of = life.subscription;
        let stored = &view.stored[of.channel];
        let Some(offset) = view.offset(of.channel, id) else {
            continue;
        };
        let key = stored[offset].key;
        let is_before = |other: Option<&str>| match of.ordering {
            Ordering::None => false,
            Ordering::Key => key.is_some() && other == key,
            Ordering::Total => true,
        };
        let from = usize::try_from(life.start).unwrap_or(usize::MAX).min(offset);
        for earlier in stored[from..offset]
            .iter()
            .filter(|earlier| is_before(earlier.key) && of.matches(earlier))
        {
            if !view.ended(of, earlier.id, earlier.at..at) {
                return Err(format!(
                    "{subscription} got {id} before {} of the same order had ended",
                    earlier.id
                ));
            }
        }
    }
    Ok(())
}
