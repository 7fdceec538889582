//! Answers as real servers give them, right and wrong: what counts is the status, and whether the server has the event.
//!
//! The servers here are written by hand, byte by byte: a library would not send such things.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use e2e::{
    Gateway,
    documents::{channel, subscription},
    eventually, ports,
};
use parking_lot::Mutex;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n";
const EARLY_HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";

/// Accepts connections and hands each with its number to `serve`.
fn listen<F>(serve: impl Fn(usize, TcpStream) -> F + Send + 'static) -> (SocketAddr, AbortOnDropHandle<()>)
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = ports::listener();
    let address = listener.local_addr().expect("a bound socket has an address");
    listener.set_nonblocking(true).expect("a socket that does not block");
    let listener = TcpListener::from_std(listener).expect("inside a runtime");
    let server = tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.expect("a connection");
            // Ends with an error when the gateway closes the connection: its business.
            tokio::spawn(serve(number, stream));
        }
    });
    (address, AbortOnDropHandle::new(server))
}

/// Reads one HTTP/1.1 request whose body has a length.
async fn request(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut read = Vec::new();
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&read).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).map_or(0, |rest| {
                let digits = rest.split("\r\n").next().unwrap_or_default();
                digits.parse::<usize>().expect("a length")
            });
            if body.len() >= length {
                return Ok(());
            }
        }
    }
}

async fn subscribed(url: &str, delivery: Value) -> Gateway {
    Gateway::with([
        channel("orders", "memory"),
        subscription(
            "audit",
            "orders",
            url,
            json!({ "delivery": delivery, "maxInFlight": 64 }),
        ),
    ])
    .await
}

async fn dead_letters(gateway: &Gateway) -> Value {
    gateway.cli(&["dead", "list", "audit", "-o", "json"]).await.json()
}

/// Waits until each of so many events was delivered or became a dead letter, and gives the letters.
async fn dead_letters_of(gateway: &Gateway, events: u32) -> Value {
    let ends = [
        "headgate_events_delivered_total{",
        "headgate_events_dead_lettered_total{",
    ];
    eventually("every event has an end", || async {
        let metrics = gateway.admin_get("/metrics").await.text();
        let lines = metrics
            .lines()
            .filter(|line| ends.iter().any(|end| line.starts_with(end)));
        let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        let ended: f64 = counts.sum();
        (ended >= f64::from(events)).then_some(())
    })
    .await;
    dead_letters(gateway).await
}

/// Proves: DL-2
#[rstest]
#[case::folded("x-note: first\r\n  second\r\n\tthird\r\n".to_owned())]
#[case::space_before_the_colon("x-note : first\r\n".to_owned())]
#[case::space_in_a_name("x note: first\r\n".to_owned())]
#[case::no_colon("nonsense\r\n".to_owned())]
#[case::no_name(": value\r\n".to_owned())]
#[case::control_character("x-note: a\u{1}b\r\n".to_owned())]
#[case::not_utf8_name("x-n\u{f6}te: a\r\n".to_owned())]
#[case::many((0..1000).map(|n| format!("x-{n}: {n}\r\n")).collect())]
#[case::long(format!("x-long: {}\r\n", "a".repeat(60_000)))]
#[tokio::test]
async fn a_2xx_with_odd_headers_is_a_delivery(#[case] headers: String) {
    let requests = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&requests);
    let (address, _server) = listen(move |_, mut stream| {
        let (seen, answer) = (Arc::clone(&seen), format!("{OK}{headers}\r\n"));
        async move {
            loop {
                request(&mut stream).await?;
                *seen.lock() += 1;
                stream.write_all(answer.as_bytes()).await?;
            }
        }
    });
    let gateway = subscribed(&format!("http://{address}/"), json!({ "retry": 0 })).await;
    gateway.accept("orders", ["1", "2", "3"]).await;
    assert_eq!(dead_letters_of(&gateway, 3).await, json!([]));
    assert_eq!(*requests.lock(), 3);
}

/// Proves: DL-2
#[tokio::test]
async fn a_head_without_end_is_a_failed_attempt() {
    let (address, _server) = listen(|_, mut stream| async move {
        request(&mut stream).await?;
        stream.write_all(OK.as_bytes()).await?;
        loop {
            stream.write_all(b"x-more: of the same\r\n").await?;
        }
    });
    let delivery = json!({ "retry": 0, "timeout": "PT10M" });
    let gateway = subscribed(&format!("http://{address}/"), delivery).await;
    gateway.accept("orders", ["1"]).await;
    let dead_letters = dead_letters_of(&gateway, 1).await;
    assert_eq!(dead_letters[0]["reason"], "SinkUnreachable", "{dead_letters}");
}

