//! The signals of a running gateway (docs/reference/cli.md).
//!
//! | signal | what happens |
//! |--|--|
//! | SIGTERM, SIGINT | the gateway drains and ends; a second one ends it without waiting for deliveries |
//! | SIGHUP | documents are read again; token files are read for each request in any case |
//! | SIGUSR1, SIGUSR2 | nothing, which is logged |
//!
//! A signal that is not caught would kill the process without a drain: a closed terminal or a log rotation sends one.

use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    /// From now on none of them kills the process.
    pub(crate) fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for a signal that asks the gateway to end, and returns its name. Calls `reload` at each SIGHUP meanwhile. Cancel safe.
    pub(crate) async fn end(&mut self, reload: impl Fn()) -> &'static str {
        loop {
            let ignored = tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => {
                    tracing::info!(signal = "SIGHUP", "asked to read the documents again");
                    reload();
                    continue;
                }
                _ = self.user1.recv() => "SIGUSR1",
                _ = self.user2.recv() => "SIGUSR2",
            };
            tracing::info!(signal = ignored, "this signal has no meaning here and is ignored");
        }
    }
}
