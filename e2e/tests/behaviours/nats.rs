//! Channels on a real NATS: the same documents, what its servers promise, who we are there, and other people's messages.

use e2e::{
    Gateway, Request, Sink,
    documents::{self, channel_with, subscription},
    gateway::{condition, is_ready},
    peers::{self, Peer},
};
use nkeys::KeyPair;
use serde_json::{Value, json};
use servers::{Nats, nats::Setup};

fn provisioner(name: &str, servers: &str, config: Value, more: Value) -> Value {
    let mut document = json!({
        "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "ClusterChannelProvisioner", "metadata": { "name": name },
        "spec": { "backend": "nats", "config": { "servers": servers, "streamPrefix": prefix() } },
    });
    documents::merge(&mut document["spec"]["config"], config);
    documents::merge(&mut document["spec"], more);
    document
}

/// Tests share a server, and each has streams of its own.
fn prefix() -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a time");
    format!("test{}-", now.as_nanos())
}

async fn provisioned(gateway: &Gateway, kind: &str, name: &str, reason: &str) -> Value {
    let told = |object: &Value| condition(object, "Provisioned").is_some_and(|found| found["reason"] == reason);
    gateway.wait_object(kind, name, told).await
}

fn message(object: &Value, kind: &str) -> String {
    condition(object, kind).expect("a condition")["message"].to_string()
}

/// Proves: CH-8, IN-2
#[tokio::test]
async fn what_the_servers_promise_is_found_out_shown_and_compared_with_what_is_required() {
    let setup = Setup {
        synced: true,
        ..Setup::default()
    };
    let (Some(servers), Some(synced)) = (Nats::shared().await, Nats::start(setup).await) else {
        return;
    };
    let asked = json!({ "monitoringURLs": synced.monitoring() });
    let documents = [
        provisioner("weak", servers, json!({}), json!({})),
        channel_with("weak", "weak", json!({})),
        provisioner("strict", servers, json!({}), json!({ "requireDurability": "quorum" })),
        channel_with("strict", "strict", json!({})),
        provisioner("many", servers, json!({}), json!({})),
        channel_with("many", "many", json!({ "arguments": { "replicas": 3 } })),
        provisioner("natss", &synced.urls(), asked, json!({ "requireDurability": "disk" })),
        channel_with("synced", "natss", json!({})),
    ];
    let mut gateway = Gateway::set_up().documents(documents).prepare();
    gateway.start_again().await;
    let weak = gateway.wait_object("clusterchannelprovisioner", "weak", is_ready).await;
    assert_eq!(weak["status"]["durability"], "process");
    let degraded = condition(&weak, "DurabilityDegraded").expect("a condition");
    assert_eq!(degraded["status"], "True");
    let said = degraded["message"].as_str().unwrap_or_default();
    assert!(
        said.contains("--replicas 3") && said.contains("sync_interval: always"),
        "{said}"
    );
    let answer = gateway.send(&Request::event("weak", "1")).await.is(202);
    assert_eq!(answer.header("headgate-durability"), Some("process"));
    // A person sees it in the table: the channel is ready, and its servers promise less than they could.
    let shown = gateway.cli(&["get", "channel", "weak"]).await.stdout;
    let (header, row) = shown.split_once('\n').expect("a header and a row");
    assert!(header.contains("DURABILITY"), "{shown}");
    for word in ["weak", "True", "BrokerSettings", "process"] {
        assert!(row.contains(word), "{word} is not in {row}");
    }

    provisioned(&gateway, "channel", "strict", "DurabilityNotMet").await;
    provisioned(&gateway, "clusterchannelprovisioner", "strict", "DurabilityNotMet").await;
    gateway.send(&Request::event("strict", "1")).await.is(503);

    let refused = provisioned(&gateway, "channel", "many", "StreamNotMade").await;
    assert!(message(&refused, "Provisioned").contains("replicas"), "{refused}");

    gateway.wait_object("channel", "synced", is_ready).await;
    let answer = gateway.send(&Request::event("synced", "1")).await.is(202);
    assert_eq!(answer.header("headgate-durability"), Some("disk"));
}

/// Proves: DL-5, IN-7
#[tokio::test]
async fn messages_of_a_foreign_client_are_events_or_dead_letters_and_ours_are_messages_to_it() {
    let Some(servers) = Nats::shared().await else { return };
    if peers::skipped(Peer::Python) {
        return;
    }
    let sink = Sink::start().await;
    let provisioner = provisioner("events", servers, json!({}), json!({}));
    let prefix = provisioner["spec"]["config"]["streamPrefix"]
        .as_str()
        .expect("a prefix");
    let stream = format!("{prefix}default_orders");
    let gateway = Gateway::with([
        provisioner.clone(),
        channel_with("orders", "events", json!({})),
        subscription("printer", "orders", &sink.url(), json!({})),
    ])
    .await;
    gateway.wait_object("subscription", "printer", is_ready).await;
    peers::run(Peer::Python, "nats_client.py", &["publish", servers, &stream]).await;
    let own = Request::event("orders", "ours").header("ce-ext", "%C3%BCber");
    gateway.send(&own.body("{\"n\": 2.50}")).await.is(202);
    // Events without an order come in any; the message that is none is set aside at its own pace.
    let received = sink.wait_for(3).await;
    let mut ids = sink.ids();
    ids.sort();
    assert_eq!(ids, ["binary", "ours", "structured"]);
    for foreign in received.iter().filter(|received| received.id() != "ours") {
        assert_eq!(foreign.header("ce-ext"), Some("%C3%BCmlaut%20100%25"));
        assert_eq!(&foreign.body[..], b"{\"n\": 1.50}");
    }
    gateway.wait_for_letter("printer", "NotAnEvent").await;

    let read = peers::run(Peer::Python, "nats_client.py", &["read", servers, &stream, "4"]).await;
    let last: Value = serde_json::from_str(read.lines().last().expect("four lines")).expect("a line of JSON");
    assert_eq!(last["data"], "{\"n\": 2.50}");
    assert_eq!(last["headers"]["ce-id"], "ours");
    assert_eq!(last["headers"]["ce-ext"], "%C3%BCber");
}

