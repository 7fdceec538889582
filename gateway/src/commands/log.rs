//! `headgate log`: the files of embedded channels, checked and printed without a gateway.

use std::{ops::Range, path::Path, time::SystemTime};

use channel_embedded::inspect::{self, Channel, Fault, Log as Which, Seen, Summary};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    Failure,
    args::{Log, TextOrJson},
    output,
    table::Table,
};

/// Faults printed one by one. A ruined disk has one for every few bytes, and the first of them say as much as all.
const FAULTS_MAX: usize = 1000;

pub(super) fn log(args: Log) -> Result<(), Failure> {
    match args {
        Log::Check { dir, output } => check(&dir, output),
        Log::Dump { dir, output } => dump(&dir, output),
    }
}

fn check(dir: &Path, format: TextOrJson) -> Result<(), Failure> {
    let (mut faults, mut more) = (Vec::new(), 0_usize);
    let mut damaged = 0_usize;
    let channels = look(dir, |channel, seen| {
        if let Seen::Fault(fault) = seen {
            damaged += usize::from(!fault.is_harmless);
            match faults.len() < FAULTS_MAX {
                true => faults.push((channel.to_owned(), fault)),
                false => more += 1,
            }
        }
    })?;
    match format {
        TextOrJson::Text => {
            output::text(&table(&channels));
            for (_, fault) in &faults {
                output::line(&sentence(dir, fault));
            }
            if more > 0 {
                output::line(&format!("and {more} more"));
            }
            output::line(&match damaged {
                0 => format!("{} channels, no damage", channels.len()),
                _ => format!("{} channels, {damaged} damaged places", channels.len()),
            });
        }
        TextOrJson::Json => {
            let channels: Vec<Value> = channels.iter().map(as_json).collect();
            let faults: Vec<Value> = faults
                .iter()
                .map(|(channel, fault)| fault_json(channel, dir, fault))
                .collect();
            let body = json!({ "channels": channels, "faults": faults, "faultsLeftOff": more, "damaged": damaged });
            output::text(&format!("{body:#}"));
        }
    }
    // What is wrong was said; the exit code says that something is.
    if damaged == 0 {
        Ok(())
    } else {
        Err(Failure::Wrong(String::new()))
    }
}

fn dump(dir: &Path, format: TextOrJson) -> Result<(), Failure> {
    look(dir, |channel, seen| match format {
        TextOrJson::Text => output::line(&line(channel, dir, &seen)),
        TextOrJson::Json => output::line(&object(channel, dir, &seen)),
    })?;
    Ok(())
}

fn look(dir: &Path, seen: impl FnMut(&str, Seen)) -> Result<Vec<Channel>, Failure> {
    inspect::inspect(dir, seen).map_err(|error| Failure::Wrong(dataplane::chain(&error)))
}

fn table(channels: &[Channel]) -> String {
    let mut table = Table::new(&["CHANNEL", "LOG", "SEGMENTS", "RECORDS", "PLACES", "BYTES"]);
    for channel in channels {
        for (which, summary) in [(Which::Events, &channel.events), (Which::Letters, &channel.letters)] {
            table.row(vec![
                channel.name.clone(),
                which.as_str().to_owned(),
                summary.segments.to_string(),
                summary.records.to_string(),
                places(&(summary.first..summary.next)),
                summary.bytes.to_string(),
            ]);
        }
    }
    table.render()
}

/// `5`, `5-9`, or nothing.
fn places(range: &Range<u64>) -> String {
    match range.end.saturating_sub(range.start) {
        0 => "-".to_owned(),
        1 => range.start.to_string(),
        _ => format!("{}-{}", range.start, range.end - 1),
    }
}

/// The file as a person finds it from the folder that was asked about.
fn file<'a>(dir: &Path, fault: &'a Fault) -> std::path::Display<'a> {
    fault.file.strip_prefix(dir).unwrap_or(&fault.file).display()
}

fn sentence(dir: &Path, fault: &Fault) -> String {
    let word = if fault.is_harmless { "note" } else { "damage" };
    let gone = match fault.places.is_empty() {
        true => String::new(),
        false => format!(", places {} are gone", places(&fault.places)),
    };
    format!(
        "{word}  {} at {}, {} bytes: {}{gone}",
        file(dir, fault),
        fault.at,
        fault.bytes,
        fault.what
    )
}

fn as_json(channel: &Channel) -> Value {
    let summary = |summary: &Summary| {
        json!({
            "segments": summary.segments, "records": summary.records, "bytes": summary.bytes,
            "first": summary.first, "next": summary.next
        })
    };
    json!({ "name": channel.name, "events": summary(&channel.events), "letters": summary(&channel.letters) })
}

fn fault_json(channel: &str, dir: &Path, fault: &Fault) -> Value {
    json!({
        "channel": channel, "file": file(dir, fault).to_string(), "offset": fault.at, "bytes": fault.bytes,
        "from": fault.places.start, "to": fault.places.end, "problem": fault.what, "harmless": fault.is_harmless
    })
}

fn time(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "?".to_owned(), |time| time.to_string())
}

fn line(channel: &str, dir: &Path, seen: &Seen) -> String {
    match seen {
        Seen::Cursor {
            name,
            settled_below,
            settled_above,
            tried,
        } => format!("{channel}  cursor  {name}  settled below {settled_below}, {settled_above} above, {tried} tried"),
        Seen::Gap(gap) => {
            let places = places(&(gap.from.0..gap.to.0));
            format!(
                "{channel}  gap  {places}  {}  {}",
                gap.reason.as_str(),
                time(gap.found_at)
            )
        }
        Seen::Record {
            log,
            place,
            stored_at,
            event,
        } => {
            let (id, source, kind) = (event.id(), event.source(), event.kind());
            let (log, bytes) = (log.as_str(), event.data().len());
            format!(
                "{channel}  {log}  {place}  {}  {kind}  {source}  {id}  {bytes} bytes",
                time(*stored_at)
            )
        }
        Seen::Fault(fault) => format!("{channel}  {}", sentence(dir, fault)),
    }
}

fn object(channel: &str, dir: &Path, seen: &Seen) -> String {
    match seen {
        Seen::Cursor {
            name,
            settled_below,
            settled_above,
            tried,
        } => json!({
            "kind": "cursor", "channel": channel, "name": name, "settledBelow": settled_below,
            "settledAbove": settled_above, "tried": tried
        })
        .to_string(),
        Seen::Gap(gap) => json!({
            "kind": "gap", "channel": channel, "from": gap.from.0, "to": gap.to.0,
            "reason": gap.reason.as_str(), "foundAt": time(gap.found_at)
        })
        .to_string(),
        Seen::Record {
            log,
            place,
            stored_at,
            event,
        } => {
            // The event's own bytes: numbers and keys stay as they came.
            let kind = match log {
                Which::Events => "event",
                Which::Letters => "letter",
            };
            let body = String::from_utf8(event.to_json()).unwrap_or_default();
            let head =
                json!({ "kind": kind, "channel": channel, "place": place, "storedAt": time(*stored_at) }).to_string();
            format!("{},\"event\":{body}}}", head.trim_end_matches('}'))
        }
        Seen::Fault(fault) => {
            let mut fault = fault_json(channel, dir, fault);
            fault["kind"] = "fault".into();
            fault.to_string()
        }
    }
}
