//! deploy/: what is installed on a cluster, tried on a real API server.

mod egress;

use std::{collections::BTreeMap, fs, path::PathBuf};

use e2e::{
    Gateway,
    binary::workspace,
    documents::{channel_reference, channel_with, github_source, secret, subscription},
    eventually,
};
use serde_json::{Value, json};
use servers::{Kubernetes, helm::Helm, kubernetes::Setup};

const NAMESPACE: &str = "headgate-system";
const ACCOUNT: &str = "system:serviceaccount:headgate-system:headgate";

fn path(relative: &str) -> String {
    workspace().join("deploy").join(relative).display().to_string()
}

/// A cluster with the namespace, whose Pod Security is enforced.
async fn cluster() -> Option<Kubernetes> {
    let setup = Setup {
        controller_manager: true,
        ..Setup::default()
    };
    let cluster = Kubernetes::start(setup).await?;
    cluster
        .kubectl(&["apply", "--server-side", "-f", &path("kustomize/namespace.yaml")])
        .await;
    Some(cluster)
}

/// What the server would make of documents, by kind, namespace and name, without what differs each time.
async fn served(cluster: &Kubernetes, documents: &str) -> BTreeMap<String, Value> {
    let arguments = ["apply", "--server-side", "--dry-run=server", "-o", "json", "-f", "-"];
    let output = cluster.kubectl_with(&arguments, documents).await;
    let mut objects = BTreeMap::new();
    let list: Value = serde_json::from_str(&output).expect("kubectl prints JSON");
    for mut object in list["items"].as_array().expect("a list").clone() {
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        for name in [
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "managedFields",
            "generation",
        ] {
            metadata.remove(name);
        }
        object.as_object_mut().expect("an object").remove("status");
        // Drawn from those that are free.
        for name in ["clusterIP", "clusterIPs"] {
            object["spec"].as_object_mut().map(|spec| spec.remove(name));
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = [
            &object["kind"],
            &object["metadata"]["namespace"],
            &object["metadata"]["name"],
        ]
        .map(text);
        objects.insert(key.join(" "), object);
    }
    objects
}

/// What the chart makes for a cluster like ours.
async fn templated(helm: &Helm, arguments: &[&str]) -> String {
    let chart = path("helm/headgate");
    let template = [
        "template",
        "headgate",
        &chart,
        "--namespace",
        NAMESPACE,
        "--kube-version",
        "1.34.2",
    ];
    helm.run(&[&template, arguments].concat(), &[]).await
}

#[tokio::test]
async fn kustomize_and_helm_make_the_same_objects_and_the_server_takes_them() {
    let (Some(cluster), Some(helm)) = (cluster().await, Helm::fetched().await) else {
        return;
    };
    let kustomized = cluster.kubectl(&["kustomize", &path("kustomize")]).await;
    let templated = templated(&helm, &["--include-crds"]).await;
    let mut kustomized = served(&cluster, &kustomized).await;
    let templated = served(&cluster, &templated).await;
    // A chart cannot bring the namespace that it is installed into.
    assert!(kustomized.remove(&format!("Namespace  {NAMESPACE}")).is_some());
    let names: Vec<_> = kustomized.keys().collect();
    assert_eq!(names, templated.keys().collect::<Vec<_>>());
    assert!(names.iter().any(|name| name.starts_with("CustomResourceDefinition")));
    for (name, object) in &kustomized {
        assert_eq!(object, &templated[name], "{name}");
    }
}

/// Their kinds are not the server's own, so that the texts are compared: what the chart makes is made of the files that kustomize takes.
#[tokio::test]
async fn kustomize_and_helm_bring_the_same_monitoring() {
    let (Some(cluster), Some(helm)) = (cluster().await, Helm::fetched().await) else {
        return;
    };
    let chosen = [
        "--set",
        "monitoring.enabled=true",
        "--show-only",
        "templates/monitoring.yaml",
    ];
    let templated = templated(&helm, &chosen).await;
    let kustomized = cluster.kubectl(&["kustomize", &path("monitoring")]).await;
    for kind in ["PodMonitor", "PrometheusRule", "ConfigMap"] {
        let count = |text: &str| text.lines().filter(|line| **line == format!("kind: {kind}")).count();
        assert!(count(&templated) > 0, "{kind}: {templated:.2000}");
        assert_eq!(count(&templated), count(&kustomized), "{kind}");
    }
    let indented = |text: &str| -> String {
        let line = |line: &str| {
            if line.is_empty() {
                "\n".to_owned()
            } else {
                format!("  {line}\n")
            }
        };
        text.lines().map(line).collect()
    };
    let monitors = fs::read_to_string(path("monitoring/pod-monitors.yaml")).expect("the monitors");
    let rules = fs::read_to_string(path("monitoring/headgate-rules.yml")).expect("the rules");
    let mut parts: Vec<String> = monitors.split("---\n").map(str::to_owned).collect();
    parts.push(indented(&rules));
    let bare = |text: &str| text.replace("  \n", "\n");
    for part in parts {
        assert!(
            bare(&templated).contains(bare(&part).trim_end()),
            "the chart lacks:\n{part}"
        );
    }
    for entry in fs::read_dir(path("monitoring/dashboards")).expect("dashboards") {
        let name = entry.expect("a dashboard").file_name().into_string().expect("a name");
        assert!(templated.contains(&format!("{name}: ")), "the chart lacks {name}");
        assert!(kustomized.contains(&format!("{name}: ")), "kustomize lacks {name}");
    }
}

#[tokio::test]
async fn kustomize_and_helm_make_the_same_objects_with_a_certificate() {
    let (Some(cluster), Some(helm)) = (cluster().await, Helm::fetched().await) else {
        return;
    };
    let kustomized = cluster.kubectl(&["kustomize", &path("kustomize-tls")]).await;
    let with_tls = templated(&helm, &["--include-crds", "--set", "tls.secret=headgate-tls"]).await;
    let (kustomized, with_tls) = (served(&cluster, &kustomized).await, served(&cluster, &with_tls).await);
    for (name, object) in &with_tls {
        assert_eq!(object, &kustomized[name], "{name}");
    }
    let set = &with_tls["StatefulSet headgate-system headgate"]["spec"]["template"]["spec"];
    let container = &set["containers"][0];
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["scheme"], "HTTPS", "{probe}");
    }
    assert_eq!(set["volumes"][0]["secret"]["secretName"], "headgate-tls");
    let port = &with_tls["Service headgate-system headgate"]["spec"]["ports"][0];
    assert_eq!((&port["name"], &port["port"]), (&json!("https"), &json!(443)));
    let authorities = ["--set", "tls.secret=t,tls.clientCA=clients.pem,tls.ca=ca.crt"];
    let templated = templated(&helm, &authorities).await;
    for variable in [
        r#"{ name: HEADGATE_TLS_CLIENT_CA, value: "/tls/clients.pem" }"#,
        r#"{ name: HEADGATE_GATEWAY_CA, value: "/tls/ca.crt" }"#,
    ] {
        assert!(templated.contains(variable), "{variable}: {templated}");
    }
}

