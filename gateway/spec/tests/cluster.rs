//! The custom resource definitions, on a real API server with real kubectl: what is taken, what is refused and in which words, what
//! `kubectl get` shows. The documents stand in v0.2.yaml and refused.yaml; `headgate validate` is the other judge of each.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use std::{fs, path::Path};

use kit::loaded;
use servers::Kubernetes;
use spec::{Fault, crds};
use tokio::sync::OnceCell;

const V0_2: &str = include_str!("v0.2.yaml");
const REFUSED: &str = include_str!("refused.yaml");

/// The server that all tests of this file share, with the definitions in force. `None` when it is to be skipped.
async fn cluster() -> Option<&'static Kubernetes> {
    static DEFINED: OnceCell<()> = OnceCell::const_new();
    let cluster = Kubernetes::shared().await?;
    DEFINED
        .get_or_init(|| async {
            cluster.kubectl_with(&["apply", "-f", "-"], &crds()).await;
            let wait = [
                "wait",
                "--for=condition=Established",
                "--timeout=60s",
                "customresourcedefinitions",
            ];
            cluster.kubectl(&[&wait[..], &["--all"]].concat()).await;
        })
        .await;
    Some(cluster)
}

/// The documents of a file that begins with a comment.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n---\n").skip(1)
}

fn faults(text: &str) -> Vec<Fault> {
    // What a document refers to is another matter than what it says.
    loaded(text)
        .faults
        .into_iter()
        .filter(|fault| !fault.dangling)
        .collect()
}

#[tokio::test]
async fn the_seven_definitions_are_established_and_structural() {
    let Some(cluster) = cluster().await else { return };
    let shown = cluster
        .kubectl(&[
            "get",
            "customresourcedefinitions",
            "-o",
            r#"jsonpath={range .items[*]}{.metadata.name}{range .status.conditions[?(@.status=="True")]} {.type}{end}{"\n"}{end}"#,
        ])
        .await;
    let mut lines: Vec<&str> = shown.lines().collect();
    lines.sort_unstable();
    let expected = [
        "channels.eventing.knative.dev",
        "clusterchannelprovisioners.eventing.knative.dev",
        "containersources.sources.eventing.knative.dev",
        "gcppubsubsources.sources.eventing.knative.dev",
        "githubsources.sources.eventing.knative.dev",
        "kuberneteseventsources.sources.eventing.knative.dev",
        "subscriptions.eventing.knative.dev",
    ];
    assert_eq!(lines, expected.map(|name| format!("{name} NamesAccepted Established")));
}

#[tokio::test]
async fn documents_of_v0_2_apply_and_are_replaced_without_what_a_controller_had_added() {
    let Some(cluster) = cluster().await else { return };
    cluster.kubectl(&["create", "namespace", "v0-2"]).await;
    for document in documents(V0_2) {
        assert!(faults(document).is_empty(), "{document}\n{:?}", faults(document));
        let document = document.replace("namespace: default\nspec", "namespace: v0-2\nspec");
        cluster
            .kubectl_with(&["apply", "-n", "v0-2", "-f", "-"], &document)
            .await;
        let without = document
            .replace("  generation: 1\n", "")
            .replace("  generation: 2\n", "");
        let with = document.replace("\nspec:\n", "\nspec:\n  generation: 7\n");
        for again in [without, with] {
            let again = again.replace("generation: 7\n  generation: 1\n", "generation: 7\n");
            let again = again.replace("generation: 7\n  generation: 2\n", "generation: 7\n");
            cluster
                .kubectl_with(&["replace", "-n", "v0-2", "-f", "-"], &again)
                .await;
        }
        let owned = ["apply", "--server-side", "--force-conflicts", "-n", "v0-2", "-f", "-"];
        cluster.kubectl_with(&owned, &document).await;
    }
    let path = r#"jsonpath={.spec.env[1].value} {.spec.serviceAccountname}"#;
    let kept = cluster
        .kubectl(&["get", "-n", "v0-2", "containersource", "env-as-a-list", "-o", path])
        .await;
    assert_eq!(kept, "event-test heartbeats", "nothing is pruned");
    let path = r#"jsonpath={.spec.env.POD_NAMESPACE}"#;
    let kept = cluster
        .kubectl(&["get", "-n", "v0-2", "containersource", "env-as-a-map", "-o", path])
        .await;
    assert_eq!(kept, "event-test");
}

#[tokio::test]
async fn every_sample_is_taken_by_the_api_server() {
    let Some(cluster) = cluster().await else { return };
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/samples");
    let count = fs::read_dir(&samples).unwrap().count();
    let samples = samples.display().to_string();
    let said = cluster.kubectl(&["apply", "--dry-run=server", "-f", &samples]).await;
    assert!(said.lines().count() >= count, "{said}");
}

