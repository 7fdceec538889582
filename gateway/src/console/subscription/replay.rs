//! Past events delivered to one subscription again: counted first, then started.

use std::{pin::pin, time::Duration};

use axum::{
    Extension,
    extract::{Path, Query, State},
    response::{IntoResponse, Redirect, Response},
};
use cesql::Filter;
use channel::{Offset, Start};
use dataplane::{Progress, Replay, ReplayCounts, Until};
use futures_util::StreamExt;
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use spec::ObjectName;

use super::name;
use crate::{
    admin::Refusal,
    console::{
        Console, Trouble,
        guard::{Form, Visitor},
        jobs::{self, NewJob},
        layout::{self, Head},
        parts, urls,
    },
};

/// A person waits for a count no longer; it then says how many there are at least.
const COUNTING_TIME: Duration = Duration::from_secs(5);

/// The events that are meant, as they are typed.
#[derive(Clone, Debug, Default, Deserialize)]
pub(in crate::console) struct Range {
    /// `earliest`, an offset, or a time.
    #[serde(default)]
    from: String,
    /// An offset, a time, or nothing.
    #[serde(default)]
    to: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    id: String,
}

/// An offset or a time.
enum Typed {
    Offset(u64),
    Time(Timestamp),
}

fn typed(text: &str) -> Result<Typed, Trouble> {
    if let Ok(offset) = text.parse() {
        return Ok(Typed::Offset(offset));
    }
    // A browser's own field for a time leaves seconds and the zone out.
    let spelled = [text.to_owned(), format!("{text}Z"), format!("{text}:00Z")];
    let time = spelled.iter().find_map(|text| text.parse().ok());
    let time = time.ok_or_else(|| {
        Trouble::bad_request(format!(
            "{text:?} is neither an offset nor a time such as 2026-11-24T17:00:00Z"
        ))
    })?;
    Ok(Typed::Time(time))
}

impl Range {
    fn of(form: &Form) -> Self {
        let text = |name| form.text(name).trim().to_owned();
        Self {
            from: text("from"),
            to: text("to"),
            kind: text("type"),
            source: text("source"),
            id: text("id"),
        }
    }

    fn replay(&self, rate: Option<f64>, dry_run: bool) -> Result<Replay, Trouble> {
        let exact = [("type", &*self.kind), ("source", &*self.source), ("id", &*self.id)];
        let exact = || exact.into_iter().filter(|(_, value)| !value.is_empty());
        let from = match self.from.trim() {
            "earliest" => Start::Earliest,
            text => match typed(text)? {
                Typed::Offset(offset) => Start::Offset(Offset(offset)),
                Typed::Time(time) => Start::Time(time.into()),
            },
        };
        let to = match self.to.trim() {
            "" => None,
            text => Some(match typed(text)? {
                Typed::Offset(offset) => Until::Offset(Offset(offset)),
                Typed::Time(time) => Until::Time(time.into()),
            }),
        };
        Ok(Replay {
            from,
            to,
            filter: (exact().count() > 0).then(|| Filter::exact(exact())),
            rate,
            dry_run,
        })
    }

    fn command(&self, name: &ObjectName, rate: Option<f64>) -> String {
        let mut command = format!("headgate replay {name} --from {}", parts::quoted(&self.from));
        if !self.to.is_empty() {
            command.push_str(&format!(" --to {}", parts::quoted(&self.to)));
        }
        for (attribute, value) in [("type", &self.kind), ("source", &self.source), ("id", &self.id)] {
            if !value.is_empty() {
                command.push_str(&format!(" --filter {}", parts::quoted(&format!("{attribute}={value}"))));
            }
        }
        if let Some(rate) = rate {
            command.push_str(&format!(" --rate {rate}"));
        }
        command
    }
}

/// `GET /ui/subscriptions/NAMESPACE/NAME/replay`: the form, and the count once something is chosen.
pub(in crate::console) async fn confirm(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path((namespace, of)): Path<(String, String)>,
    Query(range): Query<Range>,
) -> Result<Response, Trouble> {
    let name = name(&console, namespace, of)?;
    let counted = match &*range.from {
        "" => None,
        _ => Some(count(&console, &name, &range).await?),
    };
    let body = html! {
        p.crumbs { (parts::subscription(&name)) }
        h1 { "Replay to " (name) }
        p.lead { "Past events of the channel are delivered again, to this subscription alone. Its filters apply. Each event carries "
            code { "headgatereplay" } ", so that the subscriber can tell it from the first delivery." }
        (choose(&range))
        @if let Some(counted) = counted { (result(&visitor, &name, &range, counted)) }
        @if !range.from.is_empty() { section.commands { h2 { "The same by command" } (parts::command(&range.command(&name, None))) } }
    };
    Ok(layout::page(&console, &visitor, &Head::new("Replay"), &body))
}

