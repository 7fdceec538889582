//! Within one process, an event whose delivery was answered 2xx is not delivered again (CONTRACT CH-5), unless a person asks for it
//! or the cursor begins again.

use std::collections::HashSet;

use super::View;
use crate::{
    history::{Fact, Purpose},
    scenario::Action,
};

pub(super) fn check(view: &View<'_>) -> Result<(), String> {
    let redriven = view.scenario.steps.iter().filter_map(|step| match &step.action {
        Action::Redrive { subscription, .. } => Some(subscription.as_str()),
        _ => None,
    });
    let redriven: Vec<&str> = redriven.collect();
    let mut taken: HashSet<(&str, &str)> = HashSet::new();
    for (at, record) in view.records.iter().enumerate() {
        match &record.fact {
            Fact::Crashed => taken.clear(),
            Fact::CursorDeleted { cursor, .. } => taken.retain(|(subscription, _)| subscription != cursor),
            Fact::Answered {
                subscription,
                id,
                purpose: Purpose::Delivery,
                status: 200..=299,
                reply: None,
                ..
            } => {
                taken.insert((subscription.as_str(), id.as_str()));
            }
            Fact::Arrived {
                subscription,
                id,
                purpose: Purpose::Delivery,
                ..
            } => {
                let Some(life) = view.life(subscription, at) else {
                    continue;
                };
                let of = life.subscription;
                let is_asked = redriven.contains(&of.name.as_str());
                if !is_asked && taken.contains(&(subscription.as_str(), id.as_str())) && view.is_single(of.channel, id)
                {
                    return Err(format!("{subscription} got {id} again after it had taken it"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