#[tokio::test]
async fn values_of_the_chart_reach_what_they_are_about() {
    let (Some(cluster), Some(helm)) = (cluster().await, Helm::fetched().await) else {
        return;
    };
    let values = "image.repository=registry.example.org/headgate,image.tag=1.2.3,replicas=3,graceSeconds=60,\
                  publicUrl=https://events.example.org,storage.className=fast,storage.size=50Gi,networkPolicy.enabled=false,\
                  env[0].name=HEADGATE_MAX_HOPS,adminSecret=other,image.pullPolicy=Always";
    let templated = templated(&helm, &["--set", values, "--set-string", "env[0].value=8"]).await;
    let objects = served(&cluster, &templated).await;
    assert!(!objects.keys().any(|name| name.starts_with("NetworkPolicy")));
    let set = &objects["StatefulSet headgate-system headgate"]["spec"];
    assert_eq!(set["replicas"], 3);
    assert_eq!(set["template"]["spec"]["terminationGracePeriodSeconds"], 80);
    let container = &set["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "registry.example.org/headgate:1.2.3");
    assert_eq!(container["imagePullPolicy"], "Always");
    let variable = |name: &str| {
        let variables = container["env"].as_array().expect("variables");
        variables.iter().find(|variable| variable["name"] == name).cloned()
    };
    for (name, value) in [
        ("HEADGATE_IMAGE", "registry.example.org/headgate:1.2.3"),
        ("HEADGATE_PUBLIC_URL", "https://events.example.org"),
        ("HEADGATE_GRACE", "60s"),
        ("HEADGATE_MAX_HOPS", "8"),
    ] {
        assert_eq!(variable(name).expect(name)["value"], value);
    }
    for (name, key) in [
        ("HEADGATE_ADMIN_TOKEN", "token"),
        ("HEADGATE_ADMIN_READ_TOKEN", "read-token"),
    ] {
        let token = variable(name).expect(name);
        assert_eq!(token["valueFrom"]["secretKeyRef"]["name"], "other");
        assert_eq!(token["valueFrom"]["secretKeyRef"]["key"], key);
    }
    let claim = &set["volumeClaimTemplates"][0]["spec"];
    assert_eq!(claim["storageClassName"], "fast");
    assert_eq!(claim["resources"]["requests"]["storage"], "50Gi");
}

#[tokio::test]
async fn the_pod_is_admitted_where_pod_security_is_restricted() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let kustomized = cluster.kubectl(&["kustomize", &path("kustomize")]).await;
    let objects = served(&cluster, &kustomized).await;
    let set = &objects["StatefulSet headgate-system headgate"];
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "tried", "namespace": NAMESPACE },
        "spec": set["spec"]["template"]["spec"],
    });
    pod["spec"]["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "data-headgate-0" } }]);
    let try_it = ["create", "--dry-run=server", "-f", "-"];
    let tried = cluster.kubectl_with(&try_it, &pod.to_string()).await;
    assert!(tried.contains("pod/tried created"), "{tried}");
    // The same without one of the settings is refused: somebody looks.
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let refused = cluster.refused(&try_it, &pod.to_string()).await;
    assert!(refused.contains("violates PodSecurity \"restricted"), "{refused}");
}

