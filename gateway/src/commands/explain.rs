//! `headgate explain`: one event's way through a running gateway.

use serde_json::Value;

use super::{dead::text, full};
use crate::{
    Failure,
    args::{Explain, TextOrJson},
    client::Gateway,
    output,
    table::Table,
};

pub(super) async fn explain(gateway: &Gateway, args: &Explain) -> Result<(), Failure> {
    let channel = args.channel.as_deref().map(full);
    let last = args.last.to_string();
    let mut query = vec![("id", &*args.id), ("last", &*last)];
    query.extend(args.source.as_deref().map(|source| ("source", source)));
    query.extend(channel.as_deref().map(|channel| ("channel", channel)));
    let answer = gateway.get("/api/v1/explain", &query).await?;
    let unread = list(&answer["looked"])
        .iter()
        .filter(|looked| !looked["error"].is_null());
    for looked in unread {
        output::note(&format!(
            "channel {} could not be looked through: {}",
            text(&looked["channel"]),
            text(&looked["error"])
        ));
    }
    let known = ["found", "deadLetters"]
        .iter()
        .any(|part| !list(&answer[part]).is_empty());
    if !known && answer["tries"].as_object().is_none_or(serde_json::Map::is_empty) {
        return Err(Failure::Wrong(nowhere(&answer, args)));
    }
    match args.output {
        TextOrJson::Json => output::text(&format!("{answer:#}")),
        TextOrJson::Text => show(&answer),
    }
    Ok(())
}

fn nowhere(answer: &Value, args: &Explain) -> String {
    let looked = list(&answer["looked"]);
    let events: u64 = looked.iter().filter_map(|looked| looked["events"].as_u64()).sum();
    format!(
        "event {:?} is not known: it is not among the newest {} places of each channel ({events} events in {} channels were looked at), there is no dead letter about it, and no try is remembered; \
         look further back with --last, and mind that a channel keeps what is settled for so long as its retention says",
        args.id,
        args.last,
        looked.len(),
    )
}

fn show(answer: &Value) {
    let mut shown = Vec::new();
    for (index, found) in list(&answer["found"]).iter().enumerate() {
        if index > 0 {
            output::line("");
        }
        let event = &found["cloudevent"];
        output::line(&format!(
            "{}  {}  from {}",
            text(&event["id"]),
            text(&event["type"]),
            text(&event["source"])
        ));
        output::line(&format!(
            "stored in {} at place {}, {}, durability {}",
            text(&found["channel"]),
            text(&found["place"]),
            text(&found["storedAt"]),
            text(&found["durability"])
        ));
        let passed: Vec<String> = list(&found["passed"]).iter().map(text).collect();
        if !passed.is_empty() {
            output::line(&format!("it passed {} before", passed.join(", ")));
        }
        let rows = list(&found["subscriptions"]);
        if rows.is_empty() {
            output::line("the channel has no subscription");
        } else {
            let mut table = Table::new(&["SUBSCRIPTION", "STAGE", "WHY"]);
            for row in rows {
                table.row(vec![
                    text(&row["subscription"]),
                    text(&row["stage"]),
                    text(&row["message"]),
                ]);
            }
            output::text(&table.render());
        }
        let mut tries = Tries::default();
        for row in rows {
            tries.add(&text(&row["subscription"]), &row["tries"]);
            shown.push(text(&row["subscription"]));
        }
        tries.show();
    }
    // What is left where the event itself is not kept any more.
    let is_left = |subscription: &str| !shown.iter().any(|shown| shown == subscription);
    for letter in list(&answer["deadLetters"]) {
        let subscription = text(&letter["subscription"]);
        if is_left(&subscription) {
            output::line(&format!(
                "dead-lettered by {subscription}: {}, attempts: {}; `headgate dead show {subscription} {}` has all of it",
                reason(letter),
                text(&letter["attempts"]),
                text(&letter["event"])
            ));
        }
    }
    let mut tries = Tries::default();
    for (subscription, of) in answer["tries"].as_object().into_iter().flatten() {
        if is_left(subscription) {
            tries.add(subscription, of);
        }
    }
    tries.show();
}

/// Of one event, by any subscriptions, oldest first.
#[derive(Default)]
struct Tries(Vec<[String; 6]>);

impl Tries {
    fn add(&mut self, subscription: &str, tries: &Value) {
        for tried in list(tries) {
            let took = tried["tookMs"].as_f64().map(|took| format!("{took:.1}ms"));
            let mut why = text(&tried["detail"]);
            if !tried["next"].is_null() {
                why.push_str(&format!("; next try at {}", text(&tried["next"])));
            }
            self.0.push([
                text(&tried["at"]),
                subscription.to_owned(),
                text(&tried["end"]),
                took.unwrap_or_default(),
                reason(tried),
                why,
            ]);
        }
    }

    fn show(mut self) {
        if self.0.is_empty() {
            return;
        }
        self.0.sort();
        let mut table = Table::new(&["TIME", "SUBSCRIPTION", "TRY", "TOOK", "ANSWER", "WHY"]);
        self.0.into_iter().for_each(|row| table.row(row.into()));
        output::text(&table.render());
    }
}

/// With the answer's status, if there was one.
fn reason(of: &Value) -> String {
    let both = [text(&of["reason"]), text(&of["code"])].join(" ");
    both.trim().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
