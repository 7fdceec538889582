//! `headgate dead`: letters listed, shown, delivered again, dropped.

use std::io::{BufRead, IsTerminal, Write};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    full,
    get::names,
    name,
    progress::{End, follow},
};
use crate::{
    Failure,
    api::{AnswerBody, Counts, DeadLetter, DropRequest, Dropped, Matched, RedriveRequest},
    args::{Dead, Redrive, TextOrJson},
    client::Gateway,
    json_view::pretty,
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
        Dead::Redrive(args) => redrive(gateway, args).await,
        Dead::Drop {
            subscription,
            ids,
            all,
            yes,
        } => drop_dead_letters(gateway, &subscription, &ids, all, yes).await,
    }
}

async fn list(
    gateway: &Gateway,
    subscription: Option<String>,
    limit: usize,
    format: TextOrJson,
) -> Result<(), Failure> {
    let subscription = subscription.map(|text| full(&text));
    let limit_shown = limit as u64;
    let limit = limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(subscription.as_deref().map(|name| ("subscription", name)));
    let answer = gateway.get_text("/api/v1/deadletters", &query).await?;
    let parsed = |error: serde_json::Error| Failure::Internal(error.into());
    if format == TextOrJson::Json {
        let dead_letters: Value = serde_json::from_str(&answer.text).map_err(parsed)?;
        output::exact(&format!("{dead_letters:#}"));
        return Ok(());
    }
    let dead_letters: Vec<DeadLetter> = serde_json::from_str(&answer.text).map_err(parsed)?;
    if dead_letters.is_empty() {
        if let Some(subscription) = &subscription {
            exists(gateway, subscription).await?;
        }
        output::note("No dead letters.");
        return Ok(());
    }
    let header = ["SUBSCRIPTION", "EVENT", "TYPE", "REASON", "CODE", "ATTEMPTS", "AGE"];
    let mut table = Table::new(&header).numbers(&["CODE", "ATTEMPTS"]);
    for dead_letter in &dead_letters {
        let stored = dead_letter.stored_at.map(|stored| age(stored, Timestamp::now()));
        table.row(vec![
            dead_letter.subscription.clone(),
            dead_letter.event.clone(),
            dead_letter.kind.clone(),
            dead_letter.reason.clone(),
            dead_letter.code.map_or_else(String::new, |code| code.to_string()),
            dead_letter.attempts.to_string(),
            stored.unwrap_or_default(),
        ]);
    }
    output::text(&table.render());
    // Fewer than were asked for are all there are.
    if dead_letters.len() as u64 >= limit_shown {
        let total = answer
            .headers
            .get("headgate-dead-letters")
            .and_then(|total| total.to_str().ok());
        output::note(
            &match (&subscription, total.and_then(|total| total.parse::<u64>().ok())) {
                (None, Some(total)) if total > dead_letters.len() as u64 => {
                    format!(
                        "{} of {total} shown, the newest; --limit shows more",
                        dead_letters.len()
                    )
                }
                (Some(_), Some(total)) if total > dead_letters.len() as u64 => format!(
                    "{} shown, the newest; its channel holds {total} dead letters of all subscriptions, --limit shows more",
                    dead_letters.len()
                ),
                _ => return Ok(()),
            },
        );
    }
    Ok(())
}

/// The parts of a dead letter that others wrote: the event stays what was sent.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow)]
    cloudevent: &'a RawValue,
    answer: Option<AnswerBody>,
}

async fn show(gateway: &Gateway, subscription: &str, id: &str, format: TextOrJson) -> Result<(), Failure> {
    let subscription = full(subscription);
    let query = [("subscription", &*subscription), ("id", id)];
    let answer = gateway.get_text("/api/v1/deadletters", &query).await?;
    let parsed = |error: serde_json::Error| Failure::Internal(error.into());
    let dead_letters: Vec<&RawValue> = serde_json::from_str(&answer.text).map_err(parsed)?;
    let Some(dead_letter) = dead_letters.first() else {
        exists(gateway, &subscription).await?;
        return Err(Failure::Wrong(format!(
            "no dead letter of {subscription} has the id {id}"
        )));
    };
    if format == TextOrJson::Json {
        output::exact(&pretty(dead_letter.get()));
        return Ok(());
    }
    let facts: DeadLetter = serde_json::from_str(dead_letter.get()).map_err(parsed)?;
    let parts: Parts<'_> = serde_json::from_str(dead_letter.get()).map_err(parsed)?;
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let lines = [
        ("Subscription", Some(facts.subscription)),
        ("Event", Some(facts.event)),
        ("Type", Some(facts.kind)),
        ("Source", Some(facts.source)),
        ("Reason", Some(facts.reason)),
        ("Detail", facts.detail),
        ("Code", facts.code.map(|code| code.to_string())),
        ("Attempts", Some(facts.attempts.to_string())),
        ("Destination", facts.destination),
        ("First attempt", time(facts.first_attempt)),
        ("Last attempt", time(facts.last_attempt)),
        ("Stored", time(facts.stored_at)),
    ];
    for (label, value) in lines {
        if let Some(value) = value {
            let label = format!("{label}:");
            output::line(&format!("{label:<15}{}", output::one_line(&value)));
        }
    }
    match parts.answer {
        Some(AnswerBody::Text(answer)) => {
            output::line("Answer:");
            // Apart from our own lines: the subscriber wrote these.
            answer.lines().for_each(|line| output::line(&format!("  {line}")));
        }
        Some(AnswerBody::Base64(answer)) => output::line(&format!("Answer (base64): {answer}")),
        None => {}
    }
    output::line("CloudEvent:");
    output::text(&pretty(parts.cloudevent.get()));
    Ok(())
}

