//! How many connections the process's limit of open files leaves room for.
//!
//! A connection is a file, and so are segments, connections to sinks and to brokers. Where the listeners took all of them, stored
//! events could not be delivered and probes not be answered; so each listener has a bound below the limit, and refuses beyond it.

use dataplane::server;

use crate::admin;

/// The admin listener has one file in so many. Few enough to leave nearly all to events, enough for probes and people.
const ADMIN_SHARE: usize = 8;

/// The ingress has one file in so many of the others; the rest is for channels and for deliveries, which need as many.
const INGRESS_SHARE: usize = 2;

/// The gateway's own: standard streams, listeners, the data folder's lock, watches, and connections that are being refused.
const OWN_FILES: usize = 32 + 2 * server::REFUSALS_MAX;

/// Connections at most, for each listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) ingress: usize,
    pub(crate) admin: usize,
}

impl Files {
    /// Raises the limit of open files as far as the process may, and divides it up. The soft limit of many systems (1024) is below
    /// the bounds of the listeners.
    pub(crate) fn of_process() -> Self {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        let current = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit.maximum,
            Err(error) => {
                tracing::debug!(%error, "the limit of open files stays as it is");
                limit.current
            }
        };
        let files = current.and_then(|files| usize::try_from(files).ok()).map(Self::within);
        let files = files.unwrap_or(Self::within(usize::MAX));
        if files.ingress < server::CONNECTIONS_MAX {
            tracing::warn!(
                limit = current,
                connections = files.ingress,
                needed = server::CONNECTIONS_MAX,
                "the limit of open files leaves room for few connections; raise it (ulimit -Hn, LimitNOFILE)"
            );
        }
        files
    }

    fn within(files: usize) -> Self {
        let admin = (files / ADMIN_SHARE).clamp(1, admin::CONNECTIONS_MAX);
        let ingress = files.saturating_sub(admin + OWN_FILES) / INGRESS_SHARE;
        Self {
            ingress: ingress.clamp(1, server::CONNECTIONS_MAX),
            admin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: IN-9
    #[test]
    fn listeners_leave_files_for_everything_else() {
        for (limit, ingress, admin) in [
            (usize::MAX, 4096, 256),
            (1 << 20, 4096, 256),
            (20_000, 4096, 256),
            (4096, 1872, 256),
            (1024, 400, 128),
            (256, 64, 32),
            (64, 1, 8),
        ] {
            assert_eq!(Files::within(limit), Files { ingress, admin }, "{limit}");
        }
    }
}
