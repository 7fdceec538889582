//! The description of the admin API is what the gateway answers, in the eyes of a validator of another make.

use std::fs;

use e2e::{
    Gateway, Request, Response, Sink,
    documents::{channel, container_source, github_source, secret, subscription},
    eventually,
    peers::{self, Peer},
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

const CHANNEL: &str = "/api/v1/channels/{namespace}/{name}";
const SUBSCRIPTION: &str = "/api/v1/subscriptions/{namespace}/{name}";

/// Members that take a certificate, a lost disk, a cluster, a torn connection or a flood: the tests of those look at them.
const NOT_PROVOKED: &[&str] = &[
    "Certificate/properties/file",
    "Certificate/properties/listener",
    "Certificate/properties/notAfter",
    "Certificate/properties/trouble",
    "Missed/properties/missed",
    "RedriveProgress/properties/stopped",
    "ReplayProgress/properties/stopped",
    "Status/properties/missingDeadLetters",
    "Status/properties/missingEvents",
    "Status/properties/observedGeneration",
];

/// Asks a gateway, and notes each answer with the path of the description that it belongs to.
struct Asking {
    gateway: Gateway,
    answers: Vec<Value>,
}

impl Asking {
    async fn ask(&mut self, template: &str, request: Request) -> Value {
        let answer = request.send(self.gateway.admin()).await;
        let body = answer.text();
        let kind = answer.header("content-type").unwrap_or_default();
        self.note(template, &request.method, answer.status, kind, &body);
        serde_json::from_str(&body).unwrap_or(Value::Null)
    }

    fn note(&mut self, template: &str, method: &str, status: u16, kind: &str, body: &str) {
        let kind = kind.split(';').next().unwrap_or_default();
        self.answers
            .push(json!({ "path": template, "method": method, "status": status, "type": kind, "body": body }));
    }

    async fn get(&mut self, template: &str, query: &str) -> Value {
        let path = template.replace("{namespace}/{name}", "default/orders");
        self.ask(template, Request::new("GET", &format!("{path}{query}"))).await
    }

    async fn post(&mut self, what: &str, name: &str, body: &Value) -> Value {
        let template = format!("{SUBSCRIPTION}/{what}");
        let path = template.replace("{namespace}/{name}", &format!("default/{name}"));
        let request = Request::post(&path).header("content-type", "application/json");
        self.ask(&template, request.body(body.to_string())).await
    }

    /// The first line of a tail.
    async fn tail(&mut self) {
        let mut stream = tokio::net::TcpStream::connect(self.gateway.admin())
            .await
            .expect("a connection");
        let head = "GET /api/v1/channels/default/orders/events HTTP/1.1\r\nhost: localhost\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("a request");
        let mut lines = BufReader::new(stream).lines();
        let mut next = async || lines.next_line().await.expect("the stream goes on").expect("a line");
        assert!(next().await.contains("200"));
        self.gateway.accept("orders", ["tailed"]).await;
        let event = loop {
            let line = next().await;
            if line.starts_with('{') {
                break line;
            }
        };
        self.note(&format!("{CHANNEL}/events"), "GET", 200, "application/x-ndjson", &event);
    }
}

/// A gateway with something of everything: two dead letters, a source, and a subscription that works.
async fn asking() -> (Asking, [Sink; 2]) {
    let (good, bad) = (Sink::start().await, Sink::start().await);
    bad.answer_by(|request| {
        let body: &[u8] = if request.id() == "bytes" { &[0xff] } else { b"no" };
        Some(Response::status(500).body(body.to_vec()))
    });
    let documents = [
        channel("orders", "embedded"),
        subscription("good", "orders", &good.url(), json!({})),
        subscription("bad", "orders", &bad.url(), json!({ "delivery": { "retry": 1 } })),
        secret("github", json!({ "secretToken": "s" })),
        github_source("hello", &["push"], &json!({ "uri": good.url() })),
        container_source("beats", "beats:1", &json!({ "uri": good.url() })),
        json!({
            "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "ClusterChannelProvisioner",
            "metadata": { "name": "disk" }, "spec": { "backend": "embedded" },
        }),
    ];
    let gateway = Gateway::set_up()
        .environment("DOCKER_HOST", "unix:///no-engine.sock")
        .documents(documents)
        .start()
        .await;
    let tiered = Request::event("orders", "tiered").header("ce-tier", "gold");
    gateway.send(&tiered).await.is(202);
    gateway.accept("orders", ["bytes"]).await;
    eventually("two dead letters", || async {
        let dead_letters = gateway.admin_get("/api/v1/deadletters").await.json();
        (dead_letters.as_array().map(Vec::len) == Some(2)).then_some(())
    })
    .await;
    let asking = Asking {
        gateway,
        answers: Vec::new(),
    };
    (asking, [good, bad])
}

async fn read_everything(asking: &mut Asking) {
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/v1/info",
        "/api/v1/openapi.json",
    ] {
        asking.get(path, "").await;
    }
    let plain = Request::new("GET", "/metrics").header("accept", "text/plain");
    asking.ask("/metrics", plain).await;
    for kind in ["all", "ccp", "secret", "nonsense"] {
        asking.get("/api/v1/objects", &format!("?kind={kind}")).await;
    }
    asking.get("/api/v1/deadletters", "").await;
    for id in ["tiered", "bytes"] {
        asking.get("/api/v1/deadletters", &format!("?id={id}")).await;
        asking.get("/api/v1/explain", &format!("?id={id}")).await;
    }
    asking.get("/api/v1/explain", "?id=x&channel=a/b").await;
    asking.get("/api/v1/deadletters", "?subscription=nonsense").await;
    let filter = format!("{CHANNEL}/filter");
    let trial = asking
        .get(&filter, "?expression=EXISTS%20tier%20AND%20INT(id)%20%3E%201")
        .await;
    assert_eq!(trial["failures"][0]["event"], "tiered", "{trial:#}");
    assert_eq!(trial["leftOut"][0]["events"], 1, "{trial:#}");
    asking.get(&filter, "?expression=1").await;
    asking.tail().await;
}

