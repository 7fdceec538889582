//! The workload that runs one of our adapters in a pod of its own, under the service account that its source names.
//! Pure.
//!
//! The pod gets its source's document and secrets as files, which the kubelet updates: its account needs no right to
//! read them. A Role owned by the source grants it one right, to its own checkpoint. The user grants what the adapter
//! watches, such as Events.

use serde_json::{Value, json};

use super::{
    DesiredWorkload,
    desired::{CONTAINER, Owner, SOURCE_UID, Workload, deployment},
};
use crate::checkpoints::state_name;

/// The port for requests to the source, and the port of the admin API.
const LISTEN_PORT: u16 = 8090;
/// The port of the admin listener in an adapter's pod.
pub const ADMIN_PORT: u16 = 8091;

const DOCUMENTS: &str = "/headgate/documents";
const SECRETS: &str = "/headgate/secrets";
const DATA: &str = "/headgate/data";

/// Annotation with the generation of the source's document. A change recreates the pod, so that it is in force at once
/// and not when the kubelet updates the file a minute later.
const GENERATION: &str = "headgate.dev/source-generation";

/// An idle adapter needs 20 MiB and hardly any CPU. The load of a busy one depends on what it reads.
const REQUESTS: (&str, &str) = ("10m", "32Mi");

/// The kinds of objects beside the Deployment. The checkpoint is not among them: it survives.
pub(super) const COMPANIONS: [(&str, &str); 4] = [
    ("v1", "Service"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("v1", "ConfigMap"),
];

/// A key of a Secret that the document names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mounted {
    /// The name of the Secret.
    pub secret: String,
    /// The key in it.
    pub key: String,
}

/// A source that runs with a service account of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterWorkload {
    /// The source.
    pub owner: Owner,
    /// The gateway's own image.
    pub image: String,
    /// The account in the source's namespace that the pod runs under.
    pub service_account: String,
    /// `apiVersion`, `kind`, `metadata`, `spec`.
    pub document: Value,
    /// The keys that the pod gets as files.
    pub secrets: Vec<Mounted>,
    /// The URL to which it posts its events.
    pub sink: String,
    /// The gateway's public URL, if it has one.
    pub public_url: Option<String>,
    /// Flags with the gateway's rules for outgoing connections.
    pub egress: Vec<String>,
    /// The source receives requests and needs a Service.
    pub is_called: bool,
}

impl AdapterWorkload {
    /// Returns the URL to which the gateway forwards the source's requests.
    pub fn url(owner: &Owner) -> String {
        format!("http://{}.{}.svc:{LISTEN_PORT}", owner.child(), owner.namespace)
    }
}

/// Returns the Deployment and the objects it needs.
pub fn adapter_objects(workload: &AdapterWorkload) -> DesiredWorkload {
    let AdapterWorkload { owner, is_called, .. } = workload;
    let mut companions = vec![
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": owner.metadata(),
            "data": { "source.yaml": document(&workload.document).to_string() },
        }),
        state(owner),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": owner.metadata(),
            "rules": [{
                "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [state_name(owner)],
                "verbs": ["get", "update"],
            }],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": owner.metadata(),
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": owner.child() },
            "subjects": [{ "kind": "ServiceAccount", "name": workload.service_account, "namespace": owner.namespace }],
        }),
    ];
    if *is_called {
        companions.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": owner.metadata(),
            "spec": {
                "selector": { SOURCE_UID: owner.uid },
                "ports": [{ "name": "http", "port": LISTEN_PORT, "targetPort": LISTEN_PORT }],
            },
        }));
    }
    DesiredWorkload {
        owner: owner.clone(),
        deployment: deployment(&pod(workload)),
        companions,
    }
}

/// Returns the ConfigMap of the checkpoint, empty: the account may update it and not create it.
fn state(owner: &Owner) -> Value {
    let mut metadata = owner.metadata();
    metadata["name"] = json!(state_name(owner));
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata })
}

/// Returns the document as a file would contain it.
fn document(object: &Value) -> Value {
    json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"],
        "metadata": { "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"] },
        "spec": object["spec"],
    })
}

