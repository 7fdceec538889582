//! The documents that the gateway has read: where each stands, what is wrong with it, how it is; and a text field that says what
//! `headgate validate` would. Nothing is written: files and Git are the truth.

mod validate;

use axum::{
    Extension,
    extract::{Query, State},
    response::Response,
};
use maud::{Markup, html};
use serde::Deserialize;
use spec::{Kind, ObjectKey, ObjectName, Status, model::Object};

use super::{
    Console, Trouble,
    guard::Visitor,
    layout::{self, Head},
    parts::{self, Health},
    urls,
};
use crate::admin;
pub(super) use validate::{PATH as VALIDATE_PATH, check};

pub(super) const PATH: &str = "/ui/documents";

/// Documents of one page.
const LISTED_MAX: usize = 100;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Shown {
    /// One document, as `Kind`, namespace and name.
    #[serde(default)]
    kind: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    /// Counts from 0.
    #[serde(default)]
    page: usize,
}

/// `GET /ui/documents`: the list, or one document.
pub(super) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Query(shown): Query<Shown>,
) -> Result<Response, Trouble> {
    if !shown.name.is_empty() {
        return one(&console, &visitor, &shown);
    }
    let plane = console.plane();
    let (spec, observed) = (plane.spec(), plane.observe());
    let mut rows: Vec<Row<'_>> = spec
        .objects
        .values()
        .map(|object| Row {
            health: health(object, observed.objects.get(&object.key)),
            object,
        })
        .collect();
    rows.sort_by(|a, b| (a.health, &a.object.key).cmp(&(b.health, &b.object.key)));
    let pages = rows.len().div_ceil(LISTED_MAX);
    let skipped = shown.page.saturating_mul(LISTED_MAX);
    let body = html! {
        h1 { "Documents" }
        p.lead { (parts::counted(rows.len() as u64, "document")) ", read as generation " (parts::number(spec.generation))
            ". Change the files or objects themselves: the gateway reads them again at once." }
        section { div #documents data-region {
            @if rows.is_empty() { p.empty { "No document was read." } } @else { (table(rows.iter().skip(skipped).take(LISTED_MAX))) }
        } }
        @if pages > 1 { (pager(shown.page, pages)) }
        (validate::form(&visitor, "", None))
        section.commands { h2 { "The same by command" } (parts::command("headgate get all -o yaml")) (parts::command("headgate validate PATH")) }
    };
    Ok(layout::page(
        &console,
        &visitor,
        &Head::new("Documents").ticking(),
        &body,
    ))
}

struct Row<'a> {
    health: Health,
    object: &'a Object,
}

/// Services and secrets have no conditions.
fn health(object: &Object, status: Option<&Status>) -> Health {
    match status {
        _ if !object.faults.is_empty() => Health::Bad,
        Some(status) => Health::of(status),
        None if object.key.kind.is_ours() => Health::Quiet,
        None => Health::Good,
    }
}

fn table<'a>(rows: impl Iterator<Item = &'a Row<'a>>) -> Markup {
    html! {
        div.wide { table.cards {
            thead { tr { th { "Document" } th { "Kind" } th { "State" } th { "Where" } th.number { "First seen" } } }
            tbody { @for row in rows {
                @let key = &row.object.key;
                tr {
                    th scope="row" data-label="Document" { a href=(address(key)) { (key.name) } }
                    td data-label="Kind" { (key.kind) }
                    td data-label="State" {
                        @if row.object.faults.is_empty() { (parts::chip(row.health, if key.kind.is_ours() { row.health.word() } else { "Read" })) }
                        @else { (parts::chip(Health::Bad, "Invalid")) }
                    }
                    td data-label="Where" { (row.object.origin) }
                    td.number data-label="First seen" { (parts::when(row.object.created)) }
                }
                @for fault in &row.object.faults { tr { td colspan="5" { p.fault { (fault) } } } }
            } }
        } }
    }
}

fn address(key: &ObjectKey) -> String {
    let of = [
        ("kind", key.kind.as_str()),
        ("namespace", &*key.name.namespace),
        ("name", &*key.name.name),
    ];
    urls::with_query(PATH, of)
}

fn pager(page: usize, pages: usize) -> Markup {
    let address = |page: usize| urls::with_query(PATH, [("page", &*page.to_string())]);
    html! { p.pager {
        @if page > 0 { a href=(address(page - 1)) rel="prev" { "Previous" } }
        span.quiet { "Page " (page + 1) " of " (pages) ", those in trouble first" }
        @if page + 1 < pages { a href=(address(page + 1)) rel="next" { "Next" } }
    } }
}

fn one(console: &Console, visitor: &Visitor, shown: &Shown) -> Result<Response, Trouble> {
    let kind = admin::objects::ALL
        .into_iter()
        .find(|kind: &Kind| kind.as_str() == shown.kind);
    let kind = kind.ok_or_else(|| Trouble::not_found(format!("there is no kind {:?}", shown.kind)))?;
    let key = ObjectKey::new(kind, ObjectName::new(&*shown.namespace, &*shown.name));
    let plane = console.plane();
    let spec = plane.spec();
    let object = spec
        .objects
        .get(&key)
        .ok_or_else(|| Trouble::not_found(format!("{key} not found")))?;
    let status = plane.observe().objects.remove(&key);
    let health = health(object, status.as_ref());
    let body = html! {
        p.crumbs { a href=(PATH) { "Documents" } " · " (key.kind) }
        h1 { (key.name) }
        p.lead { (parts::chip(health, health.word())) " " (object.origin)
            @if let Some(address) = urls::page_of(key.kind, &key.name) { " · " a href=(address) { "its page" } } }
        @for fault in &object.faults { pre.fault { (fault) } }
        @if let Some(status) = &status { section { h2 { "Conditions" } (parts::conditions(status)) } }
        section { h2 { "Document and status" } pre tabindex="0" { (yaml(object, status.as_ref())) } }
        section.commands { h2 { "The same by command" }
            (parts::command(&format!("headgate get {} {} -o yaml", key.kind.as_str().to_lowercase(), key.name))) }
    };
    Ok(layout::page(console, visitor, &Head::new(key.to_string()), &body))
}

/// A document as `headgate get -o yaml` shows it: without secrets.
pub(super) fn yaml(object: &Object, status: Option<&Status>) -> String {
    let shown = admin::objects::shown(object, status);
    serde_saphyr::to_string(&shown).unwrap_or_else(|error| format!("cannot be shown as YAML: {error}\n{shown:#}"))
}
