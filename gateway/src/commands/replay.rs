//! `headgate replay`: past events delivered again, to one subscription alone. Ends with the command.

use serde_json::json;

use super::{
    name,
    progress::{End, follow},
};
use crate::{
    Failure,
    api::{Counts, ReplayRequest},
    args::{Replay, TextOrJson},
    client::Gateway,
    output,
};

pub(super) async fn replay(gateway: &Gateway, args: &Replay) -> Result<(), Failure> {
    let (namespace, subscription) = name(&args.subscription);
    let request = ReplayRequest {
        dry_run: args.dry_run,
        filter: args.filter.iter().cloned().collect(),
        from: args.from,
        rate: args.rate,
        to: args.to,
    };
    let path = format!("/api/v1/subscriptions/{namespace}/{subscription}/replay");
    let lines = gateway.post_stream(&path, &request).await?;
    let (counted, end) = follow(lines, |counted| so_far(counted, args.dry_run)).await;
    show(&counted, args);
    let left = counted.left;
    match &end {
        End::Done => match counted.dead_lettered {
            0 => Ok(()),
            dead_letters => Err(Failure::Wrong(format!(
                "{dead_letters} of the replayed events became dead letters: `headgate dead list {namespace}/{subscription}` shows them"
            ))),
        },
        End::Stopped(why) => Err(Failure::Wrong(format!(
            "the replay ended early, {left} offsets were not read: {why}"
        ))),
        End::Interrupted => Err(Failure::Interrupted(format!(
            "the replay was ended, {left} offsets were not read; what was in flight may have arrived, too"
        ))),
        End::Broken => Err(Failure::Unreachable(format!(
            "the connection to the gateway broke, and with it the replay ended; {left} offsets were not read"
        ))),
    }
}

/// Progress in offsets, and the counts.
fn so_far(counted: &Counts, dry_run: bool) -> (u64, u64, String) {
    let (read, matched, left) = (counted.read.unwrap_or_default(), counted.matched, counted.left);
    let (delivered, dead_letters) = (counted.delivered, counted.dead_lettered);
    let (waiting, ends) = if dry_run {
        (0, String::new())
    } else {
        (
            matched.saturating_sub(delivered + dead_letters),
            format!(", delivered {delivered}, dead letters {dead_letters}"),
        )
    };
    let words = format!("read {read}, matched {matched}{ends}, left {left}");
    (read.saturating_sub(waiting), read + left, words)
}

fn show(counted: &Counts, args: &Replay) {
    if args.output == TextOrJson::Json {
        output::exact(&json!(counted).to_string());
        return;
    }
    let (read, matched) = (counted.read.unwrap_or_default(), counted.matched);
    output::line(&if args.dry_run {
        format!("to replay     {matched} of {read} events")
    } else {
        format!("replayed      {matched} of {read} events")
    });
    if !args.dry_run {
        // The counts are shown in any case.
        output::line(&format!("delivered     {}", counted.delivered));
    }
    for (label, events, hint) in [
        ("dead letters", counted.dead_lettered, ""),
        (
            "left out",
            counted.left_out.unwrap_or_default(),
            " (by the subscription's own filters)",
        ),
        (
            "no answer",
            counted.unfit.unwrap_or_default(),
            " (a filter could not be evaluated on them)",
        ),
    ] {
        if events > 0 {
            output::line(&format!("{label:<14}{events}{hint}"));
        }
    }
}
