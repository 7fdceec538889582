//! The subscription to read: an existing one that the source names, or its own, which is adopted, created, replaced and
//! deleted here.
//!
//! A subscription is the source's own if its labels hold the source's uid; no other is ever changed or deleted. The source's
//! notes list what was created, so that a subscription that an edit of the source leaves behind is deleted too.

use adapter::{Reason, Source};
use google_cloud_pubsub::model::{ExpirationPolicy, RetryPolicy, Subscription};
use google_cloud_wkt::Duration as WireDuration;
use serde::{Deserialize, Serialize};

use crate::{
    Config,
    fault::{
        Fault, PERMISSION_DENIED, REFUSED, SUBSCRIPTION_MISMATCH, SUBSCRIPTION_NOT_FOUND, SUBSCRIPTION_NOT_OURS,
        TOPIC_NOT_FOUND,
    },
    names::{self, DELETED_TOPIC, OWNER},
    upstream::{ACK_DEADLINE, NotCreated, Upstream},
};

/// How long Google waits before it sends a released message again, in seconds: at first, and at most after doubling.
const REDELIVERY: (i64, i64) = (1, 60);

/// A subscription that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadableSubscription {
    pub(crate) name: String,
    /// Created by this source.
    pub(crate) own: bool,
    /// Its topic was deleted: what it has can still be read, nothing more comes.
    pub(crate) orphaned: bool,
    /// Whether it keeps the order of a key; `None`: the account may not read it.
    pub(crate) ordered: Option<bool>,
}

/// Subscriptions that were created for the source and are deleted with it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Notes {
    subscriptions: Vec<String>,
}

/// Finds the subscription, or creates it. Idempotent.
pub(crate) async fn ensure(
    upstream: &Upstream,
    config: &Config,
    source: &Source,
) -> Result<ReadableSubscription, Fault> {
    let name = names::subscription(config, source);
    // Noted before it is created: a forgotten subscription would fill up for ever.
    let own = config.subscription.is_none();
    note(upstream, config, source, own.then_some(&*name)).await?;
    if !own {
        return existing(upstream, config, name).await;
    }
    // A second time when another client created it first, or when one that was in the way is deleted.
    for _ in 0..2 {
        let Some(found) = upstream.get(&name).await? else {
            match make(upstream, config, source, &name).await {
                Ok(made) => return Ok(made),
                Err(NotCreated::Exists) => continue,
                Err(NotCreated::Other(fault)) => return Err(fault),
                Err(NotCreated::NoTopic) => return Err(no_topic(config)),
            }
        };
        if !is_ours(&found, source) {
            let why = format!(
                "{name} is there and does not have the label {OWNER}={}: delete it, or name it in `subscription` to use it",
                names::label(&source.uid)
            );
            return Err(Fault::new(SUBSCRIPTION_NOT_OURS, why));
        }
        if found.topic == names::topic(config) || found.topic == DELETED_TOPIC {
            return Ok(adopted(&found, true));
        }
        if !config.delete {
            let topic = &found.topic;
            let why = format!(
                "{name} is subscribed to {topic}, which was this source's topic before, and deletionPolicy is Retain: delete it to go on"
            );
            return Err(Fault::new(SUBSCRIPTION_MISMATCH, why));
        }
        tracing::info!(
            source = source.name,
            subscription = name,
            topic = found.topic,
            "subscription to the topic before is deleted"
        );
        upstream.delete(&name).await?;
    }
    let why = format!("{name} is made and deleted by somebody else at the same time: tried again by itself");
    Err(Fault::new(REFUSED, why))
}

/// Deletes the source's own subscription. Leaves any other alone; succeeds if there is none.
pub(crate) async fn delete(upstream: &Upstream, config: &Config, source: &Source) -> Result<(), Fault> {
    if !config.delete || config.subscription.is_some() {
        return Ok(());
    }
    delete_ours(upstream, source, &names::subscription(config, source)).await
}

pub(crate) fn no_topic(config: &Config) -> Fault {
    let topic = names::topic(config);
    let why = format!(
        "{topic} does not exist: create it (`gcloud pubsub topics create {}`), or correct googleCloudProject and topic; looked for again by itself",
        config.topic
    );
    Fault::new(TOPIC_NOT_FOUND, why)
}

/// Describes a subscription of Google's for reading.
pub(crate) fn adopted(found: &Subscription, own: bool) -> ReadableSubscription {
    ReadableSubscription {
        name: found.name.clone(),
        own,
        orphaned: found.topic == DELETED_TOPIC,
        ordered: Some(found.enable_message_ordering),
    }
}