/// Proves: DL-2
#[tokio::test]
async fn a_few_interim_answers_are_passed_over_and_endless_ones_end_the_attempt() {
    let (patient, _server) = listen(|_, mut stream| async move {
        request(&mut stream).await?;
        let answer = format!("{}{OK}\r\n", EARLY_HINTS.repeat(32));
        stream.write_all(answer.as_bytes()).await
    });
    let (endless, _server) = listen(|_, mut stream| async move {
        request(&mut stream).await?;
        loop {
            stream.write_all(EARLY_HINTS.as_bytes()).await?;
        }
    });
    let delivery = json!({ "retry": 0, "timeout": "PT10M" });
    let patient = subscribed(&format!("http://{patient}/"), delivery.clone()).await;
    patient.accept("orders", ["1"]).await;
    assert_eq!(dead_letters_of(&patient, 1).await, json!([]));
    let gateway = subscribed(&format!("http://{endless}/"), delivery).await;
    gateway.accept("orders", ["1", "2", "3"]).await;
    let dead_letters = dead_letters_of(&gateway, 3).await;
    assert_eq!(dead_letters[0]["reason"], "SinkUnreachable", "{dead_letters}");
}

mod http2 {
    pub(super) const HEADERS: u8 = 1;
    pub(super) const REFUSED_STREAM: u32 = 7;
    const END_HEADERS: u8 = 4;
    const END_STREAM: u8 = 1;

    pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// `:status: 204` and nothing else; 0x89 is HPACK's entry for it.
    pub(super) fn no_content(stream: u32) -> Vec<u8> {
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x89])
    }

    /// `:status: 103`, written out.
    pub(super) fn early_hints(stream: u32) -> Vec<u8> {
        frame(HEADERS, END_HEADERS, stream, &[0x08, 3, b'1', b'0', b'3'])
    }

    /// NO_ERROR.
    pub(super) fn go_away(last: u32) -> Vec<u8> {
        frame(7, 0, 0, &[last.to_be_bytes(), 0_u32.to_be_bytes()].concat())
    }

    pub(super) fn reset(stream: u32, code: u32) -> Vec<u8> {
        frame(3, 0, stream, &code.to_be_bytes())
    }
}

/// One request at an HTTP/2 server.
#[derive(Clone)]
struct Asked {
    connection: usize,
    /// On its connection, counted from 0.
    number: usize,
    stream: u32,
}

impl Asked {
    /// The stream of another request of this connection: the gateway opens 1, 3, 5 ...
    fn stream_of(number: usize) -> u32 {
        u32::try_from(number * 2 + 1).expect("few requests")
    }
}

type Answered = Arc<Mutex<Vec<String>>>;

/// An HTTP/2 server: `rule` says which frames a request is answered with, and of which requests of its connection that is
/// the answer.
fn http2_server(
    rule: impl Fn(&Asked) -> (Vec<u8>, Vec<u32>) + Send + Sync + 'static,
) -> (SocketAddr, Answered, AbortOnDropHandle<()>) {
    let (rule, answered) = (Arc::new(rule), Answered::default());
    let recorded = Arc::clone(&answered);
    let (address, server) = listen(move |connection, stream| {
        let (rule, recorded) = (Arc::clone(&rule), Arc::clone(&recorded));
        async move { serve_http2(connection, stream, &*rule, &recorded).await }
    });
    (address, answered, server)
}

/// Given a request: the frames to answer with, and the streams of its connection that these frames answer.
type Rule = dyn Fn(&Asked) -> (Vec<u8>, Vec<u32>) + Send + Sync;

async fn serve_http2(
    connection: usize,
    mut stream: TcpStream,
    rule: &Rule,
    recorded: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    stream.write_all(&http2::frame(4, 0, 0, &[])).await?;
    let mut bodies: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut ids: HashMap<u32, String> = HashMap::new();
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).await?;
        let [a, b, c, kind, flags, id @ ..] = header;
        let id = u32::from_be_bytes(id);
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        stream.read_exact(&mut payload).await?;
        match kind {
            4 | 6 if flags & 1 == 0 => {
                let payload: &[u8] = if kind == 6 { &payload } else { &[] };
                stream.write_all(&http2::frame(kind, 1, 0, payload)).await?;
            }
            0 => bodies.entry(id).or_default().extend(&payload),
            _ => {}
        }
        let is_whole = kind == 0 && flags & 1 == 1;
        if !is_whole {
            continue;
        }
        let event: Value = serde_json::from_slice(&bodies.remove(&id).unwrap_or_default()).expect("a JSON event");
        let asked = Asked {
            connection,
            number: ids.len(),
            stream: id,
        };
        ids.insert(id, event["id"].as_str().expect("an id").to_owned());
        let (frames, of) = rule(&asked);
        recorded.lock().extend(of.iter().map(|stream| ids[stream].clone()));
        stream.write_all(&frames).await?;
    }
}

