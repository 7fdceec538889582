//! `headgate filter`: an expression tried on one event, or on the last events of a channel of a running gateway.

use cesql::{Explanation, Expression, Value, explain};
use event::Event;
use serde_json::{Value as Json, json};

use super::{name, send::read};
use crate::{
    Failure,
    args::{Filter, TextOrJson},
    client::Gateway,
    output,
};

pub(super) async fn filter(gateway: impl FnOnce() -> Result<Gateway, Failure>, args: Filter) -> Result<(), Failure> {
    let expression = args.expression.parse::<Expression>().map_err(|error| {
        let caret = error.caret(&args.expression);
        Failure::Wrong(format!("{error} (kind: parse)\n{caret}"))
    })?;
    match &args.against {
        Some(channel) => against(&gateway()?, &args, channel).await,
        None => once(&expression, &event(&args)?, args.output),
    }
}

/// The one given, or one with nothing but what every event has.
fn event(args: &Filter) -> Result<Event, Failure> {
    let invalid = |error: &dyn std::fmt::Display| Failure::Wrong(format!("this is no valid event: {error}"));
    match &args.event {
        Some(file) => Event::from_json(&read(file)?).map_err(|error| invalid(&error)),
        None => Event::builder("1", "/headgate/filter", "dev.headgate.event")
            .finish()
            .map_err(|error| invalid(&error)),
    }
}

/// The value in any case; after an error it is the one that the specification says, and the exit code is 1.
fn once(expression: &Expression, event: &Event, format: TextOrJson) -> Result<(), Failure> {
    let Explanation { evaluation, clause } = explain(expression, event);
    let error = evaluation.error;
    match format {
        TextOrJson::Text => {
            output::line(&evaluation.value.to_string());
            match &error {
                Some(error) => output::line(&format!("error       {}: {error}, at {clause}", error.kind)),
                None => output::line(&format!("decided by  {clause}")),
            }
        }
        TextOrJson::Json => {
            let value = match evaluation.value {
                Value::Boolean(value) => value.into(),
                Value::Integer(value) => value.into(),
                Value::String(text) => Json::String(text.into_owned()),
            };
            let told = error
                .as_ref()
                .map(|error| json!({ "kind": error.kind.as_str(), "message": error.message }));
            output::line(&json!({ "value": value, "error": told, "clause": clause.to_string() }).to_string());
        }
    }
    match error {
        Some(_) => Err(Failure::Wrong(String::new())),
        None => Ok(()),
    }
}

async fn against(gateway: &Gateway, args: &Filter, channel: &str) -> Result<(), Failure> {
    let (namespace, channel) = name(channel);
    let last = args.last.to_string();
    let query = [("expression", &*args.expression), ("last", &*last)];
    let path = format!("/api/v1/channels/{namespace}/{channel}/filter");
    let answer = gateway.get(&path, &query).await?;
    if args.output == TextOrJson::Json {
        output::text(&format!("{answer:#}"));
        return Ok(());
    }
    let count = |part: &Json| part.as_u64().unwrap_or_default();
    let text = |part: &Json| part.as_str().unwrap_or_default().to_owned();
    let list = |part: &'static str| answer[part].as_array().map(Vec::as_slice).unwrap_or_default();
    output::line(&format!(
        "matched  {} of {} events",
        count(&answer["matched"]),
        count(&answer["events"])
    ));
    output::line(&format!("failed   {}", count(&answer["failed"])));
    for failure in list("failures") {
        output::line(&format!("  {}  {}", text(&failure["event"]), text(&failure["message"])));
    }
    let left_out = list("leftOut");
    if !left_out.is_empty() {
        output::line("left out by");
    }
    let width = left_out.iter().map(|one| text(&one["clause"]).chars().count()).max();
    for one in left_out {
        let width = width.unwrap_or_default();
        output::line(&format!(
            "  {:width$}  {:>4}",
            text(&one["clause"]),
            count(&one["events"])
        ));
    }
    Ok(())
}
