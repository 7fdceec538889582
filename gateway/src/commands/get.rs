//! `headgate get`: objects of a running gateway, as kubectl shows them.

use jiff::Timestamp;
use serde_json::Value;

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
    let mut list = gateway.get("/api/v1/objects", &query).await?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    if let (Some(name), true) = (&name, items.is_empty()) {
        return Err(Failure::Wrong(format!(
            "{} {:?} not found",
            args.kind,
            format!("{}/{name}", namespace.unwrap_or_default())
        )));
    }
    // One that was named is shown as itself, many as a list.
    if name.is_some() && items.len() == 1 {
        list = items[0].clone();
    }
    match args.output {
        Format::Json => output::text(&format!("{list:#}")),
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

type Column = (&'static str, &'static [&'static str]);

/// The columns that tell most about a kind, by the path of their value.
fn columns(kind: &str, wide: bool) -> Vec<Column> {
    let mut columns: Vec<Column> = match kind {
        "Channel" => vec![
            ("PROVISIONER", &["status", "provisioner", "name"]),
            ("ADDRESS", &["status", "address", "url"]),
        ],
        "Subscription" => vec![
            ("CHANNEL", &["spec", "channel", "name"]),
            ("SUBSCRIBER", &["status", "physicalSubscription", "subscriberURI"]),
        ],
        "ClusterChannelProvisioner" => vec![
            ("BACKEND", &["spec", "backend"]),
            ("DURABILITY", &["status", "durability"]),
        ],
        "Service" => vec![("EXTERNAL-NAME", &["spec", "externalName"])],
        "Secret" => vec![],
        _ => vec![("SINK", &["status", "sinkUri"])],
    };
    if wide {
        match kind {
            "Channel" => columns.extend([
                ("UNSETTLED", &["status", "unsettledEvents"] as &[&str]),
                ("DEAD-LETTERS", &["status", "deadLetters"]),
            ]),
            "Subscription" => columns.extend([
                ("REPLY", &["status", "physicalSubscription", "replyURI"] as &[&str]),
                ("UNSETTLED", &["status", "unsettledEvents"]),
            ]),
            _ if kind.ends_with("Source") => columns.push(("UNSETTLED", &["status", "unsettledEvents"])),
            _ => {}
        }
    }
    columns
}

/// Why it is not ready; of what is ready, what else is wrong with it: paused, a sink that fails, a full channel.
fn reason(conditions: &[Value], ready: Option<&Value>) -> String {
    let why = ready.map(|ready| cell(&ready["reason"])).unwrap_or_default();
    if !why.is_empty() {
        return why;
    }
    let wrong = conditions.iter().find(|condition| condition["status"] == "False");
    wrong.map_or_else(String::new, |wrong| cell(&wrong["reason"]))
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
    let mut table = Table::new(&header);
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
                .map(|(_, path)| cell(path.iter().fold(item, |value, key| &value[*key]))),
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
