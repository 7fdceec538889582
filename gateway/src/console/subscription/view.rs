//! The page of one subscription.

use std::{sync::Arc, time::Duration};

use dataplane::{Backlog, SubscriptionTraffic, Try, TryEnd};
use jiff::Timestamp;
use maud::{Markup, html};
use spec::{
    Status,
    model::Subscription,
    status::{Fields, SubscriptionStatus},
};

use super::{WAITING_MAX, WaitingEvent, settings::Setting};
use crate::console::{
    graph,
    guard::Visitor,
    history::Recent,
    job,
    jobs::Job,
    parts::{self, Health},
    urls,
};

/// Attempts that are listed.
const TRIES_SHOWN: usize = 15;

pub(super) struct SubscriptionView<'a> {
    pub(super) visitor: &'a Visitor,
    pub(super) model: &'a Subscription,
    pub(super) status: Option<Status>,
    pub(super) backlog: Backlog,
    pub(super) recent: Recent,
    pub(super) counts: SubscriptionTraffic,
    /// Newest first.
    pub(super) tries: Vec<Try>,
    pub(super) waiting: Vec<WaitingEvent>,
    pub(super) settings: Vec<Setting>,
    pub(super) jobs: Vec<Arc<Job>>,
}

impl SubscriptionView<'_> {
    pub(super) fn render(&self) -> Markup {
        html! {
            p.crumbs { "Subscription of channel " (parts::channel(&self.model.channel)) }
            h1 { (self.model.name) }
            div #state data-region { (self.lead()) }
            (self.actions())
            div #numbers data-region {
                (self.numbers())
                (job::list(&self.jobs))
                (self.waiting())
                (self.tries())
            }
            (self.settings())
            (self.filters())
            (self.commands())
        }
    }

    fn fields(&self) -> Option<&SubscriptionStatus> {
        match self.status.as_ref().map(|status| &status.fields) {
            Some(Fields::Subscription(fields)) => Some(fields),
            _ => None,
        }
    }

    fn lead(&self) -> Markup {
        let health = self.status.as_ref().map_or(Health::Quiet, Health::of);
        let uris = self
            .fields()
            .map(|fields| fields.physical_subscription.clone())
            .unwrap_or_default();
        html! {
            p.lead { (parts::chip(health, health.word()))
                @if let Some(to) = &uris.subscriber { " delivers to " (to) }
                @if let Some(to) = &uris.reply { " · replies to " (to) }
                @if let Some(to) = &uris.dead_letter { " · dead letters to " (to) }
            }
            @if let Some(status) = self.status.as_ref().filter(|_| health < Health::Good) { section { (parts::conditions(status)) } }
        }
    }

    fn actions(&self) -> Markup {
        let address = urls::subscription(&self.model.name);
        let name = self.model.name.to_string();
        let paused = self.fields().map(|fields| fields.paused).unwrap_or_default();
        html! {
            div.actions {
                @if self.visitor.may_operate {
                    form method="post" action=(format!("{address}/{}", if paused.switch { "resume" } else { "pause" })) {
                        input type="hidden" name="form" value=(self.visitor.form_token);
                        button type="submit" { @if paused.switch { "Resume" } @else { "Pause" } }
                    }
                }
                a.button href=(format!("{address}/replay")) { "Replay…" }
                a.button href=(urls::with_query("/ui/deadletters", [("subscription", &*name)])) { "Dead letters" }
                @if paused.spec { span.quiet { "Its document says " code { "paused: true" } ": that is changed in the document." } }
                @if !self.visitor.may_operate { span.quiet { "Changes need the operate token." } }
            }
        }
    }

    fn numbers(&self) -> Markup {
        let latencies = Latencies::of(&self.tries);
        html! {
            dl.totals {
                div { dt { "Delivered" } dd { (graph::rate(self.recent.rate)) } }
                div.bad[self.recent.failure_rate > 0.0] { dt { "Failed attempts" } dd { (graph::rate(self.recent.failure_rate)) } }
                div { dt { "Backlog (unsettled)" } dd { (parts::number(self.backlog.unsettled)) } }
                div { dt { "Oldest waits" } dd { @if self.backlog.unsettled > 0 { (parts::span(self.backlog.oldest)) } @else { "–" } } }
                @if let Some(latencies) = &latencies {
                    div { dt { "Answer time p50" } dd { (parts::took(latencies.median)) } }
                    div { dt { "Answer time p99" } dd { (parts::took(latencies.p99)) } }
                }
            }
            section.large { h2 { "Last 15 minutes" } (graph::sparkline(&self.recent, "events delivered"))
                p.quiet { "Since the start of the process: " (parts::counted(self.counts.delivered, "event")) " delivered, "
                    (parts::number(self.counts.left_out)) " left out by filters, " (parts::number(self.counts.failed)) " attempts failed, "
                    (parts::counted(self.counts.dead_lettered, "dead letter")) "."
                    @if let Some(latencies) = &latencies { " Answer times are of the last " (parts::counted(latencies.count as u64, "attempt")) "." } } }
        }
    }

    fn waiting(&self) -> Markup {
        let channel = self.model.channel.to_string();
        html! {
            @if !self.waiting.is_empty() {
                section {
                    h2 { "Oldest events that wait" }
                    div.wide { table.cards {
                        thead { tr { th { "Event" } th { "Source" } th.number { "Failed attempts" } th.number { "Last answer" } th.number { "Next attempt" } th.number { "Stored" } } }
                        tbody { @for event in &self.waiting {
                            @let attempts = &event.attempts;
                            tr {
                                th scope="row" data-label="Event" { a href=(urls::event(&event.id, &event.source, &channel)) title=(format!("offset {}", event.offset)) { (parts::short(&event.id, 64)) } }
                                td data-label="Source" { (parts::short(&event.source, 64)) }
                                td.number data-label="Failed" { (parts::number(attempts.failed.into())) }
                                td.number data-label="Last answer" { @match attempts.last_status { Some(status) => (status), None => "–" } }
                                td.number data-label="Next" { @match attempts.next_at.and_then(|at| Timestamp::try_from(at).ok()) { Some(at) => (parts::when(at)), None => "–" } }
                                td.number data-label="Stored" { @if let Ok(at) = Timestamp::try_from(event.stored_at) { (parts::when(at)) } }
                            }
                        } }
                    } }
                    @if self.backlog.unsettled > WAITING_MAX as u64 { p.quiet { "The first of " (parts::counted(self.backlog.unsettled, "event")) "." } }
                }
            }
        }
    }

    fn tries(&self) -> Markup {
        html! {
            section {
                h2 { "Latest attempts" }
                @if self.tries.is_empty() { p.empty { "This process remembers none." } } @else {
                    div.wide { table.cards {
                        thead { tr { th { "Outcome" } th { "Why" } th.number { "Answer" } th.number { "Took" } th.number { "When" } } }
                        tbody { @for tried in self.tries.iter().take(TRIES_SHOWN) { (attempt(tried)) } }
                    } }
                }
            }
        }
    }

    fn settings(&self) -> Markup {
        html! {
            section {
                h2 { "Settings in force" }
                div.wide { table.cards {
                    thead { tr { th { "Field" } th { "Value" } th { "Set by" } } }
                    tbody { @for setting in &self.settings {
                        tr {
                            th scope="row" data-label="Field" { (setting.field) }
                            td data-label="Value" { (setting.value) }
                            td data-label="Set by" { @match &setting.origin { Some(key) => (parts::object(key)), None => span.quiet { "default" } } }
                        }
                    } }
                } }
                @if let Some(fields) = self.fields() { p.quiet { "An event that always fails becomes a dead letter after " (fields.until_dead_letter) "." } }
            }
        }
    }

    fn filters(&self) -> Markup {
        html! {
            section {
                h2 { "Filters" }
                @if self.model.filters.is_empty() { p.empty { "None: it gets every event of its channel." } }
                @for filter in &self.model.filters {
                    @let text = filter.expression().to_string();
                    p { code { (text) } " "
                        a href=(urls::with_query(&urls::channel(&self.model.channel), [("filter", &*text)])) { "Try it on the channel" } }
                }
            }
        }
    }

    fn commands(&self) -> Markup {
        let name = &self.model.name;
        let paused = self.fields().is_some_and(|fields| fields.paused.switch);
        html! {
            section.commands {
                h2 { "The same by command" }
                (parts::command(&format!("headgate get subscription {name} -o yaml")))
                (parts::command(&format!("headgate {} {name}", if paused { "resume" } else { "pause" })))
                (parts::command(&format!("headgate dead list {name}")))
            }
        }
    }
}

