//! `headgate explain`: one event's way through a running gateway.

use std::borrow::Cow;

use serde::Deserialize;

use super::full;
use crate::{
    Failure,
    api::{Explained, Tried},
    args::{Explain, TextOrJson},
    client::Gateway,
    json_view::pretty,
    output,
    table::Table,
};

pub(super) async fn explain(gateway: &Gateway, args: &Explain) -> Result<(), Failure> {
    let channel = args.channel.as_deref().map(full);
    let last = args.last.to_string();
    let mut query = vec![("id", &*args.id), ("last", &*last)];
    query.extend(args.source.as_deref().map(|source| ("source", source)));
    query.extend(channel.as_deref().map(|channel| ("channel", channel)));
    let whole = gateway.get_text("/api/v1/explain", &query).await?;
    let answer: Explained = serde_json::from_str(&whole.text).map_err(|error| Failure::Internal(error.into()))?;
    for looked in &answer.looked {
        if let Some(error) = &looked.error {
            output::note(&format!(
                "channel {} could not be looked through: {error}",
                looked.channel
            ));
        }
    }
    if answer.found.is_empty() && answer.dead_letters.is_empty() && answer.tries.is_empty() {
        return Err(Failure::Wrong(nowhere(&answer, args)));
    }
    match args.output {
        TextOrJson::Json => output::exact(&pretty(&whole.text)),
        TextOrJson::Text => show(&answer),
    }
    Ok(())
}

/// The text that is shown for an event.
#[derive(Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
}

fn one_line(text: &str) {
    output::line(&output::one_line(text));
}

fn nowhere(answer: &Explained, args: &Explain) -> String {
    let looked = &answer.looked;
    let events: u64 = looked.iter().map(|looked| looked.events).sum();
    format!(
        "event {:?} is not known: it is not among the newest {} offsets of each channel ({events} events in {} channels were searched), there is no dead letter about it, and no attempt is recorded; \
         look further back with --last, and mind that a channel keeps what is settled for so long as its retention says",
        args.id,
        args.last,
        looked.len(),
    )
}

fn show(answer: &Explained) {
    let mut shown = Vec::new();
    for (index, found) in answer.found.iter().enumerate() {
        if index > 0 {
            output::line("");
        }
        let event = serde_json::from_str::<Event<'_>>(found.cloudevent.get()).unwrap_or_default();
        one_line(&format!("{}  {}  from {}", event.id, event.kind, event.source));
        one_line(&format!(
            "stored in {} at offset {}, {}, durability {}",
            found.channel, found.offset, found.stored_at, found.durability
        ));
        if !found.passed.is_empty() {
            one_line(&format!("it passed {} before", found.passed.join(", ")));
        }
        if found.subscriptions.is_empty() {
            output::line("the channel has no subscription");
        } else {
            let mut table = Table::new(&["SUBSCRIPTION", "STAGE", "WHY"]);
            for row in &found.subscriptions {
                table.row(vec![row.subscription.clone(), row.stage.clone(), row.message.clone()]);
            }
            output::text(&table.render());
        }
        let mut tries = Tries::default();
        for row in &found.subscriptions {
            tries.add(&row.subscription, &row.tries);
            shown.push(&row.subscription);
        }
        tries.show();
    }
    // Facts about an event that the channel itself does not keep any more.
    let is_left = |subscription: &String| !shown.contains(&subscription);
    for dead_letter in answer
        .dead_letters
        .iter()
        .filter(|dead_letter| is_left(&dead_letter.subscription))
    {
        let subscription = &dead_letter.subscription;
        one_line(&format!(
            "dead-lettered by {subscription}: {}, attempts: {}; `headgate dead show {subscription} {}` has all of it",
            reason(Some(&dead_letter.reason), dead_letter.code),
            dead_letter.attempts,
            dead_letter.event
        ));
    }
    let mut tries = Tries::default();
    for (subscription, of) in answer.tries.iter().filter(|(subscription, _)| is_left(subscription)) {
        tries.add(subscription, of);
    }
    tries.show();
}

/// The tries of one event by any subscriptions, oldest first.
#[derive(Default)]
struct Tries(Vec<[String; 6]>);

impl Tries {
    fn add(&mut self, subscription: &str, tries: &[Tried]) {
        for tried in tries {
            let took = tried.took_ms.map(|took| format!("{took:.1}ms"));
            let mut why = tried.detail.clone().unwrap_or_default();
            if let Some(next) = &tried.next {
                why.push_str(&format!("; next try at {next}"));
            }
            self.0.push([
                tried.at.clone().unwrap_or_default(),
                subscription.to_owned(),
                tried.end.clone(),
                took.unwrap_or_default(),
                reason(tried.reason.as_deref(), tried.code),
                why,
            ]);
        }
    }

    fn show(mut self) {
        if self.0.is_empty() {
            return;
        }
        self.0.sort();
        let mut table = Table::new(&["TIME", "SUBSCRIPTION", "TRY", "TOOK", "ANSWER", "WHY"]).numbers(&["TOOK"]);
        self.0.into_iter().for_each(|row| table.row(row.into()));
        output::text(&table.render());
    }
}

/// With the answer's status, if there was one.
fn reason(reason: Option<&str>, code: Option<u16>) -> String {
    let code = code.map(|code| code.to_string());
    let both: Vec<&str> = reason.into_iter().chain(code.as_deref()).collect();
    both.join(" ")
}
