//! The page of a channel.

use std::collections::BTreeMap;

use channel::{Depth, Record};
use dataplane::Row;
use jiff::Timestamp;
use maud::{Markup, html};
use spec::{ObjectName, Status};

use super::{
    FATES_MAX, Narrowed,
    read::{SEARCHED_MAX, Slice},
};
use crate::console::{
    parts::{self, Health},
    urls,
};

/// Chips of one event at most; the others are counted.
const CHIPS_MAX: usize = 3;

/// Characters of an attribute in a list.
const SHORT: usize = 64;

pub(super) struct ChannelView<'a> {
    pub(super) name: &'a ObjectName,
    pub(super) narrowed: &'a Narrowed,
    /// Why nothing can be selected.
    pub(super) fault: Option<String>,
    pub(super) status: Option<Status>,
    /// Subscriptions of the channel.
    pub(super) subscriptions: usize,
    pub(super) depth: Option<Depth>,
    /// Where events are posted.
    pub(super) address: String,
    /// `None` while the channel is not open.
    pub(super) slice: Option<Slice>,
    /// For each event, where the channel has few subscriptions.
    pub(super) fates: Vec<Vec<Row>>,
}

impl ChannelView<'_> {
    pub(super) fn render(&self) -> Markup {
        html! {
            p.crumbs { "Channel" }
            h1 { (self.name) }
            div #state data-region { (self.state()) }
            (self.form())
            section aria-labelledby="events-title" {
                h2 #events-title { "Events" @if self.narrowed.before.is_empty() { ", newest first" } @else { ", older" } }
                div #events data-region { (self.events()) }
            }
            (self.commands())
        }
    }

    fn state(&self) -> Markup {
        let health = self.status.as_ref().map_or(Health::Quiet, Health::of);
        html! {
            p.lead {
                (parts::chip(health, health.word()))
                @if let Some(depth) = &self.depth {
                    @let furthest = depth.cursors.iter().map(|cursor| cursor.unsettled).max().unwrap_or(0);
                    " · backlog " (parts::counted(furthest, "event"))
                    " · " (parts::counted(self.subscriptions as u64, "subscription"))
                    " · next offset " (parts::number(depth.next.0))
                    @if let Some(bytes) = depth.bytes { " · " (parts::bytes(bytes)) }
                    " · " a href=(urls::with_query("/", [("channel", &*self.name.to_string())])) { "its flow" }
                }
            }
            @if let Some(status) = self.status.as_ref().filter(|_| health < Health::Good) { section { (parts::conditions(status)) } }
        }
    }

    fn form(&self) -> Markup {
        html! {
            form.row method="get" {
                label { "Type" input name="type" value=(self.narrowed.kind) autocomplete="off" spellcheck="false"; }
                label { "Source" input name="source" value=(self.narrowed.source) autocomplete="off" spellcheck="false"; }
                label { "Subject" input name="subject" value=(self.narrowed.subject) autocomplete="off" spellcheck="false"; }
                label.grow { "Expression (CESQL)"
                    input name="filter" value=(self.narrowed.filter) placeholder="type LIKE 'order.%' AND EXISTS subject" autocomplete="off" spellcheck="false"; }
                button.primary type="submit" { "Show" }
                @if self.narrowed.pairs().iter().any(|(_, value)| !value.is_empty()) { a.button href=(urls::channel(self.name)) { "Show all" } }
            }
            @if let Some(fault) = &self.fault { pre.fault role="alert" { (fault) } }
        }
    }

    fn events(&self) -> Markup {
        let Some(slice) = &self.slice else {
            return html! { p.empty {
                @if self.fault.is_some() { "Correct the expression to see events." } @else { "The channel is not open: see its conditions." }
            } };
        };
        html! {
            (self.counts(slice))
            @if slice.records.is_empty() { (self.nothing(slice)) } @else {
                div.wide { table.cards {
                    thead { tr {
                        th.tight { "Stored" } th { "Id" } th { "Type" } th { "Source" } th { "Subject" }
                        @if !self.fates.is_empty() { th { "Subscriptions" } }
                        th.number { "Size" }
                    } }
                    tbody { @for (index, record) in slice.records.iter().enumerate() { (self.event(slice, index, record)) } }
                } }
            }
            @if self.subscriptions > FATES_MAX {
                p.quiet { "The channel has " (parts::counted(self.subscriptions as u64, "subscription"))
                    ": open an event to see what each did with it." }
            }
            (self.pager(slice))
        }
    }

    fn event(&self, slice: &Slice, index: usize, record: &Record) -> Markup {
        let event = &record.event;
        let stored = Timestamp::try_from(record.stored_at).unwrap_or_default();
        let address = urls::event(event.id(), event.source(), &self.name.to_string());
        html! {
            tr {
                td.tight data-label="Stored" { (parts::when(stored)) }
                th scope="row" data-label="Id" { a href=(address) { (parts::short(event.id(), SHORT)) } }
                td data-label="Type" { (parts::short(event.kind(), SHORT)) }
                td data-label="Source" { (parts::short(event.source(), SHORT)) }
                td data-label="Subject" { (parts::short(event.text("subject").unwrap_or_default(), SHORT)) }
                @if let Some(fates) = self.fates.get(index) { td data-label="Subscriptions" { (chips(fates)) } }
                td.number data-label="Size" { (parts::bytes(slice.sizes.get(index).map_or(0, |size| *size as u64))) }
            }
        }
    }

    fn counts(&self, slice: &Slice) -> Markup {
        html! {
            @if let Some(trial) = &slice.trial {
                p { "Of " (parts::counted(trial.events, "event")) " that were searched " strong { (parts::number(trial.matched)) " matched" }
                    @if trial.failed > 0 { ", on " (parts::number(trial.failed)) " the expression could not be evaluated" }
                    @if !trial.complete { "; the expression is too costly to be evaluated on more" } "." }
                @if !trial.left_out.is_empty() {
                    ul { @for clause in trial.left_out.iter().take(8) {
                        li { code { (clause.clause) } " left out " (parts::counted(clause.events, "event")) }
                    } }
                }
                @for failure in trial.failures.iter().take(3) { p.fault { "event " (failure.event) ": " (failure.message) } }
            }
        }
    }

    fn nothing(&self, slice: &Slice) -> Markup {
        html! {
            p.empty {
                @if slice.searched == 0 {
                    "The channel keeps no event here. An in-memory channel keeps what is not settled alone; "
                    "others keep settled events for as long as their retention says."
                } @else {
                    "None of the " (parts::counted(slice.searched, "event")) " that were searched is like that."
                }
            }
        }
    }

    fn pager(&self, slice: &Slice) -> Markup {
        let older = slice.older.as_deref().map(|before| {
            let pairs = self.narrowed.pairs().into_iter().chain([("before", before)]);
            urls::with_query(&urls::channel(self.name), pairs)
        });
        html! {
            p.pager {
                @if !self.narrowed.before.is_empty() { a href=(urls::with_query(&urls::channel(self.name), self.narrowed.pairs())) { "Newest" } }
                @if let Some(older) = older { a href=(older) rel="next" { "Older events" } }
                @if slice.searched >= SEARCHED_MAX { span.quiet { "One page searches " (parts::number(SEARCHED_MAX)) " events." } }
            }
        }
    }

    fn commands(&self) -> Markup {
        let name = self.name.to_string();
        let send =
            format!("headgate send {name} --type com.example.test --source /console --data '{{\"hello\":\"world\"}}'");
        let curl = format!(
            "curl -i {} -H 'ce-specversion: 1.0' -H 'ce-id: test-1' -H 'ce-source: /console' -H 'ce-type: com.example.test' \
             -H 'content-type: application/json' -d '{{\"hello\":\"world\"}}'",
            self.address
        );
        html! {
            section.commands aria-labelledby="commands-title" {
                h2 #commands-title { "The same by command" }
                (parts::command(&format!("headgate tail {name}")))
                @if !self.narrowed.filter.is_empty() {
                    (parts::command(&format!("headgate filter {} --against {name}", parts::quoted(&self.narrowed.filter))))
                }
                p.quiet { "Send a test event:" }
                (parts::command(&send))
                (parts::command(&curl))
            }
        }
    }
}

/// The fate of one event: a chip for each of a few subscriptions, trouble first; counts of many.
fn chips(fates: &[Row]) -> Markup {
    let mut fates: Vec<&Row> = fates.iter().collect();
    fates.sort_by_key(|row| Health::of_stage(row.stage));
    let (named, rest) = if fates.len() <= CHIPS_MAX {
        (fates.len(), BTreeMap::new())
    } else {
        let named = fates
            .iter()
            .filter(|row| Health::of_stage(row.stage) < Health::Good)
            .count()
            .min(CHIPS_MAX);
        let mut rest = BTreeMap::new();
        for row in &fates[named..] {
            *rest
                .entry((Health::of_stage(row.stage), row.stage.as_str()))
                .or_insert(0_u64) += 1;
        }
        (named, rest)
    };
    html! {
        span.chips {
            @for row in &fates[..named] {
                (parts::chip(Health::of_stage(row.stage), &format!("{}: {}", row.subscription.name, row.stage.as_str())))
            }
            @for ((health, word), count) in rest { (parts::chip(health, &format!("{} {word}", parts::number(count)))) }
        }
    }
}
