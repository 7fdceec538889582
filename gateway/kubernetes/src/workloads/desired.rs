//! From what a source says to the Deployment that runs it. Pure: the same source is always the same Deployment.
//!
//! What a source's `template` says is laid over defaults that the Pod Security level `restricted` admits; the sink, the
//! selector and that there is one pod stay ours. A value of a secret is never copied: its reference is passed on.

use serde_json::{Map, Value, json};

use super::overlay::{by_name, overlay};

/// On everything that a gateway made for a source: what it watches, and what it may take away.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "headgate");
/// The uid of the source, on the Deployment and on its pods: another source of the same name is another one.
pub const SOURCE_UID: &str = "headgate.dev/source-uid";
/// The kind of the source.
const COMPONENT: &str = "app.kubernetes.io/component";
/// The name of the source, cut to what a label holds.
const INSTANCE: &str = "app.kubernetes.io/instance";

/// The container that runs the source's image; others may stand beside it in a template.
pub const CONTAINER: &str = "source";

/// A pod counts as available when it ran so long: a container that ends over and over would be available between its ends,
/// and the source's conditions would flap.
const STEADY_SECS: u32 = 10;

/// `kubectl rollout undo` is no way back from a source's edit: the next look would put it right again.
const HISTORY: u32 = 0;

/// A label's value at most.
const LABEL_MAX: usize = 63;

/// Of the source's name in the Deployment's. With the kind and eight letters of the uid it stays below what the API server
/// cuts a pod's name to (58 letters), and a person still reads whose it is.
const NAME_MAX: usize = 24;

/// The object that everything made for a source belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// What is to run for one source.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    pub owner: Owner,
    pub image: String,
    pub args: Vec<String>,
    /// Variables as Kubernetes has them (`EnvVar`), in the order of the document.
    pub env: Vec<Value>,
    /// Ours, which nobody overrides; every container gets them.
    pub given: Vec<(String, String)>,
    /// A pod template, laid over everything but the variables above.
    pub template: Option<Value>,
    pub service_account: Option<String>,
}

impl Owner {
    /// `KIND-NAME-UID8`, of everything that is made for the source.
    pub fn child(&self) -> String {
        let kind = self.kind.to_lowercase();
        let name: String = self.name.replace('.', "-").chars().take(NAME_MAX).collect();
        let uid: String = self.uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        format!("{kind}-{}-{uid}", name.trim_end_matches('-'))
    }

    /// Deleted with the source, by Kubernetes' own collector, whether or not a gateway runs.
    pub fn reference(&self) -> Value {
        json!({
            "apiVersion": self.api_version, "kind": self.kind, "name": self.name, "uid": self.uid,
            "controller": true, "blockOwnerDeletion": true,
        })
    }

    pub fn labels(&self) -> Value {
        json!({
            MANAGED_BY.0: MANAGED_BY.1, COMPONENT: self.kind.to_lowercase(), INSTANCE: label(&self.name),
            SOURCE_UID: self.uid,
        })
    }

    /// The head of an object that is made for the source.
    pub fn metadata(&self) -> Value {
        json!({
            "name": self.child(), "namespace": self.namespace, "labels": self.labels(),
            "ownerReferences": [self.reference()],
        })
    }
}

/// The Deployment, whole, as it is applied.
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
            // The old pod is gone before the new one is made: two would send everything twice.
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
                // The kubelet then puts the last lines of the log into the pod's status when the container fails: they
                // are told in the source's conditions, and nobody needs the right to read logs.
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
            give(container, &workload.given);
        }
    }
    remove_empty(&mut pod["spec"], "initContainers");
    pod
}

/// Ours come first, so that the others may say `$(K_SINK)`, and take the place of any of the same name.
fn give(container: &mut Value, given: &[(String, String)]) {
    let mut env: Vec<Value> = given
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
        if given.iter().any(is_ours) {
            continue;
        }
        // The last of several wins, as in a pod; server-side apply refuses two of one name.
        match env.iter_mut().find(|known| by_name(known, &variable)) {
            Some(known) => *known = variable,
            None => env.push(variable),
        }
    }
    if let Some(container) = container.as_object_mut() {
        container.insert("env".into(), env.into());
    }
}

/// Reading a missing member through an index makes a null of it.
fn remove_empty(spec: &mut Value, member: &str) {
    let spec: Option<&mut Map<String, Value>> = spec.as_object_mut();
    if let Some(spec) = spec.filter(|spec| spec.get(member).is_some_and(Value::is_null)) {
        spec.remove(member);
    }
}

/// As much of a name as a label's value holds, which ends in a letter or a digit.
fn label(name: &str) -> &str {
    let cut = name.get(..LABEL_MAX).unwrap_or(name);
    cut.trim_end_matches(|char: char| !char.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests;
