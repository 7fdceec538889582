//! Containers as sources: what an image of other people's gets and posts, and what becomes of it when the source, the gateway
//! or the engine changes.

use std::time::Duration;

use e2e::{
    Gateway, Request, Sink,
    documents::{channel, channel_reference, container_source, secret, subscription},
    eventually,
    gateway::condition,
};
use serde_json::{Value, json};
use servers::Docker;
use tokio::time::Instant;

/// Posts an event named as `$NAME` says for each number up to `$COUNT`, as its first words the arguments it got, and stays.
const BEATS: &str = r#"echo "arguments: $*"; trap 'exit 0' TERM; sink=none
for argument; do case $argument in --sink=*) sink=${argument#--sink=} ;; esac; done
[ "$sink" = none ] && sink=$2
n=0
while [ $n -lt $COUNT ]; do n=$((n + 1))
  wget -q -O - --header 'ce-specversion: 1.0' --header "ce-id: $NAME-$n" --header 'ce-source: /beats' --header 'ce-type: beat' \
    --header "ce-alike: $([ "$sink" = "$SINK" ] && [ "$sink" = "$K_SINK" ] && echo yes)" \
    --header "ce-level: ${LEVEL:-none}" --post-data "$K_CE_OVERRIDES" "$sink" || exit 8
done
while :; do sleep 1; done"#;

/// Whole events in JSON, and answers on the output: `nc` speaks what `wget` cannot.
const POSTER: &str = r#"host=${K_SINK#http://}; path=/${host#*/}; host=${host%%/*}
post() {
  printf 'POST %s HTTP/1.1\r\nhost: %s\r\ncontent-type: %s\r\ncontent-length: %s\r\nconnection: close\r\n\r\n%s' \
    "$path" "$host" "$1" "${#2}" "$2" | nc "${host%:*}" "${host#*:}" | head -n 6
}
event() { echo "{\"specversion\":\"1.0\",\"id\":\"$1\",\"source\":\"/poster\",\"type\":\"posted\",\"data\":{\"n\":1.0}}"; }
post application/cloudevents+json "$(event one)"
post application/cloudevents-batch+json "[$(event two),$(event three)]"
post application/cloudevents+json '{"no":"event"}'
path=/default/beats; post application/cloudevents+json "$(event never)"
trap 'exit 0' TERM
while :; do sleep 1; done"#;

fn beats(name: &str, more: Value) -> Value {
    let mut document = container_source(name, "e2e/beats:1", &channel_reference("beats"));
    e2e::documents::merge(&mut document["spec"], more);
    document
}

async fn beating(docker: &Docker, sources: impl IntoIterator<Item = Value>) -> (Gateway, Sink) {
    docker.image("e2e/beats:1", BEATS).await;
    let sink = Sink::start().await;
    let documents = [
        channel("beats", "embedded"),
        subscription("all", "beats", &sink.url(), json!({})),
    ];
    let gateway = Gateway::set_up()
        .environment("DOCKER_HOST", &docker.host())
        .documents(documents.into_iter().chain(sources))
        .start()
        .await;
    (gateway, sink)
}

/// Ids of the containers of a source, running or not. Sources have names of their own, because tests share an engine.
async fn containers(docker: &Docker, source: &str) -> Vec<String> {
    let filter = format!("%7B%22label%22%3A%5B%22headgate.source%3Ddefault%2F{source}%22%5D%7D");
    let list = docker.get(&format!("/containers/json?all=1&filters={filter}")).await;
    let list: Value = serde_json::from_str(&list).expect("a list of containers");
    let ids = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|found| found["Id"].as_str().expect("an id").to_owned());
    ids.collect()
}

async fn gone(docker: &Docker, source: &str) {
    eventually("the source's containers are gone", || async {
        containers(docker, source).await.is_empty().then_some(())
    })
    .await;
}

fn deployed<'a>(object: &'a Value, member: &str) -> &'a str {
    condition(object, "Deployed")
        .and_then(|condition| condition[member].as_str())
        .unwrap_or_default()
}

