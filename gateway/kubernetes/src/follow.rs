//! Lists a collection and watches it, for ever: what is there, what changes, and what is in the way.
//!
//! A watch goes on where the last one ended, over restarts of the API server too; only when its history is gone is everything
//! listed again. A refusal is told once and tried again with growing waits. Nothing that was told is taken back because the
//! server cannot be reached, or says that the kind is not there: objects that are deleted are told one by one.

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
    collection::{Collection, Place},
    refusal::{Refusal, Rule},
    request::ANSWER_MAX,
};

/// Objects a page: some two MiB of them.
const PAGE: u32 = 500;

/// How long one watch lasts. A connection that died without a word is noticed after this and [`SLACK`]; each collection
/// costs a request this often.
const WATCH: Duration = Duration::from_secs(120);

/// Something that ends each watch at once is not asked more often than this.
const WATCH_MIN: Duration = Duration::from_secs(1);

/// A watch that is over by its own time ends within this.
const SLACK: Duration = Duration::from_secs(10);

/// Waits between tries: soon, for restarts of the API server are short; then rarely, for a missing rule stays missing.
const RETRY: backoff::Policy = backoff::Policy {
    retry: u32::MAX,
    growth: backoff::Growth::Exponential,
    delay: Duration::from_millis(500),
    max: Duration::from_secs(15),
    retry_after_max: Duration::from_secs(15),
};

/// What is told of a collection.
pub(crate) enum Told {
    /// All there is, and nothing else.
    Listed(Vec<Value>),
    Changed(Box<Value>),
    Deleted(Box<Value>),
    /// It cannot be read now; the rule that would allow it, where that is known.
    Refused(Refusal, Option<Rule>),
    /// What was refused goes on.
    Resumed,
    /// Said by ourselves: a source that is being deleted need not be wanted any longer.
    Left(ObjectKey),
}

pub(crate) struct Message {
    pub(crate) of: Collection,
    pub(crate) told: Told,
}

pub(crate) struct Follower {
    pub(crate) client: Client,
    pub(crate) collection: Collection,
    /// The only one that is looked at.
    pub(crate) namespace: Option<String>,
    /// Of these labels alone.
    pub(crate) labels: Option<String>,
    pub(crate) out: mpsc::Sender<Message>,
}

/// The other end is gone: nobody listens.
struct Ended;

impl Follower {
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            Ended = self.follow() => {}
        }
    }

    async fn follow(&self) -> Ended {
        let mut failed = 0;
        loop {
            let (refusal, rule) = match self.collection.place(&self.client, self.namespace.as_deref()).await {
                Ok(place) => match self.list_and_watch(&place, &mut failed).await {
                    Ok(ended) => return ended,
                    Err(refusal) => (refusal, Some(place.rule)),
                },
                Err(refusal) => (refusal, None),
            };
            if refusal != Refusal::Gone {
                let told = self.tell(Told::Refused(refusal, rule)).await;
                if told.is_err() {
                    return Ended;
                }
                wait(&mut failed).await;
            }
        }
    }

    /// `Gone` means: list again, at once.
    async fn list_and_watch(&self, place: &Place, failed: &mut u32) -> Result<Ended, Refusal> {
        let (objects, mut version) = self.list(place).await?;
        *failed = 0;
        if self.tell(Told::Listed(objects)).await.is_err() {
            return Ok(Ended);
        }
        loop {
            let began = Instant::now();
            match self.watch(place, &mut version, failed).await {
                Ok(Watched::Over) => sleep_until(began + WATCH_MIN).await,
                Ok(Watched::Unheard) => return Ok(Ended),
                // It may be listed anew: what the watch said may be of this watch alone.
                Err(refusal) if refusal == Refusal::Gone || refusal.is_final() => return Err(refusal),
                Err(refusal) => {
                    let told = self.tell(Told::Refused(refusal, Some(place.rule.clone()))).await;
                    if told.is_err() {
                        return Ok(Ended);
                    }
                    wait(failed).await;
                }
            }
        }
    }

    async fn list(&self, place: &Place) -> Result<(Vec<Value>, String), Refusal> {
        let mut objects = Vec::new();
        let mut params = ListParams {
            field_selector: place.fields.clone(),
            label_selector: self.labels.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        loop {
            let request = Request::new(&place.path).list(&params);
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

    /// Until the watch is over by itself.
    async fn watch(&self, place: &Place, version: &mut String, failed: &mut u32) -> Result<Watched, Refusal> {
        let params = WatchParams {
            field_selector: place.fields.clone(),
            label_selector: self.labels.clone(),
            timeout: u32::try_from(WATCH.as_secs()).ok(),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = Request::new(&place.path).watch(&params, version);
        let request = request.map_err(|error| Refusal::Invalid(error.to_string()))?;
        let answer = self.client.request_events::<Value>(request);
        let answer = timeout(ANSWER_MAX, answer.with_subscriber(NoSubscriber::new())).await;
        let mut events = pin!(answer.map_err(|_| Refusal::Unreachable("it does not answer".to_owned()))??);
        if std::mem::take(failed) > 0 && self.tell(Told::Resumed).await.is_err() {
            return Ok(Watched::Unheard);
        }
        loop {
            let next = timeout(WATCH + SLACK, events.next().with_subscriber(NoSubscriber::new())).await;
            let told = match next {
                Err(_) | Ok(None) => return Ok(Watched::Over),
                Ok(Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => {
                    *version = version_of(&object, version);
                    Told::Changed(Box::new(pruned(object)))
                }
                Ok(Some(Ok(WatchEvent::Deleted(object)))) => {
                    *version = version_of(&object, version);
                    Told::Deleted(Box::new(pruned(object)))
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
            if self.tell(told).await.is_err() {
                return Ok(Watched::Unheard);
            }
        }
    }

    async fn tell(&self, told: Told) -> Result<(), Ended> {
        let of = self.collection.clone();
        self.out.send(Message { of, told }).await.map_err(|_| Ended)
    }
}

enum Watched {
    Over,
    Unheard,
}

async fn wait(failed: &mut u32) {
    *failed = failed.saturating_add(1);
    let wait = RETRY.wait(*failed, None, rand::random());
    tokio::time::sleep(wait.unwrap_or(RETRY.max)).await;
}

/// Who wrote which field is half of an object, and nothing to us.
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
