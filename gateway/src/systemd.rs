//! Reports the state of this process to systemd, where a unit of `Type=notify` started it (sd_notify(3)).
//!
//! | message | when |
//! |--|--|
//! | `READY=1` | the gateway is ready as `/readyz` has it; again when a reload is done |
//! | `RELOADING=1` | SIGHUP was received |
//! | `STOPPING=1` | the drain begins |
//! | `WATCHDOG=1` | twice within `WatchdogSec=`, while the gateway is alive |
//!
//! Messages are datagrams to the socket that `NOTIFY_SOCKET` names. Without that variable nothing is sent. A message that cannot
//! be sent is a warning: events are worth more than the report about them.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use dataplane::Plane;
use spec::Reload;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// systemd, or whichever service manager started this process with a socket for messages.
pub(crate) struct Systemd {
    socket: Option<UnixDatagram>,
    /// The process is restarted when it does not report for so long that it is alive.
    watchdog: Option<Duration>,
}

impl Systemd {
    /// Reads the variables of the environment that systemd sets.
    pub(crate) fn of_environment() -> Self {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|name| match connect(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(socket = %name.display(), %error, "NOTIFY_SOCKET names no socket that can be sent to, systemd is not told that the gateway is ready");
                None
            }
        });
        let watchdog = watchdog(
            env::var_os("WATCHDOG_USEC"),
            env::var_os("WATCHDOG_PID"),
            std::process::id(),
        );
        Self { socket, watchdog }
    }

    pub(crate) fn ready(&self) {
        self.send("READY=1");
    }

    pub(crate) fn reloading(&self) {
        self.send("RELOADING=1");
    }

    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Reports each reload that is done, and that the gateway is alive, for ever.
    pub(crate) async fn report(&self, plane: &Plane, reload: &Reload) -> std::convert::Infallible {
        let mut ticks = self.watchdog.map(|watchdog| {
            let mut ticks = interval(watchdog / 2);
            // After a pause one report is as good as those that were missed.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        loop {
            tokio::select! {
                () = reload.done() => self.ready(),
                () = tick(ticks.as_mut()) => {
                    let plane = plane.clone();
                    runs(move || drop(plane.readiness())).await;
                    self.send("WATCHDOG=1");
                }
            }
        }
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes())
        {
            tracing::warn!(message, %error, "systemd could not be told");
        }
    }
}

/// Waits for the next tick; for ever where nothing ticks. Cancel safe.
async fn tick(ticks: Option<&mut Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

/// Returns when `probe` has run to its end in a task of its own. That is what alive means: the runtime starts a new task, and the
/// task gets the locks that every part needs. It is no request to the admin listener, because a listener whose connections are
/// all taken is no reason to be killed.
async fn runs(probe: impl FnOnce() + Send + 'static) {
    if tokio::spawn(async move { probe() }).await.is_err() {
        // It panicked, and will again: the watchdog is left to expire.
        std::future::pending::<()>().await;
    }
}

/// Opens a socket that sends to `name`: an absolute path, or `@` and an abstract name.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => {
            let message = "expected an absolute path, or @ and a name";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A service manager that does not read must not stop the gateway.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Parses the time of `WatchdogSec=`, in microseconds. It is meant for the process `WATCHDOG_PID` alone, not for its children.
fn watchdog(micros: Option<OsString>, pid: Option<OsString>, own_pid: u32) -> Option<Duration> {
    let is_ours = pid.is_none_or(|pid| pid == *own_pid.to_string());
    let micros = micros.filter(|_| is_ours)?;
    let parsed = micros
        .to_str()
        .and_then(|micros| micros.parse().ok())
        .filter(|micros| *micros > 1);
    if parsed.is_none() {
        tracing::warn!(value = %micros.display(), "WATCHDOG_USEC is no number of microseconds, the watchdog is not fed");
    }
    parsed.map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn sockets_are_paths_or_abstract_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("headgate-test-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (receiver, name) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())] {
            let systemd = Systemd {
                socket: Some(connect(&name).unwrap()),
                watchdog: None,
            };
            systemd.ready();
            let mut message = [0; 32];
            let length = receiver.recv(&mut message).unwrap();
            assert_eq!(&message[..length], b"READY=1", "{}", name.display());
        }
        for bad in ["", "relative", "vsock:2:1234", "/nowhere/socket"] {
            assert!(connect(OsStr::new(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_watchdog_is_that_of_this_process() {
        let of = |micros: &str, pid: Option<&str>| watchdog(Some(micros.into()), pid.map(OsString::from), 7);
        assert_eq!(of("3000000", None), Some(Duration::from_secs(3)));
        assert_eq!(of("3000000", Some("7")), Some(Duration::from_secs(3)));
        assert_eq!(of("3000000", Some("8")), None);
        assert_eq!(watchdog(None, None, 7), None);
        for bad in ["", "0", "1", "-1", "3s", "99999999999999999999999"] {
            assert_eq!(of(bad, None), None, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_runtime_whose_threads_are_stuck_is_not_alive() {
        const WHILE: Duration = Duration::from_millis(100);
        // The clock of a runtime stands still with its threads: this test has another one.
        let watched = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let (release, stuck) = std::sync::mpsc::sync_channel(0);
        watched.spawn(async move { stuck.recv() });
        let mut probe = watched.spawn(runs(|| ()));
        assert!(
            timeout(WHILE, &mut probe).await.is_err(),
            "nothing runs, and it counts as alive"
        );
        release.send(()).unwrap();
        probe.await.unwrap();
        let panics = watched.spawn(runs(|| panic!("a lock is poisoned")));
        assert!(
            timeout(WHILE, panics).await.is_err(),
            "a probe that panics counts as alive"
        );
        watched.shutdown_background();
    }
}
