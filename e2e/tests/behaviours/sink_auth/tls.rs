//! TLS with one destination: its own authority, and a certificate of the gateway.

use e2e::{
    Gateway, Sink,
    certificates::Authority,
    documents::{bare_subscription, channel, secret},
    eventually,
    gateway::condition,
};
use serde_json::{Value, json};

/// A subscription to a sink that speaks TLS. Attempts are quick and many, so that a fault that is repaired is repaired soon.
fn to(name: &str, sink: &Sink, tls: &Value) -> Value {
    bare_subscription(
        name,
        "orders",
        json!({
            "subscriber": { "uri": sink.url(), "tls": tls },
            "delivery": { "retry": 1000, "backoffPolicy": "linear", "backoffDelay": "PT0.1S" },
        }),
    )
}

fn authority(key: &str) -> Value {
    json!({ "name": "authorities", "key": key })
}

/// Waits until attempts of the subscription failed with these words in the log.
async fn fails(gateway: &Gateway, subscription: &str, words: &str) {
    eventually(&format!("{subscription} fails: {words}"), || async {
        let log = gateway.log();
        let mut lines = log.lines();
        lines
            .find(|line| line.contains(&format!("subscription=default/{subscription}")) && line.contains(words))
            .map(drop)
    })
    .await;
}

/// Proves: TL-2
#[tokio::test]
async fn a_sink_is_verified_against_its_own_authority_alone() {
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let (sink, named) = (
        Sink::start_tls_with(own.server("127.0.0.1", None), own.pem()).await,
        Sink::start_tls_with(own.server("billing", None), own.pem()).await,
    );
    let authorities = secret("authorities", json!({ "ca.crt": own.pem(), "other": other.pem() }));
    let gateway = Gateway::with([
        channel("orders", "memory"),
        authorities,
        // Without a key `ca.crt` is meant.
        to("own", &sink, &json!({ "caSecretRef": { "name": "authorities" } })),
        to("other", &sink, &json!({ "caSecretRef": authority("other") })),
        to("system", &sink, &json!({ "serverName": "127.0.0.1" })),
        to("misnamed", &named, &json!({ "caSecretRef": authority("ca.crt") })),
        to(
            "named",
            &named,
            &json!({ "caSecretRef": authority("ca.crt"), "serverName": "billing" }),
        ),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    assert_eq!(sink.wait_for(1).await[0].id(), "1");
    named.wait_for(1).await;
    fails(
        &gateway,
        "other",
        "none of the authorities in the secret of tls.caSecretRef signed it",
    )
    .await;
    fails(&gateway, "system", "no authority that this machine trusts signed it").await;
    fails(&gateway, "misnamed", "not for the URL's host 127.0.0.1").await;
    assert_eq!(
        (sink.count(), named.count()),
        (1, 1),
        "nothing but the verified deliveries came"
    );
    // The right authority in the place of the wrong one is used without a restart.
    gateway.apply(&secret(
        "authorities",
        json!({ "ca.crt": own.pem(), "other": own.pem() }),
    ));
    sink.wait_for(2).await;
}

/// Proves: TL-2, SR-6
#[tokio::test]
async fn a_sink_that_asks_for_a_certificate_gets_the_gateways() {
    let (servers, clients, strangers) = (
        Authority::new("servers"),
        Authority::new("clients"),
        Authority::new("strangers"),
    );
    let sink = Sink::start_tls_with(servers.server("127.0.0.1", Some(&clients)), servers.pem()).await;
    let certificate = |of: &Authority| {
        let issued = of.issue(&["headgate"]);
        json!({ "tls.crt": issued.certificate, "tls.key": issued.key })
    };
    let tls = |secret: Option<&str>| {
        let mut tls = json!({ "caSecretRef": authority("ca.crt") });
        if let Some(secret) = secret {
            tls["clientCertificateSecretRef"] = json!({ "name": secret });
        }
        tls
    };
    let gateway = Gateway::with([
        channel("orders", "memory"),
        secret("authorities", json!({ "ca.crt": servers.pem() })),
        secret("good", certificate(&clients)),
        secret("stranger", certificate(&strangers)),
        to("good", &sink, &tls(Some("good"))),
        to("stranger", &sink, &tls(Some("stranger"))),
        to("none", &sink, &tls(None)),
    ])
    .await;
    gateway.accept("orders", ["1"]).await;
    sink.wait_for(1).await;
    fails(&gateway, "stranger", "it does not trust the certificate of the client").await;
    fails(&gateway, "none", "it wants a certificate of the client").await;
    assert_eq!(sink.count(), 1, "nothing came without a good certificate");
    // A new certificate is presented without a restart.
    gateway.apply(&secret("stranger", certificate(&clients)));
    sink.wait_for(2).await;
    let shown = super::outputs(&gateway).await;
    assert!(
        !shown.contains("PRIVATE KEY") && !shown.contains("BEGIN CERT"),
        "{shown}"
    );
}

/// Proves: TL-2
#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_a_condition_and_nothing_is_sent() {
    let own = Authority::new("own");
    let sink = Sink::start_tls_with(own.server("127.0.0.1", None), own.pem()).await;
    let (one, another) = (own.issue(&["headgate"]), own.issue(&["headgate"]));
    let client = |name: &str| json!({ "clientCertificateSecretRef": { "name": name } });
    let mut gateway = Gateway::set_up()
        .documents([
            channel("orders", "memory"),
            secret("authorities", json!({ "ca.crt": "not PEM" })),
            secret("mixed", json!({ "tls.crt": one.certificate, "tls.key": another.key })),
            secret("keyless", json!({ "tls.crt": one.certificate })),
            to("authority", &sink, &json!({ "caSecretRef": authority("ca.crt") })),
            to("mixed", &sink, &client("mixed")),
            to("keyless", &sink, &client("keyless")),
        ])
        .prepare();
    gateway.start_again().await;
    for (name, reason, words) in [
        ("authority", "CredentialsInvalid", "no certificate (PEM)"),
        ("mixed", "CredentialsInvalid", "is not the key of the certificate"),
        ("keyless", "CredentialsNotFound", "`tls.key`"),
    ] {
        let object = gateway
            .wait_object("subscription", name, |object| {
                condition(object, "Resolved").is_some_and(|found| found["reason"] == reason)
            })
            .await;
        let message = condition(&object, "Resolved").expect("it is there")["message"].to_string();
        assert!(message.contains(words), "{name}: {message}");
    }
    gateway.accept("orders", ["1"]).await;
    assert_eq!(sink.count(), 0);
}
