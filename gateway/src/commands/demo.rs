//! `headgate demo`: the main job in ten seconds, on a temporary folder and free ports.
//!
//! A gateway runs as a process of its own, so that it can be killed. Signed GitHub deliveries go in; one subscriber takes
//! them, one fails at first, one never does. In the middle the gateway is killed with `kill -9` and started again. At the end
//! every accepted delivery must be at every subscriber or among the dead letters.

mod gateway;
mod sinks;
mod webhook;

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use crate::{Failure, output};
use gateway::Process;
use sinks::Recorder;

/// Deliveries before the kill, while the gateway is being killed, and after the restart.
const FIRST: usize = 20;
const DURING: usize = 30;
const LAST: usize = 10;

/// The whole tour; a machine that needs longer has another problem.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn demo() -> Result<(), Failure> {
    let folder = temporary_folder()?;
    let audit = Recorder::start("audit", |_| 202).await?;
    // The first answers are failures: every event reaches it all the same.
    let billing = Recorder::start("billing", |count| if count < 15 { 503 } else { 202 }).await?;
    let broken = Recorder::start("broken", |_| 500).await?;
    webhook::documents(folder.path(), &audit.url, &billing.url, &broken.url)?;

    step("A gateway starts: one GitHub source, one channel on disk, three subscriptions");
    say("audit    takes every event");
    say("billing  answers 503 to its first 15 requests, then recovers");
    say("broken   answers 500 for ever, and may be tried 3 times");
    let mut gateway = Process::start(folder.path()).await?;
    say(&format!(
        "ready after {} ms, webhooks at {}/hooks/default/hello",
        gateway.ready_after.as_millis(),
        gateway.ingress
    ));

    step("GitHub delivers, signed");
    let mut accepted = BTreeSet::new();
    let refused = webhook::deliver(&gateway, "a-forged-secret", "forged", 1).await;
    say(&format!(
        "a delivery with a wrong signature is answered {}",
        refused.last_status
    ));
    let sent = webhook::deliver(&gateway, webhook::SECRET, "first", FIRST).await;
    accepted.extend(sent.accepted);
    eventually("the first event arrives", || !audit.taken().is_empty()).await?;
    for line in audit.first_lines(3) {
        say(&format!("audit got  {line}"));
    }

    step("kill -9, in the middle of deliveries");
    let (sent, ()) = tokio::join!(webhook::deliver(&gateway, webhook::SECRET, "during", DURING), async {
        tokio::time::sleep(Duration::from_millis(25)).await;
        gateway.kill_now();
    });
    say(&format!(
        "{} deliveries were answered 202 before it died, {} got no answer",
        sent.accepted.len(),
        DURING - sent.accepted.len()
    ));
    accepted.extend(sent.accepted);
    gateway.wait_end().await?;

    step("It starts again on the same folder");
    gateway = Process::start(folder.path()).await?;
    say(&format!("ready after {} ms", gateway.ready_after.as_millis()));
    let sent = webhook::deliver(&gateway, webhook::SECRET, "last", LAST).await;
    accepted.extend(sent.accepted);
    let all = |recorder: &Recorder| accepted.iter().all(|id| recorder.taken().contains(id));
    eventually("audit and billing have every event", || all(&audit) && all(&billing)).await?;
    let dead_letters = all_dead_letters(&gateway, &accepted).await?;
    let code = gateway.terminate().await?;

    let lost = report([&audit, &billing], &broken, &accepted, &dead_letters);
    say(&format!("the gateway ended with exit code {code} on SIGTERM"));
    if lost > 0 || code != 0 {
        return Err(Failure::Wrong(format!(
            "{lost} events were lost, exit code {code}: please report this"
        )));
    }
    Ok(())
}

fn temporary_folder() -> Result<tempfile::TempDir, Failure> {
    let folder = tempfile::Builder::new().prefix("headgate-demo-").tempdir();
    folder.map_err(|error| {
        let temporary = std::env::temp_dir();
        Failure::Wrong(format!(
            "no temporary folder can be made in {}: {error}; name a folder that you may write to: TMPDIR=FOLDER headgate demo",
            temporary.display()
        ))
    })
}

/// Prints what became of the accepted events, and returns how many were lost.
fn report(
    takers: [&Recorder; 2],
    broken: &Recorder,
    accepted: &BTreeSet<String>,
    dead_letters: &BTreeSet<String>,
) -> usize {
    let lost = accepted
        .iter()
        .filter(|id| takers.iter().any(|taker| !taker.taken().contains(*id)) || !dead_letters.contains(*id))
        .count();
    step("What happened");
    say(&format!("accepted (202)         {:>4}", accepted.len()));
    takers.into_iter().for_each(say_taken);
    say(&format!(
        "dead letters of broken {:>4}   after {} requests",
        dead_letters.len(),
        broken.requests()
    ));
    say(&format!("lost                   {lost:>4}"));
    lost
}

/// Waits until every one of these events is a dead letter.
async fn all_dead_letters(gateway: &Process, ids: &BTreeSet<String>) -> Result<BTreeSet<String>, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let dead_letters = gateway.dead_letters().await?;
        if ids.is_subset(&dead_letters) {
            return Ok(dead_letters);
        }
        if Instant::now() > deadline {
            return Err(Failure::Wrong(
                "not every event of `broken` became a dead letter in time".into(),
            ));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn say_taken(recorder: &Recorder) {
    let (taken, requests) = (recorder.taken(), recorder.requests());
    let repeated = recorder.taken_requests() - taken.len();
    say(&format!(
        "{:<22} {:>4}   in {requests} requests, {repeated} taken twice",
        format!("delivered to {}", recorder.name),
        taken.len()
    ));
}

fn step(title: &str) {
    if output::in_colour() {
        output::exact(&format!("\n\x1b[1m{title}\x1b[0m"));
    } else {
        output::line(&format!("\n{title}"));
    }
}

fn say(text: &str) {
    output::line(&format!("  {text}"));
}

async fn eventually(what: &str, holds: impl Fn() -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            return Err(Failure::Wrong(format!(
                "gave up after {} s waiting until {what}",
                PATIENCE.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
