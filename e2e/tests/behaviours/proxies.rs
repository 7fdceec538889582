//! A gateway behind a company's proxy: which connections go through it, and what is said when it refuses.

use std::{net::SocketAddr, sync::Arc};

use e2e::{
    Gateway, Sink,
    documents::{channel, channel_reference, github_source, merge, secret, subscription},
    eventually, ports,
};
use parking_lot::Mutex;
use rstest::rstest;
use serde_json::json;
use servers::github;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

/// `user:hunter2`
const AUTHORIZATION: &str = "Basic dXNlcjpodW50ZXIy";

/// A proxy that connects to one address, whatever it is asked for, or answers with a status.
struct Proxy {
    address: SocketAddr,
    /// The heads of the requests.
    heads: Arc<Mutex<Vec<String>>>,
    _server: AbortOnDropHandle<()>,
}

impl Proxy {
    fn start(to: Result<SocketAddr, &'static str>) -> Self {
        let listener = ports::listener();
        let address = listener.local_addr().expect("a bound socket has an address");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let listener = TcpListener::from_std(listener).expect("inside a runtime");
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let recorded = Arc::clone(&heads);
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                tokio::spawn(serve(stream, to, Arc::clone(&recorded)));
            }
        });
        Self {
            address,
            heads,
            _server: AbortOnDropHandle::new(server),
        }
    }

    fn url(&self) -> String {
        format!("http://user:hunter2@{}", self.address)
    }
}

async fn serve(
    mut stream: TcpStream,
    to: Result<SocketAddr, &'static str>,
    heads: Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    heads.lock().push(String::from_utf8_lossy(&head).to_lowercase());
    let to = match to {
        Ok(to) => to,
        Err(status) => {
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            return stream.write_all(answer.as_bytes()).await;
        }
    };
    let mut target = TcpStream::connect(to).await?;
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut stream, &mut target).await?;
    Ok(())
}

/// Proves: DL-1, SR-6
#[tokio::test]
async fn plain_http_sinks_are_reached_through_a_proxy_and_this_machine_is_not() {
    let (proxy, here, by_name) = (Sink::start().await, Sink::start().await, Sink::start().await);
    let address = proxy.address();
    let gateway = Gateway::set_up()
        .documents([
            channel("orders", "memory"),
            subscription("away", "orders", "http://sink.example:8080/path?a=1", json!({})),
            subscription("here", "orders", &here.url(), json!({})),
            subscription(
                "by-name",
                "orders",
                &format!("http://localhost:{}/", by_name.address().port()),
                json!({}),
            ),
        ])
        .environment("http_proxy", &format!("http://user:hunter2@{address}"))
        .start()
        .await;
    gateway.accept("orders", ["1", "2"]).await;
    for request in proxy.wait_for(2).await {
        assert_eq!(request.path, "http://sink.example:8080/path?a=1");
        assert_eq!(request.header("host"), Some("sink.example:8080"));
        assert_eq!(request.header("proxy-authorization"), Some(AUTHORIZATION));
    }
    for direct in [&here, &by_name] {
        for request in direct.wait_for(2).await {
            assert_eq!(
                (request.path.as_str(), request.header("proxy-authorization")),
                ("/", None)
            );
        }
    }
    assert!(!gateway.log().contains("hunter2"), "{}", gateway.log());
}

