//! An OpenID Connect issuer as a process of its own, whose keys and outages a test controls.

use std::net::SocketAddr;

use e2e::{
    Request,
    peers::{self, Peer},
    ports,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
    time::{Duration, timeout},
};

pub(super) struct Issuer {
    address: SocketAddr,
    _process: Child,
}

impl Issuer {
    pub(super) async fn start() -> Self {
        let address = ports::free();
        let mut command = peers::command(Peer::Node, "issuer.mjs", &[&address.port().to_string()]).await;
        let mut process = command.spawn().expect("it starts");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let ready = timeout(Duration::from_secs(60), lines.next_line()).await;
        let ready = ready.expect("the issuer starts").expect("output");
        assert_eq!(ready.as_deref(), Some("ready"));
        Self {
            address,
            _process: process,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Publishes the keys with these names and no others.
    pub(super) async fn publishes(&self, keys: &[&str]) {
        self.control("keys", &json!(keys)).await;
    }

    /// Cuts every connection that asks for keys, or no longer.
    pub(super) async fn is_away(&self, is_away: bool) {
        self.control("away", &json!(is_away)).await;
    }

    /// A token of this issuer, for the audience `headgate`, signed with the key.
    pub(super) async fn token(&self, key: &str, claims: &Value) -> String {
        self.control("token", &json!({ "key": key, "claims": claims })).await
    }

    /// How often the keys were asked for.
    pub(super) async fn asked(&self) -> usize {
        self.control("asked", &Value::Null).await.parse().expect("a number")
    }

    async fn control(&self, what: &str, with: &Value) -> String {
        let request = Request::post(&format!("/control/{what}")).body(with.to_string());
        request.send(self.address).await.is(200).text()
    }
}
