//! What runs one of our adapters in a pod of its own, under the account its source names. Pure.
//!
//! The pod gets its source's document and secrets as files, which the kubelet keeps up to date: its account needs no right to
//! read either. The one right it is given is its own checkpoint's, by a Role that belongs to the source; whatever the adapter
//! watches (Events, say) its owner grants.

use serde_json::{Value, json};

use super::{
    Wanted,
    desired::{CONTAINER, Owner, SOURCE_UID, Workload, deployment},
};
use crate::checkpoints::state_name;

/// Where a pod receives what it is called with, and where it is asked for its health.
const LISTEN_PORT: u16 = 8090;
pub const ADMIN_PORT: u16 = 8091;

const DOCUMENTS: &str = "/headgate/documents";
const SECRETS: &str = "/headgate/secrets";
const DATA: &str = "/headgate/data";

/// Of the source's document: a change of it makes a new pod, so that it is in force at once and not when the kubelet next
/// looks, a minute later.
const GENERATION: &str = "headgate.dev/source-generation";

/// One adapter at rest needs 20 MiB and next to no time; what it needs at work depends on what it reads.
const REQUESTS: (&str, &str) = ("10m", "32Mi");

/// What is made beside the Deployment, under its name; the state stays.
pub(super) const COMPANIONS: [(&str, &str); 4] = [
    ("v1", "Service"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("v1", "ConfigMap"),
];

/// A key of a secret that the document names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mounted {
    pub secret: String,
    pub key: String,
}

/// What is to run for a source with an account of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterWorkload {
    pub owner: Owner,
    /// The gateway's own image.
    pub image: String,
    pub service_account: String,
    /// `apiVersion`, `kind`, `metadata`, `spec`.
    pub document: Value,
    pub secrets: Vec<Mounted>,
    /// Where it posts its events.
    pub sink: String,
    /// By which its gateway is reached from outside, where it is.
    pub public_url: Option<String>,
    /// It is called, and others find it by a Service.
    pub is_called: bool,
}

impl AdapterWorkload {
    /// Where the gateway hands on what the source is called with.
    pub fn url(owner: &Owner) -> String {
        format!("http://{}.{}.svc:{LISTEN_PORT}", owner.child(), owner.namespace)
    }
}

/// The Deployment and what it needs.
pub fn adapter_objects(workload: &AdapterWorkload) -> Wanted {
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
    Wanted {
        owner: owner.clone(),
        deployment: deployment(&pod(workload)),
        companions,
    }
}

/// The object of the checkpoint, empty: the account may change it and not make it.
fn state(owner: &Owner) -> Value {
    let mut metadata = owner.metadata();
    metadata["name"] = json!(state_name(owner));
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata })
}

/// As it would stand in a file.
fn document(object: &Value) -> Value {
    json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"],
        "metadata": { "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"] },
        "spec": object["spec"],
    })
}

fn pod(workload: &AdapterWorkload) -> Workload {
    let owner = &workload.owner;
    let mut args = vec![
        "adapter".to_owned(),
        owner.kind.to_lowercase(),
        DOCUMENTS.to_owned(),
        format!("--sink={}", workload.sink),
        format!("--listen=0.0.0.0:{LISTEN_PORT}"),
        format!("--admin=0.0.0.0:{ADMIN_PORT}"),
        format!("--data={DATA}"),
        format!("--secrets={SECRETS}"),
        format!("--state={}/{}", owner.namespace, state_name(owner)),
        format!("--state-uid={}", owner.uid),
        "--log-format=json".to_owned(),
    ];
    if let Some(url) = &workload.public_url {
        args.push(format!("--public-url={url}"));
    }
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
        // One that is missing is the source's condition, and not a pod that does not start.
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
        args,
        env: Vec::new(),
        given: Vec::new(),
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
            is_called: true,
        }
    }

    fn companion<'a>(wanted: &'a Wanted, kind: &str, name: &str) -> &'a Value {
        let is_it = |found: &&Value| found["kind"] == kind && found["metadata"]["name"] == name;
        wanted.companions.iter().find(is_it).unwrap()
    }

    /// Proves: SR-6
    #[test]
    fn an_account_is_given_its_checkpoint_and_nothing_else() {
        let wanted = adapter_objects(&workload());
        let role = companion(&wanted, "Role", "githubsource-hello-5f0c7a3e");
        assert_eq!(
            role["rules"],
            json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["githubsource-hello-5f0c7a3e-state"], "verbs": ["get", "update"]}])
        );
        let subject = &companion(&wanted, "RoleBinding", "githubsource-hello-5f0c7a3e")["subjects"][0];
        assert_eq!(subject["name"], "reader");
        for companion in &wanted.companions {
            assert_eq!(
                companion["metadata"]["ownerReferences"][0]["name"], "hello",
                "{companion}"
            );
        }
    }

    #[test]
    fn a_pod_gets_the_document_and_the_secrets_as_files() {
        let wanted = adapter_objects(&workload());
        let document = companion(&wanted, "ConfigMap", "githubsource-hello-5f0c7a3e")["data"]["source.yaml"].clone();
        let document: Value = serde_json::from_str(document.as_str().unwrap()).unwrap();
        assert_eq!(document["metadata"], json!({"name": "hello", "namespace": "shop"}));
        assert_eq!(document["spec"]["ownerAndRepository"], "octo/hello");
        assert!(document.get("status").is_none());
        let pod = &wanted.deployment["spec"]["template"];
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