/// One table, two judges: neither takes what the other refuses, and both say why in the same words.
#[tokio::test]
async fn what_validate_refuses_the_api_server_refuses_in_the_same_words() {
    let Some(cluster) = cluster().await else { return };
    let mut wrong = Vec::new();
    for case in documents(REFUSED) {
        let document = whole(case);
        let found = faults(&document);
        let [fault] = found.as_slice() else {
            wrong.push(format!("{case}\n  validate: {found:?}"));
            continue;
        };
        if !fault.message.contains(words(case, "file")) {
            wrong.push(format!("{case}\n  validate: {}", fault.what()));
        }
        let said = cluster
            .try_kubectl(&["create", "--dry-run=server", "-f", "-"], &document)
            .await;
        let Err(said) = said else {
            wrong.push(format!("{case}\n  the API server takes it"));
            continue;
        };
        // It knows no place for what an object's name is, nor for one key among many.
        let place = fault.path.rsplit_once('.').map_or("", |(above, _)| above);
        let place = if place == "metadata" { "" } else { place };
        if !said.contains(words(case, "server")) || !said.contains(place) {
            wrong.push(format!(
                "{case}\n  validate: {}\n  the API server: {said}",
                fault.what()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The forms of texts are checked by code here and by patterns there: these are where the two could part.
#[tokio::test]
async fn a_text_is_of_its_form_for_both_judges_or_for_none() {
    let Some(cluster) = cluster().await else { return };
    let subscription = |body: &str| {
        format!("kind: Subscription\nspec: {{ channel: {{ name: c }}, subscriber: {{ uri: 'http://h/' }}, {body} }}")
    };
    let subscriber =
        |body: &str| format!("kind: Subscription\nspec: {{ channel: {{ name: c }}, subscriber: {{ {body} }} }}");
    let github = |repository: &str, key: &str| {
        format!(
            "kind: GitHubSource\nspec: {{ ownerAndRepository: {repository}, secretToken: {{ secretKeyRef: {{ name: g, key: {key} }} }}, sink: {{ uri: 'http://h/' }} }}"
        )
    };
    let long = "a".repeat(254);
    let table: [(String, &[&str]); 9] = [
        (
            subscription("delivery: { timeout: TEXT }"),
            &[
                "PT1S",
                "PT0.2S",
                "PT0,2S",
                "P1D",
                "P1W2D",
                "PT1H30M",
                "P1DT12H",
                "PT1.5M",
                "PT0.5H",
                "PT0S",
                "PT0.0S",
                "P",
                "PT",
                "P1DT",
                "P1Y",
                "P1M",
                "pt1s",
                "1s",
                "",
                "PT1.5H30M",
                "PT-1S",
                "-PT1S",
                "P1D ",
            ],
        ),
        (
            subscriber("uri: TEXT"),
            &[
                "http://h",
                "HTTP://h/",
                "h2c://h:1",
                "https://h/a?b=c#d",
                "http://[::1]:80/",
                "http://u:p@h/",
                "http:h",
                "http:///p",
                "http://",
                "http://:80/",
                "ws://h/",
                " http://h/",
                "http://h/a b",
                "h:80",
                "",
            ],
        ),
        (
            subscriber("uri: TEXT, ref: { apiVersion: v1, kind: Service, name: x }"),
            &[
                "/a",
                "a",
                "?x=1",
                "#f",
                "/a:b",
                "a/b:c",
                "a:b",
                "http://h/",
                "https://h",
                "ftp://h/",
                "mailto:a@b",
                "",
            ],
        ),
        (
            subscriber("dnsName: TEXT"),
            &[
                "h",
                "h.example",
                "h:80",
                "[::1]",
                "[::1]:80",
                "::1",
                "http://h/x",
                "HTTPS://h",
                "h/x",
                "h?x",
                "u@h",
                "a b",
                "ftp://h/",
                ":80",
                "",
            ],
        ),
        (
            "kind: Subscription\nspec: { channel: { name: TEXT }, subscriber: { uri: 'http://h/' } }".to_owned(),
            &[
                "a",
                "a.b-c",
                "9",
                "A",
                "a..b",
                "-a",
                "a-",
                ".a",
                "a_b",
                "",
                &long[1..],
                &long,
            ],
        ),
        (
            github("TEXT", "k"),
            &["o", "o/r", "a-b/c.d_e", "o/", "/r", "a/b/c", "a b", ""],
        ),
        (
            github("o/r", "TEXT"),
            &["a", ".a", "a..b", "a-_.B9", ".", "..", "..a", "a/b", "a b", ""],
        ),
        (
            "kind: KubernetesEventSource\nspec: { namespace: TEXT, allNamespaces: true, sink: { uri: 'http://h/' } }"
                .to_owned(),
            &["", "a", "a-b", "a.b", "A", "-", &long[..63], &long[..64]],
        ),
        (
            "kind: GcpPubSubSource\nspec: { googleCloudProject: p, topic: TEXT, sink: { uri: 'http://h/' } }"
                .to_owned(),
            &["abc", "ab", "", &long],
        ),
    ];
    let mut wrong = Vec::new();
    for (template, texts) in table {
        let verdicts: Vec<bool> = texts
            .iter()
            .map(|text| faults(&written(&template, text)).is_empty())
            .collect();
        assert!(
            verdicts.contains(&true) && verdicts.contains(&false),
            "{template}: {verdicts:?}"
        );
        for (text, taken) in texts.iter().zip(verdicts) {
            let document = written(&template, text);
            let said = cluster
                .try_kubectl(&["create", "--dry-run=server", "-f", "-"], &document)
                .await;
            if said.is_ok() != taken {
                wrong.push(format!(
                    "{template}\n  {text:?}: validate takes it: {taken}; the API server: {said:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// A case with a text in it, in quotes.
fn written(template: &str, text: &str) -> String {
    whole(&template.replace("TEXT", &format!("{text:?}")))
}

/// With what every document has, and the table leaves out.
fn whole(case: &str) -> String {
    let kind = case.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap();
    let group = if kind.ends_with("Source") { "sources." } else { "" };
    let metadata = if case.contains("\nmetadata:") {
        ""
    } else {
        "metadata: { name: refused }\n"
    };
    format!("apiVersion: {group}eventing.knative.dev/v1alpha1\n{metadata}{case}\n")
}

/// What a judge says of a case.
fn words<'a>(case: &'a str, judge: &str) -> &'a str {
    let said = case.lines().filter_map(|line| line.strip_prefix("# "));
    let own = said
        .clone()
        .find_map(|line| line.strip_prefix(judge)?.strip_prefix(": "));
    own.or_else(|| said.clone().next()).unwrap()
}

#[tokio::test]
async fn what_is_immutable_is_refused_when_it_changes_and_only_then() {
    let Some(cluster) = cluster().await else { return };
    cluster.kubectl(&["create", "namespace", "immutable"]).await;
    let channel = |spec: &str| format!("kind: Channel\nmetadata: {{ name: c }}\nspec: {spec}");
    let subscription = |channel: &str| {
        format!(
            "kind: Subscription\nmetadata: {{ name: s }}\nspec: {{ channel: {channel}, subscriber: {{ uri: 'http://h/' }} }}"
        )
    };
    let provisioner =
        |name: &str, spec: &str| format!("kind: ClusterChannelProvisioner\nmetadata: {{ name: {name} }}\nspec: {spec}");
    let table = [
        (
            channel("{ provisioner: { name: kafka } }"),
            channel("{ provisioner: { name: nats } }"),
            "spec.provisioner",
        ),
        // The same by another name, or by its whole reference.
        (
            channel("{ provisioner: { name: kafka } }"),
            channel("{ provisioner: { name: kafka-channel } }"),
            "",
        ),
        (
            channel("{ provisioner: { name: kafka } }"),
            channel(
                "{ provisioner: { kind: ClusterChannelProvisioner, name: kafka }, arguments: { numPartitions: 2 } }",
            ),
            "",
        ),
        // Which one the default is, only the gateway knows; it tells in a condition.
        (channel("{ provisioner: { name: kafka } }"), channel("{}"), ""),
        (channel("{}"), channel("{ provisioner: { name: memory } }"), ""),
        (subscription("{ name: c }"), subscription("{ name: d }"), "spec.channel"),
        (
            subscription("{ name: c, namespace: a }"),
            subscription("{ name: c, namespace: b }"),
            "spec.channel",
        ),
        (
            subscription("{ name: c }"),
            subscription("{ kind: Channel, name: c }"),
            "",
        ),
        (
            provisioner("log", "{ backend: embedded }"),
            provisioner("log", "{ backend: memory }"),
            "spec.backend",
        ),
        (
            provisioner("embedded", "{}"),
            provisioner("embedded", "{ backend: embedded }"),
            "",
        ),
    ];
    for (before, after, refused) in table {
        let [before, after] = [before, after].map(|text| whole(&text));
        cluster
            .kubectl_with(&["create", "-n", "immutable", "-f", "-"], &before)
            .await;
        let said = cluster
            .try_kubectl(&["replace", "-n", "immutable", "-f", "-"], &after)
            .await;
        match (&said, refused) {
            (Ok(_), "") => {}
            (Err(said), refused) if !refused.is_empty() => {
                assert!(
                    said.contains(&format!("{refused}: ")) && said.contains("is immutable"),
                    "{after}\n{said}"
                );
            }
            _ => panic!("{before}\n{after}\n{said:?}"),
        }
        cluster
            .kubectl_with(&["delete", "-n", "immutable", "-f", "-"], &before)
            .await;
    }
}

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
            ready("True", "", r#""address":{"url":"http://orders/"}"#),
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
            "NAME READY REASON PROVISIONER ADDRESS",
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
