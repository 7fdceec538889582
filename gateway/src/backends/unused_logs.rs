//! Unused embedded logs in the data folder that hold unsettled events or dead letters: their channel has another
//! provisioner now, or its document was deleted. Events in them were answered 202, so the gateway reports them and does
//! not touch them.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use channel::supervised::joined;
use channel_embedded::{DataFolder, Held, OpenError};
use parking_lot::Mutex;
use spec::{ObjectName, Spec};

/// Delay before a log that is being closed is checked again.
const CLOSING_RETRY: Duration = Duration::from_secs(1);
/// Number of checks: closing takes a few syncs. A log that is still open then is in use.
const CLOSING_RETRIES: u32 = 30;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct UnusedLogs {
    folder: DataFolder,
    /// By the channel's name.
    found: Arc<Mutex<BTreeMap<String, Unused>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Unused {
    held: Held,
    path: PathBuf,
    /// The channel's provisioner now; `None` when no document names the channel.
    provisioner: Option<String>,
}

impl Unused {
    fn message(&self) -> String {
        let Held {
            unsettled,
            dead_letters,
        } = self.held;
        let count = |number: u64, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let holds = match (unsettled, dead_letters) {
            (events, 0) => count(events, "unsettled event"),
            (0, dead_letters) => count(dead_letters, "dead letter"),
            (events, dead_letters) => format!(
                "{} and {}",
                count(events, "unsettled event"),
                count(dead_letters, "dead letter")
            ),
        };
        let (path, back) = (
            self.path.display(),
            match &self.provisioner {
                Some(provisioner) => {
                    format!("the channel's provisioner is {provisioner}: set it back to the embedded one")
                }
                None => "no document names its channel: apply the channel's document again".to_owned(),
            },
        );
        format!("an embedded log with {holds} lies in {path} (--data), and {back}, or delete the folder")
    }
}

impl UnusedLogs {
    pub(crate) fn new(folder: DataFolder) -> Self {
        Self {
            folder,
            found: Arc::default(),
        }
    }

    /// Records that a channel uses its log.
    pub(crate) fn used(&self, channel: &ObjectName) {
        self.found.lock().remove(&channel.to_string());
    }

    /// Returns the message for a channel that has another provisioner.
    pub(crate) fn of(&self, channel: &ObjectName) -> Option<String> {
        let found = self.found.lock();
        found
            .get(&channel.to_string())
            .filter(|unused| unused.path.exists())
            .map(Unused::message)
    }

    /// Returns the messages for logs whose channels no document names: those have no condition.
    pub(crate) fn removed(&self) -> Vec<String> {
        let found = self.found.lock();
        let removed = found
            .iter()
            .filter(|(_, unused)| unused.provisioner.is_none() && unused.path.exists());
        removed
            .map(|(channel, unused)| format!("channel {channel}: EmbeddedLogUnused: {}", unused.message()))
            .collect()
    }

    /// Checks for the log of a channel that has another provisioner.
    pub(crate) async fn check(&self, channel: &ObjectName, provisioner: &str) {
        self.check_log(channel.to_string(), Some(provisioner.to_owned())).await;
    }

    /// Checks for logs whose channels no document names. Does not wait for the result.
    pub(crate) fn check_removed(&self, spec: &Spec) {
        let named: HashSet<String> = spec.channels.keys().map(ToString::to_string).collect();
        // A channel that is named again reports its log when it is opened.
        let is_current = |name: &String, unused: &Unused| unused.provisioner.is_some() || !named.contains(name);
        self.found.lock().retain(|name, unused| is_current(name, unused));
        let this = self.clone();
        tokio::spawn(async move {
            let folder = this.folder.clone();
            let listed = tokio::task::spawn_blocking(move || folder.channels()).await;
            let names = match joined("list of unused logs", "data folder", listed) {
                Some(Ok(names)) => names,
                Some(Err(error)) => {
                    tracing::warn!(error = %dataplane::chain(&error), "cannot search for logs that no channel uses");
                    return;
                }
                None => return,
            };
            for name in names.into_iter().filter(|name| !named.contains(name)) {
                this.check_log(name, None).await;
            }
        });
    }

    async fn check_log(&self, name: String, provisioner: Option<String>) {
        for _ in 0..CLOSING_RETRIES {
            let (folder, asked) = (self.folder.clone(), name.clone());
            let held = tokio::task::spawn_blocking(move || folder.held(&asked)).await;
            let Some(held) = joined("check of an unused log", &name, held) else {
                return;
            };
            match held {
                Ok(held) => {
                    self.note(&name, held, provisioner);
                    return;
                }
                Err(OpenError::InUse { .. }) => tokio::time::sleep(CLOSING_RETRY).await,
                Err(error) => {
                    tracing::warn!(
                        channel = name, error = %dataplane::chain(&error),
                        "cannot read an embedded log in --data that its channel does not use"
                    );
                    return;
                }
            }
        }
    }

    fn note(&self, name: &str, held: Held, provisioner: Option<String>) {
        let mut found = self.found.lock();
        if held == Held::default() {
            found.remove(name);
            return;
        }
        let unused = Unused {
            held,
            path: self.folder.path_of(name),
            provisioner,
        };
        if found.get(name) != Some(&unused) {
            tracing::warn!(channel = name, reason = "EmbeddedLogUnused", "{}", unused.message());
        }
        found.insert(name.to_owned(), unused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_counts_what_lies_there_and_says_what_to_do() {
        let message = |unsettled, dead_letters, provisioner: Option<&str>| {
            Unused {
                held: Held {
                    unsettled,
                    dead_letters,
                },
                path: PathBuf::from("/data/channels/default%2fc"),
                provisioner: provisioner.map(str::to_owned),
            }
            .message()
        };
        assert_eq!(
            message(5, 0, Some("in-memory")),
            "an embedded log with 5 unsettled events lies in /data/channels/default%2fc (--data), and the channel's provisioner is \
             in-memory: set it back to the embedded one, or delete the folder"
        );
        assert_eq!(
            message(1, 2, None),
            "an embedded log with 1 unsettled event and 2 dead letters lies in /data/channels/default%2fc (--data), and no document \
             names its channel: apply the channel's document again, or delete the folder"
        );
    }
}
