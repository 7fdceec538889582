//! A reflector lists a collection and watches it, without end: it sends the objects, their changes, and errors.
//!
//! A watch continues where the last one ended, even after a restart of the API server. The collection is listed again
//! only when the API server has compacted its history. An error is sent once, and retried with growing delays. The
//! reflector never withdraws objects because the API server is unreachable or lost the kind: each deleted object is
//! sent as deleted.

use std::{pin::pin, time::Duration};

use futures_util::StreamExt;
use kube::{
    Client,
    api::{ListParams, WatchParams},
    core::{Request, WatchEvent},
};
use serde::Deserialize;
use serde_json::Value;
use spec::ObjectKey;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use crate::{
    collection::{Collection, ResourcePath},
    refusal::{Refusal, Rule},
    request::ANSWER_MAX,
};

/// Objects a page: about 2 MiB.
const PAGE: u32 = 500;

/// Duration of one watch. A dead connection is noticed after this and [`SLACK`]. Each collection costs one request in
/// this time.
const WATCH: Duration = Duration::from_secs(120);

/// Minimum time between two watches of a collection, for an API server that ends each watch at once.
const WATCH_MIN: Duration = Duration::from_secs(1);

/// A watch that reached its timeout ends within this.
const SLACK: Duration = Duration::from_secs(10);

/// Delays between retries: short at first, because an API server restarts quickly; then long, because a missing rule
/// stays missing.
const RETRY: backoff::Policy = backoff::Policy {
    retry: u32::MAX,
    growth: backoff::Growth::Exponential,
    delay: Duration::from_millis(500),
    max: Duration::from_secs(15),
    retry_after_max: Duration::from_secs(15),
};

/// An update of a collection.
pub(crate) enum Update {
    /// All objects of the collection.
    Listed(Vec<Value>),
    Changed(Box<Value>),
    Deleted(Box<Value>),
    /// The collection cannot be read; with the rule that would allow it, if one is missing.
    Refused(Refusal, Option<Rule>),
    /// Watching works again after an error.
    Resumed,
    /// Sent by the finalizer controller: the spec no longer needs this source, which is being deleted.
    DropFromSpec(ObjectKey),
}

pub(crate) struct Message {
    pub(crate) collection: Collection,
    pub(crate) update: Update,
}

pub(crate) struct Reflector {
    pub(crate) client: Client,
    pub(crate) collection: Collection,
    /// The only namespace to watch; `None` watches all.
    pub(crate) namespace: Option<String>,
    /// The label selector.
    pub(crate) labels: Option<String>,
    pub(crate) out: mpsc::Sender<Message>,
}

/// The receiver of the updates was dropped.
struct ReceiverDropped;