fn sorted(sink: &Sink) -> Vec<String> {
    let mut ids = sink.ids();
    ids.sort();
    ids
}

/// Proves: SR-1, SR-6
#[tokio::test]
async fn an_image_gets_its_sink_in_every_form_and_its_events_carry_the_overrides() {
    let Some(docker) = Docker::shared().await else { return };
    let overrides = json!({ "extensions": { "team": "blue" } });
    let from_secret = json!({ "secretKeyRef": { "name": "beats", "key": "level" } });
    let (gateway, sink) = beating(docker, [
        secret("beats", json!({ "level": "loud" })),
        beats("as-map", json!({ "args": ["--sink=http://old.example"], "env": { "COUNT": "1", "NAME": "map", "LEVEL": "low" } })),
        beats("as-list", json!({
            "ceOverrides": overrides, "args": ["--quiet", "$(NAME)"],
            "env": [
                { "name": "COUNT", "value": "1" }, { "name": "NAME", "value": "list" },
                { "name": "LEVEL", "valueFrom": from_secret },
            ],
        })),
        beats("apart", json!({ "args": ["--sink", "http://old.example"], "env": { "COUNT": "1", "NAME": "apart" } })),
    ])
    .await;
    let received = sink.wait_for(3).await;
    let of = |id: &str| {
        received
            .iter()
            .find(|event| event.id() == id)
            .unwrap_or_else(|| panic!("no event {id}"))
    };
    for id in ["map-1", "list-1", "apart-1"] {
        assert_eq!(
            of(id).attribute("alike").as_deref(),
            Some("yes"),
            "K_SINK and SINK are the argument's URL"
        );
    }
    assert_eq!(of("map-1").attribute("level").as_deref(), Some("low"));
    assert_eq!(of("list-1").attribute("level").as_deref(), Some("loud"));
    assert_eq!(of("list-1").attribute("team").as_deref(), Some("blue"));
    assert_eq!(of("list-1").json(), overrides);
    assert_eq!((of("map-1").attribute("team"), &of("map-1").body[..]), (None, &b""[..]));
    let object = gateway
        .wait_object("containersource", "as-list", |object| {
            let output = object["status"]["container"]["output"].as_str().unwrap_or_default();
            deployed(object, "status") == "True" && output.contains("arguments")
        })
        .await;
    let output = object["status"]["container"]["output"]
        .as_str()
        .expect("what it printed");
    assert!(
        output.contains("arguments: --quiet list --sink=http://host.docker.internal:"),
        "{output}"
    );
    let metrics = gateway.admin_get("/metrics").await.text();
    for line in [
        r#"headgate_container_running{namespace="default",name="as-list"} 1"#,
        r#"headgate_source_events_total{kind="ContainerSource",namespace="default",name="as-list",result="stored"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    for name in ["as-map", "as-list", "apart"] {
        gateway.remove(&beats(name, json!({})));
        gone(docker, name).await;
    }
}

