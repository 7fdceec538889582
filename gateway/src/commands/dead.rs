//! `headgate dead`: letters listed, shown, delivered again, dropped.

use std::io::{BufRead, IsTerminal, Write};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{full, name};
use crate::{
    Failure,
    args::{Dead, TextOrJson},
    client::Gateway,
    output,
    table::{Table, age},
};

pub(super) async fn dead(gateway: &Gateway, args: Dead) -> Result<(), Failure> {
    match args {
        Dead::List {
            subscription,
            limit,
            output,
        } => list(gateway, subscription, limit, output).await,
        Dead::Show {
            subscription,
            id,
            output,
        } => show(gateway, &subscription, &id, output).await,
        Dead::Redrive {
            subscription,
            ids,
            filter,
            rate,
            dry_run,
        } => {
            let filter: serde_json::Map<String, Value> =
                filter.into_iter().map(|(name, value)| (name, value.into())).collect();
            let body = json!({ "ids": ids, "filter": filter, "rate": rate, "dryRun": dry_run });
            let answer = gateway.post(&path(&subscription, "redrive"), &body).await?;
            let matched = answer["matched"].as_u64().unwrap_or_default();
            output::line(&match dry_run {
                true => format!("letters to deliver again: {matched}"),
                false => format!("letters being delivered again: {matched}"),
            });
            Ok(())
        }
        Dead::Drop {
            subscription,
            ids,
            all,
            yes,
        } => drop_letters(gateway, &subscription, &ids, all, yes).await,
    }
}

async fn list(
    gateway: &Gateway,
    subscription: Option<String>,
    limit: usize,
    format: TextOrJson,
) -> Result<(), Failure> {
    let subscription = subscription.map(|text| full(&text));
    let limit = limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(subscription.as_deref().map(|name| ("subscription", name)));
    let letters = gateway.get("/api/v1/deadletters", &query).await?;
    if format == TextOrJson::Json {
        output::text(&format!("{letters:#}"));
        return Ok(());
    }
    let letters = letters.as_array().map(Vec::as_slice).unwrap_or_default();
    if letters.is_empty() {
        output::note("No dead letters.");
        return Ok(());
    }
    let mut table = Table::new(&["SUBSCRIPTION", "EVENT", "TYPE", "REASON", "CODE", "ATTEMPTS", "AGE"]);
    for letter in letters {
        let mut cells: Vec<String> = ["subscription", "event", "type", "reason", "code", "attempts"]
            .map(|key| text(&letter[key]))
            .into();
        let stored = letter["storedAt"]
            .as_str()
            .and_then(|text| text.parse::<Timestamp>().ok());
        cells.push(stored.map_or_else(String::new, |stored| age(stored, Timestamp::now())));
        table.row(cells);
    }
    output::text(&table.render());
    Ok(())
}

async fn show(gateway: &Gateway, subscription: &str, id: &str, format: TextOrJson) -> Result<(), Failure> {
    let subscription = full(subscription);
    let letters = gateway
        .get("/api/v1/deadletters", &[("subscription", &subscription), ("id", id)])
        .await?;
    let Some(letter) = letters.get(0) else {
        return Err(Failure::Wrong(format!(
            "no dead letter of {subscription} has the id {id}"
        )));
    };
    if format == TextOrJson::Json {
        output::text(&format!("{letter:#}"));
        return Ok(());
    }
    let lines = [
        ("Subscription", "subscription"),
        ("Event", "event"),
        ("Type", "type"),
        ("Source", "source"),
        ("Reason", "reason"),
        ("Detail", "detail"),
        ("Code", "code"),
        ("Attempts", "attempts"),
        ("Destination", "destination"),
        ("First attempt", "firstAttempt"),
        ("Last attempt", "lastAttempt"),
        ("Stored", "storedAt"),
    ];
    for (label, key) in lines {
        if !letter[key].is_null() {
            output::line(&format!("{:<15}{}", format!("{label}:"), text(&letter[key])));
        }
    }
    if let Some(answer) = letter["answer"]["text"].as_str() {
        output::line("Answer:");
        output::text(answer);
    } else if let Some(answer) = letter["answer"]["base64"].as_str() {
        output::line(&format!("Answer (base64): {answer}"));
    }
    output::line("CloudEvent:");
    output::text(&format!("{:#}", letter["cloudevent"]));
    Ok(())
}

async fn drop_letters(
    gateway: &Gateway,
    subscription: &str,
    ids: &[String],
    all: bool,
    yes: bool,
) -> Result<(), Failure> {
    if all && !yes && !confirmed(subscription)? {
        return Err(Failure::Wrong("nothing was dropped".into()));
    }
    let answer = gateway
        .post(&path(subscription, "drop"), &json!({ "ids": ids, "all": all }))
        .await?;
    output::line(&format!(
        "letters dropped: {}",
        answer["dropped"].as_u64().unwrap_or_default()
    ));
    Ok(())
}

fn confirmed(subscription: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "dropping all letters asks first, and there is no terminal to ask on: add --yes".into(),
        ));
    }
    let mut err = std::io::stderr().lock();
    write!(err, "Drop all dead letters of {subscription} for good? [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn path(subscription: &str, verb: &str) -> String {
    let (namespace, name) = name(subscription);
    format!("/api/v1/subscriptions/{namespace}/{name}/deadletters/{verb}")
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
