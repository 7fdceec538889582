//! The picture of the flow.

use maud::{Markup, html};

use super::{
    Part,
    lanes::{Flow, Lane, SourceNode, SubscriptionNode, TROUBLES_MAX, Totals, Unmet},
};
use crate::console::{
    Console, graph, job,
    parts::{self, Health},
    urls,
};

pub(super) fn render(console: &Console, part: &Part, flow: &Flow) -> Markup {
    html! {
        h1.unseen { "Flow" }
        div #flow data-region {
            (banner(flow))
            (totals(&flow.totals))
            (job::running(&console.0.jobs.of(None)))
            (choice(part, flow))
            @if flow.lanes.is_empty() { (empty()) }
            @for lane in &flow.lanes { (lane_of(lane, part)) }
            (pager(part, flow))
        }
        section.commands {
            h2 { "The same by command" }
            (parts::command("headgate get all"))
            (parts::command("headgate doctor"))
        }
    }
}

fn banner(flow: &Flow) -> Markup {
    let dead_letters = flow.totals.dead_letters;
    let worst = flow.unmet.first().map(|unmet| unmet.health);
    let worst = worst.or((dead_letters > 0).then_some(Health::Warning));
    let Some(worst) = worst else {
        return html! { section.banner.good { p { (parts::chip(Health::Good, "Nothing is wrong")) " Every condition is met, and there are no dead letters." } } };
    };
    html! {
        section.banner.(worst.class()) aria-label="What is wrong" {
            (troubles(&flow.unmet))
            @if flow.unmet_count > TROUBLES_MAX {
                p { a href="/ui/health" { "All " (parts::counted(flow.unmet_count as u64, "condition")) " that are not met" } }
            }
            @if dead_letters > 0 {
                p { (parts::chip(Health::Warning, "Warning")) " " a href="/ui/deadletters" { (parts::counted(dead_letters, "dead letter")) }
                    ": events that could not be delivered and wait for a person." }
            }
        }
    }
}

/// A line for each condition that is not met.
pub(in crate::console) fn troubles(unmet: &[Unmet]) -> Markup {
    html! {
        @if !unmet.is_empty() { ul { @for unmet in unmet { li {
            (parts::chip(unmet.health, word(unmet.health))) " "
            (parts::object(&unmet.object)) " "
            @if let Some(cause) = &unmet.condition.cause {
                (parts::reason(cause.reason.as_str())) ": " (parts::with_code(&shortened(&cause.message)))
            } @else { (unmet.condition.kind) " is " (parts::truth(unmet.condition.truth)) }
            " " span.quiet { "since " (parts::when(unmet.condition.last_transition_time)) }
        } } } }
    }
}

/// A message may hold a whole answer.
fn shortened(message: &str) -> String {
    const MAX: usize = 400;
    match message.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

fn word(health: Health) -> &'static str {
    match health {
        Health::Bad => "Fault",
        Health::Warning => "Warning",
        other => other.word(),
    }
}

fn totals(totals: &Totals) -> Markup {
    html! {
        dl.totals {
            div { dt { "Accepted" } dd { (graph::rate(totals.accepted)) } }
            div { dt { "Delivered" } dd { (graph::rate(totals.delivered)) } }
            div.bad[totals.failed > 0.0] { dt { "Failed attempts" } dd { (graph::rate(totals.failed)) } }
            div { dt { "Backlog (unsettled)" } dd { (parts::number(totals.backlog)) } }
            div.bad[totals.dead_letters > 0] { dt { a href="/ui/deadletters" { "Dead letters" } } dd { (parts::number(totals.dead_letters)) } }
        }
    }
}

fn choice(part: &Part, flow: &Flow) -> Markup {
    html! {
        @if !part.channel.is_empty() {
            p.crumbs { a href="/" { "All channels" } }
        } @else if flow.namespaces.len() > 1 {
            nav.tabs aria-label="Namespaces" {
                a href="/" aria-current=[part.namespace.is_empty().then_some("true")] { "All namespaces" }
                @for namespace in flow.namespaces.iter().take(30) {
                    a href=(urls::with_query("/", [("namespace", &**namespace)])) aria-current=[(*namespace == part.namespace).then_some("true")] { (namespace) }
                }
            }
        }
    }
}

fn empty() -> Markup {
    html! {
        section {
            h2 { "No channel yet" }
            p { "A Channel keeps events, a Subscription says where they go. Write both into a YAML file in the folder that the gateway reads; "
                "it takes them at once." }
            (parts::command("headgate validate PATH"))
        }
    }
}

