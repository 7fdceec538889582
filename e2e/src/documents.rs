//! The documents a user writes, as JSON values (which are YAML too), with the parts tests vary.

use serde_json::{Value, json};

const EVENTING: &str = "eventing.knative.dev/v1alpha1";
const SOURCES: &str = "sources.eventing.knative.dev/v1alpha1";

/// A channel of a provisioner: `memory`, `embedded` ...
pub fn channel(name: &str, provisioner: &str) -> Value {
    channel_with(name, provisioner, json!({}))
}

/// A channel with more in its spec.
pub fn channel_with(name: &str, provisioner: &str, more: Value) -> Value {
    let mut document = json!({
        "apiVersion": EVENTING, "kind": "Channel", "metadata": { "name": name },
        "spec": { "provisioner": { "name": provisioner } },
    });
    merge(&mut document["spec"], more);
    document
}

/// A subscription of a URI to a channel, with more in its spec. Retries are quick unless `more` says otherwise.
pub fn subscription(name: &str, channel: &str, uri: &str, more: Value) -> Value {
    bare_subscription(name, channel, merged(json!({ "subscriber": { "uri": uri } }), more))
}

/// A subscription whose spec is `more` and its channel.
pub fn bare_subscription(name: &str, channel: &str, more: Value) -> Value {
    json!({
        "apiVersion": EVENTING, "kind": "Subscription", "metadata": { "name": name },
        "spec": merged(json!({ "channel": channel_reference(channel), "delivery": { "backoffDelay": "PT0.02S" } }), more),
    })
}

/// `{apiVersion, kind, name}` of a channel.
pub fn channel_reference(name: &str) -> Value {
    json!({ "apiVersion": EVENTING, "kind": "Channel", "name": name })
}

/// A source that takes webhooks, signed with the `secretToken` of the secret named `github`.
pub fn github_source(name: &str, event_types: &[&str], sink: &Value) -> Value {
    json!({
        "apiVersion": SOURCES, "kind": "GitHubSource", "metadata": { "name": name },
        "spec": {
            "ownerAndRepository": "octo/hello", "eventTypes": event_types, "sink": sink,
            "secretToken": { "secretKeyRef": { "name": "github", "key": "secretToken" } },
        },
    })
}

/// A source that runs an image.
pub fn container_source(name: &str, image: &str, sink: &Value) -> Value {
    json!({
        "apiVersion": SOURCES, "kind": "ContainerSource", "metadata": { "name": name },
        "spec": { "image": image, "sink": sink },
    })
}

/// A source of a topic of project `shop`, on an emulator, with more in its spec.
pub fn pubsub_source(name: &str, topic: &str, emulator: &str, more: Value) -> Value {
    let spec = json!({ "googleCloudProject": "shop", "topic": topic, "emulatorHost": emulator });
    json!({
        "apiVersion": SOURCES, "kind": "GcpPubSubSource", "metadata": { "name": name },
        "spec": merged(spec, more),
    })
}

/// A secret with plain values.
#[expect(
    clippy::needless_pass_by_value,
    reason = "callers make the value in place, as for every document here"
)]
pub fn secret(name: &str, values: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": values })
}

/// Lays `more` over `base`, object by object.
pub fn merge(base: &mut Value, more: Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (key, value) in more {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, more) => *base = more,
    }
}

fn merged(mut base: Value, more: Value) -> Value {
    merge(&mut base, more);
    base
}

/// A file name for a document: stable, so that writing it again replaces it.
pub fn file_name(document: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("unnamed").to_lowercase();
    let namespace = document["metadata"]["namespace"].as_str().unwrap_or("default");
    format!(
        "{}-{namespace}-{}.yaml",
        text(&document["kind"]),
        text(&document["metadata"]["name"])
    )
}
