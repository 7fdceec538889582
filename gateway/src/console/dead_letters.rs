//! Dead letters, grouped by what went wrong: one subscriber that was down for an hour is one line, however many events it cost.
//! A group is delivered again or removed at once, after its count was shown.

mod change;
mod groups;

use axum::{
    Extension,
    extract::{Query, State},
    response::Response,
};
use dataplane::FailureGroup;
use futures_util::{StreamExt, TryStreamExt};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::json;
use spec::ObjectName;

use super::{
    Console, Trouble,
    guard::Visitor,
    job,
    layout::{self, Head},
    parts, urls,
};
use crate::{
    admin::{self, Refusal, object},
    api,
};
pub(super) use change::{confirm_drop, confirm_redrive, redrive, remove};
use groups::Group;

pub(super) const PATH: &str = "/ui/deadletters";

/// Dead letters of one group that are listed: more than a person reads.
const LISTED_MAX: usize = 100;

/// The dead letters that a page is about.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Chosen {
    /// `NAMESPACE/NAME`.
    #[serde(default)]
    subscription: String,
    /// Empty: all groups.
    #[serde(default)]
    reason: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    destination: String,
    /// One event.
    #[serde(default)]
    id: String,
    /// How many were removed, for the page after it.
    #[serde(default)]
    dropped: String,
}

impl Chosen {
    fn subscription(&self) -> Result<Option<ObjectName>, Trouble> {
        let named = Some(&*self.subscription).filter(|text| !text.is_empty());
        Ok(named.map(|text| object("subscription", text)).transpose()?)
    }

    fn group(&self) -> Result<Option<FailureGroup>, Trouble> {
        if self.reason.is_empty() {
            return Ok(None);
        }
        let code = Some(&*self.code).filter(|code| !code.is_empty());
        let code = code.map(str::parse).transpose();
        Ok(Some(FailureGroup {
            reason: self.reason.clone(),
            code: code.map_err(|_error| Trouble::bad_request("`code` is an HTTP status"))?,
            destination: Some(self.destination.clone()).filter(|to| !to.is_empty()),
        }))
    }

    /// The address of a page about them.
    fn address(&self, path: &str) -> String {
        urls::with_query(
            path,
            [
                ("subscription", &*self.subscription),
                ("reason", &*self.reason),
                ("code", &*self.code),
                ("destination", &*self.destination),
                ("id", &*self.id),
            ],
        )
    }
}

/// `GET /ui/deadletters`: the groups, or the dead letters of one.
pub(super) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Query(chosen): Query<Chosen>,
) -> Result<Response, Trouble> {
    let subscription = chosen.subscription()?;
    let head = Head::new("Dead letters").ticking();
    let body = match (&subscription, chosen.group()?) {
        (Some(name), Some(group)) => one_group(&console, &visitor, &chosen, name, group).await?,
        _ => all_groups(&console, &chosen, subscription.as_ref()).await?,
    };
    Ok(layout::page(&console, &visitor, &head, &body))
}

async fn all_groups(console: &Console, chosen: &Chosen, subscription: Option<&ObjectName>) -> Result<Markup, Trouble> {
    let plane = console.plane();
    let total = plane.count_dead_letters(subscription);
    let permit = listing(console)?;
    let read = groups::read(plane, subscription).await.map_err(Refusal::from)?;
    drop(permit);
    Ok(html! {
        @if let Some(name) = subscription { p.crumbs { a href=(PATH) { "Dead letters" } " of " (name) } } @else { p.crumbs { "All subscriptions" } }
        h1 { "Dead letters" }
        p.lead { "Events that could not be delivered, with the subscription, the reason and the place where it happened. They are kept until they are delivered again or dropped." }
        (notice(chosen))
        div #groups data-region {
            @if read.groups.is_empty() { section.banner.good { p { (parts::chip(parts::Health::Good, "No dead letters")) } } }
            @else { (groups::table(&read.groups)) }
            @if read.is_cut { p.quiet { "The newest " (parts::number(groups::READ_MAX as u64)) " of " (parts::counted(total, "dead letter")) " are grouped here." } }
            (job::list(&console.0.jobs.of(subscription)))
        }
        section.commands { h2 { "The same by command" } (parts::command(&list_command(chosen))) }
    })
}

