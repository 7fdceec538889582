//! `headgate replay`: past events delivered again, to one subscription alone. Ends with the command.

use std::io::{IsTerminal, Write};

use bytes::BytesMut;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::name;
use crate::{
    Failure,
    args::{Replay, TextOrJson},
    client::Gateway,
    output,
};

pub(super) async fn replay(gateway: &Gateway, args: &Replay) -> Result<(), Failure> {
    let (namespace, subscription) = name(&args.subscription);
    let filter: serde_json::Map<String, Value> = args
        .filter
        .iter()
        .map(|(name, value)| (name.clone(), (&**value).into()))
        .collect();
    let mut wanted = json!({ "from": args.from, "filter": filter, "dryRun": args.dry_run });
    if let Some(to) = &args.to {
        wanted["to"] = to.clone();
    }
    if let Some(rate) = args.rate {
        wanted["rate"] = rate.into();
    }
    let path = format!("/api/v1/subscriptions/{namespace}/{subscription}/replay");
    let mut body = gateway.post_stream(&path, &wanted).await?;
    let mut progress = Progress::default();
    let mut rest = BytesMut::new();
    loop {
        let Some(Ok(frame)) = body.frame().await else {
            progress.clear();
            return Err(Failure::Unreachable("the gateway ended the replay".into()));
        };
        rest.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = rest.split_to(end + 1);
            let counted: Value = serde_json::from_slice(&line).unwrap_or_default();
            if counted["done"].is_null() && counted["stopped"].is_null() {
                progress.show(&counted, args.dry_run);
                continue;
            }
            progress.clear();
            return ended(&counted, args);
        }
    }
}

fn ended(counted: &Value, args: &Replay) -> Result<(), Failure> {
    match args.output {
        TextOrJson::Json => output::line(&counted.to_string()),
        TextOrJson::Text => {
            let read = count(counted, "read");
            let matched = count(counted, "matched");
            output::line(&match args.dry_run {
                true => format!("to replay     {matched} of {read} events"),
                false => format!("replayed      {matched} of {read} events"),
            });
            let mut lines = vec![("left out", "unfit", " (a filter failed on them)")];
            if !args.dry_run {
                lines.splice(
                    0..0,
                    [("delivered", "delivered", ""), ("dead letters", "deadLettered", "")],
                );
            }
            for (label, key, hint) in lines {
                // What went as it should is said in any case.
                if key == "delivered" || count(counted, key) > 0 {
                    output::line(&format!("{label:<14}{}{hint}", count(counted, key)));
                }
            }
        }
    }
    match counted["stopped"].as_str() {
        Some(why) => Err(Failure::Wrong(format!(
            "the replay ended early, {} places were not looked at: {why}",
            count(counted, "left")
        ))),
        None => Ok(()),
    }
}

fn count(counted: &Value, key: &str) -> u64 {
    counted[key].as_u64().unwrap_or_default()
}

/// A line on the terminal that is written over; nothing where there is none.
#[derive(Default)]
struct Progress {
    shown: bool,
}

impl Progress {
    fn show(&mut self, counted: &Value, dry_run: bool) {
        let mut err = std::io::stderr().lock();
        if !err.is_terminal() {
            return;
        }
        self.shown = true;
        let (read, matched, left) = (
            count(counted, "read"),
            count(counted, "matched"),
            count(counted, "left"),
        );
        let delivered = match dry_run {
            true => String::new(),
            false => format!(
                ", delivered {}, dead letters {}",
                count(counted, "delivered"),
                count(counted, "deadLettered")
            ),
        };
        // Back to the line's beginning, and what was longer before is wiped.
        let _ = write!(err, "\r\x1b[Kread {read}, matched {matched}{delivered}, left {left}");
        let _ = err.flush();
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}
