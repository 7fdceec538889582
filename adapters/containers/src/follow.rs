//! Follows one run of a container, from its start or adoption to its end: keeps its output, and shows it periodically.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::{
    engine::{Engine, State},
    output::Output,
    trouble::Trouble,
};

/// Lines of earlier output that are read at an adoption: as many of usual length as fill what is shown.
const EARLIER_LINES: usize = 1000;

/// How often new output is shown: a person who watches sees it move, and a chatty container costs no more.
const SHOW_EVERY: Duration = Duration::from_secs(2);

/// How often the container is inspected, in case the engine does not report its end.
const INSPECT_EVERY: Duration = Duration::from_secs(30);

/// After its end the last lines come at once; an engine that keeps its log open is not waited for.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Follows a container until it does not run. `show` is called every two seconds, with whether there is new output.
///
/// Cancel safe: the container is not touched.
pub(crate) async fn follow(
    engine: &Engine,
    id: &str,
    output: &mut Output,
    mut show: impl FnMut(&mut Output, bool),
) -> Result<Option<State>, Trouble> {
    output.clear();
    let mut printed = std::pin::pin!(engine.output(id, EARLIER_LINES).fuse());
    let mut rhythm = interval_at(Instant::now() + SHOW_EVERY, SHOW_EVERY);
    rhythm.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut fresh = false;
    loop {
        let ending = timeout(INSPECT_EVERY, engine.ended(id));
        tokio::pin!(ending);
        let ended = loop {
            tokio::select! {
                Some(chunk) = printed.next() => match chunk {
                    Ok(chunk) => {
                        output.push(&chunk);
                        fresh = true;
                    }
                    // A log that cannot be read (some drivers keep none) stops nothing.
                    Err(trouble) => tracing::debug!(container = id, %trouble, "output of a container is not shown"),
                },
                _ = rhythm.tick() => {
                    show(output, fresh);
                    fresh = false;
                }
                ended = &mut ending => break ended,
            }
        };
        let answered = ended.is_ok();
        if let Ok(answer) = ended {
            answer?;
        }
        match engine.inspect(id).await? {
            // Some engines answer although nothing ended: wait a tick instead of spinning.
            Some(State::Running { .. }) if answered => drop(rhythm.tick().await),
            Some(State::Running { .. }) => {}
            state => {
                let _ = timeout(LAST_LINES, async {
                    while let Some(Ok(chunk)) = printed.next().await {
                        output.push(&chunk);
                    }
                })
                .await;
                return Ok(state);
            }
        }
    }
}