fn choose(range: &Range) -> Markup {
    html! {
        form.row method="get" {
            label { "From: offset, time or earliest" input name="from" value=(range.from) required placeholder="2026-11-24T17:00:00Z" autocomplete="off"; }
            label { "To: offset or time" input name="to" value=(range.to) placeholder="now" autocomplete="off"; }
            label { "Type" input name="type" value=(range.kind) autocomplete="off" spellcheck="false"; }
            label { "Source" input name="source" value=(range.source) autocomplete="off" spellcheck="false"; }
            label { "Id" input name="id" value=(range.id) autocomplete="off" spellcheck="false"; }
            button type="submit" { "Count" }
        }
    }
}

/// The counts of a dry run, and whether it came to its end.
async fn count(console: &Console, name: &ObjectName, range: &Range) -> Result<(ReplayCounts, bool), Trouble> {
    let progress = console.plane().replay(name, range.replay(None, true)?).await;
    let mut progress = pin!(progress.map_err(Refusal::from)?);
    let mut counted = ReplayCounts::default();
    let all = async {
        while let Some(progress) = progress.next().await {
            match progress {
                Progress::Going(counts) | Progress::Stopped(counts, _) => counted = counts,
                Progress::Done(counts) => {
                    counted = counts;
                    return true;
                }
            }
        }
        false
    };
    let is_whole = tokio::time::timeout(COUNTING_TIME, all).await.unwrap_or(false);
    Ok((counted, is_whole))
}

fn result(visitor: &Visitor, name: &ObjectName, range: &Range, (counts, is_whole): (ReplayCounts, bool)) -> Markup {
    let count = parts::counted(counts.matched, "event");
    html! {
        section {
            h2 { @if !is_whole { "At least " } (count) " would be delivered again" }
            p { (parts::counted(counts.read, "event")) " read, " (parts::number(counts.left_out)) " left out by the subscription's filters"
                @if counts.unfit > 0 { ", on " (parts::number(counts.unfit)) " a filter could not be evaluated" }
                @if !is_whole { "; counting took longer than 5 s and was ended, " (parts::number(counts.left)) " offsets were not read" } "." }
            @if counts.matched == 0 && is_whole { p.empty { "There is nothing to do." } }
            @else if visitor.may_operate {
                form method="post" action=(format!("{}/replay", urls::subscription(name))) {
                    input type="hidden" name="form" value=(visitor.form_token);
                    @for (field, value) in [("from", &range.from), ("to", &range.to), ("type", &range.kind), ("source", &range.source), ("id", &range.id)] {
                        @if !value.is_empty() { input type="hidden" name=(field) value=(value); }
                    }
                    div.row {
                        label { "Events a second, at most" input name="rate" inputmode="decimal" placeholder="no limit" autocomplete="off"; }
                        button.primary type="submit" { "Deliver " (count) " again" }
                    }
                }
            } @else {
                p { a href=(urls::with_query("/ui/login", [("next", visitor.address.as_str())])) { "Log in with the operate token" } " to do this." }
            }
        }
    }
}

/// `POST /ui/subscriptions/NAMESPACE/NAME/replay`.
pub(in crate::console) async fn start(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Extension(form): Extension<Form>,
    Path((namespace, of)): Path<(String, String)>,
) -> Result<Response, Trouble> {
    let name = name(&console, namespace, of)?;
    let (range, rate) = (Range::of(&form), form.rate()?);
    console.0.jobs.check_room()?;
    let progress = console
        .plane()
        .replay(&name, range.replay(rate, false)?)
        .await
        .map_err(Refusal::from)?;
    let job = NewJob {
        kind: "Replay",
        subscription: name.clone(),
        command: range.command(&name, rate),
    };
    let job = console.0.jobs.start(job, progress.map(jobs::replayed), &console.0.stop);
    // How many there are is known when it ends, and the data plane logs that.
    visitor.log("replay", &name, 0);
    Ok(Redirect::to(&urls::job(job.id)).into_response())
}
