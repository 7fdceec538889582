//! `headgate get`: objects of a running gateway, as kubectl shows them.

use jiff::Timestamp;
use serde_json::Value;
use spec::Kind;

use crate::{
    Failure,
    args::{Format, Get},
    client::Gateway,
    output,
    table::{Table, age},
};

pub(super) async fn get(gateway: &Gateway, args: Get) -> Result<(), Failure> {
    let (namespace, name) = match args.name.as_deref().map(|name| name.split_once('/').ok_or(name)) {
        None => (args.namespace, None),
        Some(Ok((namespace, name))) => (Some(namespace.to_owned()), Some(name.to_owned())),
        Some(Err(name)) => (
            Some(args.namespace.unwrap_or_else(|| "default".into())),
            Some(name.to_owned()),
        ),
    };
    let mut query = vec![("kind", args.kind.as_str())];
    query.extend(namespace.as_deref().map(|namespace| ("namespace", namespace)));
    query.extend(name.as_deref().map(|name| ("name", name)));
    let mut list: Value = gateway.get("/api/v1/objects", &query).await?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    if let (Some(name), true) = (&name, items.is_empty()) {
        let asked = format!("{}/{name}", namespace.as_deref().unwrap_or_default());
        let known = names(gateway, &args.kind, namespace.as_deref()).await?;
        return Err(Failure::Wrong(format!("{} {asked:?} not found; {known}", args.kind)));
    }
    // One that was named is shown as itself, many as a list.
    if name.is_some() && items.len() == 1 {
        list = items[0].clone();
    }
    match args.output {
        Format::Json => output::exact(&format!("{list:#}")),
        Format::Yaml => output::text(
            &serde_saphyr::to_string(&list).map_err(|error| Failure::Internal(anyhow::anyhow!(error.to_string())))?,
        ),
        Format::Table | Format::Wide if items.is_empty() => output::note(&match namespace {
            Some(namespace) => format!("No resources found in {namespace} namespace."),
            None => "No resources found.".to_owned(),
        }),
        Format::Table | Format::Wide => tables(&items, args.output == Format::Wide),
    }
    Ok(())
}

/// How many names of a kind are listed for a caller who asked for another.
const NAMES_SHOWN: usize = 10;

/// Lists the names of a kind, for the message that one does not exist.
pub(super) async fn names(gateway: &Gateway, kind: &str, namespace: Option<&str>) -> Result<String, Failure> {
    let mut query = vec![("kind", kind)];
    query.extend(namespace.map(|namespace| ("namespace", namespace)));
    let list: Value = gateway.get("/api/v1/objects", &query).await?;
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = |item: &Value| cell(&item["metadata"]["name"]);
    let names: Vec<String> = items.iter().take(NAMES_SHOWN).map(name).collect();
    let within = namespace
        .map(|namespace| format!(" in namespace {namespace}"))
        .unwrap_or_default();
    let more = match items.len().saturating_sub(names.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Ok(match names.is_empty() {
        true => format!("there is none{within}"),
        false => format!("there is{within}: {}{more}", names.join(", ")),
    })
}

/// One table a kind, in the order of the list.
fn tables(items: &[Value], wide: bool) {
    let mut rest = items;
    let mut first = true;
    let many = items.iter().any(|item| item["kind"] != items[0]["kind"]);
    while let Some(kind) = rest.first().map(|item| item["kind"].clone()) {
        let end = rest.iter().position(|item| item["kind"] != kind).unwrap_or(rest.len());
        if !first {
            output::line("");
        }
        first = false;
        output::text(&table(&rest[..end], kind.as_str().unwrap_or_default(), many, wide).render());
        rest = &rest[end..];
    }
}

/// The columns of a kind's table, by the path of their value.
fn columns(kind: &str, wide: bool) -> Vec<(&'static str, &'static str)> {
    let known = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
    let mut columns = known.map(spec::columns).unwrap_or_default().to_vec();
    let more: &[(&str, &str)] = match kind {
        "Channel" => &[
            ("Unsettled", ".status.unsettledEvents"),
            ("Dead-Letters", ".status.deadLetters"),
        ],
        "Subscription" => &[
            ("Reply", ".status.physicalSubscription.replyURI"),
            ("Redrive-Left", ".status.redrive.left"),
            ("Unsettled", ".status.unsettledEvents"),
            ("Until-Dead-Letter", ".status.untilDeadLetter"),
        ],
        _ if kind.ends_with("Source") => &[("Unsettled", ".status.unsettledEvents")],
        _ => &[],
    };
    if wide {
        columns.extend(more);
    }
    columns
}

/// Why it is not ready; of what is ready, what else is wrong with it: paused, a sink that fails, a full channel, and then what
/// could be better: brokers that promise less than they could.
pub(super) fn reason(conditions: &[Value], ready: Option<&Value>) -> String {
    let why = ready.map(|ready| cell(&ready["reason"])).unwrap_or_default();
    if !why.is_empty() {
        return why;
    }
    let is_wrong = |condition: &&Value| condition["status"] == "False" && !cell(&condition["reason"]).is_empty();
    // The one kind of condition that is bad when it is true.
    let is_degraded = |condition: &&Value| {
        let kind = condition["type"].as_str().unwrap_or_default();
        condition["status"] == "True" && kind.ends_with("Degraded")
    };
    let found = conditions.iter().find(is_wrong);
    let found = found.or_else(|| conditions.iter().find(is_degraded));
    found.map_or_else(String::new, |found| cell(&found["reason"]))
}

fn table(items: &[Value], kind: &str, many: bool, wide: bool) -> Table {
    let columns = columns(kind, wide);
    let spaces = items.iter().any(|item| {
        item["metadata"]["namespace"]
            .as_str()
            .is_some_and(|namespace| namespace != "default")
    });
    let mut header = Vec::new();
    if spaces {
        header.push("NAMESPACE");
    }
    header.extend(["NAME", "READY", "REASON"]);
    header.extend(columns.iter().map(|(name, _)| *name));
    header.push("AGE");
    let mut table = Table::new(&header).numbers(&["Unsettled", "Dead-Letters", "Redrive-Left"]);
    for item in items {
        let mut cells = Vec::new();
        if spaces {
            cells.push(cell(&item["metadata"]["namespace"]));
        }
        let name = cell(&item["metadata"]["name"]);
        cells.push(if many {
            format!("{}/{name}", kind.to_lowercase())
        } else {
            name
        });
        let conditions = item["status"]["conditions"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
        cells.push(ready.map_or_else(String::new, |ready| cell(&ready["status"])));
        cells.push(reason(conditions, ready));
        cells.extend(
            columns
                .iter()
                .map(|(_, path)| cell(path.split('.').skip(1).fold(item, |value, key| &value[key]))),
        );
        let created = item["metadata"]["creationTimestamp"]
            .as_str()
            .and_then(|text| text.parse::<Timestamp>().ok());
        cells.push(created.map_or_else(String::new, |created| age(created, Timestamp::now())));
        table.row(cells);
    }
    table
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