fn notice(chosen: &Chosen) -> Markup {
    let dropped: Option<u64> = chosen.dropped.parse().ok();
    html! { @if let Some(dropped) = dropped { p.notice.good role="status" { (parts::counted(dropped, "dead letter")) " dropped." } } }
}

fn list_command(chosen: &Chosen) -> String {
    let mut command = "headgate dead list".to_owned();
    if !chosen.subscription.is_empty() {
        command.push_str(&format!(" {}", chosen.subscription));
    }
    command
}

/// Listings are bounded, with those of the admin API.
fn listing(console: &Console) -> Result<tokio::sync::OwnedSemaphorePermit, Trouble> {
    let permit = console.0.admin.listing();
    permit.map_err(Trouble::from)
}

async fn one_group(
    console: &Console,
    visitor: &Visitor,
    chosen: &Chosen,
    name: &ObjectName,
    group: FailureGroup,
) -> Result<Markup, Trouble> {
    let _permit = listing(console)?;
    let is_meant = group.clone();
    let show = move |dead_letter: &dataplane::DeadLetter| {
        let shown = || json!(admin::dead_letters::shown(dead_letter)).to_string();
        (FailureGroup::of(dead_letter) == is_meant).then(shown)
    };
    let listed = console.plane().list_dead_letters(Some(name), show).take(LISTED_MAX + 1);
    let listed: Vec<String> = listed
        .map_ok(|listed| listed.shown)
        .try_collect()
        .await
        .map_err(Refusal::from)?;
    let parsed: Result<Vec<api::DeadLetter>, _> = listed.iter().map(|text| serde_json::from_str(text)).collect();
    let dead_letters = parsed.map_err(|error| Trouble::bad_request(error.to_string()))?;
    Ok(html! {
        p.crumbs { a href=(PATH) { "Dead letters" } " of " (parts::subscription(name)) }
        h1 { (parts::reason(&group.reason)) @if let Some(code) = group.code { " " (code) } }
        p.lead { @if let Some(to) = &group.destination { "Destination " (to) } @else { "No attempt was made" } }
        (actions(chosen, visitor))
        section { div #listed data-region {
            @if dead_letters.is_empty() { p.empty { "No dead letter is left in this group." } } @else { (listed_dead_letters(&dead_letters)) }
            @if dead_letters.len() > LISTED_MAX { p.quiet { "The newest " (parts::number(LISTED_MAX as u64)) "; there are more." } }
        } }
        section.commands { h2 { "The same by command" } (parts::command(&list_command(chosen))) }
    })
}

fn actions(chosen: &Chosen, visitor: &Visitor) -> Markup {
    html! {
        div.actions {
            a.button.primary href=(chosen.address("/ui/deadletters/redrive")) { "Deliver again…" }
            a.button.danger href=(chosen.address("/ui/deadletters/drop")) { "Drop…" }
            @if !visitor.may_operate { span.quiet { "Changes need the operate token." } }
        }
    }
}

fn listed_dead_letters(dead_letters: &[api::DeadLetter]) -> Markup {
    html! {
        div.wide { table.cards {
            thead { tr { th { "Event" } th { "Type" } th { "Source" } th { "Detail" } th.number { "Attempts" } th.number { "Stored" } } }
            tbody { @for of in dead_letters.iter().take(LISTED_MAX) {
                tr {
                    th scope="row" data-label="Event" { a href=(urls::event(&of.event, &of.source, "")) { (parts::short(&of.event, 64)) } }
                    td data-label="Type" { (parts::short(&of.kind, 64)) }
                    td data-label="Source" { (parts::short(&of.source, 64)) }
                    td data-label="Detail" { (parts::short(of.detail.as_deref().unwrap_or_default(), 120)) }
                    td.number data-label="Attempts" { (parts::number(of.attempts.into())) }
                    td.number data-label="Stored" { @if let Some(at) = of.stored_at { (parts::when(at)) } }
                }
            } }
        } }
    }
}

/// The page of a group.
fn group_address(group: &Group) -> String {
    group.chosen().address(PATH)
}
