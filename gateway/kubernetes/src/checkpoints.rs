//! The small state of sources, kept in the cluster: a ConfigMap for each, which goes with its source.
//!
//! Written with the resourceVersion that was read and the epoch of the writer's turn (lease.rs): a holder of the past cannot
//! move what one of now has written. A busy source costs one write in [`WRITE_EVERY`]: marks in between are kept and the
//! last one is written, so that a crash repeats a few seconds, with the same ids, and loses nothing.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use k8s_openapi::{ByteString, api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use tokio::{sync::Mutex, time::Instant};

use crate::{lease::Fence, workloads::Owner};

/// Between two writes of one source's mark. A hundred busy sources then cost twenty writes a second, which etcd does not
/// notice; what a crash repeats stays a matter of seconds.
pub(crate) const WRITE_EVERY: Duration = Duration::from_secs(5);

/// The API server takes 1 MiB of values in a ConfigMap; the notes have room in the rest.
pub const MARK_MAX_BYTES: usize = 1000 * 1024;

/// A webhook's id, a digest, the last gap: some hundred bytes.
const NOTES_MAX_BYTES: usize = 16 * 1024;

/// A large mark is written less often: etcd keeps each one for five minutes or so. At this pace a source takes five MiB there,
/// and a mark of 1 MiB is a minute old at most.
const WRITE_BYTES_PER_SEC: u64 = 16 * 1024;

/// Somebody who edits the object by hand is not faster than this many tries.
const CONFLICTS_MAX: u32 = 3;

/// One request; the API server is asked again with the next mark.
const TRY_MAX: Duration = Duration::from_secs(10);

const MARK: &str = "mark";
const NOTES: &str = "notes";
const EPOCH: &str = "headgate.dev/epoch";

/// The name of a source's state.
pub(crate) fn state_name(owner: &Owner) -> String {
    format!("{}-state", owner.child())
}

/// Who may write.
#[derive(Clone, Debug)]
enum Writer {
    /// Whoever has the turn.
    Turn(Fence),
    /// The only pod of a Deployment: the one that read last. It changes the object and does not make it.
    Latest,
}

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("another replica of the gateway looks after the source now")]
    NotMine,
    #[error("it was written in a later turn ({theirs}) than ours ({ours}): another process looks after the source now")]
    Taken { ours: u64, theirs: u64 },
    #[error("{bytes} bytes exceed what has room there ({max})")]
    TooLarge { bytes: usize, max: usize },
    #[error("the ConfigMap is not there, and this account may not make it")]
    Absent,
    #[error("the API server did not answer within {} s", TRY_MAX.as_secs())]
    Timeout,
    #[error(transparent)]
    Api(#[from] kube::Error),
}

/// One source's state. Marks that are kept back are written by a task of their own.
pub struct State {
    api: Api<ConfigMap>,
    /// For messages.
    place: String,
    name: String,
    /// As it is made where it is not there.
    made: Option<ObjectMeta>,
    writer: Writer,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// As read or written last.
    object: Option<ConfigMap>,
    /// Of a [`Writer::Latest`], since it first wrote.
    claimed: Option<u64>,
    kept_back: Option<Vec<u8>>,
    written: Option<Instant>,
    written_bytes: usize,
    /// Why the mark that was kept back could not be written: told with the next.
    failed: Option<StateError>,
    /// A task waits to write.
    is_waiting: bool,
}

impl State {
    /// Of a source that runs in the gateway: written by whoever has the turn.
    pub fn of(client: Client, owner: &Owner, turn: Fence) -> Arc<Self> {
        let mut metadata = owner.metadata();
        metadata["name"] = json!(state_name(owner));
        // It is what we wrote two lines above.
        let made = serde_json::from_value(metadata).unwrap_or_default();
        Self::new(
            client,
            &owner.namespace,
            &state_name(owner),
            Some(made),
            Writer::Turn(turn),
        )
    }

    /// Of a source that runs in a pod of its own: it is there already.
    pub fn named(client: Client, namespace: &str, name: &str) -> Arc<Self> {
        Self::new(client, namespace, name, None, Writer::Latest)
    }

    fn new(client: Client, namespace: &str, name: &str, made: Option<ObjectMeta>, writer: Writer) -> Arc<Self> {
        Arc::new(Self {
            api: Api::namespaced(client, namespace),
            place: format!("ConfigMap {namespace}/{name}"),
            name: name.to_owned(),
            made,
            writer,
            inner: Mutex::default(),
        })
    }