/// A subscription that is not there has no letters for another reason than one that is.
async fn exists(gateway: &Gateway, subscription: &str) -> Result<(), Failure> {
    let (namespace, name) = name(subscription);
    let query = [("kind", "subscription"), ("namespace", &*namespace), ("name", &*name)];
    let found: Value = gateway.get("/api/v1/objects", &query).await?;
    if found["items"].as_array().is_some_and(|items| !items.is_empty()) {
        return Ok(());
    }
    let known = names(gateway, "subscription", Some(&namespace)).await?;
    Err(Failure::Wrong(format!(
        "subscription {subscription} not found, and no dead letter names it; {known}"
    )))
}

async fn redrive(gateway: &Gateway, args: Redrive) -> Result<(), Failure> {
    let mut request = RedriveRequest {
        dry_run: args.dry_run,
        filter: args.filter.iter().cloned().collect(),
        follow: false,
        ids: args.ids,
        rate: args.rate,
    };
    let path = path(&args.subscription, "redrive");
    if args.dry_run || args.detach {
        let answer: Matched = gateway.post(&path, &request).await?;
        let matched = answer.matched;
        match (args.output, args.dry_run) {
            (TextOrJson::Json, _) => output::exact(&json!(answer).to_string()),
            (TextOrJson::Text, true) => output::line(&format!("dead letters to deliver again: {matched}")),
            (TextOrJson::Text, false) => output::line(&format!("dead letters being delivered again: {matched}")),
        }
        return Ok(());
    }
    request.follow = true;
    let (counted, end) = follow(gateway.post_stream(&path, &request).await?, so_far).await;
    match args.output {
        TextOrJson::Json => output::exact(&json!(counted).to_string()),
        TextOrJson::Text => summary(&counted),
    }
    let (left, subscription) = (counted.left, full(&args.subscription));
    match &end {
        End::Done => match counted.dead_lettered {
            0 => Ok(()),
            dead_letters => Err(Failure::Wrong(format!(
                "{dead_letters} events failed again, and each is a new dead letter: `headgate dead list {subscription}` shows them"
            ))),
        },
        End::Stopped(why) => Err(Failure::Wrong(format!(
            "the redrive ended early, {left} dead letters were not delivered and are still stored: {why}"
        ))),
        End::Interrupted => Err(Failure::Interrupted(format!(
            "the redrive was ended, {left} dead letters are still stored; events that were in flight may have arrived"
        ))),
        End::Broken => Err(Failure::Unreachable(format!(
            "the connection to the gateway broke, and the redrive ended with it; {left} dead letters are still stored"
        ))),
    }
}

/// Done of all, and the counts.
fn so_far(counted: &Counts) -> (u64, u64, String) {
    let (matched, left) = (counted.matched, counted.left);
    let words = format!(
        "delivered {} of {matched}, dead letters {}, left {left}",
        counted.delivered, counted.dead_lettered
    );
    (matched.saturating_sub(left), matched, words)
}

fn summary(counted: &Counts) {
    let (matched, left) = (counted.matched, counted.left);
    output::line(&format!(
        "redriven      {} of {matched} letters",
        matched.saturating_sub(left)
    ));
    // The counts are shown in any case.
    output::line(&format!("delivered     {}", counted.delivered));
    let gone = counted.gone.unwrap_or_default();
    for (label, dead_letters, hint) in [
        ("dead letters", counted.dead_lettered, ""),
        ("gone", gone, " (removed meanwhile, or delivered by another redrive)"),
    ] {
        if dead_letters > 0 {
            output::line(&format!("{label:<14}{dead_letters}{hint}"));
        }
    }
}

async fn drop_dead_letters(
    gateway: &Gateway,
    subscription: &str,
    ids: &[String],
    all: bool,
    yes: bool,
) -> Result<(), Failure> {
    if all && !yes && !confirmed(subscription)? {
        return Err(Failure::Wrong("nothing was dropped".into()));
    }
    let request = DropRequest { all, ids: ids.to_vec() };
    let answer: Dropped = gateway.post(&path(subscription, "drop"), &request).await?;
    output::line(&format!("dead letters dropped: {}", answer.dropped));
    Ok(())
}

fn confirmed(subscription: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "dropping all dead letters needs a confirmation, and there is no terminal to ask on: add --yes".into(),
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