/// Part of every credential here that a person chose, to look for where none belongs.
const SECRET: &str = "p4ssw0rd";

fn secured(name: &str, servers: &str) -> Value {
    let config = json!({ "security": { "secretRef": { "name": name } } });
    provisioner(name, servers, config, json!({}))
}

/// A token as NATS signs them (ADR-14): header, claims, and the signature over both.
fn token(claims: &Value, signer: &KeyPair) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" }).to_string();
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let signature = signer.sign(signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn claims(of: &KeyPair, by: &KeyPair, kind: &str, more: Value) -> Value {
    let mut claims = json!({
        "jti": of.public_key(), "iat": 1_700_000_000, "iss": by.public_key(), "sub": of.public_key(), "name": kind,
        "nats": { "type": kind, "version": 2 },
    });
    documents::merge(&mut claims["nats"], more);
    claims
}

/// A server that knows its accounts by an operator's word, and a user's credentials file.
fn with_operator() -> (Setup, String) {
    let (operator, system, account, user) = (
        KeyPair::new_operator(),
        KeyPair::new_account(),
        KeyPair::new_account(),
        KeyPair::new_user(),
    );
    let none = json!({ "subs": -1, "data": -1, "payload": -1 });
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    });
    let of_account = |key: &KeyPair, limits: &Value| {
        token(
            &claims(key, &operator, "account", json!({ "limits": limits })),
            &operator,
        )
    };
    let system_limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1 });
    let configuration = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload {{ {}: {}\n {}: {} }}\n",
        token(&claims(&operator, &operator, "operator", json!({})), &operator),
        system.public_key(),
        system.public_key(),
        of_account(&system, &system_limits),
        account.public_key(),
        of_account(&account, &limits),
    );
    let credentials = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        token(&claims(&user, &account, "user", none), &account),
        user.seed().expect("a seed"),
    );
    let setup = Setup {
        configuration,
        ..Setup::default()
    };
    (setup, credentials)
}

/// Proves: SR-6
#[tokio::test]
async fn servers_that_ask_who_we_are_are_used_with_what_a_secret_holds() {
    let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let folder = tempfile::TempDir::new().expect("a folder");
    let (pem, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    std::fs::write(&pem, certificate.cert.pem()).expect("a certificate's file");
    std::fs::write(&key, certificate.signing_key.serialize_pem()).expect("a key's file");
    let nkey = KeyPair::new_user();
    let users = Setup {
        configuration: format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\" }}\nauthorization {{ users: [ {{ user: alice, password: \"wonder-{SECRET}\" }}, {{ nkey: {} }} ] }}\n",
            pem.display(),
            key.display(),
            nkey.public_key()
        ),
        ..Setup::default()
    };
    let token = Setup {
        configuration: format!("authorization {{ token: \"token-{SECRET}\" }}\n"),
        ..Setup::default()
    };
    let (operator, credentials) = with_operator();
    let (Some(users), Some(token), Some(operator)) = (
        Nats::start(users).await,
        Nats::start(token).await,
        Nats::start(operator).await,
    ) else {
        return;
    };
    let authority = certificate.cert.pem();
    let seed = nkey.seed().expect("a seed");
    let setups = [
        (
            "password",
            users.urls(),
            json!({ "username": "alice", "password": format!("wonder-{SECRET}"), "ca.crt": authority }),
        ),
        ("nkey", users.urls(), json!({ "nkey": seed, "ca.crt": authority })),
        ("token", token.urls(), json!({ "token": format!("token-{SECRET}") })),
        ("creds", operator.urls(), json!({ "creds": credentials })),
        (
            "wrong",
            users.urls(),
            json!({ "username": "alice", "password": format!("guess-{SECRET}"), "ca.crt": authority }),
        ),
        (
            "stranger",
            users.urls(),
            json!({ "username": "alice", "password": format!("wonder-{SECRET}") }),
        ),
        ("half", users.urls(), json!({ "username": "alice" })),
    ];
    let sink = Sink::start().await;
    let mut documents = vec![
        secured("absent", &users.urls()),
        channel_with("absent", "absent", json!({})),
    ];
    for (name, servers, values) in setups {
        documents.push(documents::secret(name, values));
        documents.push(secured(name, &servers));
        documents.push(channel_with(name, name, json!({})));
        documents.push(subscription(&format!("from-{name}"), name, &sink.url(), json!({})));
    }
    let mut gateway = Gateway::set_up().documents(documents).prepare();
    gateway.start_again().await;
    for name in ["password", "nkey", "token", "creds"] {
        gateway
            .wait_object("subscription", &format!("from-{name}"), is_ready)
            .await;
        gateway.accept(name, [name]).await;
    }
    sink.wait_for(4).await;
    for (name, reason, says) in [
        ("wrong", "BackendUnreachable", "authorization"),
        ("stranger", "BackendUnreachable", "certificate"),
        ("half", "CredentialsNotFound", "password"),
        ("absent", "CredentialsNotFound", "absent"),
    ] {
        let object = provisioned(&gateway, "channel", name, reason).await;
        let said = message(&object, "Provisioned");
        assert!(said.to_lowercase().contains(says), "{name}: {said}");
        assert!(!object.to_string().contains(SECRET), "{object}");
    }
    let log = gateway.log();
    assert!(
        !log.contains(SECRET) && !log.contains(&seed),
        "a credential is in the log"
    );
}
