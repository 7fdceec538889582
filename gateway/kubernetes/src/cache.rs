//! The cache of objects that the reporter and the finalizer controller write to: their status, their finalizers, and
//! the Services of channels. The store fills it from its watches; each write puts the API server's answer into it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use serde_json::Value;
use spec::{Kind, ObjectKey, ObjectName};
use tokio::sync::watch;

/// An object of one of our kinds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CachedObject {
    pub(crate) uid: String,
    pub(crate) generation: Option<i64>,
    pub(crate) finalizers: Vec<String>,
    /// The object has a deletion timestamp. It disappears with its last finalizer.
    pub(crate) is_leaving: bool,
    pub(crate) status: Value,
}

impl CachedObject {
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

    /// Returns whether both ask the same of the data plane. A change of status alone does not, except for the
    /// provisioner.
    pub(crate) fn means_the_same(&self, other: &Self) -> bool {
        // A channel keeps the provisioner that it was given in its status, where all replicas read it.
        let given = |cached: &Self| cached.status["provisioner"]["name"].clone();
        (&self.uid, self.generation, self.is_leaving) == (&other.uid, other.generation, other.is_leaving)
            && given(self) == given(other)
    }
}

/// The fields of a Service that tell whether it belongs to a channel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CachedService {
    pub(crate) uid: String,
    /// `spec.externalName` of a Service whose `spec.type` is `ExternalName`.
    pub(crate) external_name: Option<String>,
    /// The uid of the Channel that owns it.
    pub(crate) channel_uid: Option<String>,
    pub(crate) is_labelled: bool,
    pub(crate) is_leaving: bool,
}

/// The label of a channel's Service; its value is the channel's name.
pub(crate) const CHANNEL_LABEL: &str = "eventing.knative.dev/channel";

impl CachedService {
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

    /// Returns the uid of the channel that owns the Service; `None` for a Service that the gateway did not create.
    pub(crate) fn made_for(&self) -> Option<&str> {
        self.channel_uid.as_deref().filter(|_| self.is_labelled)
    }
}

/// The contents of the cache.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) objects: BTreeMap<ObjectKey, Arc<CachedObject>>,
    pub(crate) services: BTreeMap<ObjectName, Arc<CachedService>>,
    /// Errors by collection name, as `/readyz` shows them.
    pub(crate) troubles: BTreeMap<String, String>,
    /// Services were listed: one that is not in `services` does not exist.
    pub(crate) services_are_known: bool,
    /// Sources that were being deleted when the gateway started. They are in the spec again until the data plane has
    /// applied it.
    pub(crate) resumed: BTreeSet<ObjectKey>,
    /// Sources whose finalizer could not be changed, and why.
    pub(crate) unguarded: BTreeMap<ObjectKey, String>,
    /// Channels, subscriptions and provisioners could be listed.
    pub(crate) is_served: bool,
    /// The generation of the spec that was published last.
    pub(crate) published: u64,
}

#[derive(Clone)]
pub(crate) struct Cache {
    contents: Arc<Mutex<Contents>>,
    changed: Arc<watch::Sender<()>>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            contents: Arc::default(),
            changed: Arc::new(watch::Sender::new(())),
        }
    }
}

impl Cache {
    /// Runs `read` with the cache locked. `read` must not lock anything else, and must not call the data plane.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&mut Contents) -> T) -> T {
        read(&mut self.contents.lock())
    }

    pub(crate) fn notify(&self) {
        self.changed.send_replace(());
    }

    /// Returns a receiver that is marked changed by each [`Cache::notify`].
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
