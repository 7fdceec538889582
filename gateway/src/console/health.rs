//! The health of the gateway: readiness, every condition that is not met, and what `headgate doctor` finds in a running gateway.

use axum::{Extension, extract::State, response::Response};
use jiff::Timestamp;
use maud::{Markup, html};
use serde_json::json;

use super::{
    Console, flow,
    guard::Visitor,
    layout::{self, Head},
    parts::{self, Health},
};
use crate::{
    admin::{self, objects},
    api,
    commands::doctor::{self, Finding},
};

/// Conditions that are listed: more have one cause for most of them.
const CONDITIONS_MAX: usize = 200;

/// `GET /ui/health`.
pub(super) async fn page(State(console): State<Console>, Extension(visitor): Extension<Visitor>) -> Response {
    let info = console.0.admin.info();
    let plane = console.plane();
    let observed = plane.observe();
    let mut unmet = flow::unmet(&observed, |_| true);
    let count = unmet.len();
    unmet.truncate(CONDITIONS_MAX);
    // Conditions stand above; the other checks are those of the command.
    let metrics = admin::metrics_text(&console.0.admin).unwrap_or_else(|error| format!("# {error}"));
    let mut findings = doctor::of_process(&info, &json!({ "items": objects::all(plane) }), &metrics);
    findings.retain(|finding| finding.check() != "conditions");
    let body = html! {
        h1 { "Health" }
        div #health data-region {
            (readiness(&info))
            section {
                h2 { "Conditions that are not met" }
                @if unmet.is_empty() { p { (parts::chip(Health::Good, "None")) " Every condition of every object is met." } }
                @else { div.troubles { (flow::troubles(&unmet)) } }
                @if count > CONDITIONS_MAX { p.quiet { "The first " (parts::number(CONDITIONS_MAX as u64)) " of " (parts::number(count as u64)) ", the worst first." } }
            }
            section { h2 { "Checks" } (checks(&findings)) }
        }
        section.commands { h2 { "The same by command" } (parts::command("headgate doctor")) (parts::command(&format!("curl -s {}/readyz", info.admin))) }
    };
    layout::page(&console, &visitor, &Head::new("Health").ticking(), &body)
}

fn readiness(info: &api::Info) -> Markup {
    let (health, word) = match (info.ready, info.degraded.is_empty()) {
        (false, _) => (Health::Bad, "Not ready"),
        (true, false) => (Health::Warning, "Degraded"),
        (true, true) => (Health::Good, "Ready"),
    };
    html! {
        section {
            h2 { "Gateway" }
            p { (parts::chip(health, word)) }
            @for reason in info.reasons.iter().chain(&info.degraded) { p.fault { (reason) } }
            dl.facts {
                dt { "Version" } dd { (info.version) }
                @if let Some(started) = info.started_at { dt { "Started" } dd { (parts::when(started)) } }
                dt { "Documents" } dd { "generation " (parts::number(info.generation)) }
                dt { "Ingress" } dd { (info.ingress) }
                dt { "Admin listener" } dd { (info.admin) }
                dt { "Data folder" } dd { (info.data) }
                dt { "Clock" } dd { (Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC").to_string()) }
                dt { "Metrics" } dd { a href="/metrics" { "/metrics" } }
            }
        }
    }
}

fn checks(findings: &[Finding]) -> Markup {
    html! {
        div.wide { table.cards {
            thead { tr { th { "Check" } th { "Result" } th { "Object" } th { "Found" } th { "What to do" } } }
            tbody { @for finding in findings.iter().take(CONDITIONS_MAX) {
                tr {
                    th scope="row" data-label="Check" { (finding.check()) }
                    td data-label="Result" { (parts::chip(health(finding), finding.status_word())) }
                    td data-label="Object" { (finding.object()) }
                    td data-label="Found" { (parts::with_code(finding.message())) }
                    td data-label="To do" { (parts::with_code(finding.fix())) }
                }
            } }
        } }
    }
}

fn health(finding: &Finding) -> Health {
    match finding.status_word() {
        "failed" => Health::Bad,
        "warning" => Health::Warning,
        "ok" => Health::Good,
        _ => Health::Quiet,
    }
}
