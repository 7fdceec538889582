//! The fields of a destination that is reached by HTTP: which are refused, what of their secrets is shown, what they become.

mod kit;

use kit::{CHANNEL, faults, loaded};
use spec::{
    ObjectName,
    model::{Auth, Target},
};

/// Six lines; the subscriber is in line 7 with two spaces of indentation.
const SUBSCRIPTION: &str = "apiVersion: eventing.knative.dev/v1alpha1\nkind: Subscription\nmetadata:\n  name: s\nspec:\n  channel: {name: c}\n";

const SECRET: &str = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {k: hunter2hunter2, username: u, password: p, key: whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX, 'ca.crt': pem}\n";

/// A subscriber with these fields, and the beginnings of its faults.
type Case = (&'static str, &'static [&'static str]);

fn each(uri: &str, cases: &[Case]) {
    let mut wrong = Vec::new();
    for (fields, expected) in cases {
        let found = faults(&format!(
            "{SUBSCRIPTION}  subscriber: {{uri: '{uri}', {fields}}}\n{CHANNEL}{SECRET}"
        ));
        let begins = |line: &&&str| {
            found
                .iter()
                .any(|found| found[found.find(' ').unwrap_or(0) + 1..].starts_with(**line))
        };
        if found.len() != expected.len() || expected.iter().filter(begins).count() != expected.len() {
            wrong.push(format!("\n{fields}\n  expected {expected:#?}\n  found {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Proves: SR-6
#[test]
fn a_destination_has_one_credential_and_it_is_named_not_written_down() {
    each(
        "https://h/",
        &[
            ("auth: {bearer: {secretKeyRef: {name: x, key: k}}}", &[]),
            ("auth: {basic: {secretRef: {name: x}}}", &[]),
            (
                "auth: {oauth2: {tokenURL: 'https://i/', clientID: c, clientSecretKeyRef: {name: x, key: k}, scopes: [a], audience: b}}",
                &[],
            ),
            ("auth: {}", &["spec.subscriber.auth: names no credential"]),
            (
                "auth: {bearer: {secretKeyRef: {name: x, key: k}}, basic: {secretRef: {name: x}}}",
                &["spec.subscriber.auth: names several credentials"],
            ),
            (
                "auth: {bearer: {secretKeyRef: {name: x}}}",
                &["spec.subscriber.auth.bearer.secretKeyRef.key: `key` is required"],
            ),
            (
                "auth: {bearer: {secretKeyRef: {name: x, key: absent}}}",
                &["spec.subscriber.auth.bearer.secretKeyRef: secret default/x has no key `absent`"],
            ),
            (
                "auth: {basic: {secretRef: {name: absent}}}",
                &["spec.subscriber.auth.basic.secretRef: there is no secret default/absent"],
            ),
            (
                "auth: {oauth2: {tokenURL: 'http://i/', clientID: c, clientSecretKeyRef: {name: x, key: k}}}",
                &["spec.subscriber.auth.oauth2.tokenURL: expected an https URL"],
            ),
            (
                "auth: {kerberos: {}}",
                &["spec.subscriber.auth.kerberos: unknown field"],
            ),
        ],
    );
    for written in [
        "{bearer: hunter2}",
        "{bearer: {token: hunter2}}",
        "{basic: {username: u, password: hunter2}}",
    ] {
        let text = format!("{SUBSCRIPTION}  subscriber: {{uri: 'http://h/', auth: {written}}}\n{CHANNEL}");
        let found = faults(&text);
        assert!(
            !found.is_empty() && !found.concat().contains("hunter2"),
            "{written}: {found:#?}"
        );
        let shown = format!("{:?}", loaded(&text).spec.objects);
        assert!(!shown.contains("hunter2"), "{written}: {shown}");
    }
}

/// Proves: TL-2
#[test]
fn tls_is_for_https_and_sets_something() {
    each(
        "https://h/",
        &[
            ("tls: {caSecretRef: {name: x}, serverName: billing.shop}", &[]),
            ("tls: {}", &["spec.subscriber.tls: sets nothing"]),
            (
                "tls: {insecureSkipVerify: true}",
                &["spec.subscriber.tls.insecureSkipVerify: unknown field"],
            ),
            (
                "tls: {clientCertificateSecretRef: {name: x}}",
                &["spec.subscriber.tls.clientCertificateSecretRef: secret default/x has no key `tls.crt`"],
            ),
        ],
    );
    let fields = "tls: {caSecretRef: {name: x}}";
    each(
        "http://h/",
        &[(fields, &["spec.subscriber.tls: `tls` needs an https URL"])],
    );
    // Also where only the gateway sees that it is none.
    each(
        "HTTP://h/",
        &[(fields, &["spec.subscriber.tls: `tls` needs an https URL"])],
    );
}

#[test]
fn headers_are_free_but_for_those_of_the_gateway_and_of_the_event() {
    each(
        "http://h/",
        &[
            ("headers: {x-team: payments, x-api-version: '2'}", &[]),
            (
                "headers: {X-Team: a}",
                &["spec.subscriber.headers.X-Team: `X-Team` cannot be set"],
            ),
            (
                "headers: {ce-id: a}",
                &["spec.subscriber.headers.ce-id: `ce-id` cannot be set"],
            ),
            (
                "headers: {content-type: a}",
                &["spec.subscriber.headers.content-type: `content-type` cannot be set"],
            ),
            (
                "headers: {authorization: a}",
                &["spec.subscriber.headers.authorization: `authorization` is set by the gateway"],
            ),
            (
                "headers: {host: a}",
                &["spec.subscriber.headers.host: `host` is set by the gateway"],
            ),
            (
                "headers: {te: a}",
                &["spec.subscriber.headers.te: `te` is set by the gateway"],
            ),
            (
                "headers: {x: \"a\\r\\nb: c\"}",
                &["spec.subscriber.headers.x: a header's value"],
            ),
            ("headers: {x: ''}", &["spec.subscriber.headers.x: a header's value"]),
            (
                "headers: {a: a, b: a, c: a, d: a, e: a, f: a, g: a, h: a, i: a, j: a, k: a, l: a, m: a, n: a, o: a, p: a, q: a}",
                &["spec.subscriber.headers: has 17 entries: 16 at most"],
            ),
        ],
    );
}

/// Proves: SR-6
#[test]
fn a_signed_event_is_structured_and_its_key_is_a_key() {
    each(
        "http://h/",
        &[
            (
                "sign: {standardWebhooks: {secretKeyRef: {name: x, key: key}, previousSecretKeyRef: {name: x, key: key}}}",
                &[],
            ),
            (
                "sign: {}",
                &["spec.subscriber.sign.standardWebhooks: `standardWebhooks` is required"],
            ),
            (
                "sign: {standardWebhooks: {secretKeyRef: {name: x, key: k}}}",
                &["spec.subscriber.sign.standardWebhooks.secretKeyRef: the key of the signature"],
            ),
            (
                "sign: {standardWebhooks: {secretKeyRef: {name: x, key: key}}}}\n  delivery: {format: json",
                &[],
            ),
            (
                "sign: {standardWebhooks: {secretKeyRef: {name: x, key: key}}}}\n  delivery: {format: binary",
                &["spec.delivery.format: a signature covers the body alone"],
            ),
        ],
    );
}

#[test]
fn a_channel_is_not_reached_by_http() {
    let channel = "apiVersion: eventing.knative.dev/v1alpha1, kind: Channel, name: c";
    for target in [
        format!("subscriber: {{ref: {{{channel}}}, headers: {{x: a}}}}"),
        "reply: {channel: {name: c}, headers: {x: a}}".to_owned(),
    ] {
        let found = faults(&format!("{SUBSCRIPTION}  {target}\n{CHANNEL}"));
        assert!(
            found.len() == 1 && found[0].contains("a channel is not reached by HTTP"),
            "{target}: {found:#?}"
        );
    }
}

/// Proves: SR-6
#[test]
fn a_secret_is_that_of_the_documents_own_namespace_and_is_never_printed() {
    let elsewhere =
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: other}\nstringData: {k: hunter2}\n";
    let subscriber = "  subscriber: {uri: 'http://h/', auth: {bearer: {secretKeyRef: {name: x, key: k}}}}\n";
    let found = faults(&format!("{SUBSCRIPTION}{subscriber}{CHANNEL}{elsewhere}"));
    assert!(found.concat().contains("there is no secret default/x"), "{found:#?}");
    let spec = loaded(&format!("{SUBSCRIPTION}{subscriber}{CHANNEL}{SECRET}")).spec;
    let subscription = &spec.subscriptions[&ObjectName::new("default", "s")];
    let Some(Target::Uri {
        access: Some(access), ..
    }) = &subscription.subscriber
    else {
        panic!("{subscription:?}")
    };
    let Some(Auth::Bearer(token)) = &access.auth else {
        panic!("{access:?}")
    };
    assert_eq!(token.expose(), b"hunter2hunter2");
    assert!(!format!("{spec:?}").contains("hunter2"));
}