/// Proves: IN-1, IN-2, IN-3, IN-5, SR-3
#[tokio::test]
async fn a_containers_posts_are_answered_as_a_channels_and_channels_are_not_open_to_it() {
    let Some(docker) = Docker::shared().await else { return };
    docker.image("e2e/poster:1", POSTER).await;
    let poster = container_source("poster", "e2e/poster:1", &channel_reference("beats"));
    let (gateway, sink) = beating(docker, [poster.clone()]).await;
    let received = sink.wait_for(3).await;
    assert_eq!(sorted(&sink), ["one", "three", "two"]);
    assert!(
        received.iter().all(|event| event.body[..] == *b"{\"n\":1.0}"),
        "data is passed on byte by byte"
    );
    let object = gateway
        .wait_object("containersource", "poster", |object| {
            let output = object["status"]["container"]["output"].as_str().unwrap_or_default();
            output.matches("HTTP/1.1").count() == 4
        })
        .await;
    let output = object["status"]["container"]["output"]
        .as_str()
        .expect("what it printed");
    let statuses: Vec<&str> = output
        .lines()
        .filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3))
        .collect();
    assert_eq!(statuses, ["202", "202", "400", "404"]);
    assert_eq!(output.matches("headgate-durability: disk").count(), 2, "{output}");
    // On the gateway's own address a source is open to everybody who reaches that, with the handshake of a channel.
    let at = "/sources/default/poster";
    gateway.send(&Request::new("OPTIONS", at)).await.is(200);
    gateway.send(&Request::new("GET", at)).await.is(405);
    gateway
        .send(&Request::new("POST", "/sources/default/nobody"))
        .await
        .is(404);
    gateway.remove(&poster);
    gone(docker, "poster").await;
    eventually("its address is gone", || async {
        (gateway.send(&Request::new("POST", at)).await.status == 404).then_some(())
    })
    .await;
}

/// Proves: SR-1
#[tokio::test]
async fn a_container_survives_the_gateway_and_is_replaced_only_when_its_source_says_something_else() {
    let Some(docker) = Docker::shared().await else { return };
    let source = |more| {
        let mut document = beats("stays", json!({ "env": { "COUNT": "1", "NAME": "first" } }));
        e2e::documents::merge(&mut document["spec"], more);
        document
    };
    let (mut gateway, sink) = beating(docker, [source(json!({}))]).await;
    sink.wait_for(1).await;
    let made = containers(docker, "stays").await;
    assert_eq!(made.len(), 1);
    for kill in [false, true] {
        if kill {
            gateway.kill().await;
        } else {
            assert!(gateway.terminate().await.success());
        }
        assert_eq!(containers(docker, "stays").await, made);
        gateway.start_again().await;
        gateway
            .wait_object("containersource", "stays", |object| {
                deployed(object, "status") == "True"
            })
            .await;
        assert_eq!(containers(docker, "stays").await, made, "adopted, not started twice");
    }
    gateway.apply(&source(json!({ "restartPolicy": "onFailure" })));
    gateway.apply(&source(json!({ "env": { "NAME": "second" } })));
    sink.wait_for(2).await;
    assert_eq!(sorted(&sink), ["first-1", "second-1"]);
    let replaced = containers(docker, "stays").await;
    assert!(replaced.len() == 1 && replaced != made, "{replaced:?}");
    gateway.remove(&source(json!({})));
    gone(docker, "stays").await;
}

/// Proves: SR-6
#[tokio::test]
async fn a_source_deleted_while_the_gateway_was_down_takes_its_container_along() {
    let Some(docker) = Docker::shared().await else { return };
    let lost = beats("lost", json!({ "env": { "COUNT": "1", "NAME": "lost" } }));
    let (mut gateway, sink) = beating(docker, [lost.clone()]).await;
    sink.wait_for(1).await;
    let made = containers(docker, "lost").await;
    gateway.kill().await;
    gateway.remove(&lost);
    gateway.write("unreadable.yaml", "kind: [");
    gateway.start_again().await;
    // A document that cannot be read may be this one's.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(1) {
        assert_eq!(containers(docker, "lost").await, made);
    }
    std::fs::remove_file(gateway.documents().join("unreadable.yaml")).expect("it was there");
    gone(docker, "lost").await;
}

