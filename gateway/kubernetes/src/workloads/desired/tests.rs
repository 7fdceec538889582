#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;

fn owner(name: &str) -> Owner {
    Owner {
        api_version: "sources.eventing.knative.dev/v1alpha1".into(),
        kind: "ContainerSource".into(),
        namespace: "shop".into(),
        name: name.into(),
        uid: "5f0c7a3e-1b2c-4d5e-8f90-123456789abc".into(),
    }
}

fn workload() -> Workload {
    Workload {
        owner: owner("beats"),
        image: "registry.example/beats:1".into(),
        args: vec!["--sink=http://gateway/sources/shop/beats".into()],
        env: vec![
            json!({"name": "K_SINK", "value": "http://elsewhere"}),
            json!({"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "beats", "key": "token"}}}),
        ],
        fixed_env: vec![("K_SINK".into(), "http://gateway/sources/shop/beats".into())],
        template: None,
        service_account: None,
    }
}

fn source(deployment: &Value) -> &Value {
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    containers
        .iter()
        .find(|container| container["name"] == CONTAINER)
        .unwrap()
}

#[test]
fn a_deployment_belongs_to_its_source_and_runs_one_pod_of_it() {
    let made = deployment(&workload());
    assert_eq!(made["metadata"]["name"], "containersource-beats-5f0c7a3e");
    assert_eq!(made["metadata"]["namespace"], "shop");
    let owner = &made["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["controller"]),
        (&json!("ContainerSource"), &json!(true))
    );
    assert_eq!(owner["uid"], workload().owner.uid);
    assert_eq!(made["spec"]["replicas"], 1);
    assert_eq!(made["spec"]["strategy"]["type"], "Recreate");
    let selected = &made["spec"]["selector"]["matchLabels"][SOURCE_UID];
    assert_eq!(selected, &made["spec"]["template"]["metadata"]["labels"][SOURCE_UID]);
}

/// Proves: SR-6
#[test]
fn variables_are_passed_on_as_references_and_ours_win() {
    let made = deployment(&workload());
    assert_eq!(
        source(&made)["env"],
        json!([
            {"name": "K_SINK", "value": "http://gateway/sources/shop/beats"},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "beats", "key": "token"}}},
        ])
    );
}

#[test]
fn the_restricted_level_admits_what_a_source_gets_by_default() {
    let made = deployment(&workload());
    let pod = &made["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(source(&made)["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(source(&made)["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert!(pod.get("serviceAccountName").is_none() && pod.get("initContainers").is_none());
}

#[test]
fn a_template_is_laid_over_and_takes_nothing_of_ours_away() {
    let mut workload = workload();
    workload.service_account = Some("beats".into());
    workload.template = Some(json!({
        "metadata": {"labels": {"team": "blue", SOURCE_UID: "stolen"}, "annotations": {"a": "b"}},
        "spec": {
            "securityContext": {"runAsNonRoot": null, "runAsUser": 1000},
            "nodeSelector": {"disk": "ssd"},
            "initContainers": [{"name": "wait", "image": "wait:1"}],
            "containers": [
                {"name": "source", "resources": {"limits": {"memory": "64Mi"}}, "env": [{"name": "K_SINK", "value": "x"}, {"name": "LEVEL", "value": "debug"}]},
                {"name": "proxy", "image": "proxy:1"},
            ],
        },
    }));
    let made = deployment(&workload);
    let (metadata, pod) = (&made["spec"]["template"]["metadata"], &made["spec"]["template"]["spec"]);
    assert_eq!(
        (&metadata["labels"]["team"], &metadata["annotations"]["a"]),
        (&json!("blue"), &json!("b"))
    );
    assert_eq!(metadata["labels"][SOURCE_UID], workload.owner.uid);
    assert_eq!(pod["serviceAccountName"], "beats");
    assert!(pod["securityContext"].get("runAsNonRoot").is_none());
    assert_eq!(pod["nodeSelector"]["disk"], "ssd");
    let source = source(&made);
    assert_eq!(source["image"], "registry.example/beats:1");
    assert_eq!(source["resources"]["limits"]["memory"], "64Mi");
    let names: Vec<&str> = source["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|env| env["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["K_SINK", "TOKEN", "LEVEL"]);
    let sink = json!({"name": "K_SINK", "value": "http://gateway/sources/shop/beats"});
    for other in [&pod["containers"][1], &pod["initContainers"][0], source] {
        assert_eq!(other["env"][0], sink, "{other}");
    }
}

#[test]
fn names_stay_within_what_kubernetes_takes() {
    let long = format!("{}.{}", "a".repeat(23), "b".repeat(200));
    let name = owner(&long).child();
    assert_eq!(name, format!("containersource-{}-5f0c7a3e", "a".repeat(23)));
    assert!(name.len() <= 52, "{name}");
    let instance = owner(&long).labels()[INSTANCE].as_str().unwrap().to_owned();
    assert!(instance.len() <= LABEL_MAX && !instance.ends_with('.'), "{instance}");
}
