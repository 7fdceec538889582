//! The parts of an object that a person sees: columns, short names, categories.

use super::{cluster, whole};

#[tokio::test]
async fn kubectl_get_shows_what_a_person_wants_to_know() {
    let Some(cluster) = cluster().await else { return };
    cluster.kubectl(&["create", "namespace", "columns"]).await;
    let get = |what: &'static str| async move {
        let shown = cluster.kubectl(&["get", "-n", "columns", what]).await;
        // An age is what it is.
        let line = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words[..words.len() - 1].join(" ")
        };
        shown.lines().map(line).collect::<Vec<_>>()
    };
    let documents = [
        whole("kind: Channel\nmetadata: { name: orders }\nspec: { provisioner: { name: embedded } }"),
        whole(
            "kind: Subscription\nmetadata: { name: bill }\nspec: { channel: { name: orders }, subscriber: { uri: 'http://h/' } }",
        ),
        whole("kind: ClusterChannelProvisioner\nmetadata: { name: columns }\nspec: { backend: embedded }"),
        whole(
            "kind: KubernetesEventSource\nmetadata: { name: events }\nspec: { namespace: columns, sink: { uri: 'http://h/' } }",
        ),
        whole(
            "kind: GitHubSource\nmetadata: { name: hub }\nspec: { ownerAndRepository: o/r, secretToken: { secretKeyRef: { name: a, key: b } }, sink: { uri: 'http://h/' } }",
        ),
        whole(
            "kind: GcpPubSubSource\nmetadata: { name: topic }\nspec: { googleCloudProject: p, topic: orders, sink: { uri: 'http://h/' } }",
        ),
        whole("kind: ContainerSource\nmetadata: { name: box }\nspec: { image: i, sink: { uri: 'http://h/' } }"),
    ];
    let documents = documents.join("---\n");
    cluster
        .kubectl_with(&["apply", "-n", "columns", "-f", "-"], &documents)
        .await;
    let ready = |status: &str, reason: &str, more: &str| {
        format!(
            r#"{{"status":{{"conditions":[{{"type":"Ready","status":"{status}","reason":"{reason}","message":"m","lastTransitionTime":"2026-01-31T12:00:00Z"}}],{more}}}}}"#
        )
    };
    for (object, status) in [
        (
            "channel/orders",
            ready(
                "True",
                "",
                r#""address":{"url":"http://orders/"},"provisioner":{"name":"embedded"}"#,
            ),
        ),
        (
            "subscription/bill",
            ready(
                "False",
                "NotFound",
                r#""physicalSubscription":{"subscriberURI":"http://h/"}"#,
            ),
        ),
        (
            "clusterchannelprovisioner/columns",
            ready("True", "", r#""durability":"disk""#),
        ),
        (
            "githubsource/hub",
            ready("False", "SecretTokenNotFound", r#""sinkUri":"http://h/""#),
        ),
    ] {
        let patch = [
            "patch",
            "-n",
            "columns",
            object,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ];
        cluster.kubectl(&patch).await;
    }
    assert_eq!(
        get("chan").await,
        [
            "NAME READY REASON PROVISIONER DURABILITY ADDRESS",
            "orders True embedded http://orders/"
        ]
    );
    assert_eq!(
        get("sub").await,
        [
            "NAME READY REASON CHANNEL SUBSCRIBER",
            "bill False NotFound orders http://h/"
        ]
    );
    assert_eq!(get("ccp").await[0], "NAME READY REASON BACKEND DURABILITY");
    assert!(get("ccp").await.contains(&"columns True embedded disk".to_owned()));
    assert_eq!(
        get("githubsources").await,
        ["NAME READY REASON SINK", "hub False SecretTokenNotFound http://h/"]
    );
    let all = cluster
        .kubectl(&["get", "-n", "columns", "sources", "-o", "name"])
        .await;
    let mut all: Vec<&str> = all.lines().collect();
    all.sort_unstable();
    let group = "sources.eventing.knative.dev";
    let expected = [
        "containersource",
        "gcppubsubsource",
        "githubsource",
        "kuberneteseventsource",
    ];
    let names = ["box", "topic", "hub", "events"];
    let expected: Vec<String> = expected
        .iter()
        .zip(names)
        .map(|(kind, name)| format!("{kind}.{group}/{name}"))
        .collect();
    assert_eq!(all, expected);
    let knative = cluster
        .kubectl(&["get", "-n", "columns", "eventing", "-o", "name"])
        .await;
    assert!(
        knative.contains("channel.eventing.knative.dev/orders") && knative.contains("githubsource."),
        "{knative}"
    );
    // The two parts of an object are written apart.
    let spec = cluster
        .kubectl(&[
            "get",
            "-n",
            "columns",
            "channel",
            "orders",
            "-o",
            "jsonpath={.metadata.generation} {.status.address.url}",
        ])
        .await;
    cluster
        .kubectl_with(
            &["replace", "-n", "columns", "-f", "-"],
            &documents.replace(
                "columns }\nspec: { backend",
                "columns }\nspec: { requireDurability: disk, backend",
            ),
        )
        .await;
    let after = cluster
        .kubectl(&[
            "get",
            "-n",
            "columns",
            "channel",
            "orders",
            "-o",
            "jsonpath={.metadata.generation} {.status.address.url}",
        ])
        .await;
    assert_eq!(
        (&*spec, &*after),
        ("1 http://orders/", "1 http://orders/"),
        "a status outlives a replaced spec"
    );
}