    /// Where it is, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What was saved last, by whomever.
    pub async fn mark(&self) -> Result<Option<Vec<u8>>, StateError> {
        self.read(MARK).await
    }

    pub async fn notes(&self) -> Result<Option<Vec<u8>>, StateError> {
        self.read(NOTES).await
    }

    /// Written at once when the last write is [`WRITE_EVERY`] ago, or longer after a large one, else by then; or with the next [`State::flush`]. An error
    /// may be of the one before.
    pub async fn save_mark(self: &Arc<Self>, mark: Vec<u8>) -> Result<(), StateError> {
        if mark.len() > MARK_MAX_BYTES {
            let (bytes, max) = (mark.len(), MARK_MAX_BYTES);
            return Err(StateError::TooLarge { bytes, max });
        }
        let mut inner = self.inner.lock().await;
        inner.kept_back = Some(mark);
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

    /// Returns once the notes are written.
    pub async fn save_notes(&self, notes: Vec<u8>) -> Result<(), StateError> {
        if notes.len() > NOTES_MAX_BYTES {
            let (bytes, max) = (notes.len(), NOTES_MAX_BYTES);
            return Err(StateError::TooLarge { bytes, max });
        }
        let mut inner = self.inner.lock().await;
        self.write(&mut inner, Some(notes)).await
    }

    /// Writes the mark that is kept back, if one is.
    pub async fn flush(&self) -> Result<(), StateError> {
        let mut inner = self.inner.lock().await;
        match inner.kept_back.is_some() {
            true => self.write(&mut inner, None).await,
            false => Ok(()),
        }
    }

    async fn write_at(self: Arc<Self>, due: Instant) {
        tokio::time::sleep_until(due).await;
        let mut inner = self.inner.lock().await;
        inner.is_waiting = false;
        if inner.kept_back.is_some()
            && let Err(error) = self.write(&mut inner, None).await
        {
            tracing::warn!(state = self.place(), %error, "mark of a source is not written");
            inner.failed = Some(error);
        }
    }

    async fn read(&self, text: &str) -> Result<Option<Vec<u8>>, StateError> {
        let mut inner = self.inner.lock().await;
        // What is kept back is newer than what is there.
        if let Some(mark) = inner.kept_back.as_ref().filter(|_| text == MARK) {
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
            let theirs = inner.object.as_ref().map_or(0, epoch);
            let ours = match (&self.writer, inner.claimed) {
                (Writer::Turn(fence), _) => fence.epoch().ok_or(StateError::NotMine)?,
                (Writer::Latest, Some(claimed)) => claimed,
                (Writer::Latest, None) => theirs + 1,
            };
            if theirs > ours {
                return Err(StateError::Taken { ours, theirs });
            }
            let wanted = self.next(inner, ours, notes.as_ref());
            let params = PostParams::default();
            let written = match inner.object.is_some() {
                true => within(self.api.replace(&self.name, &params, &wanted)).await,
                false if self.made.is_some() => within(self.api.create(&params, &wanted)).await,
                false => return Err(StateError::Absent),
            };
            tries -= 1;
            match written {
                Ok(object) => {
                    inner.object = Some(object);
                    inner.claimed = Some(ours);
                    if let Some(mark) = inner.kept_back.take() {
                        inner.written_bytes = mark.len();
                    }
                    inner.written = Some(Instant::now());
                    return Ok(());
                }
                // Changed meanwhile, or gone, or made: looked at again, and the epoch decides.
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

    /// The object as it is to be, of the version it was read in.
    fn next(&self, inner: &Inner, epoch: u64, notes: Option<&Vec<u8>>) -> ConfigMap {
        let mut object = inner.object.clone().unwrap_or_else(|| ConfigMap {
            metadata: self.made.clone().unwrap_or_default(),
            ..ConfigMap::default()
        });
        let annotations = object.metadata.annotations.get_or_insert_default();
        annotations.insert(EPOCH.to_owned(), epoch.to_string());
        object.metadata.managed_fields = None;
        let texts = object.binary_data.get_or_insert_default();
        let changed = [(MARK, inner.kept_back.as_ref()), (NOTES, notes)];
        for (name, bytes) in changed {
            if let Some(bytes) = bytes {
                texts.insert(name.to_owned(), ByteString(bytes.clone()));
            }
        }
        object
    }
}

/// Between a write of so many bytes and the next one.
fn pause(bytes: usize) -> Duration {
    let secs = u64::try_from(bytes).unwrap_or(u64::MAX) / WRITE_BYTES_PER_SEC;
    WRITE_EVERY.max(Duration::from_secs(secs))
}

/// What nobody wrote is of no turn.
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
