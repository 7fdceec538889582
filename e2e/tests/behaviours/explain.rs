//! `headgate explain`: where an event is, and what each subscription did with it.

use e2e::{
    Gateway, Response, Sink,
    documents::{channel, subscription},
    eventually,
    gateway::is_ready,
};
use serde_json::{Value, json};

/// What is said of each subscription of the first place that has the event, by name: stage and message.
fn told(answer: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = answer["found"][0]["subscriptions"].as_array();
    let rows = rows.expect("subscriptions");
    rows.iter()
        .map(|row| (text(&row["subscription"]), text(&row["stage"]), text(&row["message"])))
        .collect()
}

fn stages(answer: &Value) -> Vec<String> {
    told(answer).into_iter().map(|(_, stage, _)| stage).collect()
}

/// Proves: CH-7, DL-4, DL-6
#[tokio::test]
async fn what_became_of_an_event_is_told_for_each_subscription_also_by_the_next_process() {
    let (good, dead, busy) = (Sink::start().await, Sink::start().await, Sink::start().await);
    dead.always(Response::status(500));
    busy.always(Response::status(503));
    let quick = json!({ "delivery": { "retry": 1, "backoffDelay": "PT0.05S" } });
    let slow = json!({ "delivery": { "retry": 5, "backoffDelay": "PT1H", "backoffMax": "PT2H" } });
    let filtered = json!({ "filters": [ { "cesql": "EXISTS tier AND type = 'e2e.test'" } ] });
    let mut gateway = Gateway::with([
        channel("orders", "embedded"),
        subscription("busy", "orders", &busy.url(), slow),
        subscription("dead", "orders", &dead.url(), quick),
        subscription("filtered", "orders", &good.url(), filtered),
        subscription("good", "orders", &good.url(), json!({})),
    ])
    .await;
    gateway.accept("orders", ["order-1", "order-2"]).await;
    let explain = ["explain", "order-1", "-o", "json"];
    let expected = ["retrying", "dead-lettered", "left out", "delivered"];
    let answer = eventually("everything was tried", || async {
        let answer = gateway.cli(&explain).await.exits(0).json();
        (stages(&answer) == expected).then_some(answer)
    })
    .await;
    let tries = |of: usize| {
        answer["found"][0]["subscriptions"][of]["tries"]
            .as_array()
            .map_or(0, Vec::len)
    };
    assert_eq!([tries(0), tries(1), tries(2), tries(3)], [1, 3, 0, 1], "{answer:#}");
    assert_eq!(answer["found"][0]["durability"], "disk");
    let text = gateway.cli(&["explain", "order-1"]).await.exits(0).stdout;
    for part in [
        "order-1  e2e.test  from /e2e\nstored in default/orders at offset 0, ".to_owned(),
        "failed tries: 1, last answer 503; next try at ".to_owned(),
        "SinkError 500, attempts: 2; `headgate dead show default/dead order-1`".to_owned(),
        "left out        by its filters of now: EXISTS tier\n".to_owned(),
        format!("{} answered 204 at ", good.url()),
        "SinkError 503".to_owned(),
    ] {
        assert!(text.contains(&part), "{part:?} is not in\n{text}");
    }

    gateway.kill().await;
    gateway.start_again().await;
    gateway.settled().await;
    // How it was delivered went with the process; that it is settled, the letter and the failed tries did not.
    let answer = gateway.cli(&explain).await.exits(0).json();
    assert_eq!(stages(&answer), ["retrying", "dead-lettered", "left out", "settled"]);
    let (_, _, busy) = &told(&answer)[0];
    assert!(busy.starts_with("failed tries: 1, last answer 503"), "{busy}");
}

/// Proves: CH-7
#[tokio::test]
async fn what_is_not_known_is_said_with_where_was_looked() {
    let sink = Sink::start().await;
    let gateway = Gateway::with([
        channel("orders", "memory"),
        subscription("audit", "orders", &sink.url(), json!({})),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for(1).await;
    // In memory nothing is kept that everybody has; the try is remembered.
    let text = eventually("it is gone from the channel", || async {
        let text = gateway.cli(&["explain", "1"]).await.exits(0).stdout;
        (!text.contains("stored in")).then_some(text)
    })
    .await;
    assert!(text.contains("default/audit   taken"), "{text}");
    let unknown = gateway.cli(&["explain", "2"]).await.exits(1);
    assert!(
        unknown.stderr.contains("event \"2\" is not known") && unknown.stderr.contains("--last"),
        "{}",
        unknown.stderr
    );
    gateway.cli(&["explain", "1", "--source", "/other"]).await.exits(1);
    let absent = gateway.cli(&["explain", "1", "--channel", "absent"]).await.exits(1);
    assert!(
        absent.stderr.contains("channel default/absent not found"),
        "{}",
        absent.stderr
    );
}

/// Proves: CH-7, OP-3
#[tokio::test]
async fn a_channel_whose_servers_are_away_is_named_and_the_others_are_told_of() {
    let provisioner = json!({
        "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "ClusterChannelProvisioner", "metadata": { "name": "away" },
        "spec": { "backend": "nats", "config": { "servers": "127.0.0.1:1" } },
    });
    let documents = [provisioner, channel("away", "away"), channel("orders", "embedded")];
    let mut gateway = Gateway::set_up().documents(documents).prepare();
    gateway.start_again().await;
    gateway.wait_object("channel", "orders", is_ready).await;
    gateway.accept("orders", ["1"]).await;
    let known = gateway.cli(&["explain", "1"]).await.exits(0);
    let unknown = gateway.cli(&["explain", "2"]).await.exits(1);
    assert!(known.stdout.contains("stored in default/orders"), "{}", known.stdout);
    assert!(
        known.stdout.contains("the channel has no subscription"),
        "{}",
        known.stdout
    );
    for said in [known.stderr, unknown.stderr] {
        assert!(
            said.contains("channel default/away could not be looked through: "),
            "{said}"
        );
    }
}
