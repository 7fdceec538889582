//! `headgate log`: the files of embedded channels, checked and printed without a gateway.

use std::{ops::Range, path::Path, time::SystemTime};

use channel_embedded::inspect::{self, Channel, Fault, Finding, LogKind as Which, Summary};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    Failure,
    args::{Log, TextOrJson},
    output,
    table::{Table, bytes},
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
    let channels = inspect_channels(dir, |channel, seen| {
        if let Finding::Fault(fault) = seen {
            damaged += usize::from(!fault.is_harmless);
            if faults.len() < FAULTS_MAX {
                faults.push((channel.to_owned(), fault));
            } else {
                more += 1;
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
                _ => format!("{} channels, {damaged} damaged ranges", channels.len()),
            });
        }
        TextOrJson::Json => {
            let channels: Vec<Value> = channels.iter().map(as_json).collect();
            let faults: Vec<Value> = faults
                .iter()
                .map(|(channel, fault)| fault_json(channel, dir, fault))
                .collect();
            let body = json!({ "channels": channels, "faults": faults, "faultsLeftOff": more, "damaged": damaged });
            output::exact(&format!("{body:#}"));
        }
    }
    // The faults were printed; the exit code says that there are some.
    if damaged == 0 {
        Ok(())
    } else {
        Err(Failure::Wrong(String::new()))
    }
}

fn dump(dir: &Path, format: TextOrJson) -> Result<(), Failure> {
    inspect_channels(dir, |channel, seen| match format {
        TextOrJson::Text => output::line(&line(channel, dir, &seen)),
        TextOrJson::Json => output::exact(&object(channel, dir, &seen)),
    })?;
    Ok(())
}

fn inspect_channels(dir: &Path, seen: impl FnMut(&str, Finding)) -> Result<Vec<Channel>, Failure> {
    inspect::inspect(dir, seen).map_err(|error| Failure::Wrong(dataplane::chain(&error)))
}

fn table(channels: &[Channel]) -> String {
    let header = ["CHANNEL", "LOG", "SEGMENTS", "RECORDS", "OFFSETS", "BYTES"];
    let mut table = Table::new(&header).numbers(&header[2..]);
    for channel in channels {
        for (which, summary) in [
            (Which::Events, &channel.events),
            (Which::DeadLetters, &channel.dead_letters),
        ] {
            table.row(vec![
                channel.name.clone(),
                which.as_str().to_owned(),
                summary.segments.to_string(),
                summary.records.to_string(),
                offsets(&(summary.first..summary.next)),
                bytes(summary.bytes),
            ]);
        }
    }
    table.render()
}

/// `5`, `5-9`, or nothing.
fn offsets(range: &Range<u64>) -> String {
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
    let gone = if fault.offsets.is_empty() {
        String::new()
    } else {
        format!(", offsets {} are gone", offsets(&fault.offsets))
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
    json!({ "name": channel.name, "events": summary(&channel.events), "deadLetters": summary(&channel.dead_letters) })
}

fn fault_json(channel: &str, dir: &Path, fault: &Fault) -> Value {
    json!({
        "channel": channel, "file": file(dir, fault).to_string(), "offset": fault.at, "bytes": fault.bytes,
        "from": fault.offsets.start, "to": fault.offsets.end, "problem": fault.what, "harmless": fault.is_harmless
    })
}

fn time(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "?".to_owned(), |time| time.to_string())
}

fn line(channel: &str, dir: &Path, seen: &Finding) -> String {
    match seen {
        Finding::Cursor {
            name,
            settled_below,
            settled_above,
            tried,
        } => format!("{channel}  cursor  {name}  settled below {settled_below}, {settled_above} above, {tried} tried"),
        Finding::Gap(gap) => {
            let offsets = offsets(&(gap.from.0..gap.to.0));
            format!(
                "{channel}  gap  {offsets}  {}  {}",
                gap.reason.as_str(),
                time(gap.found_at)
            )
        }
        Finding::Record {
            log,
            offset,
            stored_at,
            event,
            ..
        } => {
            let (id, source, kind) = (event.id(), event.source(), event.kind());
            let (log, size) = (log.as_str(), event.data().len());
            format!(
                "{channel}  {log}  {offset}  {}  {kind}  {source}  {id}  {size} bytes",
                time(*stored_at)
            )
        }
        Finding::Fault(fault) => format!("{channel}  {}", sentence(dir, fault)),
    }
}

fn object(channel: &str, dir: &Path, seen: &Finding) -> String {
    match seen {
        Finding::Cursor {
            name,
            settled_below,
            settled_above,
            tried,
        } => json!({
            "kind": "cursor", "channel": channel, "name": name, "settledBelow": settled_below,
            "settledAbove": settled_above, "tried": tried
        })
        .to_string(),
        Finding::Gap(gap) => json!({
            "kind": "gap", "channel": channel, "from": gap.from.0, "to": gap.to.0,
            "reason": gap.reason.as_str(), "foundAt": time(gap.found_at)
        })
        .to_string(),
        Finding::Record {
            log,
            offset,
            stored_at,
            event,
            facts,
        } => {
            // The event's own bytes: numbers and keys stay as they came.
            let kind = match log {
                Which::Events => "event",
                Which::DeadLetters => "deadLetter",
            };
            let body = String::from_utf8(event.to_json_line()).unwrap_or_default();
            let mut head = json!({ "kind": kind, "channel": channel, "offset": offset, "storedAt": time(*stored_at) });
            if *log == Which::DeadLetters {
                head["facts"] = json!(channel::DeadLetterFacts::decode(facts).ok());
            }
            let head = head.to_string();
            format!("{},\"event\":{body}}}", head.strip_suffix('}').unwrap_or(&head))
        }
        Finding::Fault(fault) => {
            let mut fault = fault_json(channel, dir, fault);
            fault["kind"] = "fault".into();
            fault.to_string()
        }
    }
}
