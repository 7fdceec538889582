//! The page of one event.

use std::collections::BTreeSet;

use dataplane::{DeadLetter, Explanation, FoundEvent, Row, Stage};
use maud::{Markup, html};

use super::{
    Asked,
    data::{self, Form},
    timeline::{self, ENTRIES_MAX, Entry, What},
};
use crate::console::{
    parts::{self, Health},
    urls,
};

/// Subscriptions that are listed, those in trouble first.
const ROWS_MAX: usize = 100;

/// Characters of an answer's body that are shown.
const ANSWER_MAX: usize = 4096;

pub(super) struct StoryView<'a> {
    pub(super) asked: &'a Asked,
    pub(super) last: u64,
    pub(super) explained: &'a Explanation,
    /// The newest dead letter, whole.
    pub(super) answer: Option<DeadLetter>,
    /// The base URL of the ingress.
    pub(super) ingress: String,
}

impl StoryView<'_> {
    pub(super) fn render(&self) -> Markup {
        let explained = self.explained;
        let is_known = !(explained.found.is_empty() && explained.dead_letters.is_empty() && explained.tries.is_empty());
        html! {
            p.crumbs { "Event" }
            h1 { (data::visible(&self.asked.id)) }
            @if is_known {
                (self.lead())
                (self.sources())
                div #subscriptions data-region { (self.subscriptions()) }
                section aria-labelledby="story-title" {
                    h2 #story-title { "Story" }
                    div #story data-region { (self.story()) }
                }
                (self.answer())
                @for found in &explained.found { (self.event(found)) }
                @if explained.found.is_empty() { (self.gone()) }
            } @else {
                (self.unknown())
            }
            @for searched in explained.searched.iter().filter(|searched| searched.error.is_some()) {
                p.fault { "Channel " (searched.channel) " could not be searched: " (searched.error.as_deref().unwrap_or_default()) }
            }
            (self.commands())
        }
    }

    fn lead(&self) -> Markup {
        let event = self.explained.found.first().map(|found| &found.event);
        let event = event.or_else(|| self.explained.dead_letters.first().map(|of| &of.event));
        html! {
            @if let Some(event) = event {
                p.lead { (event.kind()) " from " (data::visible(event.source()))
                    @if let Some(subject) = event.text("subject") { " about " (data::visible(subject)) } }
            }
        }
    }

    /// An id is unique for one source only.
    fn sources(&self) -> Markup {
        let found = self.explained.found.iter().map(|found| found.event.source());
        let dead = self.explained.dead_letters.iter().map(|of| of.event.source());
        let sources: BTreeSet<&str> = found.chain(dead).collect();
        html! {
            @if sources.len() > 1 {
                div.notice {
                    p { (parts::number(sources.len() as u64)) " sources used this id. The page shows the events of all of them; choose one:" }
                    ul { @for source in sources.iter().take(20) {
                        li { a href=(urls::event(&self.asked.id, source, &self.asked.channel)) { (source) } }
                    } }
                }
            }
        }
    }

    fn subscriptions(&self) -> Markup {
        html! {
            @for found in &self.explained.found {
                section {
                    h2 { "In channel " (parts::channel(&found.channel)) }
                    (self.rows(found))
                }
            }
        }
    }

    /// One row for each subscription, trouble first.
    fn rows(&self, found: &FoundEvent) -> Markup {
        let mut rows: Vec<&Row> = found.rows.iter().collect();
        rows.sort_by_key(|row| Health::of_stage(row.stage));
        html! {
            @if rows.is_empty() { p.empty { "The channel has no subscription: the event is kept, and goes nowhere." } } @else {
                div.wide { table.cards {
                    thead { tr { th { "Subscription" } th { "State" } th { "Why" } th.number { "Attempts" } th { span.unseen { "Action" } } } }
                    tbody { @for row in rows.iter().take(ROWS_MAX) {
                        tr {
                            th scope="row" data-label="Subscription" { (parts::subscription(&row.subscription)) }
                            td data-label="State" { (parts::chip(Health::of_stage(row.stage), row.stage.as_str())) }
                            td data-label="Why" { (parts::with_code(&data::visible(&row.message))) }
                            td.number data-label="Attempts" { (parts::number(row.tries.iter().filter(|tried| tried.took.is_some()).count() as u64)) }
                            td.tight data-label="Action" { (again(found, row)) }
                        }
                    } }
                } }
                @if rows.len() > ROWS_MAX {
                    p.quiet { "The first " (parts::number(ROWS_MAX as u64)) " of " (parts::number(rows.len() as u64)) ", those in trouble first." }
                }
            }
        }
    }

    fn story(&self) -> Markup {
        let entries = timeline::entries(self.explained);
        let first = entries.first().map(|entry| entry.at);
        html! {
            @if entries.is_empty() {
                p.empty { "This process remembers no attempt of it." }
            }
            ol.story {
                @for entry in entries.iter().take(ENTRIES_MAX) {
                    li {
                        (parts::mark(entry.health))
                        (parts::clock(entry.at))
                        span.after { @if let Some(first) = first.filter(|first| *first != entry.at) {
                            "+" (parts::took(entry.at.duration_since(first).unsigned_abs()))
                        } }
                        div { (happened(entry)) }
                    }
                }
            }
            @if entries.len() > ENTRIES_MAX {
                p.quiet { "The first " (parts::number(ENTRIES_MAX as u64)) " of " (parts::number(entries.len() as u64)) ": the command below shows all." }
            }
        }
    }

    /// The subscriber's own words.
    fn answer(&self) -> Markup {
        let Some(dead_letter) = &self.answer else {
            return html! {};
        };
        html! {
            section aria-labelledby="answer-title" {
                h2 #answer-title { "Last answer to " (dead_letter.subscription) }
                dl.facts {
                    dt { "Reason" } dd { (parts::reason(&dead_letter.reason)) }
                    dt { "Status" } dd { @match dead_letter.code { Some(code) => (code), None => "no answer" } }
                    @if let Some(to) = &dead_letter.destination { dt { "Destination" } dd { (to) } }
                    dt { "Attempts" } dd { (parts::number(dead_letter.attempts.into())) }
                }
                @match &dead_letter.answer {
                    Some(body) if !body.is_empty() => (data::show(&body[..body.len().min(ANSWER_MAX)], Form::Raw)),
                    Some(_) | None => p.empty { "The answer had no body." },
                }
            }
        }
    }

    fn event(&self, found: &FoundEvent) -> Markup {
        let event = &found.event;
        let address = format!("{}/{}", self.ingress, found.channel);
        let title = format!("data-{}", found.offset);
        html! {
            div.columns {
                section aria-labelledby=(title) {
                    h2 id=(title) { "Data" @if self.explained.found.len() > 1 { " in " (found.channel) } }
                    div.tabs {
                        @for (form, word, name) in Form::ALL {
                            a href=(self.view(word)) aria-current=[(form == self.asked.view).then_some("true")] { (name) }
                        }
                        a href=(urls::data(&found.channel, found.offset)) download { "Download " (parts::bytes(event.data().len() as u64)) }
                    }
                    (data::show(event.data(), self.asked.view))
                    @if let Some(curl) = data::curl(event, &address) {
                        p.quiet { "Send it again, to the whole channel:" }
                        (parts::command(&curl))
                    }
                }
                section {
                    h2 { "Attributes" }
                    dl.facts {
                        @for (name, value) in event.attributes() { dt { (name) } dd { (data::visible(value.text)) } }
                        dt { "stored" } dd { (parts::when(found.stored_at)) " at offset " (parts::number(found.offset)) }
                        dt { "durability" } dd { (found.durability) }
                        dt { "size" } dd { (parts::bytes(event.size() as u64)) }
                    }
                }
            }
        }
    }

    fn view(&self, form: &str) -> String {
        let address = urls::event(&self.asked.id, &self.asked.source, &self.asked.channel);
        let sign = if address.contains('?') { '&' } else { '?' };
        if form.is_empty() {
            address
        } else {
            format!("{address}{sign}view={form}")
        }
    }

    fn gone(&self) -> Markup {
        html! {
            section {
                h2 { "Data" }
                @match &self.answer {
                    Some(dead_letter) => {
                        p.quiet { "No channel keeps the event any more; this is the copy of the dead letter." }
                        (data::show(dead_letter.event.data(), self.asked.view))
                    }
                    None => p.empty { "No channel keeps the event any more. A channel keeps settled events for as long as its retention says." },
                }
            }
        }
    }

    fn unknown(&self) -> Markup {
        let events: u64 = self.explained.searched.iter().map(|searched| searched.events).sum();
        let further = urls::with_query(
            "/ui/events",
            [
                ("id", &*self.asked.id),
                ("source", &*self.asked.source),
                ("channel", &*self.asked.channel),
                ("last", "1000000"),
            ],
        );
        html! {
            section {
                h2 { "This event is not known" }
                p { "It is not among the newest " (parts::number(self.last)) " offsets of each channel ("
                    (parts::counted(events, "event")) " in " (parts::counted(self.explained.searched.len() as u64, "channel"))
                    " were searched), there is no dead letter about it, and no attempt is remembered." }
                ul {
                    li { "Was it sent? A sender knows from the answer 202 that it is stored." }
                    li { "Is it older than what the channel keeps? In-memory channels keep what is not settled alone." }
                    @if self.last < crate::admin::explain::LAST_MAX { li { a href=(further) { "Search the newest 1 000 000 offsets" } ", which takes longer." } }
                }
            }
        }
    }

    fn commands(&self) -> Markup {
        let mut command = format!("headgate explain {}", parts::quoted(&self.asked.id));
        if !self.asked.source.is_empty() {
            command.push_str(&format!(" --source {}", parts::quoted(&self.asked.source)));
        }
        if !self.asked.channel.is_empty() {
            command.push_str(&format!(" --channel {}", parts::quoted(&self.asked.channel)));
        }
        html! { section.commands { h2 { "The same by command" } (parts::command(&command)) } }
    }
}

