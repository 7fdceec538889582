//! Sources: how each is, when it received something last, and what its conditions mean.

use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};
use maud::{Markup, html};
use serde_json::Value;
use spec::{Kind, ObjectKey, ObjectName, Status, status::Fields};

use super::{
    Console, Trouble,
    documents::yaml,
    guard::Visitor,
    layout::{self, Head},
    parts::{self, Health},
};

/// Sources that are listed.
const LISTED_MAX: usize = 500;

/// `GET /ui/sources`.
pub(super) async fn list(State(console): State<Console>, Extension(visitor): Extension<Visitor>) -> Response {
    let plane = console.plane();
    let (spec, observed) = (plane.spec(), plane.observe());
    let status = |key: &ObjectKey| observed.objects.get(key).cloned().unwrap_or_default();
    let sources = spec.objects.keys().filter(|key| key.kind.is_source());
    let mut sources: Vec<(Health, &ObjectKey, Status)> = sources
        .map(|key| (key, status(key)))
        .map(|(key, status)| (Health::of(&status), key, status))
        .collect();
    sources.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    let body = html! {
        h1 { "Sources" }
        p.lead { "Where the gateway fetches or receives events itself. Everything else is sent to a channel by HTTP." }
        div #sources data-region {
            @if sources.is_empty() { section { p.empty { "No source is configured." } } } @else { section { (table(&sources)) } }
            @if sources.len() > LISTED_MAX { p.quiet { "The first " (parts::number(LISTED_MAX as u64)) ", those in trouble first." } }
        }
        section.commands { h2 { "The same by command" } (parts::command("headgate get sources")) }
    };
    layout::page(&console, &visitor, &Head::new("Sources").ticking(), &body)
}

fn table(sources: &[(Health, &ObjectKey, Status)]) -> Markup {
    html! {
        div.wide { table.cards {
            thead { tr { th { "Source" } th { "Kind" } th { "State" } th { "Sink" } th.number { "Last received" } th.number { "Backlog" } } }
            tbody { @for (health, key, status) in sources.iter().take(LISTED_MAX) {
                @let fields = fields(status);
                tr {
                    th scope="row" data-label="Source" { (parts::object_named(key, &key.name.to_string())) }
                    td data-label="Kind" { (key.kind) }
                    td data-label="State" { (parts::chip(*health, health.word())) }
                    td data-label="Sink" { (fields.and_then(|fields| fields.sink_uri.as_deref()).unwrap_or("–")) }
                    td.number data-label="Last" { @match last(status) { Some(at) => (parts::when(at)), None => "–" } }
                    td.number data-label="Backlog" { @match fields.and_then(|fields| fields.unsettled_events) { Some(count) => (parts::number(count)), None => "–" } }
                }
            } }
        } }
    }
}

fn fields(status: &Status) -> Option<&spec::status::SourceStatus> {
    match &status.fields {
        Fields::Source(fields) => Some(fields),
        _ => None,
    }
}

/// When a source received something last, where its adapter reports that.
fn last(status: &Status) -> Option<jiff::Timestamp> {
    let reported = &fields(status)?.reported;
    let time = ["lastDeliveryTime", "lastEventTime"]
        .iter()
        .find_map(|name| reported.get(name));
    time.and_then(Value::as_str).and_then(|text| text.parse().ok())
}

/// `GET /ui/sources/KIND/NAMESPACE/NAME`.
pub(super) async fn one(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path((kind, namespace, name)): Path<(String, String, String)>,
) -> Result<Response, Trouble> {
    let kinds = [
        Kind::GitHubSource,
        Kind::KubernetesEventSource,
        Kind::GcpPubSubSource,
        Kind::ContainerSource,
    ];
    let found = kinds
        .into_iter()
        .find(|known| known.as_str().eq_ignore_ascii_case(&kind) || known.plural() == kind);
    let kind = found.ok_or_else(|| Trouble::not_found(format!("{kind:?} is no kind of source")))?;
    let key = ObjectKey::new(kind, ObjectName::new(namespace, name));
    let plane = console.plane();
    let spec = plane.spec();
    let object = spec
        .objects
        .get(&key)
        .ok_or_else(|| Trouble::not_found(format!("{key} not found")))?;
    let status = plane.observe().objects.remove(&key).unwrap_or_default();
    let health = Health::of(&status);
    let sink = spec.sources.get(&key).and_then(|source| source.sink.as_ref().ok());
    let body = html! {
        p.crumbs { a href="/ui/sources" { "Sources" } " · " (key.kind) }
        h1 { (key.name) }
        div #state data-region {
            p.lead { (parts::chip(health, health.word())) @if let Some(channel) = sink { " sends to channel " (parts::channel(channel)) } }
            section { h2 { "Conditions" } (parts::conditions(&status)) }
            (reported(&status))
        }
        section { h2 { "Document" } p.quiet { (object.origin) } pre tabindex="0" { (yaml(object, None)) } }
        section.commands { h2 { "The same by command" }
            (parts::command(&format!("headgate get {} {} -o yaml", kind.as_str().to_lowercase(), key.name))) }
    };
    Ok(layout::page(
        &console,
        &visitor,
        &Head::new(key.to_string()).ticking(),
        &body,
    ))
}

/// The report of its adapter: an address that is copied, times, counts.
fn reported(status: &Status) -> Markup {
    let Some(fields) = fields(status) else { return html! {} };
    html! {
        section {
            h2 { "Reported" }
            dl.facts {
                @if let Some(sink) = &fields.sink_uri { dt { "sinkUri" } dd { (sink) } }
                @if let Some(count) = fields.unsettled_events { dt { "unsettledEvents" } dd { (parts::number(count)) } }
                @for (name, value) in &fields.reported {
                    dt { (name) }
                    dd { (value_of(value)) }
                }
            }
        }
    }
}

fn value_of(value: &Value) -> Markup {
    html! { @match value {
        Value::String(text) => @if text.starts_with("http") { (parts::command(text)) }
            @else if let Ok(at) = text.parse() { (parts::when(at)) } @else { (text) },
        Value::Number(number) => @match number.as_u64() { Some(number) => (parts::number(number)), None => (number.to_string()) },
        Value::Null => "–",
        other => code { (other.to_string()) },
    } }
}
