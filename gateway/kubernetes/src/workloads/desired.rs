//! Derives the Deployment of a source. Pure: the same source always has the same Deployment.
//!
//! A source's `template` is merged over defaults that the Pod Security level `restricted` admits. The sink, the
//! selector and the number of pods are fixed. The value of a secret is never copied: the pod refers to it.

use serde_json::{Map, Value, json};

use super::overlay::{by_name, overlay};

/// The label of everything that a gateway created for a source, and therefore watches and may delete.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "headgate");
/// The label with the source's uid, on the Deployment and its pods: a recreated source has another one.
pub const SOURCE_UID: &str = "headgate.dev/source-uid";
/// The label with the kind of the source.
const COMPONENT: &str = "app.kubernetes.io/component";
/// The label with the name of the source, cut to the length of a label.
const INSTANCE: &str = "app.kubernetes.io/instance";

/// The container that runs the source's image. A template may add others.
pub const CONTAINER: &str = "source";

/// How long a pod runs before it is available. Without it a container that crashes repeatedly would be available in
/// between, and the source's condition would flap.
const STEADY_SECS: u32 = 10;

/// `kubectl rollout undo` cannot revert a source's edit: the gateway would reapply it.
const HISTORY: u32 = 0;

/// Maximum length of a label's value.
const LABEL_MAX: usize = 63;

/// Maximum length of the source's name in the Deployment's. With the kind and eight letters of the uid it stays below
/// the 58 letters at which the API server cuts a pod's name, and people still recognize the source.
const NAME_MAX: usize = 24;

/// The source that owns an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The API version of the source.
    pub api_version: String,
    /// The kind of the source.
    pub kind: String,
    /// The namespace of the source and of everything created for it.
    pub namespace: String,
    /// The name of the source.
    pub name: String,
    /// The uid of the source, which changes when it is recreated.
    pub uid: String,
}

/// The Deployment's inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// The source.
    pub owner: Owner,
    /// The image of the container.
    pub image: String,
    /// The arguments of the container.
    pub args: Vec<String>,
    /// Environment variables (`EnvVar`), in the order of the document.
    pub env: Vec<Value>,
    /// The gateway's variables. Every container gets them, and a template cannot override them.
    pub fixed_env: Vec<(String, String)>,
    /// A pod template, merged over everything but the variables above.
    pub template: Option<Value>,
    /// The account of the pod; `None` gives it no token.
    pub service_account: Option<String>,
}

impl Owner {
    /// Returns `KIND-NAME-UID8`, the name of the source's objects.
    pub fn child(&self) -> String {
        let kind = self.kind.to_lowercase();
        let name: String = self.name.replace('.', "-").chars().take(NAME_MAX).collect();
        let uid: String = self.uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        format!("{kind}-{}-{uid}", name.trim_end_matches('-'))
    }

    /// Returns the owner reference, by which Kubernetes deletes an object with its source, whether or not a gateway
    /// runs.
    pub fn reference(&self) -> Value {
        json!({
            "apiVersion": self.api_version, "kind": self.kind, "name": self.name, "uid": self.uid,
            "controller": true, "blockOwnerDeletion": true,
        })
    }

    /// Returns the labels of the source's objects.
    pub fn labels(&self) -> Value {
        json!({
            MANAGED_BY.0: MANAGED_BY.1, COMPONENT: self.kind.to_lowercase(), INSTANCE: label(&self.name),
            SOURCE_UID: self.uid,
        })
    }

    /// Returns the metadata of the source's objects.
    pub fn metadata(&self) -> Value {
        json!({
            "name": self.child(), "namespace": self.namespace, "labels": self.labels(),
            "ownerReferences": [self.reference()],
        })
    }
}

/// Returns the whole Deployment, as it is applied.
pub fn deployment(workload: &Workload) -> Value {
    let owner = &workload.owner;
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": owner.metadata(),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": HISTORY,
            "minReadySeconds": STEADY_SECS,
            // The old pod ends before the new one starts: two would send every event twice.
            "strategy": { "type": "Recreate" },
            "selector": { "matchLabels": { SOURCE_UID: owner.uid } },
            "template": template(workload),
        },
    })
}

fn template(workload: &Workload) -> Value {
    let mut pod = json!({
        "metadata": {},
        "spec": {
            "automountServiceAccountToken": workload.service_account.is_some(),
            "enableServiceLinks": false,
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": CONTAINER,
                "image": workload.image,
                "args": workload.args,
                "env": workload.env,
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                // When the container fails, the kubelet puts the last lines of its log into the pod's status. The
                // source's condition shows them, so the gateway needs no right to read logs.
                "terminationMessagePolicy": "FallbackToLogsOnError",
            }],
        },
    });
    if let Some(account) = &workload.service_account {
        pod["spec"]["serviceAccountName"] = json!(account);
    }
    if let Some(written) = &workload.template {
        overlay(&mut pod, written);
    }
    let labels = &mut pod["metadata"]["labels"];
    if !labels.is_object() {
        *labels = json!({});
    }
    overlay(labels, &workload.owner.labels());
    for part in ["containers", "initContainers"] {
        for container in pod["spec"][part].as_array_mut().into_iter().flatten() {
            set_env(container, &workload.fixed_env);
        }
    }
    remove_empty(&mut pod["spec"], "initContainers");
    pod
}

/// Sets the fixed variables before the others, so that those can refer to `$(K_SINK)`, and drops others of the same
/// name.
fn set_env(container: &mut Value, fixed_env: &[(String, String)]) {
    let mut env: Vec<Value> = fixed_env
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    let written = container
        .get("env")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for variable in written {
        let is_ours = |(name, _): &(String, String)| variable["name"] == name.as_str();
        if fixed_env.iter().any(is_ours) {
            continue;
        }
        // The last of several wins, as in a pod; server-side apply refuses duplicates.
        match env.iter_mut().find(|known| by_name(known, &variable)) {
            Some(known) => *known = variable,
            None => env.push(variable),
        }
    }
    if let Some(container) = container.as_object_mut() {
        container.insert("env".into(), env.into());
    }
}

/// An index into a missing member inserts a null.
fn remove_empty(spec: &mut Value, member: &str) {
    let spec: Option<&mut Map<String, Value>> = spec.as_object_mut();
    if let Some(spec) = spec.filter(|spec| spec.get(member).is_some_and(Value::is_null)) {
        spec.remove(member);
    }
}

/// Cuts a name to the length of a label's value, which must end in a letter or a digit.
fn label(name: &str) -> &str {
    let cut = name.get(..LABEL_MAX).unwrap_or(name);
    cut.trim_end_matches(|char: char| !char.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests;