impl Reflector {
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&self) -> ReceiverDropped {
        let mut failed = 0;
        loop {
            let (refusal, rule) = match self
                .collection
                .resource_path(&self.client, self.namespace.as_deref())
                .await
            {
                Ok(resource_path) => match self.list_and_watch(&resource_path, &mut failed).await {
                    Ok(ended) => return ended,
                    Err(refusal) => (refusal, Some(resource_path.rule)),
                },
                Err(refusal) => (refusal, None),
            };
            if refusal != Refusal::Gone {
                let update = self.send(Update::Refused(refusal, rule)).await;
                if update.is_err() {
                    return ReceiverDropped;
                }
                wait(&mut failed).await;
            }
        }
    }

    /// Returns `Err(Gone)` when the collection must be listed again at once.
    async fn list_and_watch(&self, resource_path: &ResourcePath, failed: &mut u32) -> Result<ReceiverDropped, Refusal> {
        let (objects, mut version) = self.list(resource_path).await?;
        *failed = 0;
        if self.send(Update::Listed(objects)).await.is_err() {
            return Ok(ReceiverDropped);
        }
        loop {
            let began = Instant::now();
            match self.watch(resource_path, &mut version, failed).await {
                Ok(WatchEnd::Expired) => sleep_until(began + WATCH_MIN).await,
                Ok(WatchEnd::ReceiverClosed) => return Ok(ReceiverDropped),
                // Listing again may succeed where the watch does not.
                Err(refusal) if refusal == Refusal::Gone || refusal.is_final() => return Err(refusal),
                Err(refusal) => {
                    let update = self
                        .send(Update::Refused(refusal, Some(resource_path.rule.clone())))
                        .await;
                    if update.is_err() {
                        return Ok(ReceiverDropped);
                    }
                    wait(failed).await;
                }
            }
        }
    }

    async fn list(&self, resource_path: &ResourcePath) -> Result<(Vec<Value>, String), Refusal> {
        let mut objects = Vec::new();
        let mut params = ListParams {
            field_selector: resource_path.field_selector.clone(),
            label_selector: self.labels.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        loop {
            let request = Request::new(&resource_path.path).list(&params);
            let request = request.map_err(|error| Refusal::Invalid(error.to_string()))?;
            let answer = self
                .client
                .request::<Page>(request)
                .with_subscriber(NoSubscriber::new());
            let page = timeout(ANSWER_MAX, answer).await;
            let page = page.map_err(|_| Refusal::Unreachable("it does not answer".to_owned()))??;
            objects.extend(page.items.into_iter().map(pruned));
            match page.metadata.next.filter(|next| !next.is_empty()) {
                Some(next) => params.continue_token = Some(next),
                None => return Ok((objects, page.metadata.resource_version)),
            }
        }
    }

    /// Watches until the API server ends the watch.
    async fn watch(
        &self,
        resource_path: &ResourcePath,
        version: &mut String,
        failed: &mut u32,
    ) -> Result<WatchEnd, Refusal> {
        let params = WatchParams {
            field_selector: resource_path.field_selector.clone(),
            label_selector: self.labels.clone(),
            timeout: u32::try_from(WATCH.as_secs()).ok(),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = Request::new(&resource_path.path).watch(&params, version);
        let request = request.map_err(|error| Refusal::Invalid(error.to_string()))?;
        let answer = self.client.request_events::<Value>(request);
        let answer = timeout(ANSWER_MAX, answer.with_subscriber(NoSubscriber::new())).await;
        let mut events = pin!(answer.map_err(|_| Refusal::Unreachable("it does not answer".to_owned()))??);
        if std::mem::take(failed) > 0 && self.send(Update::Resumed).await.is_err() {
            return Ok(WatchEnd::ReceiverClosed);
        }
        loop {
            let next = timeout(WATCH + SLACK, events.next().with_subscriber(NoSubscriber::new())).await;
            let update = match next {
                Err(_) | Ok(None) => return Ok(WatchEnd::Expired),
                Ok(Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => {
                    *version = version_of(&object, version);
                    Update::Changed(Box::new(pruned(object)))
                }
                Ok(Some(Ok(WatchEvent::Deleted(object)))) => {
                    *version = version_of(&object, version);
                    Update::Deleted(Box::new(pruned(object)))
                }
                Ok(Some(Ok(WatchEvent::Bookmark(bookmark)))) => {
                    *version = bookmark.metadata.resource_version;
                    continue;
                }
                Ok(Some(Ok(WatchEvent::Error(status)))) => {
                    return Err(Refusal::of_status(status.code, status.message.clone()));
                }
                Ok(Some(Err(error))) => return Err(error.into()),
            };
            if self.send(update).await.is_err() {
                return Ok(WatchEnd::ReceiverClosed);
            }
        }
    }

    async fn send(&self, update: Update) -> Result<(), ReceiverDropped> {
        let collection = self.collection.clone();
        self.out
            .send(Message { collection, update })
            .await
            .map_err(|_| ReceiverDropped)
    }
}

enum WatchEnd {
    Expired,
    ReceiverClosed,
}

async fn wait(failed: &mut u32) {
    *failed = failed.saturating_add(1);
    let wait = RETRY.wait(*failed, None, rand::random());
    tokio::time::sleep(wait.unwrap_or(RETRY.max)).await;
}

/// Managed fields are half of an object, and the gateway does not read them.
fn pruned(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

fn version_of(object: &Value, before: &str) -> String {
    let version = object["metadata"]["resourceVersion"].as_str();
    version.unwrap_or(before).to_owned()
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    items: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}