fn attempt(tried: &Try) -> Markup {
    let (health, word, code, reason, why) = match &tried.end {
        TryEnd::Succeeded { status, fault } => (
            Health::Good,
            "delivered",
            *status,
            None,
            fault.as_deref().unwrap_or_default().to_owned(),
        ),
        TryEnd::Replied { to } => (Health::Good, "reply taken", None, None, format!("by {to}")),
        TryEnd::Failed(failed) => (
            Health::Warning,
            "failed",
            failed.code,
            Some(failed.reason),
            failed.detail.clone(),
        ),
        TryEnd::DeadLettered { reason } => (Health::Bad, "dead letter", None, Some(*reason), String::new()),
    };
    html! {
        tr {
            th scope="row" data-label="Outcome" { (parts::chip(health, word)) }
            td data-label="Why" { @if let Some(reason) = reason { (parts::reason(reason.as_str())) @if !why.is_empty() { ": " } } (parts::short(&why, 160)) }
            td.number data-label="Answer" { @match code { Some(code) => (code), None => "–" } }
            td.number data-label="Took" { @match tried.took { Some(took) => (parts::took(took)), None => "–" } }
            td.number data-label="When" { @if let Ok(at) = Timestamp::try_from(tried.at) { (parts::when(at)) } }
        }
    }
}

/// How long subscribers take to answer, of the attempts that are remembered.
struct Latencies {
    count: usize,
    median: Duration,
    p99: Duration,
}

impl Latencies {
    fn of(tries: &[Try]) -> Option<Self> {
        let mut took: Vec<Duration> = tries.iter().filter_map(|tried| tried.took).collect();
        took.sort_unstable();
        let at = |percent: usize| {
            took.get((took.len() * percent).div_ceil(100).saturating_sub(1))
                .copied()
        };
        Some(Self {
            count: took.len(),
            median: at(50)?,
            p99: at(99)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn latencies_are_the_median_and_the_slowest_of_a_hundred() {
        let tried = |ms| Try {
            at: SystemTime::UNIX_EPOCH,
            took: Some(Duration::from_millis(ms)),
            end: TryEnd::Succeeded {
                status: None,
                fault: None,
            },
        };
        let tries: Vec<Try> = (1..=200).rev().map(tried).collect();
        let latencies = Latencies::of(&tries).map(|of| (of.count, of.median.as_millis(), of.p99.as_millis()));
        assert_eq!(latencies, Some((200, 100, 198)));
        assert!(Latencies::of(&[]).is_none());
    }
}
