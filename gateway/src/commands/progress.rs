//! Something that a gateway does for as long as a command follows it: a replay, a redrive. How far it is goes to the terminal, and
//! however it ends the command says what it came to.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use tokio::time::Instant;

use crate::{api::Counts, client::Lines};

/// How the following ended.
pub(super) enum End {
    Done,
    /// The gateway ended it, and says why.
    Stopped(String),
    /// By Ctrl-C: the gateway ends it when the connection does.
    Interrupted,
    /// The connection broke.
    Broken,
}

/// Follows to the end, and returns the last counts that came. `shown` says how much is done of how much, and more in words.
pub(super) async fn follow(mut lines: Lines, shown: impl Fn(&Counts) -> (u64, u64, String)) -> (Counts, End) {
    let mut progress = Progress {
        begun: Instant::now(),
        is_shown: false,
    };
    let mut counted = Counts::default();
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            _ = tokio::signal::ctrl_c() => {
                progress.clear();
                return (counted, End::Interrupted);
            }
        };
        let Some(line) = line else {
            progress.clear();
            return (counted, End::Broken);
        };
        counted = serde_json::from_slice(&line).unwrap_or_default();
        if counted.done.is_none() && counted.stopped.is_none() {
            progress.show(shown(&counted));
            continue;
        }
        progress.clear();
        let end = counted.stopped.clone().map_or(End::Done, End::Stopped);
        return (counted, end);
    }
}

/// A line on the terminal that is written over; nothing where there is none.
struct Progress {
    begun: Instant,
    is_shown: bool,
}

impl Progress {
    fn show(&mut self, (done, total, words): (u64, u64, String)) {
        let mut err = std::io::stderr().lock();
        if !err.is_terminal() {
            return;
        }
        self.is_shown = true;
        let line = line(done, total, self.begun.elapsed(), &words);
        // Back to the line's beginning, and what was longer before is wiped. A terminal that is gone shows nothing.
        let _ = write!(err, "\r\x1b[K{line}");
        let _ = err.flush();
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn line(done: u64, total: u64, elapsed: Duration, words: &str) -> String {
    let percent = u128::from(done) * 100 / u128::from(total.max(1));
    let left = match done {
        0 => String::new(),
        _ => {
            let left = elapsed.as_secs_f64() * total.saturating_sub(done) as f64 / done as f64;
            format!(", {} to go", time(left))
        }
    };
    format!("{percent:>3}%{left}  {words}")
}

/// Roughly: it is a guess.
fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 90.0 => format!("{seconds:.0}s"),
        seconds if seconds < 5400.0 => format!("{:.0}m", seconds / 60.0),
        seconds => format!("{:.0}h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_how_much_is_done_and_how_long_the_rest_takes() {
        let cases = [
            (0, 10, 5, "  0%  x"),
            (1, 4, 10, " 25%, 30s to go  x"),
            (10, 1000, 10, "  1%, 16m to go  x"),
            (7, 7, 10, "100%, 0s to go  x"),
            (0, 0, 1, "  0%  x"),
        ];
        for (done, total, seconds, text) in cases {
            assert_eq!(line(done, total, Duration::from_secs(seconds), "x"), text);
        }
    }
}