/// Proves: SR-6
#[tokio::test]
async fn a_crash_loop_a_missing_image_and_a_missing_engine_are_conditions_that_say_what_to_do() {
    let Some(docker) = Docker::shared().await else { return };
    docker
        .image("e2e/crash:1", "echo \"cannot log in as $USER with $PASSWORD\"; exit 3")
        .await;
    let mut crash = container_source("crash", "e2e/crash:1", &channel_reference("beats"));
    crash["spec"]["env"] = json!([
        { "name": "USER", "value": "mona" },
        { "name": "PASSWORD", "valueFrom": { "secretKeyRef": { "name": "login", "key": "password" } } },
    ]);
    let missing = container_source("missing", "127.0.0.1:1/none:1", &channel_reference("beats"));
    let mut of_a_pod = container_source("pod", "e2e/crash:1", &channel_reference("beats"));
    of_a_pod["spec"]["env"] = json!([{ "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }]);
    let login = secret("login", json!({ "password": "correct-horse" }));
    let (gateway, _sink) = beating(docker, [login, crash.clone(), missing, of_a_pod]).await;
    let object = gateway
        .wait_object("containersource", "crash", |object| {
            let container = &object["status"]["container"];
            container["exitCode"] == 3 && container["restarts"].as_u64().is_some_and(|restarts| restarts >= 2)
        })
        .await;
    let said = deployed(&object, "message");
    assert_eq!(deployed(&object, "reason"), "CrashLoop");
    assert!(
        said.contains("exit code 3") && said.contains("cannot log in as mona with <redacted>"),
        "{said}"
    );
    assert_eq!(
        object["status"]["container"]["output"],
        "cannot log in as mona with <redacted>\n"
    );
    assert_eq!(condition(&object, "Ready").expect("a condition")["reason"], "CrashLoop");
    assert!(!object.to_string().contains("correct-horse") && !gateway.log().contains("correct-horse"));
    for (name, reason) in [("missing", "ImagePullFailed"), ("pod", "VariableUnresolved")] {
        gateway
            .wait_object("containersource", name, |object| deployed(object, "reason") == reason)
            .await;
    }
    crash["spec"]["restartPolicy"] = "never".into();
    gateway.apply(&crash);
    gateway
        .wait_object("containersource", "crash", |object| {
            deployed(object, "reason") == "ContainerFailed"
        })
        .await;
    gateway.remove(&crash);
    gone(docker, "crash").await;

    let elsewhere = Gateway::set_up()
        .environment("DOCKER_HOST", "unix:///nowhere/docker.sock")
        .documents([channel("beats", "memory"), beats("nowhere", json!({}))])
        .start()
        .await;
    let object = elsewhere
        .wait_object("containersource", "nowhere", |object| {
            deployed(object, "reason") == "NoContainerEngine"
        })
        .await;
    assert!(deployed(&object, "message").contains("/nowhere/docker.sock"));
}

/// Proves: SR-1, OP-3
#[tokio::test]
async fn an_engine_that_stops_and_comes_back_runs_its_containers_again() {
    let Some(mut docker) = Docker::start().await else {
        return;
    };
    let (gateway, sink) = beating(
        &docker,
        [beats("back", json!({ "env": { "COUNT": "1", "NAME": "back" } }))],
    )
    .await;
    sink.wait_for(1).await;
    docker.stop().await;
    gateway
        .wait_object("containersource", "back", |object| {
            deployed(object, "reason") == "NoContainerEngine"
        })
        .await;
    docker.restart().await;
    sink.wait_for(2).await;
    assert_eq!(sink.ids(), ["back-1", "back-1"]);
    gateway
        .wait_object("containersource", "back", |object| deployed(object, "status") == "True")
        .await;
    assert_eq!(containers(&docker, "back").await.len(), 1);
}

/// Proves: SR-1
#[tokio::test]
async fn an_adapter_alone_runs_its_containers_and_passes_on_what_they_post() {
    let Some(docker) = Docker::shared().await else { return };
    docker.image("e2e/beats:1", BEATS).await;
    let sink = Sink::start().await;
    let source = beats("alone", json!({ "env": { "COUNT": "1", "NAME": "alone" } }));
    let setup = Gateway::set_up()
        .environment("DOCKER_HOST", &docker.host())
        .documents([source.clone()]);
    let mut adapter = setup.adapter("containersource", &sink.url()).prepare();
    adapter.start_again().await;
    assert_eq!(sink.wait_for_one().await.id(), "alone-1");
    adapter.remove(&source);
    gone(docker, "alone").await;
}
