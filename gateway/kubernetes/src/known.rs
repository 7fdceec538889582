//! What the API server has of our objects beyond what is wanted, shared with those who write back: status, finalizers, and the
//! Services of channels. Written by the store, and with the answers to what was written back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use serde_json::Value;
use spec::{Kind, ObjectKey, ObjectName};
use tokio::sync::watch;

/// An object of ours.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    pub(crate) uid: String,
    pub(crate) generation: Option<i64>,
    pub(crate) finalizers: Vec<String>,
    /// Somebody deleted it; it goes when the last finalizer does.
    pub(crate) is_leaving: bool,
    pub(crate) status: Value,
}

impl Facts {
    pub(crate) fn new(object: &Value) -> Self {
        let metadata = &object["metadata"];
        let finalizers = metadata["finalizers"].as_array().map_or(&[][..], Vec::as_slice);
        Self {
            uid: metadata["uid"].as_str().unwrap_or_default().to_owned(),
            generation: metadata["generation"].as_i64(),
            finalizers: finalizers.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            is_leaving: metadata["deletionTimestamp"].is_string(),
            status: object.get("status").cloned().unwrap_or(Value::Null),
        }
    }

    /// Whether the two want the same of the data plane.
    pub(crate) fn means_the_same(&self, other: &Self) -> bool {
        // What a channel was given is kept in its status, for all replicas.
        let given = |facts: &Self| facts.status["provisioner"]["name"].clone();
        (&self.uid, self.generation, self.is_leaving) == (&other.uid, other.generation, other.is_leaving)
            && given(self) == given(other)
    }
}

/// A Service, as far as it could be one that we made for a channel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServiceFacts {
    pub(crate) uid: String,
    /// `spec.type` and `spec.externalName`.
    pub(crate) external_name: Option<String>,
    /// The uid of the Channel that owns it.
    pub(crate) channel_uid: Option<String>,
    pub(crate) is_labelled: bool,
    pub(crate) is_leaving: bool,
}

/// On the Services that we make: its value is the channel's name.
pub(crate) const CHANNEL_LABEL: &str = "eventing.knative.dev/channel";

impl ServiceFacts {
    pub(crate) fn new(service: &Value) -> Self {
        let (metadata, spec) = (&service["metadata"], &service["spec"]);
        let owners = metadata["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
        let owner = owners
            .iter()
            .find(|owner| owner["kind"] == "Channel" && owner["apiVersion"] == Kind::Channel.api_version());
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            uid: text(&metadata["uid"]).unwrap_or_default(),
            external_name: text(&spec["externalName"]).filter(|_| spec["type"] == "ExternalName"),
            channel_uid: owner.and_then(|owner| text(&owner["uid"])),
            is_labelled: metadata["labels"].get(CHANNEL_LABEL).is_some(),
            is_leaving: metadata["deletionTimestamp"].is_string(),
        }
    }

    /// The uid of the channel that it was made for; `None`: it is somebody else's.
    pub(crate) fn made_for(&self) -> Option<&str> {
        self.channel_uid.as_deref().filter(|_| self.is_labelled)
    }
}

/// Everything known, at one moment.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) objects: BTreeMap<ObjectKey, Arc<Facts>>,
    pub(crate) services: BTreeMap<ObjectName, Arc<ServiceFacts>>,
    /// Kinds that cannot be read, and why; what is in the way of everything has an empty name.
    pub(crate) troubles: BTreeMap<String, String>,
    /// Services may be read: what is not there does not exist.
    pub(crate) services_are_known: bool,
    /// Sources that were being deleted when the gateway started, and are in the spec once more.
    pub(crate) resumed: BTreeSet<ObjectKey>,
    /// Sources whose finalizer could not be changed, and why.
    pub(crate) unguarded: BTreeMap<ObjectKey, String>,
    /// What every gateway needs could be listed.
    pub(crate) is_served: bool,
    /// The generation of the spec that was published last.
    pub(crate) published: u64,
}

#[derive(Clone)]
pub(crate) struct Known {
    contents: Arc<Mutex<Contents>>,
    changed: Arc<watch::Sender<()>>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            contents: Arc::default(),
            changed: Arc::new(watch::Sender::new(())),
        }
    }
}

impl Known {
    /// For a moment.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&mut Contents) -> T) -> T {
        read(&mut self.contents.lock())
    }

    pub(crate) fn told(&self) {
        self.changed.send_replace(());
    }

    /// Marks a change at each change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
