//! `headgate filter`: an expression tried on one event, or on the last events of a channel of a running gateway.

use cesql::{Explanation, Filter as Predicate, Value, explain};
use event::Event;
use serde_json::{Value as Json, json};

use super::{name, send::read};
use crate::{
    Failure,
    api::Trial,
    args::{Filter, TextOrJson},
    client::Gateway,
    output,
};

pub(super) async fn filter(gateway: impl FnOnce() -> Result<Gateway, Failure>, args: Filter) -> Result<(), Failure> {
    let filter = checked(&args.expression)?;
    match &args.against {
        Some(channel) => against(&gateway()?, &args, channel).await,
        None => once(&filter, &event(&args)?, args.output),
    }
}

/// The expression as a subscription has it. What `validate` refuses is refused here.
fn checked(text: &str) -> Result<Predicate, Failure> {
    let checked = spec::expression::read(text).map_err(|faults| {
        let shown = faults
            .iter()
            .map(|fault| format!("no filter: {fault}\n{}", fault.caret(text)));
        Failure::Wrong(shown.collect::<Vec<_>>().join("\n"))
    })?;
    for doubt in &checked.doubts {
        output::note(&format!("warning: {doubt}\n{}", doubt.caret(text)));
    }
    Predicate::cesql(checked.expression).map_err(|error| Failure::Wrong(format!("no filter: {error}")))
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
fn once(filter: &Predicate, event: &Event, format: TextOrJson) -> Result<(), Failure> {
    let Explanation { evaluation, clause, .. } = explain(filter.expression(), event);
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
            let failure = error
                .as_ref()
                .map(|error| json!({ "kind": error.kind.as_str(), "message": error.message }));
            output::exact(&json!({ "value": value, "error": failure, "clause": clause.to_string() }).to_string());
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
    let answer: Json = gateway.get(&path, &query).await?;
    if args.output == TextOrJson::Json {
        output::exact(&format!("{answer:#}"));
        return Ok(());
    }
    let trial: Trial = serde_json::from_value(answer).map_err(|error| Failure::Internal(error.into()))?;
    output::line(&format!("matched  {} of {} events", trial.matched, trial.events));
    output::line(&format!("failed   {}", trial.failed));
    for failure in &trial.failures {
        output::line(&format!("  {}  {}", failure.event, failure.message));
    }
    if !trial.complete {
        output::line("stopped  the expression is too costly to try it on more events");
    }
    if !trial.left_out.is_empty() {
        output::line("left out by");
    }
    let widths = trial.left_out.iter().map(|one| one.clause.chars().count());
    let width = widths.max().unwrap_or_default();
    for one in &trial.left_out {
        output::line(&format!("  {:width$}  {:>4}", one.clause, one.events));
    }
    Ok(())
}