/// One question to the server: verb, group, resource (with subresource), namespace, name.
type Question<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str);

async fn allowed(cluster: &Kubernetes, questions: &[Question<'_>]) -> Vec<bool> {
    let reviews: Vec<Value> = questions
        .iter()
        .map(|(verb, group, resource, namespace, name)| {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                "spec": { "user": ACCOUNT, "resourceAttributes": {
                    "verb": verb, "group": group, "resource": resource, "subresource": subresource,
                    "namespace": namespace, "name": name,
                } },
            })
        })
        .collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": reviews });
    let answers = cluster
        .kubectl_with(&["create", "-f", "-", "-o", "json"], &list.to_string())
        .await;
    // One document after the other.
    let answers = serde_json::Deserializer::from_str(&answers).into_iter::<Value>();
    answers
        .map(|answer| answer.expect("kubectl prints JSON")["status"]["allowed"] == true)
        .collect()
}

#[tokio::test]
async fn the_account_may_do_what_the_gateway_does_and_nothing_else() {
    let Some(cluster) = cluster().await else {
        return;
    };
    let (eventing, sources) = ("eventing.knative.dev", "sources.eventing.knative.dev");
    cluster.kubectl(&["apply", "--server-side", "-k", &path("crds")]).await;
    let roles = path("kustomize/roles.yaml");
    // Installed again, as an upgrade does, after the controller has filled the aggregated role.
    for _ in 0..2 {
        cluster
            .kubectl(&["apply", "--server-side", "-f", &path("kustomize/service-account.yaml")])
            .await;
        cluster.kubectl(&["apply", "--server-side", "-f", &roles]).await;
        cluster
            .kubectl(&["apply", "--server-side", "-f", &path("kubernetes/addressable.yaml")])
            .await;
        eventually("the role of addressables is filled", || async {
            let serving = ("watch", "serving.knative.dev", "services", "shop", "");
            allowed(&cluster, &[serving]).await[0].then_some(())
        })
        .await;
    }
    let may: &[Question<'_>] = &[
        ("watch", eventing, "channels", "", ""),
        ("list", eventing, "clusterchannelprovisioners", "", ""),
        ("patch", eventing, "subscriptions/status", "shop", "a"),
        ("watch", sources, "githubsources", "", ""),
        ("patch", sources, "githubsources", "shop", "a"),
        ("patch", sources, "containersources/status", "shop", "a"),
        ("create", "", "events", "shop", ""),
        ("watch", "", "services", "shop", ""),
        ("create", "", "services", "shop", ""),
        ("create", "apps", "deployments", "shop", ""),
        ("watch", "", "pods", "", ""),
        ("create", "rbac.authorization.k8s.io", "rolebindings", "shop", ""),
        ("update", "", "configmaps", "shop", "a-state"),
        ("update", "coordination.k8s.io", "leases", NAMESPACE, "headgate"),
        ("watch", "", "configmaps", NAMESPACE, "default-channel"),
        ("list", "", "configmaps", NAMESPACE, "default-channel-webhook"),
    ];
    let may_not: &[Question<'_>] = &[
        ("get", "", "secrets", "shop", "github"),
        ("list", "", "secrets", "", ""),
        ("list", "", "secrets", NAMESPACE, ""),
        ("patch", eventing, "channels", "shop", "a"),
        ("delete", eventing, "subscriptions", "shop", "a"),
        ("delete", sources, "githubsources", "shop", "a"),
        ("list", "", "events", "shop", ""),
        ("create", "", "pods", "shop", ""),
        ("create", "", "pods/exec", "shop", "a"),
        ("update", "coordination.k8s.io", "leases", "shop", "a"),
        ("list", "", "configmaps", "shop", ""),
        ("list", "", "configmaps", NAMESPACE, ""),
        ("watch", "", "configmaps", "shop", "default-channel"),
        ("create", "", "serviceaccounts/token", "shop", "default"),
        ("escalate", "rbac.authorization.k8s.io", "roles", "shop", ""),
        ("bind", "rbac.authorization.k8s.io", "clusterroles", "", "admin"),
        ("create", "rbac.authorization.k8s.io", "clusterrolebindings", "", ""),
        ("get", "", "nodes", "", ""),
    ];
    for (answer, question) in allowed(&cluster, may).await.iter().zip(may) {
        assert!(answer, "may not: {question:?}");
    }
    for (answer, question) in allowed(&cluster, may_not).await.iter().zip(may_not) {
        assert!(!answer, "may: {question:?}");
    }
    // One secret of one namespace, as the page says to do it.
    cluster.kubectl(&["create", "namespace", "shop"]).await;
    cluster
        .kubectl(&["apply", "-f", &path("kubernetes/secret-access.yaml")])
        .await;
    let secrets: &[Question<'_>] = &[
        ("get", "", "secrets", "shop", "github"),
        ("list", "", "secrets", "shop", "github"),
        ("watch", "", "secrets", "shop", "github"),
        ("get", "", "secrets", "shop", "other"),
        ("list", "", "secrets", "shop", ""),
    ];
    assert_eq!(allowed(&cluster, secrets).await, [true, true, true, false, false]);
}

