//! The kit itself: what its sinks record and how its client and its peers behave, without any gateway.

use std::time::Duration;

use e2e::{
    Request, Response, Sink,
    client::Connection,
    peers::{self, Peer},
    ports,
};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::test]
async fn a_sink_answers_by_rule_then_by_script_then_as_always() {
    let sink = Sink::start().await;
    sink.always(Response::status(204))
        .next([Response::status(503).header("retry-after", "1").body("later")]);
    sink.answer_by(|request| (request.id() == "ruled").then(|| Response::status(418)));
    let send = async |id: &str| Request::event("x", id).to("/p?q=1").send(sink.address()).await;
    assert_eq!(send("ruled").await.status, 418);
    let scripted = send("a%20b").await.is(503);
    assert_eq!(
        (scripted.header("retry-after"), scripted.text().as_str()),
        (Some("1"), "later")
    );
    assert_eq!(send("c").await.status, 204);
    assert_eq!(sink.ids(), ["ruled", "a b", "c"]);
    let first = &sink.received()[0];
    assert_eq!((first.path.as_str(), first.json()), ("/p?q=1", json!({ "n": 1 })));
}

#[tokio::test]
async fn a_sink_that_hangs_up_gives_no_answer_and_a_dropped_one_refuses() {
    let sink = Sink::start().await;
    sink.next([Response::hang_up()]);
    let address = sink.address();
    assert!(Request::event("x", "1").try_send(address).await.is_err());
    drop(sink);
    e2e::eventually("the port is closed", || async {
        tokio::net::TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
    let again = Sink::at(address).await;
    Request::event("x", "2").send(address).await.is(204);
    assert_eq!(again.ids(), ["2"]);
}

#[tokio::test]
async fn a_connection_is_kept_and_counted() {
    let sink = Sink::start().await;
    sink.next([Response::status(200).body("x".repeat(100_000))]);
    let mut connection = Connection::open(sink.address()).await.expect("it listens");
    let large = connection.exchange(&Request::event("x", "1")).await.expect("an answer");
    assert_eq!(large.body.len(), 100_000);
    connection.exchange(&Request::event("x", "2")).await.expect("an answer");
    Request::event("x", "3").send(sink.address()).await.is(204);
    let connections: Vec<usize> = sink.received().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 0, 1]);
}

#[tokio::test]
async fn a_delayed_answer_comes_after_its_delay() {
    let sink = Sink::start().await;
    sink.always(Response::status(204).after(Duration::from_millis(200)));
    let start = tokio::time::Instant::now();
    Request::event("x", "1").send(sink.address()).await.is(204);
    assert!(start.elapsed() >= Duration::from_millis(200));
}

/// Their scripts understand each other, so a failure beside the gateway is the gateway's.
#[rstest]
#[case::javascript(Peer::Node, "send.mjs", "receive.mjs")]
#[case::python(Peer::Python, "send.py", "receive.py")]
#[tokio::test]
async fn a_peer_sends_to_a_sink_and_receives_what_it_sent(
    #[case] peer: Peer,
    #[case] sender: &str,
    #[case] receiver: &str,
) {
    if peers::skipped(peer) {
        return;
    }
    let sink = Sink::start().await;
    sink.always(Response::status(202));
    peers::run(peer, sender, &[&sink.url()]).await;
    let sent = sink.received();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].attribute("ext").as_deref(), Some("ümlaut 100%"));

    let address = ports::free();
    let mut process = peers::command(peer, receiver, &[&address.port().to_string()])
        .await
        .spawn()
        .expect("the receiver starts");
    let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next_line().await.expect("output").as_deref(), Some("ready"));
    for request in &sent {
        let mut again = Request::post("/again").body(&request.body);
        for (name, value) in &request.headers {
            if name.as_str().starts_with("ce-") || name == "content-type" {
                again = again.header(name.as_str(), value.as_bytes());
            }
        }
        assert!(again.send(address).await.status < 300);
        let line = lines.next_line().await.expect("output").expect("a line per event");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(event["data"], json!({ "greeting": "grüß dich", "n": 7 }));
        assert_eq!(event["ext"], "ümlaut 100%");
    }
}