fn lane_of(lane: &Lane, part: &Part) -> Markup {
    let out: Vec<(Health, f64)> = lane
        .subscriptions
        .iter()
        .map(|of| (of.health, of.recent.rate))
        .collect();
    let came: Vec<(Health, f64)> = lane.sources.iter().map(|of| (of.health, 0.0)).collect();
    html! {
        section.lane aria-label=(format!("Channel {}", lane.name)) {
            @if lane.sources.is_empty() {
                div.nodes.sources { div.node.outside { span.name { "Senders" } span.what { "HTTP POST" } } }
                (graph::edges(&[(Health::Quiet, lane.recent.rate)], false))
            } @else {
                div.nodes.sources {
                    @for source in &lane.sources { (source_node(source)) }
                    @if lane.more_sources > 0 { p.more { "and " (parts::number(lane.more_sources as u64)) " more" } }
                }
                (graph::edges(&came, false))
            }
            div.nodes.middle { (channel_node(lane)) }
            @if lane.subscriptions.is_empty() {
                div.edges {}
                div.nodes.out { div.node.outside { span.name { "No subscription" } span.what { "Events are kept and go nowhere." } } }
            } @else {
                (graph::edges(&out, true))
                div.nodes.out {
                    @for subscription in &lane.subscriptions { (subscription_node(subscription)) }
                    @if lane.more > 0 && part.channel.is_empty() { p.more {
                        (parts::mark(lane.worst_of_more)) " "
                        a href=(urls::with_query("/", [("channel", &*lane.name.to_string())])) { (parts::number(lane.more as u64)) " more subscriptions" }
                    } }
                }
            }
        }
    }
}

fn source_node(source: &SourceNode) -> Markup {
    html! {
        div.node.(source.health.class()) {
            span.name { (parts::mark(source.health)) " " (parts::object_named(&source.key, &source.key.name.name)) }
            span.what { (source.key.kind) @if source.health < Health::Good { " · " (source.health.word()) } }
        }
    }
}

fn channel_node(lane: &Lane) -> Markup {
    html! {
        div.node.channel.(lane.health.class()) {
            span.name { (parts::mark(lane.health)) " " (parts::channel(&lane.name)) }
            span.what {
                @if lane.is_outbox { "outbox of a source" } @else { (lane.provisioner) }
                @if lane.health < Health::Good { " · " (lane.health.word()) }
            }
            (graph::sparkline(&lane.recent, "events accepted"))
            span.what {
                strong { (graph::rate(lane.recent.rate)) } " in"
                @if lane.dead_letters > 0 { " · " a.dead href="/ui/deadletters" { (parts::counted(lane.dead_letters, "dead letter")) } }
            }
        }
    }
}

fn subscription_node(node: &SubscriptionNode) -> Markup {
    html! {
        div.node.wideable.(node.health.class()) {
            span.name { (parts::mark(node.health)) " " (parts::subscription_named(&node.name, &node.name.name))
                @if node.health < Health::Good { " " span.word.(node.health.class()) { (node.health.word()) } } }
            span.what title=(node.target) { (node.target) }
            span.rate { strong { (graph::rate(node.recent.rate)) }
                @if node.recent.failure_rate > 0.0 { span.word.bad { (graph::rate(node.recent.failure_rate)) " failed" } } }
            span.backlog { @if node.backlog.unsettled > 0 {
                span { strong { (parts::number(node.backlog.unsettled)) } " waiting" } span.quiet { "oldest " (parts::span(node.backlog.oldest)) }
            } @else { span.quiet { "no backlog" } } }
            (graph::sparkline(&node.recent, "events delivered"))
        }
    }
}

fn pager(part: &Part, flow: &Flow) -> Markup {
    let address = |page: usize| {
        let page = page.to_string();
        urls::with_query(
            "/",
            [
                ("namespace", &*part.namespace),
                ("channel", &*part.channel),
                ("page", &*page),
            ],
        )
    };
    html! {
        @if flow.pages > 1 {
            p.pager {
                @if part.page > 0 { a href=(address(part.page - 1)) rel="prev" { "Previous" } }
                span.quiet { "Page " (part.page + 1) " of " (flow.pages)
                    @if part.channel.is_empty() { ", " (parts::counted(flow.channels as u64, "channel")) ", those in trouble first" } }
                @if part.page + 1 < flow.pages { a href=(address(part.page + 1)) rel="next" { "Next" } }
            }
        }
    }
}