/// The link by which the event is delivered to one subscription again.
fn again(found: &FoundEvent, row: &Row) -> Markup {
    let (subscription, event) = (row.subscription.to_string(), &found.event);
    let address = match row.stage {
        Stage::DeadLettered => urls::with_query(
            "/ui/deadletters/redrive",
            [("subscription", &*subscription), ("id", event.id())],
        ),
        Stage::Delivered | Stage::Settled => urls::replay(&row.subscription, found.offset, event.id(), event.source()),
        Stage::LeftOut | Stage::Retrying | Stage::Waiting | Stage::NotRunning | Stage::Elsewhere => return html! {},
    };
    html! { a href=(address) { "Deliver again…" } }
}

fn happened(entry: &Entry) -> Markup {
    html! {
        p { @match &entry.what {
            What::Stored { channel, durability } => { strong { "Stored" } " in " (parts::channel(channel)) ", durability " (durability) },
            What::Attempt { subscription, number, outcome, code, reason } => {
                strong { @if *outcome == "given up" { "Given up" } @else { "Attempt " (number) " " (outcome) } }
                " to " (parts::subscription(subscription))
                @if let Some(code) = code { ", answer " strong { (code) } }
                @if let Some(reason) = reason { ", " (parts::reason(reason)) }
                @if let Some(took) = entry.took { ", " (parts::took(took)) }
            },
            What::Next { subscription } => { strong { "Next attempt" } " to " (parts::subscription(subscription)) ", " (parts::when(entry.at)) },
            What::DeadLetter { subscription, reason } => { strong { "Dead letter" } " of " (parts::subscription(subscription)) ", " (parts::reason(reason)) },
        } }
        @if !entry.detail.is_empty() { p.detail { (data::visible(&entry.detail)) } }
    }
}
