//! The checkpoint of a source in the cluster: one ConfigMap, which is deleted with its source.
//!
//! Each write carries the resourceVersion that was read and the epoch of the writer's lease (lease.rs): a former holder
//! cannot overwrite the current one. A busy source writes once in [`WRITE_EVERY`]. Only the last of the marks in
//! between is written, so a crash repeats a few seconds of events, with the same ids, and loses none.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use k8s_openapi::{ByteString, api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use tokio::{sync::Mutex, time::Instant};

use crate::{lease::Fence, workloads::Owner};

/// Minimum time between two writes of one source's mark. A hundred busy sources then cost etcd twenty writes a second,
/// and a crash repeats a few seconds of events.
pub(crate) const WRITE_EVERY: Duration = Duration::from_secs(5);

/// The API server accepts 1 MiB of values in a ConfigMap; the notes fit into the rest.
pub const MARK_MAX_BYTES: usize = 1000 * 1024;

/// A webhook's id, a digest and the last gap take some hundred bytes.
const NOTES_MAX_BYTES: usize = 16 * 1024;

/// Write rate of large marks, because etcd keeps each version for about five minutes. At this rate a source occupies 5
/// MiB there, and a mark of 1 MiB is at most a minute old.
const WRITE_BYTES_PER_SEC: u64 = 16 * 1024;

/// A person who edits the object causes fewer conflicts than this.
const CONFLICTS_MAX: u32 = 3;

/// Timeout of one request; the next mark retries it.
const TRY_MAX: Duration = Duration::from_secs(10);

const MARK: &str = "mark";
const NOTES: &str = "notes";
const EPOCH: &str = "headgate.dev/epoch";

/// Returns the name of a source's ConfigMap.
pub(crate) fn state_name(owner: &Owner) -> String {
    format!("{}-state", owner.child())
}

/// How a writer proves that it may write.
#[derive(Clone, Debug)]
enum Writer {
    /// By the lease it holds.
    Turn(Fence),
    /// By being the only pod of a Deployment: the pod that wrote last wins. It updates the object and does not create
    /// it.
    Latest,
}

/// Why a checkpoint was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("another replica of the gateway manages the source now")]
    NotMine,
    #[error("it was written in a later term ({stored}) than ours ({ours}): another process manages the source now")]
    Superseded { ours: u64, stored: u64 },
    #[error("{bytes} bytes exceed the limit of {max} bytes")]
    TooLarge { bytes: usize, max: usize },
    #[error("the ConfigMap does not exist, and this account may not create it")]
    Absent,
    #[error("the API server did not answer within {} s", TRY_MAX.as_secs())]
    Timeout,
    #[error(transparent)]
    Api(#[from] kube::Error),
}

/// The checkpoint of one source. A background task writes marks that were deferred.
pub struct State {
    api: Api<ConfigMap>,
    /// `ConfigMap NAMESPACE/NAME`, for messages.
    location: String,
    name: String,
    /// The metadata with which a missing object is created; `None` does not create it.
    metadata: Option<ObjectMeta>,
    writer: Writer,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The object as it was read or written last.
    object: Option<ConfigMap>,
    /// The epoch of a [`Writer::Latest`] since its first write.
    claimed_epoch: Option<u64>,
    pending_mark: Option<Vec<u8>>,
    written: Option<Instant>,
    written_bytes: usize,
    /// The error of a deferred write; the next call returns it.
    failed: Option<StateError>,
    /// A task is waiting to write.
    is_waiting: bool,
}

impl State {
    /// Opens the checkpoint of a source that runs in the gateway. The holder of the lease `turn` writes it.
    pub fn of(client: Client, owner: &Owner, turn: Fence) -> Arc<Self> {
        let mut metadata = owner.metadata();
        metadata["name"] = json!(state_name(owner));
        // The value was built two lines above.
        let metadata = serde_json::from_value(metadata).unwrap_or_default();
        Self::new(
            client,
            &owner.namespace,
            &state_name(owner),
            Some(metadata),
            Writer::Turn(turn),
        )
    }

    /// Opens the checkpoint of a source that runs in a pod of its own. The gateway has created the object.
    pub fn named(client: Client, namespace: &str, name: &str) -> Arc<Self> {
        Self::new(client, namespace, name, None, Writer::Latest)
    }

    fn new(client: Client, namespace: &str, name: &str, metadata: Option<ObjectMeta>, writer: Writer) -> Arc<Self> {
        Arc::new(Self {
            api: Api::namespaced(client, namespace),
            location: format!("ConfigMap {namespace}/{name}"),
            name: name.to_owned(),
            metadata,
            writer,
            inner: Mutex::default(),
        })
    }

    /// Returns `ConfigMap NAMESPACE/NAME`, for messages.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Returns the mark that was saved last, by any process.
    pub async fn mark(&self) -> Result<Option<Vec<u8>>, StateError> {
        self.read(MARK).await
    }

    /// Returns the notes that were saved last, by any process.
    pub async fn notes(&self) -> Result<Option<Vec<u8>>, StateError> {
        self.read(NOTES).await
    }

    /// Saves the mark: at once if the last write is at least [`WRITE_EVERY`] ago (longer after a large mark), else when
    /// that time is over or with [`State::flush`].
    ///
    /// # Errors
    ///
    /// The mark is too large, or the write failed; the error may be that of a deferred earlier mark.
    pub async fn save_mark(self: &Arc<Self>, mark: Vec<u8>) -> Result<(), StateError> {
        if mark.len() > MARK_MAX_BYTES {
            let (bytes, max) = (mark.len(), MARK_MAX_BYTES);
            return Err(StateError::TooLarge { bytes, max });
        }
        let mut inner = self.inner.lock().await;
        inner.pending_mark = Some(mark);
        if let Some(failed) = inner.failed.take() {
            return Err(failed);
        }
        let due = inner.written.map(|written| written + pause(inner.written_bytes));
        match due.filter(|due| *due > Instant::now()) {
            None => self.write(&mut inner, None).await,
            Some(_) if inner.is_waiting => Ok(()),
            Some(due) => {
                inner.is_waiting = true;
                tokio::spawn(self.clone().write_at(due));
                Ok(())
            }
        }
    }

