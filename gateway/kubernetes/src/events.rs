//! Kubernetes Events about our objects, which `kubectl describe` lists.

use jiff::Timestamp;
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};
use spec::ObjectKey;

use crate::{
    collection,
    refusal::{Refusal, Rule},
    request,
    status::Transition,
};

/// The API server rejects longer notes.
const NOTE_MAX: usize = 1024;

/// The part of an object's name in an Event's name: with a dot and sixteen digits it fits into 253 characters.
const NAME_MAX: usize = 230;

/// `reportingController` of the Events.
const CONTROLLER: &str = "headgate.dev/gateway";

/// The namespace of Events about cluster-scoped objects, as in Kubernetes itself.
const CLUSTER_NAMESPACE: &str = "default";

pub(crate) async fn post(client: &Client, key: &ObjectKey, uid: &str, transition: &Transition) -> Result<(), Refusal> {
    let event = event(key, uid, transition, Timestamp::now());
    let namespace = event["metadata"]["namespace"].as_str().unwrap_or(CLUSTER_NAMESPACE);
    let path = format!("{}/namespaces/{namespace}/events", collection::root("events.k8s.io/v1"));
    request::create(client, &path, &event).await.map(drop)
}

/// The last error of posting Events. Each error is logged once. An Event is not retried, because the object's status
/// says the same.
#[derive(Default)]
pub(crate) struct EventErrors(Mutex<Option<Refusal>>);

impl EventErrors {
    pub(crate) fn note_outcome(&self, key: &ObjectKey, refusal: Option<Refusal>) {
        let mut last = self.0.lock();
        if let Some(refusal) = &refusal
            && last.as_ref() != Some(refusal)
        {
            let trouble = match refusal {
                Refusal::Forbidden => rule().to_string(),
                refusal => refusal.to_string(),
            };
            tracing::warn!(object = %key, trouble, "cannot post a Kubernetes Event");
        }
        *last = refusal;
    }
}

fn rule() -> Rule {
    Rule {
        group: "events.k8s.io".to_owned(),
        resource: "events".to_owned(),
        name: None,
        namespace: None,
        verbs: &["create"],
    }
}

fn event(key: &ObjectKey, uid: &str, transition: &Transition, now: Timestamp) -> Value {
    let is_namespaced = !key.name.namespace.is_empty();
    let namespace = if is_namespaced {
        &*key.name.namespace
    } else {
        CLUSTER_NAMESPACE
    };
    let mut regarding = json!({
        "apiVersion": key.kind.api_version(), "kind": key.kind.as_str(), "name": key.name.name, "uid": uid,
    });
    if is_namespaced {
        regarding["namespace"] = json!(namespace);
    }
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "namespace": namespace, "name": name(key, now) },
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        "reportingController": CONTROLLER,
        "reportingInstance": instance(),
        "action": "Reconcile",
        "type": if transition.is_warning { "Warning" } else { "Normal" },
        "reason": transition.reason,
        "note": shortened(&transition.note),
        "regarding": regarding,
    })
}

/// Returns the Event's name as Kubernetes' own components build it: the object's name and the time.
fn name(key: &ObjectKey, now: Timestamp) -> String {
    let object = key.name.name.get(..NAME_MAX).unwrap_or(&key.name.name);
    format!("{object}.{:x}", now.as_nanosecond())
}

/// Returns the name of the pod.
fn instance() -> String {
    std::env::var("HOSTNAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "headgate".to_owned())
}

fn shortened(note: &str) -> &str {
    let mut end = note.len().min(NOTE_MAX);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    &note[..end]
}

#[cfg(test)]
mod tests {
    use spec::{Kind, ObjectName};

    use super::*;

    #[test]
    fn an_event_names_its_object_and_lies_in_its_namespace() {
        let transition = Transition {
            is_warning: true,
            reason: "NotFound".into(),
            note: "ä".repeat(2000),
        };
        let of = |namespace: &str, kind| {
            let key = ObjectKey::new(kind, ObjectName::new(namespace, "orders"));
            event(&key, "u", &transition, Timestamp::UNIX_EPOCH)
        };
        let namespaced = of("shop", Kind::Channel);
        assert_eq!(namespaced["metadata"]["namespace"], "shop");
        assert_eq!(namespaced["regarding"]["namespace"], "shop");
        assert_eq!(namespaced["metadata"]["name"], "orders.0");
        assert_eq!(namespaced["eventTime"], "1970-01-01T00:00:00.000000Z");
        assert!(namespaced["note"].as_str().is_some_and(|note| note.len() == NOTE_MAX));
        let of_cluster = of("", Kind::ClusterChannelProvisioner);
        assert_eq!(of_cluster["metadata"]["namespace"], "default");
        assert!(of_cluster["regarding"].get("namespace").is_none());
    }
}