async fn existing(upstream: &Upstream, config: &Config, name: String) -> Result<ReadableSubscription, Fault> {
    let found = match upstream.get(&name).await {
        Ok(found) => found,
        // Receiving takes roles/pubsub.subscriber alone, reading the subscription takes more.
        Err(fault) if fault.reason == PERMISSION_DENIED => {
            return Ok(ReadableSubscription {
                name,
                own: false,
                orphaned: false,
                ordered: None,
            });
        }
        Err(fault) => return Err(fault),
    };
    let Some(found) = found else {
        let why = format!(
            "{name} does not exist: create it, or leave `subscription` away for one of our own; looked for again by itself"
        );
        return Err(Fault::new(SUBSCRIPTION_NOT_FOUND, why));
    };
    let topic = names::topic(config);
    if found.topic != topic && found.topic != DELETED_TOPIC {
        let why = format!(
            "{name} is subscribed to {} and not to {topic}: correct `topic` or `subscription`",
            found.topic
        );
        return Err(Fault::new(SUBSCRIPTION_MISMATCH, why));
    }
    Ok(adopted(&found, false))
}

async fn make(
    upstream: &Upstream,
    config: &Config,
    source: &Source,
    name: &str,
) -> Result<ReadableSubscription, NotCreated> {
    let seconds = |seconds| WireDuration::clamp(seconds, 0);
    let desired = Subscription::new()
        .set_name(name)
        .set_topic(names::topic(config))
        .set_ack_deadline_seconds(i32::try_from(ACK_DEADLINE.as_secs()).unwrap_or(i32::MAX))
        // Without a time to live it never expires; without a policy Google deletes it after 31 idle days.
        .set_expiration_policy(ExpirationPolicy::new())
        .set_retry_policy(
            RetryPolicy::new()
                .set_minimum_backoff(seconds(REDELIVERY.0))
                .set_maximum_backoff(seconds(REDELIVERY.1)),
        )
        .set_labels(names::labels(source))
        .set_enable_message_ordering(config.ordering);
    let made = upstream.create(desired).await?;
    tracing::info!(
        source = source.name,
        subscription = name,
        topic = made.topic,
        "subscription is made"
    );
    Ok(adopted(&made, true))
}

/// Deletes the subscriptions that earlier versions of the source created, and notes the current one.
async fn note(upstream: &Upstream, config: &Config, source: &Source, now: Option<&str>) -> Result<(), Fault> {
    let known = source.checkpoint.notes().await.map_err(|error| state(&error))?;
    let former = known
        .as_deref()
        .and_then(|notes| serde_json::from_slice::<Notes>(notes).ok());
    let mut notes = Notes::default();
    for name in former.unwrap_or_default().subscriptions {
        if Some(&*name) == now || !config.delete {
            continue;
        }
        // Reading does not wait for it: it stays in the notes and is tried again at the next attempt.
        if let Err(fault) = delete_ours(upstream, source, &name).await {
            tracing::warn!(
                source = source.name,
                subscription = name,
                reason = fault.reason.as_str(),
                detail = fault.message,
                "subscription of an earlier version is still there"
            );
            notes.subscriptions.push(name);
        }
    }
    notes.subscriptions.extend(now.map(str::to_owned));
    let notes = serde_json::to_vec(&notes).expect("texts become JSON");
    if known.unwrap_or_default() == notes {
        return Ok(());
    }
    source.checkpoint.save_notes(notes).await.map_err(|error| state(&error))
}

async fn delete_ours(upstream: &Upstream, source: &Source, name: &str) -> Result<(), Fault> {
    let Some(found) = upstream.get(name).await? else {
        return Ok(());
    };
    if !is_ours(&found, source) {
        tracing::warn!(
            source = source.name,
            subscription = name,
            "subscription is not ours and stays"
        );
        return Ok(());
    }
    upstream.delete(name).await?;
    tracing::info!(source = source.name, subscription = name, "subscription is deleted");
    Ok(())
}

fn state(error: &adapter::StateError) -> Fault {
    Fault::new(
        Reason::DataFolderUnusable,
        format!("{error}: check the folder given by --data"),
    )
}

fn is_ours(found: &Subscription, source: &Source) -> bool {
    found.labels.get(OWNER) == Some(&names::label(&source.uid))
}