fn structured(retry: u32) -> Value {
    json!({ "retry": retry, "format": "json", "timeout": "PT10M" })
}

fn sorted(answered: &Answered) -> Vec<u32> {
    let mut ids: Vec<u32> = answered.lock().iter().map(|id| id.parse().expect("a number")).collect();
    ids.sort_unstable();
    ids
}

/// Proves: DL-2
#[rstest]
#[case::graceful_end_below_open_streams(|asked: &Asked| match (asked.connection, asked.number) {
    // Twenty are open when the server says that it took five of them.
    (0, 19) => {
        let taken: Vec<u32> = (0..5).map(Asked::stream_of).collect();
        let answers = taken.iter().flat_map(|&stream| http2::no_content(stream));
        (http2::go_away(taken[4]).into_iter().chain(answers).collect(), taken)
    }
    (0, _) => (Vec::new(), Vec::new()),
    _ => (http2::no_content(asked.stream), vec![asked.stream]),
})]
// By stream: bodies end in any order, and one below the last stream of a GOAWAY counts as processed. The tenth stream is 19.
#[case::every_ten_requests(|asked: &Asked| match asked.stream {
    ..19 => (http2::no_content(asked.stream), vec![asked.stream]),
    19 => ([http2::go_away(asked.stream), http2::no_content(asked.stream)].concat(), vec![asked.stream]),
    _ => (Vec::new(), Vec::new()),
})]
#[case::refused_streams(|asked: &Asked| if asked.connection == 0 && asked.number % 2 == 1 {
    (http2::reset(asked.stream, http2::REFUSED_STREAM), Vec::new())
} else {
    (http2::no_content(asked.stream), vec![asked.stream])
})]
#[tokio::test]
async fn what_an_http_2_server_did_not_process_is_sent_again_within_the_attempt(
    #[case] rule: fn(&Asked) -> (Vec<u8>, Vec<u32>),
) {
    let (address, answered, _server) = http2_server(rule);
    let gateway = subscribed(&format!("h2c://{address}/"), structured(0)).await;
    gateway.accept("orders", (0..50).map(|n| n.to_string())).await;
    assert_eq!(dead_letters_of(&gateway, 50).await, json!([]));
    assert_eq!(sorted(&answered), (0..50).collect::<Vec<_>>(), "each once");
}

/// Proves: DL-2, DL-3
#[tokio::test]
async fn a_server_that_processes_nothing_ends_the_attempt() {
    let (address, answered, _server) =
        http2_server(|asked| (http2::reset(asked.stream, http2::REFUSED_STREAM), Vec::new()));
    let gateway = subscribed(&format!("h2c://{address}/"), structured(0)).await;
    gateway.accept("orders", ["1"]).await;
    let dead_letters = dead_letters_of(&gateway, 1).await;
    assert_eq!(dead_letters[0]["reason"], "SinkUnreachable", "{dead_letters}");
    assert!(answered.lock().is_empty());
}

/// Proves: DL-2
#[rstest]
#[case::few(Some(32), true)]
#[case::endless(None, false)]
#[tokio::test]
async fn interim_answers_are_bounded_on_http_2(#[case] interim: Option<usize>, #[case] is_delivered: bool) {
    let (address, _answered, _server) = http2_server(move |asked| {
        let hints = http2::early_hints(asked.stream).repeat(interim.unwrap_or(10_000));
        match interim {
            Some(_) => ([hints, http2::no_content(asked.stream)].concat(), vec![asked.stream]),
            None => (hints, Vec::new()),
        }
    });
    let gateway = subscribed(&format!("h2c://{address}/"), structured(0)).await;
    gateway.accept("orders", ["1"]).await;
    let dead_letters = dead_letters_of(&gateway, 1).await;
    assert_eq!(dead_letters == json!([]), is_delivered, "{dead_letters}");
}