    /// Writes the notes, and the pending mark with them, and returns when the API server has stored both.
    pub async fn save_notes(&self, notes: Vec<u8>) -> Result<(), StateError> {
        if notes.len() > NOTES_MAX_BYTES {
            let (bytes, max) = (notes.len(), NOTES_MAX_BYTES);
            return Err(StateError::TooLarge { bytes, max });
        }
        let mut inner = self.inner.lock().await;
        self.write(&mut inner, Some(notes)).await
    }

    /// Writes the pending mark, if there is one.
    pub async fn flush(&self) -> Result<(), StateError> {
        let mut inner = self.inner.lock().await;
        if inner.pending_mark.is_some() {
            self.write(&mut inner, None).await
        } else {
            Ok(())
        }
    }

    async fn write_at(self: Arc<Self>, due: Instant) {
        tokio::time::sleep_until(due).await;
        let mut inner = self.inner.lock().await;
        inner.is_waiting = false;
        if inner.pending_mark.is_some()
            && let Err(error) = self.write(&mut inner, None).await
        {
            tracing::warn!(state = self.location(), %error, "cannot write a source's mark");
            inner.failed = Some(error);
        }
    }

    async fn read(&self, text: &str) -> Result<Option<Vec<u8>>, StateError> {
        let mut inner = self.inner.lock().await;
        // The pending mark is newer than the stored one.
        if let Some(mark) = inner.pending_mark.as_ref().filter(|_| text == MARK) {
            return Ok(Some(mark.clone()));
        }
        let found = self.get().await?;
        let saved = found.as_ref().and_then(|object| object.binary_data.as_ref()?.get(text));
        let saved = saved.map(|ByteString(bytes)| bytes.clone());
        inner.object = found;
        Ok(saved)
    }

    async fn get(&self) -> Result<Option<ConfigMap>, StateError> {
        within(self.api.get_opt(&self.name)).await
    }

    async fn write(&self, inner: &mut Inner, notes: Option<Vec<u8>>) -> Result<(), StateError> {
        let mut tries = CONFLICTS_MAX;
        loop {
            if inner.object.is_none() {
                inner.object = self.get().await?;
            }
            let stored = inner.object.as_ref().map_or(0, epoch);
            let ours = match (&self.writer, inner.claimed_epoch) {
                (Writer::Turn(fence), _) => fence.epoch().ok_or(StateError::NotMine)?,
                (Writer::Latest, Some(claimed_epoch)) => claimed_epoch,
                (Writer::Latest, None) => stored + 1,
            };
            if stored > ours {
                return Err(StateError::Superseded { ours, stored });
            }
            let desired = self.next(inner, ours, notes.as_ref());
            let params = PostParams::default();
            let written = match inner.object.is_some() {
                true => within(self.api.replace(&self.name, &params, &desired)).await,
                false if self.metadata.is_some() => within(self.api.create(&params, &desired)).await,
                false => return Err(StateError::Absent),
            };
            tries -= 1;
            match written {
                Ok(object) => {
                    inner.object = Some(object);
                    inner.claimed_epoch = Some(ours);
                    if let Some(mark) = inner.pending_mark.take() {
                        inner.written_bytes = mark.len();
                    }
                    inner.written = Some(Instant::now());
                    return Ok(());
                }
                // Changed, deleted or created meanwhile: read it again and compare the epochs.
                Err(StateError::Api(kube::Error::Api(status))) if matches!(status.code, 404 | 409) && tries > 0 => {
                    inner.object = None;
                }
                Err(error) => {
                    inner.object = None;
                    return Err(error);
                }
            }
        }
    }

    /// Returns the object to write, with the resourceVersion that was read.
    fn next(&self, inner: &Inner, epoch: u64, notes: Option<&Vec<u8>>) -> ConfigMap {
        let mut object = inner.object.clone().unwrap_or_else(|| ConfigMap {
            metadata: self.metadata.clone().unwrap_or_default(),
            ..ConfigMap::default()
        });
        let annotations = object.metadata.annotations.get_or_insert_default();
        annotations.insert(EPOCH.to_owned(), epoch.to_string());
        object.metadata.managed_fields = None;
        let texts = object.binary_data.get_or_insert_default();
        let changed = [(MARK, inner.pending_mark.as_ref()), (NOTES, notes)];
        for (name, bytes) in changed {
            if let Some(bytes) = bytes {
                texts.insert(name.to_owned(), ByteString(bytes.clone()));
            }
        }
        object
    }
}

/// Returns the pause after a write of this size.
fn pause(bytes: usize) -> Duration {
    let secs = u64::try_from(bytes).unwrap_or(u64::MAX) / WRITE_BYTES_PER_SEC;
    WRITE_EVERY.max(Duration::from_secs(secs))
}

/// Returns the epoch of the last writer; 0 for an object that no gateway has written.
fn epoch(object: &ConfigMap) -> u64 {
    let annotations = object.metadata.annotations.as_ref();
    let written = annotations.and_then(|annotations| annotations.get(EPOCH)?.parse().ok());
    written.unwrap_or(0)
}

async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, StateError> {
    match tokio::time::timeout(TRY_MAX, request).await {
        Ok(answered) => Ok(answered?),
        Err(_elapsed) => Err(StateError::Timeout),
    }
}