fn args(workload: &AdapterWorkload) -> Vec<String> {
    let owner = &workload.owner;
    let mut args = vec![
        "adapter".to_owned(),
        owner.kind.to_lowercase(),
        DOCUMENTS.to_owned(),
        format!("--sink={}", workload.sink),
        format!("--listen=0.0.0.0:{LISTEN_PORT}"),
        format!("--admin=0.0.0.0:{ADMIN_PORT}"),
        // The gateway reads the source's state with it. A reader of the uid may also read the source's object, which
        // says the same.
        format!("--admin-read-token={}", owner.uid),
        format!("--data={DATA}"),
        format!("--secrets={SECRETS}"),
        format!("--state={}/{}", owner.namespace, state_name(owner)),
        format!("--state-uid={}", owner.uid),
        "--log-format=json".to_owned(),
    ];
    if let Some(url) = &workload.public_url {
        args.push(format!("--public-url={url}"));
    }
    args.extend(workload.egress.iter().cloned());
    args
}

fn pod(workload: &AdapterWorkload) -> Workload {
    let owner = &workload.owner;
    let mut volumes = vec![
        json!({ "name": "documents", "configMap": { "name": owner.child() } }),
        json!({ "name": "data", "emptyDir": {} }),
    ];
    let mut mounts = vec![
        json!({ "name": "documents", "mountPath": DOCUMENTS, "readOnly": true }),
        json!({ "name": "data", "mountPath": DATA }),
    ];
    let mut secrets: Vec<&str> = workload.secrets.iter().map(|mounted| &*mounted.secret).collect();
    secrets.sort_unstable();
    secrets.dedup();
    for (index, secret) in secrets.into_iter().enumerate() {
        let name = format!("secret-{index}");
        let of_it = workload.secrets.iter().filter(|mounted| mounted.secret == secret);
        let items: Vec<Value> = of_it
            .map(|mounted| json!({ "key": mounted.key, "path": mounted.key }))
            .collect();
        // A missing Secret becomes the source's condition, and does not keep the pod from starting.
        volumes.push(json!({ "name": name, "secret": { "secretName": secret, "items": items, "optional": true } }));
        let path = format!("{SECRETS}/{}/{secret}", owner.namespace);
        mounts.push(json!({ "name": name, "mountPath": path, "readOnly": true }));
    }
    let probe = |path: &str| json!({ "httpGet": { "path": path, "port": ADMIN_PORT } });
    let template = json!({
        "metadata": { "annotations": { GENERATION: workload.document["metadata"]["generation"].to_string() } },
        "spec": {
            "volumes": volumes,
            "containers": [{
                "name": CONTAINER,
                "securityContext": { "readOnlyRootFilesystem": true },
                "ports": [
                    { "name": "http", "containerPort": LISTEN_PORT },
                    { "name": "admin", "containerPort": ADMIN_PORT },
                ],
                "volumeMounts": mounts,
                "resources": { "requests": { "cpu": REQUESTS.0, "memory": REQUESTS.1 } },
                "readinessProbe": probe("/readyz"),
                "livenessProbe": probe("/healthz"),
            }],
        },
    });
    Workload {
        owner: owner.clone(),
        image: workload.image.clone(),
        args: args(workload),
        env: Vec::new(),
        fixed_env: Vec::new(),
        template: Some(template),
        service_account: Some(workload.service_account.clone()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn workload() -> AdapterWorkload {
        let mounted = |key: &str| Mounted {
            secret: "github".into(),
            key: key.into(),
        };
        AdapterWorkload {
            owner: Owner {
                api_version: "sources.eventing.knative.dev/v1alpha1".into(),
                kind: "GitHubSource".into(),
                namespace: "shop".into(),
                name: "hello".into(),
                uid: "5f0c7a3e-1b2c-4d5e-8f90-123456789abc".into(),
            },
            image: "headgate:1".into(),
            service_account: "reader".into(),
            document: json!({
                "apiVersion": "sources.eventing.knative.dev/v1alpha1", "kind": "GitHubSource",
                "metadata": {"name": "hello", "namespace": "shop", "generation": 4, "managedFields": []},
                "spec": {"ownerAndRepository": "octo/hello"}, "status": {},
            }),
            secrets: vec![mounted("secretToken"), mounted("accessToken")],
            sink: "http://headgate.headgate.svc/sources/shop/hello".into(),
            public_url: Some("https://events.example".into()),
            egress: vec!["--egress-deny=10.0.0.0/8".into()],
            is_called: true,
        }
    }

    fn companion<'a>(desired: &'a DesiredWorkload, kind: &str, name: &str) -> &'a Value {
        let is_it = |found: &&Value| found["kind"] == kind && found["metadata"]["name"] == name;
        desired.companions.iter().find(is_it).unwrap()
    }

    /// Proves: SR-6
    #[test]
    fn an_account_is_given_its_checkpoint_and_nothing_else() {
        let desired = adapter_objects(&workload());
        let role = companion(&desired, "Role", "githubsource-hello-5f0c7a3e");
        assert_eq!(
            role["rules"],
            json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["githubsource-hello-5f0c7a3e-state"], "verbs": ["get", "update"]}])
        );
        let subject = &companion(&desired, "RoleBinding", "githubsource-hello-5f0c7a3e")["subjects"][0];
        assert_eq!(subject["name"], "reader");
        for companion in &desired.companions {
            assert_eq!(
                companion["metadata"]["ownerReferences"][0]["name"], "hello",
                "{companion}"
            );
        }
    }

    #[test]
    fn a_pod_gets_the_document_and_the_secrets_as_files() {
        let desired = adapter_objects(&workload());
        let document = companion(&desired, "ConfigMap", "githubsource-hello-5f0c7a3e")["data"]["source.yaml"].clone();
        let document: Value = serde_json::from_str(document.as_str().unwrap()).unwrap();
        assert_eq!(document["metadata"], json!({"name": "hello", "namespace": "shop"}));
        assert_eq!(document["spec"]["ownerAndRepository"], "octo/hello");
        assert!(document.get("status").is_none());
        let pod = &desired.deployment["spec"]["template"];
        assert_eq!(pod["metadata"]["annotations"][GENERATION], "4");
        assert_eq!(
            (
                &pod["spec"]["serviceAccountName"],
                &pod["spec"]["automountServiceAccountToken"]
            ),
            (&json!("reader"), &json!(true))
        );
        let secret = &pod["spec"]["volumes"][2]["secret"];
        assert_eq!(
            (&secret["secretName"], secret["items"].as_array().unwrap().len()),
            (&json!("github"), 2)
        );
        let container = &pod["spec"]["containers"][0];
        assert_eq!(
            container["volumeMounts"][2]["mountPath"],
            "/headgate/secrets/shop/github"
        );
        let args: Vec<&str> = container["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|arg| arg.as_str().unwrap())
            .collect();
        assert_eq!(args[..3], ["adapter", "githubsource", DOCUMENTS]);
        assert!(args.contains(&"--state=shop/githubsource-hello-5f0c7a3e-state"));
        assert!(args.contains(&"--public-url=https://events.example"));
        assert!(args.contains(&"--egress-deny=10.0.0.0/8"));
        assert!(args.contains(&"--admin-read-token=5f0c7a3e-1b2c-4d5e-8f90-123456789abc"));
    }

    #[test]
    fn one_that_is_called_is_found_by_a_service() {
        let mut workload = workload();
        let service = adapter_objects(&workload);
        let service = companion(&service, "Service", "githubsource-hello-5f0c7a3e");
        assert_eq!(service["spec"]["selector"][SOURCE_UID], workload.owner.uid);
        assert_eq!(
            AdapterWorkload::url(&workload.owner),
            "http://githubsource-hello-5f0c7a3e.shop.svc:8090"
        );
        workload.is_called = false;
        assert!(
            adapter_objects(&workload)
                .companions
                .iter()
                .all(|object| object["kind"] != "Service")
        );
    }
}