#[tokio::test]
async fn the_server_takes_every_sample() {
    let Some(cluster) = cluster().await else {
        return;
    };
    cluster.kubectl(&["apply", "--server-side", "-k", &path("crds")]).await;
    cluster
        .kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"])
        .await;
    cluster.kubectl(&["create", "namespace", "shop"]).await;
    let folders = ["samples", "kubernetes"].map(|folder| PathBuf::from(path(folder)));
    let files = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).expect("a folder of samples"));
    let mut seen = 0;
    for file in files.map(|entry| entry.expect("a sample").path()) {
        if file.extension().is_some_and(|extension| extension == "yaml") {
            let file = file.display().to_string();
            cluster.kubectl(&["apply", "--dry-run=server", "-f", &file]).await;
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen} samples");
}

/// The same documents in both modes, by way of what `get -o yaml` prints.
#[tokio::test]
async fn what_get_prints_is_taken_by_a_cluster_and_what_kubectl_prints_by_a_gateway() {
    let Some(cluster) = cluster().await else {
        return;
    };
    cluster.kubectl(&["apply", "--server-side", "-k", &path("crds")]).await;
    cluster
        .kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"])
        .await;
    let documents = [
        channel_with(
            "orders",
            "embedded",
            json!({ "arguments": { "retention": { "age": "PT1H" } } }),
        ),
        subscription(
            "audit",
            "orders",
            "http://127.0.0.1:9/",
            json!({ "filters": [{ "exact": { "type": "a" } }] }),
        ),
        secret("github", json!({ "secretToken": "hush" })),
        github_source("hello", &["push"], &channel_reference("orders")),
    ];
    let gateway = Gateway::with(documents).await;
    let printed = gateway.cli(&["get", "all", "-o", "yaml"]).await.exits(0).stdout;
    assert!(!printed.contains("hush"), "a secret is printed: {printed}");
    let applied = cluster.kubectl_with(&["apply", "-f", "-"], &printed).await;
    for name in ["orders", "audit", "hello"] {
        assert!(applied.contains(&format!("/{name} created")), "{applied}");
    }
    let back = cluster
        .kubectl(&["get", "knative", "-n", "default", "-o", "yaml"])
        .await;
    let there: Value = serde_json::from_str(
        &cluster
            .kubectl(&["get", "knative", "-n", "default", "-o", "json"])
            .await,
    )
    .expect("kubectl prints JSON");
    let again = Gateway::set_up()
        .documents([secret("github", json!({ "secretToken": "hush" }))])
        .prepare();
    again.write("back.yaml", &back);
    let mut again = again;
    again.start_again().await;
    again.settled().await;
    for item in there["items"].as_array().expect("a list") {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, name) = (text(&item["kind"]), text(&item["metadata"]["name"]));
        let (one, other) = (
            gateway.wait_object(&kind, &name, |_| true).await,
            again.wait_object(&kind, &name, |_| true).await,
        );
        assert_eq!(one["spec"], other["spec"], "{kind} {name}");
    }
    assert_eq!(there["items"].as_array().map(Vec::len), Some(3));
}
