//! The publishers of a channel: what a document may say, and how a mistake is told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use kit::{faults, loaded};
use spec::{
    FilesSettings, ObjectName, Reason, load,
    model::{Credential, HmacAlgorithm, SignatureEncoding, Signed},
};

/// Five lines; the body begins in line 6 with two spaces of indentation.
const CHANNEL: &str = "apiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata:\n  name: orders\nspec:\n";

const SECRET: &str = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: tokens}\nstringData: {shop: \"new\\nold\", billing: whsec_bmV3}\n";

/// Every fault of a channel with this in its spec.
fn told(body: &str) -> Vec<String> {
    faults(&format!("{CHANNEL}{body}{SECRET}"))
}

#[track_caller]
fn refused(body: &str, expected: &str) {
    let found = told(body);
    let [only] = found.as_slice() else {
        panic!("{body}: {found:#?}")
    };
    assert!(only.starts_with(expected), "{body}: expected {expected}, found {only}");
}

const GOOD: &str = "  publishers:
  - name: shop
    bearer: {secretKeyRef: {name: tokens, key: shop}}
  - name: ci
    jwt: {issuer: 'https://issuer.example', audience: headgate, claims: {repository: octo/hello}}
  - name: billing
    signature: {scheme: standard-webhooks, secretKeyRef: {name: tokens, key: billing}}
  - name: legacy
    signature: {scheme: hmac, header: X-Signature, prefix: 'sha256=', secretKeyRef: {name: tokens, key: shop}}
  limits: {eventsPerSecond: 1000, bytesPerSecond: 10Mi}
";

#[test]
fn publishers_are_read_with_their_secrets_and_defaults() {
    assert_eq!(told(GOOD), Vec::<String>::new());
    let spec = loaded(&format!("{CHANNEL}{GOOD}{SECRET}")).spec;
    let publishing = &spec.channels[&ObjectName::new("default", "orders")].publishing;
    let names: Vec<_> = publishing.publishers.iter().map(|publisher| &*publisher.name).collect();
    assert_eq!(names, ["shop", "ci", "billing", "legacy"]);
    let credentials: Vec<_> = publishing
        .publishers
        .iter()
        .map(|publisher| &publisher.credential)
        .collect();
    let [
        Credential::Bearer(Ok(tokens)),
        Credential::Jwt(jwt),
        Credential::Signature(webhooks),
        Credential::Signature(legacy),
    ] = credentials[..]
    else {
        panic!("{credentials:?}")
    };
    assert_eq!(tokens.expose(), b"new\nold");
    assert_eq!((&*jwt.issuer, &*jwt.audience), ("https://issuer.example", "headgate"));
    assert_eq!(jwt.claims["repository"], "octo/hello");
    assert_eq!(webhooks.scheme, Signed::StandardWebhooks);
    let Signed::Hmac(hmac) = &legacy.scheme else {
        panic!("{legacy:?}")
    };
    assert_eq!((&*hmac.header, &*hmac.prefix), ("X-Signature", "sha256="));
    assert_eq!(
        (hmac.algorithm, hmac.encoding),
        (HmacAlgorithm::Sha256, SignatureEncoding::Hex)
    );
    let limits = publishing.limits.unwrap();
    assert_eq!(
        (limits.events_per_second, limits.bytes_per_second),
        (Some(1000), Some(10 << 20))
    );
    assert!(!format!("{publishing:?}").contains("old"), "secrets are not printed");
}

#[test]
fn a_publisher_has_a_name_of_its_own_and_one_credential() {
    const TOKEN: &str = "bearer: {secretKeyRef: {name: tokens, key: shop}}";
    refused("  publishers: []\n", "6:3 spec.publishers: the list is empty");
    refused(
        "  publishers:\n  - name: shop\n",
        "7:5 spec.publishers[0]: a publisher has exactly one of `bearer`, `jwt` and `signature`",
    );
    let two = format!("  publishers:\n  - {{name: shop, {TOKEN}, jwt: {{issuer: 'https://i', audience: a}}}}\n");
    refused(&two, "7:5 spec.publishers[0]: a publisher has exactly one of");
    refused(
        &format!("  publishers:\n  - {{{TOKEN}}}\n"),
        "7:5 spec.publishers[0].name: `name` is required",
    );
    let twice = format!("  publishers:\n  - {{name: shop, {TOKEN}}}\n  - {{name: shop, {TOKEN}}}\n");
    refused(
        &twice,
        "8:12 spec.publishers[1].name: `shop` is the name of another entry, number 1: choose another one",
    );
    let long = "x".repeat(254);
    for name in ["Shop", "'a b'", "'ü'", "''", &long] {
        let found = told(&format!("  publishers:\n  - {{name: {name}, {TOKEN}}}\n"));
        assert!(
            found.len() == 1 && found[0].starts_with("7:12 spec.publishers[0].name:"),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn a_credential_that_cannot_be_meant_is_a_fault() {
    let jwt = |body: &str| format!("  publishers:\n  - {{name: ci, jwt: {{{body}}}}}\n");
    for issuer in [
        "http://issuer.example",
        "'https://issuer.example?x=1'",
        "'https://user@issuer.example'",
        "issuer",
        "''",
    ] {
        refused(
            &jwt(&format!("issuer: {issuer}, audience: a")),
            "7:30 spec.publishers[0].jwt.issuer: expected an https URL without a query",
        );
    }
    assert_eq!(
        told(&jwt("issuer: 'http://127.0.0.1:9', audience: a")),
        Vec::<String>::new()
    );
    refused(
        &jwt("issuer: 'https://i'"),
        "7:16 spec.publishers[0].jwt.audience: `audience` is required",
    );
    refused(
        &jwt("issuer: 'https://i', audience: a, claims: {aud: b}"),
        "7:65 spec.publishers[0].jwt.claims.aud: `aud` is checked anyway: leave it out",
    );
    let signed = |body: &str| {
        format!("  publishers:\n  - {{name: b, signature: {{{body}, secretKeyRef: {{name: tokens, key: billing}}}}}}\n")
    };
    refused(
        &signed("scheme: hmac"),
        "7:35 spec.publishers[0].signature.scheme: hmac needs `header`",
    );
    refused(
        &signed("scheme: github, header: X-Signature"),
        "7:35 spec.publishers[0].signature.scheme: `header`, `algorithm`, `encoding` and `prefix` are for the scheme hmac",
    );
    refused(
        &signed("scheme: md5"),
        "7:35 spec.publishers[0].signature.scheme: `md5` is not one of",
    );
    refused(
        &signed("scheme: hmac, header: 'X Signature'"),
        "7:49 spec.publishers[0].signature.header: expected the name of a header",
    );
    refused(
        "  limits: {}\n",
        "6:3 spec.limits: at least one of `eventsPerSecond` and `bytesPerSecond` is needed",
    );
    refused(
        "  limits: {eventsPerSecond: 0}\n",
        "6:29 spec.limits.eventsPerSecond: 0 is too small",
    );
    refused(
        "  limits: {bytesPerSecond: 0}\n",
        "6:28 spec.limits.bytesPerSecond: must be more than nothing",
    );
}

/// Proves: SR-6
#[test]
fn a_token_that_is_written_down_is_not_shown() {
    let typed = "  publishers:\n  - {name: shop, bearer: hunter2}\n";
    let found = loaded(&format!("{CHANNEL}{typed}"));
    let shown: Vec<String> = found.faults.iter().map(ToString::to_string).collect();
    assert!(
        shown.len() == 1 && shown[0].contains("name a secret here, never write one down"),
        "{shown:?}"
    );
    assert!(!shown[0].contains("hunter2"), "{shown:?}");
}

#[test]
fn a_secret_that_is_missing_is_awaited() {
    let body = "  publishers:\n  - {name: shop, bearer: {secretKeyRef: {name: tokns, key: shop}}}\n";
    let found = loaded(&format!("{CHANNEL}{body}{SECRET}"));
    let [fault] = found.faults.as_slice() else {
        panic!("{:?}", found.faults)
    };
    assert!(fault.dangling && fault.reason == Reason::SecretNotFound, "{fault:?}");
    assert_eq!(fault.path, "spec.publishers[0].bearer.secretKeyRef");
    let publishers = &found.spec.channels[&ObjectName::new("default", "orders")]
        .publishing
        .publishers;
    assert!(matches!(publishers[0].credential, Credential::Bearer(Err(_))));
}

#[test]
fn a_channel_that_other_machines_may_publish_to_is_a_warning() {
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    let open = CHANNEL.replace("orders", "open").replace("spec:\n", "");
    std::fs::write(file.path(), format!("{open}---\n{CHANNEL}{GOOD}{SECRET}")).unwrap();
    let mut settings = FilesSettings::new([file.path()], None);
    assert!(load(&settings).unwrap().warnings.is_empty());
    settings.open_at = Some(([0, 0, 0, 0], 8080).into());
    let found = load(&settings).unwrap();
    assert!(found.faults.is_empty(), "{:?}", found.faults);
    let [warning] = found.warnings.as_slice() else {
        panic!("{:?}", found.warnings)
    };
    let fault = warning.fault();
    assert_eq!((fault.line, fault.reason), (4, Reason::NoPublishers));
    assert!(
        fault.message.contains("every client that reaches 0.0.0.0:8080"),
        "{}",
        fault.message
    );
}
