//! Each rule of API.md 2: a document that breaks it, and where and how that is told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use kit::{CHANNEL, faults, loaded};

/// A case: what stands in place of the rest of the document, and the faults, each as the beginning of its line.
type Case = (&'static str, &'static [&'static str]);

fn each(head: &str, cases: &[Case]) {
    let mut wrong = Vec::new();
    for (body, expected) in cases {
        let found = faults(&format!("{head}{body}{CHANNEL}"));
        let same = found.len() == expected.len()
            && expected
                .iter()
                .all(|line| found.iter().any(|found| found.starts_with(line)));
        if !same {
            wrong.push(format!("\n{body}\n  expected {expected:#?}\n  found {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Six lines; the body begins in line 7 with two spaces of indentation.
const SUBSCRIPTION: &str = "apiVersion: eventing.knative.dev/v1alpha1\nkind: Subscription\nmetadata:\n  name: s\nspec:\n  channel: {name: c}\n";

/// The same with a subscriber; the body begins in line 8.
const DELIVERED: &str = "apiVersion: eventing.knative.dev/v1alpha1\nkind: Subscription\nmetadata:\n  name: s\nspec:\n  channel: {name: c}\n  subscriber: {uri: 'http://h/'}\n";

#[test]
fn a_subscription_needs_a_subscriber_or_a_reply() {
    each(
        SUBSCRIPTION,
        &[
            ("", &["5:1 spec: at least one of `subscriber` and `reply` is needed"]),
            ("  subscriber:\n", &["5:1 spec: at least one of"]),
            (
                "  subscriber: {}\n",
                &["7:3 spec.subscriber: names no target: use ref, uri or dnsName"],
            ),
            ("  reply: {channel: {name: c}}\n", &[]),
            ("  subscriber: {uri: 'http://h/'}\n", &[]),
        ],
    );
}

#[test]
fn a_target_is_named_once_and_in_a_form_that_can_be_resolved() {
    each(
        SUBSCRIPTION,
        &[
            (
                "  subscriber: {uri: 'ftp://h/'}\n",
                &["7:21 spec.subscriber.uri: expected an absolute http or https URL"],
            ),
            (
                "  subscriber: {uri: /path}\n",
                &["7:21 spec.subscriber.uri: expected an absolute http or https URL"],
            ),
            (
                "  subscriber: {uri: 'h:80'}\n",
                &["7:21 spec.subscriber.uri: expected an absolute"],
            ),
            (
                "  subscriber: {uri: 5}\n",
                &["7:21 spec.subscriber.uri: expected text, found a number: put it in quotes"],
            ),
            (
                "  subscriber: {uri: 'http://h/', dnsName: h}\n",
                &["7:43 spec.subscriber.dnsName: `dnsName` stands alone"],
            ),
            (
                "  subscriber:\n    ref: {apiVersion: v1, kind: Service, name: x}\n    dnsName: h\n",
                &["9:14 spec.subscriber.dnsName: `dnsName` stands alone, here it is together with `ref`"],
            ),
            (
                "  subscriber: {dnsName: 'h/path'}\n",
                &["7:25 spec.subscriber.dnsName: expected a host"],
            ),
            (
                "  subscriber: {kind: Channel, name: c}\n",
                &["7:3 spec.subscriber: `apiVersion` is required"],
            ),
            (
                "  subscriber: {ref: {kind: Service, name: c}}\n",
                &["7:16 spec.subscriber.ref.apiVersion: `apiVersion` is required"],
            ),
            (
                "  subscriber: {ref: {apiVersion: eventing.knative.dev/v1alpha1, kind: Chanel, name: c}}\n",
                &[
                    "7:71 spec.subscriber.ref.kind: `Chanel`: of Headgate's own kinds only a Channel takes events, did you mean `Channel`?",
                ],
            ),
            (
                "  subscriber: {ref: {apiVersion: eventing.knative.dev/v1alpha1, kind: Subscription, name: s}}\n",
                &["7:71 spec.subscriber.ref.kind: `Subscription`: of Headgate's own kinds only a Channel takes events"],
            ),
            (
                "  reply:\n    channel: {name: c}\n    uri: http://h/\n",
                &["8:5 spec.reply.channel: `channel` stands alone, here it is together with `uri`"],
            ),
            (
                "  subscriber: {channel: {name: c}}\n",
                &["7:16 spec.subscriber.channel: unknown field `channel`"],
            ),
            (
                "  subscriber:\n    ref: {apiVersion: eventing.knative.dev/v1alpha1, kind: Channel, name: c}\n    uri: /x\n",
                &["9:10 spec.subscriber.uri: a channel is one address"],
            ),
        ],
    );
}

#[test]
fn what_a_target_names_has_to_be_there() {
    each(
        SUBSCRIPTION,
        &[
            (
                "  subscriber:\n    ref: {apiVersion: eventing.knative.dev/v1alpha1, kind: Channel, name: d}\n",
                &["7:3 spec.subscriber: channel default/d does not exist"],
            ),
            (
                "  subscriber: {ref: {apiVersion: v1, kind: Service, name: x}}\n",
                &["7:3 spec.subscriber: service default/x does not exist: add a Service document"],
            ),
            (
                "  subscriber: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: x}}\n",
                &["7:3 spec.subscriber: serving.knative.dev/v1 Service default/x cannot be resolved"],
            ),
            (
                "  reply: {channel: {name: c, namespace: other}}\n",
                &["7:3 spec.reply: channel other/c does not exist"],
            ),
        ],
    );
    let text = SUBSCRIPTION.replace("name: c", "name: cc")
        + "  reply: {uri: 'http://h/'}\n"
        + &CHANNEL.replace("name: c", "name: ccc");
    assert_eq!(
        faults(&text),
        ["6:19 spec.channel.name: channel default/cc does not exist, did you mean `ccc`?"]
    );
}

#[test]
fn an_unknown_field_names_the_nearest_known_one() {
    each(
        DELIVERED,
        &[
            (
                "  subcriber: {}\n",
                &["8:3 spec.subcriber: unknown field `subcriber`, did you mean `subscriber`?"],
            ),
            (
                "  Filters: []\n",
                &["8:3 spec.Filters: unknown field `Filters`, did you mean `filters`?"],
            ),
            (
                "  delivery: {retries: 3}\n",
                &["8:14 spec.delivery.retries: unknown field `retries`, did you mean `retry`?"],
            ),
            ("  quux: 1\n", &["8:3 spec.quux: unknown field `quux`; known here: "]),
            (
                "statsu: {}\n",
                &["8:1 statsu: unknown field `statsu`, did you mean `status`?"],
            ),
            ("status: {anything: 1}\n", &[]),
            ("  generation: 5\n", &[]),
        ],
    );
}

#[test]
fn delivery_settings_have_their_bounds() {
    each(
        DELIVERED,
        &[
            (
                "  delivery: {retry: -1}\n",
                &["8:21 spec.delivery.retry: -1 is too small: 0 at least"],
            ),
            (
                "  delivery: {retry: 0, timeout: PT0.1S, backoffDelay: PT0S, backoffMax: PT0S, retryAfterMax: PT0S}\n",
                &[],
            ),
            (
                "  delivery: {retry: '3'}\n",
                &["8:21 spec.delivery.retry: expected a whole number, found text"],
            ),
            (
                "  delivery: {retry: 1.5}\n",
                &["8:21 spec.delivery.retry: expected a whole number, found a number"],
            ),
            (
                "  delivery: {retry: 99999999999}\n",
                &["8:21 spec.delivery.retry: 99999999999 is too large"],
            ),
            (
                "  delivery: {timeout: PT0S}\n",
                &["8:23 spec.delivery.timeout: must be longer than nothing"],
            ),
            (
                "  delivery: {timeout: 30s}\n",
                &["8:23 spec.delivery.timeout: expected an ISO 8601 duration such as PT0.2S"],
            ),
            (
                "  delivery: {timeout: 30}\n",
                &["8:23 spec.delivery.timeout: expected text, found a number"],
            ),
            (
                "  delivery: {backoffDelay: -PT1S}\n",
                &["8:28 spec.delivery.backoffDelay: a duration cannot be negative"],
            ),
            (
                "  delivery: {backoffPolicy: exponentail}\n",
                &[
                    "8:29 spec.delivery.backoffPolicy: `exponentail` is not one of exponential, linear, did you mean `exponential`?",
                ],
            ),
            (
                "  delivery: {format: xml}\n",
                &["8:22 spec.delivery.format: `xml` is not one of binary, json"],
            ),
            (
                "  delivery: {maxReplyBytes: 0}\n",
                &["8:29 spec.delivery.maxReplyBytes: 0 is too small"],
            ),
            (
                "  delivery: {deadLetterSink: {uri: nowhere}}\n",
                &["8:36 spec.delivery.deadLetterSink.uri: expected an absolute"],
            ),
            (
                "  delivery: [retry]\n",
                &["8:3 spec.delivery: expected a map, found a list"],
            ),
            (
                "  delivery: fast\n",
                &["8:13 spec.delivery: expected a map, found text"],
            ),
            (
                "  maxInFlight: 0\n",
                &["8:16 spec.maxInFlight: 0 is too small: 1 at least"],
            ),
            (
                "  ordering: keys\n",
                &["8:13 spec.ordering: `keys` is not one of none, key, total, did you mean `key`?"],
            ),
            (
                "  paused: maybe\n",
                &["8:11 spec.paused: expected true or false, found text"],
            ),
        ],
    );
}

#[test]
fn start_from_is_a_word_a_time_or_an_offset() {
    each(
        DELIVERED,
        &[
            ("  startFrom: latest\n", &[]),
            ("  startFrom: earliest\n", &[]),
            ("  startFrom: {time: 2026-01-31T12:00:00Z}\n", &[]),
            ("  startFrom: {offset: 17}\n", &[]),
            (
                "  startFrom: newest\n",
                &["8:14 spec.startFrom: expected latest, earliest,"],
            ),
            (
                "  startFrom: {time: yesterday}\n",
                &["8:21 spec.startFrom.time: expected an RFC 3339 time"],
            ),
            (
                "  startFrom: {offset: -1}\n",
                &["8:23 spec.startFrom.offset: -1 is too small"],
            ),
            (
                "  startFrom: {time: 2026-01-31T12:00:00Z, offset: 1}\n",
                &["8:14 spec.startFrom: expected latest"],
            ),
            (
                "  startFrom: {ofset: 1}\n",
                &["8:15 spec.startFrom.ofset: unknown field `ofset`, did you mean `offset`?"],
            ),
            ("  startFrom: 5\n", &["8:14 spec.startFrom: expected latest, earliest,"]),
        ],
    );
}

#[test]
fn filters_are_the_dialects_of_the_subscriptions_api() {
    each(
        DELIVERED,
        &[
            (
                "  filters:\n    - exact: {type: a}\n    - prefix: {subject: b}\n    - suffix: {source: c}\n    - not: {exact: {x1: d}}\n    \
                 - all: [{exact: {type: a}}]\n    - any: [{exact: {type: a}}, {not: {prefix: {id: x}}}]\n",
                &[],
            ),
            (
                "  filters: [{exact: {Type: a}}]\n",
                &["8:22 spec.filters[0].exact.Type: `Type` is no attribute name"],
            ),
            (
                "  filters: [{exact: {type: 5}}]\n",
                &["8:28 spec.filters[0].exact.type: expected text, found a number"],
            ),
            (
                "  filters: [{exact: {type: ''}}]\n",
                &["8:28 spec.filters[0].exact.type: must not be empty"],
            ),
            (
                "  filters: [{exact: {}}]\n",
                &["8:14 spec.filters[0].exact: no attribute is named"],
            ),
            (
                "  filters: [{exact: a}]\n",
                &["8:14 spec.filters[0].exact: expected a map of attribute to text, found text"],
            ),
            (
                "  filters: [{exakt: {type: a}}]\n",
                &["8:14 spec.filters[0].exakt: unknown filter dialect `exakt`, did you mean `exact`?"],
            ),
            ("  filters: [{}]\n", &["8:13 spec.filters[0]: the filter is empty"]),
            (
                "  filters: [{any: []}]\n",
                &["8:14 spec.filters[0].any: the list is empty"],
            ),
            (
                "  filters: [{any: {exact: {type: a}}}]\n",
                &["8:14 spec.filters[0].any: expected a list of filters, found a map"],
            ),
            (
                "  filters: [{any: [{not: {exact: {type: a}, suffix: {type: b}}}]}]\n",
                &["8:45 spec.filters[0].any[0].not.suffix: a filter has one dialect"],
            ),
            (
                "  filters: {exact: {type: a}}\n",
                &["8:3 spec.filters: expected a list, found a map"],
            ),
            (
                "  filters: [{cesql: 5}]\n",
                &["8:14 spec.filters[0].cesql: expected an expression, found a number: put it in quotes"],
            ),
            (
                "  filters: [{cesql: \"type = 'a' AND\"}, {not: {sql: type >}}]\n",
                &[
                    "8:36 spec.filters[0].cesql: expected a value, an attribute or a function, found the end",
                    "8:58 spec.filters[1].not.sql: expected a value, an attribute or a function, found the end",
                ],
            ),
            (
                "  filters:\n  - cesql: |\n      EXISTS tier\n      AND tier == 'gold'\n",
                &["11:17 spec.filters[0].cesql: expected a value, an attribute or a function, found `=`"],
            ),
        ],
    );
    let fault = &loaded(&format!("{DELIVERED}  filters: [{{cesql: 'a = ''b'' c'}}]{CHANNEL}")).faults[0];
    assert_eq!((fault.reason.as_str(), fault.line, fault.column), ("Invalid", 8, 32));
    let shown = fault.to_string();
    let lines: Vec<&str> = shown.lines().collect();
    let caret = lines.iter().find(|line| line.contains('^')).map(|line| line.find('^'));
    let expected = lines
        .iter()
        .find(|line| line.contains("cesql: 'a"))
        .map(|line| line.find(" c'").map(|at| at + 1));
    assert!(caret.is_some() && caret == expected, "{shown}");
}

/// Four lines; the body begins in line 5.
const NAMELESS_CHANNEL: &str = "apiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata:\n  name: d\n";

#[test]
fn channel_arguments_are_checked_for_their_backend() {
    each(
        NAMELESS_CHANNEL,
        &[
            ("", &[]),
            ("spec:\n", &[]),
            ("spec: {}\n", &[]),
            (
                "spec: {arguments: {capacity: 5}}\n",
                &[
                    "5:20 spec.arguments.capacity: unknown field `capacity`; known here: retention, limit, deadLetters, dedup, maxEventBytes",
                ],
            ),
            (
                "spec:\n  provisioner: {name: memory}\n  arguments: {capacity: 0}\n",
                &["7:25 spec.arguments.capacity: 0 is too small: 1 at least"],
            ),
            (
                "spec:\n  provisioner: {name: in-memory}\n  arguments: {capacty: 5}\n",
                &["7:15 spec.arguments.capacty: unknown field `capacty`, did you mean `capacity`?"],
            ),
            (
                "spec: {arguments: {maxEventBytes: 33554433}}\n",
                &["5:35 spec.arguments.maxEventBytes: 33554433 is too large: 33554432 at most"],
            ),
            (
                "spec: {arguments: {retention: {age: P1D, bytes: 2Gi}, limit: {age: P2D, bytes: 5Gi}}}\n",
                &[],
            ),
            (
                "spec: {arguments: {retention: {age: 1d}}}\n",
                &["5:37 spec.arguments.retention.age: expected an ISO 8601"],
            ),
            (
                "spec: {arguments: {limit: {bytes: 0}}}\n",
                &["5:35 spec.arguments.limit.bytes: must be more than nothing"],
            ),
            (
                "spec: {provisioner: {name: nowhere}}\n",
                &[
                    "5:28 spec.provisioner.name: there is no provisioner `nowhere`; there are: embedded, in-memory-channel",
                ],
            ),
            (
                "spec: {provisioner: {name: embeded}}\n",
                &["5:28 spec.provisioner.name: there is no provisioner `embeded`, did you mean `embedded`?"],
            ),
            (
                "spec: {provisioner: {name: kafka}}\n",
                &["5:28 spec.provisioner.name: provisioner `kafka` needs a ClusterChannelProvisioner document"],
            ),
            (
                "spec: {provisioner: {apiVersion: eventing.knative.dev/v1alpha1, kind: Provisioner, name: memory}}\n",
                &["5:71 spec.provisioner.kind: `Provisioner` is not one of ClusterChannelProvisioner"],
            ),
            (
                "spec: {provisioner: memory}\n",
                &["5:21 spec.provisioner: expected a map, found text"],
            ),
            (
                "spec: {subscribable: {subscribers: [{subscriberURI: x}]}}\n",
                &["5:53 spec.subscribable.subscribers[0].subscriberURI: expected an absolute"],
            ),
            (
                "spec: {subscribable: {subscribers: [{uid: x}]}}\n",
                &["5:37 spec.subscribable.subscribers[0]: at least one of subscriberURI and replyURI"],
            ),
        ],
    );
}

/// Five lines; the body begins in line 6.
const PROVISIONER: &str =
    "apiVersion: eventing.knative.dev/v1alpha1\nkind: ClusterChannelProvisioner\nmetadata:\n  name: log\nspec:\n";

#[test]
fn provisioner_settings_are_checked_for_their_backend() {
    each(
        PROVISIONER,
        &[
            ("  backend: embedded\n", &[]),
            ("  backend: memory\n  requireDurability: disk\n", &[]),
            (
                "  requireDurability: disk\n",
                &["5:1 spec: `backend` is required: memory, embedded, kafka or nats"],
            ),
            (
                "  backend: kafaka\n",
                &["6:12 spec.backend: `kafaka` is not one of memory, embedded, kafka, nats, did you mean `kafka`?"],
            ),
            (
                "  backend: kafka\n",
                &["5:1 spec.config: `bootstrapServers` is required"],
            ),
            (
                "  backend: kafka\n  config: {}\n",
                &["7:3 spec.config.bootstrapServers: `bootstrapServers` is required"],
            ),
            (
                "  backend: kafka\n  config: {bootstrapServers: ['h:9092'], topicPrefix: x., security: {protocol: SASL_SSL, mechanism: SCRAM-SHA-512, secretRef: {name: k}}}\n",
                &[],
            ),
            (
                "  backend: kafka\n  config: {bootstrapServer: ['h:9092']}\n",
                &[
                    "7:12 spec.config.bootstrapServer: unknown field `bootstrapServer`, did you mean `bootstrapServers`?",
                    "7:3 spec.config.bootstrapServers: `bootstrapServers` is required",
                ],
            ),
            ("  backend: nats\n  config: {servers: 'nats://h:4222'}\n", &[]),
            (
                "  backend: nats\n  config: {servers: [a, b], streamPrefix: x-, monitoringURLs: ['http://h:8222'], security: {tls: true, secretRef: {name: who}}}\n",
                &[],
            ),
            (
                "  backend: nats\n  config: {servers: [a], streamPrefix: x., monitoringURLs: 'h:8222'}\n",
                &[
                    "7:40 spec.config.streamPrefix: a stream's prefix has letters, digits, `-` and `_`, 64 at most",
                    "7:60 spec.config.monitoringURLs: expected an absolute http or https URL, such as http://127.0.0.1:9000/: the scheme is `h`",
                ],
            ),
            (
                "  backend: memory\n  config: {capacity: 5}\n",
                &["7:12 spec.config.capacity: unknown field `capacity`"],
            ),
            (
                "  backend: memory\n  requireDurability: disc\n",
                &[
                    "7:22 spec.requireDurability: `disc` is not one of process, disk, quorum, quorum-fsync, did you mean `disk`?",
                ],
            ),
        ],
    );
    let other = PROVISIONER.replace("name: log", "name: embedded") + "  backend: memory\n";
    assert!(faults(&other)[0].starts_with("6:12 spec.backend: this name is the built-in name of another backend"));
}

fn source(kind: &str) -> String {
    format!(
        "apiVersion: sources.eventing.knative.dev/v1alpha1\nkind: {kind}\nmetadata:\n  name: s\nspec:\n  sink: {{apiVersion: eventing.knative.dev/v1alpha1, kind: Channel, name: c}}\n"
    )
}

#[test]
fn a_github_source_needs_a_repository_and_a_token() {
    const SECRET: &str = "\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: g}\nstringData: {t: x}\n";
    let cases: &[Case] = &[
        (
            "  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: g, key: t}}\n",
            &[],
        ),
        (
            "  ownerAndRepository: o\n  accessToken: {secretKeyRef: {name: g, key: t}}\n",
            &[],
        ),
        (
            "  ownerAndRepository: o/r\n",
            &["5:1 spec: at least one of `accessToken` and `secretToken` is needed"],
        ),
        (
            "  secretToken: {secretKeyRef: {name: g, key: t}}\n",
            &["5:1 spec.ownerAndRepository: `ownerAndRepository` is required"],
        ),
        (
            "  ownerAndRepository: o/r/x\n  secretToken: {secretKeyRef: {name: g, key: t}}\n",
            &["7:23 spec.ownerAndRepository: expected `org/repo`"],
        ),
        (
            "  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: g}}\n",
            &["8:17 spec.secretToken.secretKeyRef.key: `key` is required"],
        ),
        (
            "  ownerAndRepository: o/r\n  secretToken: ghp_abcdef\n",
            &["8:3 spec.secretToken: expected a map, found text; name a secret here, never write one down"],
        ),
        (
            "  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: h, key: t}}\n",
            &["8:17 spec.secretToken.secretKeyRef: there is no secret default/h"],
        ),
        (
            "  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: g, key: u}}\n",
            &["8:17 spec.secretToken.secretKeyRef: secret default/g has no key `u`; it has: t"],
        ),
        (
            "  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: g, key: ../t}}\n",
            &["8:46 spec.secretToken.secretKeyRef.key: a key of a secret has"],
        ),
        (
            "  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: g, key: t}}\n  eventTypes: []\n",
            &["9:3 spec.eventTypes: the list is empty"],
        ),
        (
            "  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: g, key: t}}\n  eventTypes: push\n",
            &["9:15 spec.eventTypes: expected a list, found text"],
        ),
        (
            "  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: g, key: t}}\n  mode: poll\n",
            &["9:9 spec.mode: poll reads GitHub's list of deliveries"],
        ),
        (
            "  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: g, key: t}}\n  sweepInterval: PT0S\n  githubAPIURL: https://ghe/api/v3\n",
            &[],
        ),
        (
            "  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: g, key: t}}\n  githubAPIURL: http://ghe/api/v3\n",
            &["9:17 spec.githubAPIURL: expected an https URL, because the token is sent there"],
        ),
        (
            "  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: g, key: t}}\n  githubAPIURL: http://localhost:1/api/v3\n",
            &[],
        ),
        ("  ownerAndRepository: o/r\n  allowUnsigned: true\n", &[]),
        (
            "  ownerAndRepository: o/r\n  allowUnsigned: false\n",
            &["5:1 spec: at least one of `accessToken` and `secretToken` is needed"],
        ),
        (
            "  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: g, key: t}}\n  allowUnsigned: true\n",
            &["9:18 spec.allowUnsigned: a source with `secretToken` takes signed deliveries alone"],
        ),
        (
            "  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: gg, key: t}}\n",
            &[
                "8:17 spec.secretToken.secretKeyRef: there is no secret default/gg with the key t (neither a Secret document nor a folder /",
            ],
        ),
        (
            "  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: g, key: tt}}\n",
            &["8:17 spec.secretToken.secretKeyRef: secret default/g has no key `tt`; it has: t"],
        ),
        (
            "  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: g, key: t}}\n  ceOverrides: {extensions: {Team: a}}\n",
            &["9:30 spec.ceOverrides.extensions.Team: `Team` is no attribute name"],
        ),
        (
            "  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: g, key: t}}\n  ceOverrides: {extensions: {type: a}}\n",
            &["9:30 spec.ceOverrides.extensions.type: `type` is an attribute of every event"],
        ),
    ];
    let head = source("GitHubSource");
    let cases: Vec<(String, &[&str])> = cases
        .iter()
        .map(|(body, expected)| (format!("{body}{SECRET}"), *expected))
        .collect();
    for (body, expected) in cases {
        each(&head, &[(Box::leak(body.into_boxed_str()), expected)]);
    }
    let text = head.replace("  sink:", "  # sink:")
        + "  ownerAndRepository: o/r\n  secretToken: {secretKeyRef: {name: g, key: t}}\n"
        + SECRET;
    assert_eq!(faults(&text), ["5:1 spec.sink: the source has no sink: set spec.sink"]);
}

#[test]
fn the_other_sources_need_what_they_are_about() {
    each(
        &source("KubernetesEventSource"),
        &[
            ("  namespace: default\n  types: [Warning]\n  coalesce: PT10S\n", &[]),
            ("  allNamespaces: true\n  namespace: ''\n", &[]),
            // Its own namespace.
            ("  reasons: [x]\n", &[]),
            (
                "  namespace: default\n  types: [Warnings]\n",
                &["8:11 spec.types[0]: `Warnings` is not one of Normal, Warning, did you mean `Warning`?"],
            ),
            ("  namespace: a.b\n", &["7:14 spec.namespace: a namespace has no dots"]),
        ],
    );
    each(
        &source("GcpPubSubSource"),
        &[
            (
                "  googleCloudProject: p\n  topic: orders\n  gcpCredsSecret: {name: k}\n  deletionPolicy: Retain\n",
                &["9:3 spec.gcpCredsSecret: there is no secret default/k"],
            ),
            (
                "  topic: orders\n",
                &["5:1 spec.googleCloudProject: `googleCloudProject` is required"],
            ),
            (
                "  googleCloudProject: p\n  topic: ab\n",
                &["8:10 spec.topic: Google's ids have 3 characters at least"],
            ),
            (
                "  googleCloudProject: p\n  topic: orders\n  deletionPolicy: Keep\n",
                &["9:19 spec.deletionPolicy: `Keep` is not one of"],
            ),
        ],
    );
    each(
        &source("ContainerSource"),
        &[
            (
                "  image: i\n  env: [{name: A, value: b}]\n  serviceAccountname: x\n",
                &[],
            ),
            (
                "  image: i\n  env: [{name: A, valueFrom: {secretKeyRef: {name: k, key: ../x}}}]\n",
                &["8:60 spec.env[0].valueFrom.secretKeyRef.key: "],
            ),
            (
                "  image: i\n  env: [{name: A, valueFrom: {secretKeyRef: {name: k, key: x}}}]\n",
                &["8:31 spec.env[0].valueFrom.secretKeyRef: there is no secret default/k"],
            ),
            (
                "  image: i\n  env: {A: b}\n  args: [--sink=x]\n  restartPolicy: onFailure\n",
                &[],
            ),
            ("  args: [x]\n", &["5:1 spec.image: `image` is required"]),
            (
                "  image: i\n  env: {A: 5}\n",
                &["8:12 spec.env.A: expected text, found a number"],
            ),
            (
                "  image: i\n  env: [{value: b}]\n",
                &["8:9 spec.env[0].name: `name` is required"],
            ),
            (
                "  image: i\n  env: x\n",
                &["8:8 spec.env: expected a list of {name, value} or a map"],
            ),
            (
                "  image: i\n  serviceAccountName: a\n  serviceAccountname: b\n",
                &["9:23 spec.serviceAccountname: is the older spelling"],
            ),
        ],
    );
}

#[test]
fn a_header_that_cannot_be_used_is_told_where_it_stands() {
    each(
        "",
        &[
            (
                "kind: Channel\nmetadata: {name: x}\n",
                &["1:1 apiVersion: `apiVersion` is required"],
            ),
            (
                "apiVersion: eventing.knative.dev/v1alpha1\nmetadata: {name: x}\n",
                &["1:1 kind: `kind` is required"],
            ),
            (
                "apiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\n",
                &["1:1 metadata: `metadata` is required"],
            ),
            (
                "apiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata: {}\n",
                &["3:1 metadata.name: `name` is required"],
            ),
            (
                "apiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata: {name: Bad}\n",
                &["3:18 metadata.name: `Bad` is no name"],
            ),
            (
                "apiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata: {name: 5}\n",
                &["3:18 metadata.name: expected text, found a number"],
            ),
            (
                "apiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata: {name: x, namespace: A}\n",
                &["3:32 metadata.namespace: `A` is no name"],
            ),
            (
                "apiVersion: eventing.knative.dev/v1alpha1\nkind: Chanel\nmetadata: {name: x}\n",
                &["2:7 kind: unknown kind `Chanel` in eventing.knative.dev/v1alpha1, did you mean `Channel`?"],
            ),
            (
                "apiVersion: eventing.knative.dev/v1\nkind: Channel\nmetadata: {name: x}\n",
                &[
                    "1:13 apiVersion: `eventing.knative.dev/v1` has no Channel, did you mean `eventing.knative.dev/v1alpha1`?",
                ],
            ),
            (
                "apiVersion: eventing.knative.dev/v1alpha1\nkind: GitHubSource\nmetadata: {name: x}\n",
                &["1:13 apiVersion: `eventing.knative.dev/v1alpha1` has no GitHubSource, did you mean `sources."],
            ),
            (
                "apiVersion: evnting.knative.dev/v1alpha1\nkind: Channel\nmetadata: {name: x}\n",
                &["1:13 apiVersion: `evnting.knative.dev/v1alpha1` has no Channel"],
            ),
            (
                "just text\n",
                &["1:1 expected a document with apiVersion, kind and metadata, found text"],
            ),
            (
                "apiVersion: eventing.knative.dev/v1alpha1\nkind: Subscription\nmetadata: {name: x}\n",
                &["1:1 spec: `spec` is required"],
            ),
            (
                "apiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata: {name: x, labels: {a: b}, annotations: {c: d}, uid: e}\n",
                &[],
            ),
            (
                "apiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata: {name: x.outbox}\n",
                &["3:18 metadata.name: names like this are made by the gateway itself"],
            ),
        ],
    );
}

#[test]
fn documents_of_others_are_left_alone_with_a_warning() {
    let loaded = loaded(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n---\napiVersion: messaging.knative.dev/v1\nkind: Channel\nmetadata: {name: y}\n",
    );
    assert!(loaded.faults.is_empty() && loaded.spec.objects.is_empty());
    let messages: Vec<_> = loaded
        .warnings
        .iter()
        .map(|warning| warning.fault().one_line())
        .collect();
    assert!(
        messages[0].ends_with("documents.yaml:2:7: apps/v1 Deployment is not ours and is ignored"),
        "{messages:?}"
    );
    assert!(
        messages[1].contains("ours is eventing.knative.dev/v1alpha1 Channel"),
        "{messages:?}"
    );
}

/// Proves: SR-6
#[test]
fn secrets_and_services_are_checked_without_showing_a_value() {
    let head = "apiVersion: v1\nkind: Secret\nmetadata: {name: g}\n";
    each(
        head,
        &[
            (
                "type: Opaque\nimmutable: true\ndata: {a: aGVsbG8=}\nstringData: {b: text}\n",
                &[],
            ),
            ("data: {a: hunter2!}\n", &["4:8 data.a: is no base64"]),
            (
                "stringData: {a: 12345}\n",
                &["4:14 stringData.a: expected text, found a number: put it in quotes"],
            ),
            (
                "data: hunter2\n",
                &["4:1 data: expected a map of key to text, found text"],
            ),
        ],
    );
    for body in [
        "data: {a: hunter2!}\n",
        "stringData: {a: {b: hunter2}}\n",
        "data: hunter2\n",
        "stringData: {a: \"hunter2\n",
        "sepc: [hunter2\n",
    ] {
        let loaded = loaded(&format!("{head}{body}"));
        assert!(!loaded.faults.is_empty(), "{body}");
        let printed = format!("{:?} {}", loaded, loaded.faults[0]);
        assert!(!printed.contains("hunter2"), "{printed}");
    }
    for body in [
        "secretToken: hunter2",
        "secretToken: {secretKeyRef: hunter2}",
        "secretToken: [hunter2]",
        "app: {privateKey: hunter2}",
    ] {
        let loaded = loaded(&format!(
            "{}  ownerAndRepository: o/r\n  {body}\n",
            source("GitHubSource")
        ));
        let printed = format!("{:?} {}", loaded, loaded.faults[0]);
        assert!(!printed.contains("hunter2"), "{printed}");
    }
    each(
        "apiVersion: v1\nkind: Service\nmetadata: {name: g}\nspec:\n",
        &[
            (
                "  externalName: h.example\n  ports: [{port: 80, targetPort: 8080, name: http}]\n  selector: {app: x}\n",
                &[],
            ),
            ("  externalName: 10.0.0.1\n", &[]),
            ("  externalName: 'fd00::1'\n", &[]),
            (
                "  externalName: http://h\n",
                &["5:17 spec.externalName: expected a host name or an address, without scheme and port"],
            ),
            (
                "  externalName: h:80\n",
                &["5:17 spec.externalName: expected a host name or an address"],
            ),
            (
                "  externalName: h\n  ports: [{port: 70000}]\n",
                &["6:18 spec.ports[0].port: 70000 is too large: 65535 at most"],
            ),
        ],
    );
}

#[test]
fn a_name_written_twice_is_a_fault_at_the_second() {
    let loaded = kit::loaded_files(&[("a.yaml", CHANNEL), ("b.yaml", CHANNEL)]);
    let [fault] = loaded.faults.as_slice() else {
        panic!("{:?}", loaded.faults)
    };
    assert!(fault.file.ends_with("b.yaml") && fault.reason == "Duplicate" && (fault.line, fault.column) == (5, 18));
    assert!(fault.message.contains("a.yaml:3"), "{}", fault.message);
    assert_eq!(loaded.spec.channels.len(), 1);
}

#[test]
fn a_key_written_twice_is_a_fault() {
    let found = faults(&format!("{DELIVERED}  paused: true\n  paused: false\n{CHANNEL}"));
    assert_eq!(found, ["9:3 spec.paused: `paused` is written twice, first in line 8"]);
}

#[test]
fn all_faults_of_all_files_are_told_at_once_and_one_broken_document_hides_none() {
    let loaded = kit::loaded_files(&[
        (
            "a.yaml",
            &format!(
                "{DELIVERED}  maxInFlight: 0\n  ordering: up\n---\nbroken: [\n---\n{PROVISIONER}  backend: tape\n{CHANNEL}"
            ),
        ),
        ("deep/b.yaml", "kind: Channel\n"),
        ("c.json", "{\"apiVersion\": \"v1\" \"kind\": \"Secret\"}"),
        ("d.yaml", "\u{feff}# only a comment\n"),
    ]);
    let positions: Vec<_> = loaded
        .faults
        .iter()
        .map(|fault| {
            (
                fault.file.rsplit('/').next().unwrap().to_owned(),
                fault.line,
                fault.path.clone(),
            )
        })
        .collect();
    let expected = [
        ("a.yaml", 8, "spec.maxInFlight"),
        ("a.yaml", 9, "spec.ordering"),
        ("a.yaml", 11, ""),
        ("a.yaml", 18, "spec.backend"),
        ("c.json", 1, ""),
        ("b.yaml", 1, "apiVersion"),
    ];
    assert_eq!(
        positions,
        expected.map(|(file, line, path)| (file.to_owned(), line, path.to_owned()))
    );
    assert!(loaded.spec.incomplete);
    assert_eq!(loaded.spec.channels.len(), 1, "the valid rest is there");
}

#[test]
fn a_list_is_its_items() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: eventing.knative.dev/v1alpha1\n  kind: Channel\n  metadata: {name: c}\n\
                - apiVersion: eventing.knative.dev/v1alpha1\n  kind: Channel\n  metadata: {nam: d}\n";
    let loaded = loaded(text);
    assert_eq!(loaded.spec.channels.len(), 1);
    assert_eq!(
        loaded.faults[0].one_line().rsplit_once("documents.yaml:").unwrap().1,
        "9:3: metadata.name: `name` is required: every document has a name"
    );
}

#[test]
fn a_message_says_what_to_write_instead() {
    each(
        DELIVERED,
        &[
            (
                "  delivery: {retry: 010}\n",
                &[
                    "8:21 spec.delivery.retry: expected a whole number, found `010`, which kubectl reads as 8: write 8, or 10",
                ],
            ),
            (
                "  delivery: {retry: 1e3}\n",
                &["8:21 spec.delivery.retry: expected a whole number, found `1e3`: write 1000"],
            ),
            (
                "  delivery: {retry: '3'}\n",
                &["8:21 spec.delivery.retry: expected a whole number, found text: write 3 without quotes"],
            ),
            (
                "  delivery: {deadLetterSink: 'http://h/'}\n",
                &["8:30 spec.delivery.deadLetterSink: expected a map, found text: write { uri: URL }"],
            ),
        ],
    );
    let head = "apiVersion: eventing.knative.dev/v1alpha1\nkind: Subscription\nmetadata:\n  name: s\nspec:\n";
    each(
        head,
        &[
            (
                "  channel: orders\n  subscriber: {uri: 'http://h/'}\n",
                &["6:12 spec.channel: expected a map, found text: write { name: orders }"],
            ),
            (
                "  from: {name: c}\n  call: {targetRef: {name: x}}\n  channel: {name: c}\n  subscriber: {uri: 'http://h/'}\n",
                &[
                    "6:3 spec.from: `from` is called `channel` today",
                    "7:3 spec.call: `call` is called `subscriber`, and `call.targetRef` is `subscriber.ref`, today",
                ],
            ),
        ],
    );
    each(
        "",
        &[
            (
                "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: t}\n",
                &[
                    "2:7 kind: unknown kind `Trigger` in eventing.knative.dev/v1; here it is a Subscription with `filters`",
                ],
            ),
            (
                "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: t}\n",
                &["2:7 kind: unknown kind `Broker` in eventing.knative.dev/v1; here it is a Channel"],
            ),
            (
                "apiVersion: eventing.knative.dev/v1\nkind: Wondrous\nmetadata: {name: t}\n",
                &[
                    "2:7 kind: unknown kind `Wondrous` in eventing.knative.dev/v1; known: Channel, Subscription, ClusterChannelProvisioner",
                ],
            ),
        ],
    );
}

/// Proves: SR-6
#[test]
fn what_is_typed_where_a_secret_is_named_is_in_no_message_and_no_object() {
    let provisioner = |config: &str| {
        format!(
            "apiVersion: eventing.knative.dev/v1alpha1\nkind: ClusterChannelProvisioner\nmetadata: {{name: kafka}}\nspec:\n  \
             config:\n    bootstrapServers: 'h:1'\n{config}"
        )
    };
    for config in [
        "    security: {protocol: SASL_SSL, mechanism: PLAIN, secretRef: hunter2}\n",
        "    security:\n      secretRef: hunter2\n",
        "    security:\n      secretRef: {name: Hunter2!}\n",
        "    security:\n      secretRef: {name: kafka, password: hunter2}\n",
        "    security:\n      password: hunter2\n",
        "    security: {mechanism: hunter2}\n",
        "    security: hunter2\n",
        "    saslPassword: hunter2\n",
        "    security:\n      secretRef: [hunter2\n",
    ] {
        let loaded = loaded(&provisioner(config));
        assert!(!loaded.faults.is_empty(), "{config}");
        let objects = loaded.spec.objects.values().map(|object| object.document.to_string());
        let printed: String = loaded.faults.iter().map(ToString::to_string).chain(objects).collect();
        assert!(!printed.to_lowercase().contains("hunter2"), "{config}: {printed}");
    }
}