async fn change_everything(asking: &mut Asking) {
    asking
        .post(
            "deadletters/redrive",
            "bad",
            &json!({ "ids": ["bytes"], "rate": 100, "follow": true }),
        )
        .await;
    asking
        .post(
            "deadletters/redrive",
            "bad",
            &json!({ "filter": { "id": "tiered" }, "dryRun": true }),
        )
        .await;
    asking
        .post("deadletters/redrive", "bad", &json!({ "no": "such member" }))
        .await;
    // A subscription shows its redrive while it runs: the second dead letter of this one would wait for a minute and a half.
    asking
        .post("deadletters/redrive", "bad", &json!({ "rate": 0.01 }))
        .await;
    asking.get("/api/v1/objects", "?kind=sub&name=bad").await;
    asking
        .post("replay", "good", &json!({ "from": "earliest", "to": 1, "rate": null }))
        .await;
    asking
        .post(
            "replay",
            "good",
            &json!({ "from": "2026-01-01T00:00:00Z", "dryRun": true }),
        )
        .await;
    asking.post("pause", "good", &json!({})).await;
    let paused = asking.post("replay", "good", &json!({ "from": 0 })).await;
    assert_eq!(paused["reason"], "Paused");
    asking.post("resume", "good", &json!({})).await;
    asking.post("pause", "nobody", &json!({})).await;
    asking.post("deadletters/drop", "bad", &json!({})).await;
    asking.post("deadletters/drop", "bad", &json!({ "all": true })).await;
    let pause = format!("{SUBSCRIPTION}/pause");
    asking
        .ask(&pause, Request::post("/api/v1/subscriptions/a/b/pause"))
        .await;
    let elsewhere = Request::new("GET", "/api/v1/info").header("host", "elsewhere.example");
    asking.ask("/api/v1/info", elsewhere).await;
}

/// Each answer fits its schema, has no member that is not described, and each described member is in some answer.
///
/// Proves: OP-3
#[tokio::test]
async fn every_answer_of_the_admin_api_is_as_its_openapi_says() {
    if peers::skipped(Peer::Node) {
        return;
    }
    let (mut asking, _sinks) = asking().await;
    read_everything(&mut asking).await;
    change_everything(&mut asking).await;
    let openapi = asking.gateway.admin_get("/api/v1/openapi.json").await.is(200);
    let info = asking.gateway.admin_get("/api/v1/info").await.json();
    assert_eq!(
        openapi.json()["info"]["version"],
        info["version"],
        "the description is of this version"
    );
    let files = [
        ("openapi.json", openapi.text()),
        ("answers.json", json!(asking.answers).to_string()),
    ];
    let [description, answers] = files.map(|(name, text)| {
        let path = asking.gateway.home().join(name);
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    });
    let errors = peers::run(Peer::Node, "validate-answers.mjs", &[&description, &answers]).await;
    let mut errors: Vec<String> = serde_json::from_str(&errors).expect("a list of errors");
    for member in NOT_PROVOKED {
        let expected = format!("#/components/schemas/{member} is in no answer");
        let known = errors.iter().position(|error| *error == expected);
        errors.remove(known.unwrap_or_else(|| panic!("{member} is in an answer: remove it from NOT_PROVOKED")));
    }
    assert!(errors.is_empty(), "{errors:#?}");
}