/// Proves: DL-1
#[rstest]
#[case::https("https://sink.example/", "HTTPS_PROXY", "sink.example:443")]
#[case::http_2_without_tls("h2c://sink.example/", "HTTP_PROXY", "sink.example:80")]
#[tokio::test]
async fn what_a_proxy_cannot_read_goes_through_a_tunnel(
    #[case] url: &str,
    #[case] variable: &str,
    #[case] authority: &str,
) {
    let sink = if url.starts_with("https") {
        Sink::start_tls_as("sink.example").await
    } else {
        Sink::start().await
    };
    let proxy = Proxy::start(Ok(sink.address()));
    let folder = tempfile::tempdir().expect("a folder");
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, sink.certificate().unwrap_or_default()).expect("a file");
    let mut setup = Gateway::set_up()
        .documents([
            channel("orders", "memory"),
            subscription("audit", "orders", url, json!({})),
        ])
        .environment(variable, &proxy.url());
    if sink.certificate().is_some() {
        setup = setup.environment("SSL_CERT_FILE", &roots.to_string_lossy());
    }
    let gateway = setup.start().await;
    gateway.accept("orders", ["1"]).await;
    let request = sink.wait_for_one().await;
    assert_eq!(
        (request.id().as_str(), request.header("proxy-authorization")),
        ("1", None)
    );
    let heads = proxy.heads.lock().clone();
    let expected = format!("connect {authority} http/1.1\r\nhost: {authority}\r\n");
    assert!(heads[0].starts_with(&expected), "{heads:?}");
    let authorization = format!("proxy-authorization: {}", AUTHORIZATION.to_lowercase());
    assert!(heads[0].contains(&authorization), "{heads:?}");
}

/// Proves: SR-6
#[rstest]
#[case::refuses("403 Forbidden", "answers 403 Forbidden instead of connecting to sink.example:443")]
#[case::wants_credentials("407 Proxy Authentication Required", "asks for a user and a password (407)")]
#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_credentials(#[case] status: &'static str, #[case] words: &str) {
    let proxy = Proxy::start(Err(status));
    let gateway = Gateway::set_up()
        .documents([
            channel("orders", "memory"),
            subscription(
                "audit",
                "orders",
                "https://sink.example/",
                json!({ "delivery": { "retry": 0 } }),
            ),
        ])
        .environment("HTTPS_PROXY", &proxy.url())
        .start()
        .await;
    gateway.accept("orders", ["1"]).await;
    let expected = format!("the proxy http://{} {words}", proxy.address);
    eventually("the proxy is named", || async {
        let said = gateway.cli(&["explain", "1"]).await.stdout;
        assert!(!said.contains("hunter2"), "{said}");
        said.contains(&expected).then_some(())
    })
    .await;
}

/// Proves: DL-1
#[tokio::test]
async fn a_variable_that_names_no_proxy_is_said_and_not_passed_by() {
    let mut gateway = Gateway::set_up()
        .documents([
            channel("orders", "memory"),
            subscription("audit", "orders", "https://sink.example/", json!({})),
        ])
        .environment("HTTPS_PROXY", "socks5://user:hunter2@proxy.example:1080")
        .prepare();
    gateway.start_again().await;
    let object = gateway
        .wait_object("subscription", "audit", |object| {
            object.to_string().contains("HTTPS_PROXY")
        })
        .await;
    assert!(!object.to_string().contains("hunter2"), "{object}");
}

/// Proves: SR-6
#[tokio::test]
async fn github_is_asked_through_a_proxy() {
    let proxy = Proxy::start(Err("403 Forbidden"));
    let mut source = github_source("hello", &["*"], &channel_reference("github"));
    let more = json!({
        "githubAPIURL": "https://github.example/",
        "accessToken": { "secretKeyRef": { "name": "github", "key": "accessToken" } },
    });
    merge(&mut source["spec"], more);
    let secrets = json!({ "secretToken": "first", "accessToken": github::TOKEN });
    let gateway = Gateway::set_up()
        .documents([channel("github", "memory"), secret("github", secrets), source])
        .environment("HTTPS_PROXY", &proxy.url())
        .public()
        .start()
        .await;
    let object = gateway
        .wait_object("githubsource", "hello", |object| {
            object.to_string().contains("403 Forbidden")
        })
        .await;
    assert!(!object.to_string().contains("hunter2"), "{object}");
    let heads = proxy.heads.lock().clone();
    assert!(
        heads[0].starts_with("connect github.example:443 http/1.1\r\n"),
        "{heads:?}"
    );
}
