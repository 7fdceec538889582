//! Every spelling that API.md 2 promises is taken, and what it becomes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kit;

use std::time::Duration;

use kit::{CHANNEL, loaded, loaded_files};
use spec::{
    Kind, ObjectKey, ObjectName, Spec,
    model::{
        Arguments, BackendKind, DeadLetters, Delivery, EmbeddedArguments, Limit, Retention, SourceConfig, StartFrom,
        Subscription, Target,
    },
};

fn valid(text: &str) -> Spec {
    let loaded = loaded(&format!("{text}{CHANNEL}"));
    assert!(loaded.faults.is_empty(), "{}\n{text}", loaded.faults[0]);
    loaded.spec
}

fn subscription(body: &str) -> Subscription {
    let head = "apiVersion: eventing.knative.dev/v1alpha1\nkind: Subscription\nmetadata: {name: s}\nspec:\n  channel: {name: c}\n";
    let spec = valid(&format!("{head}{body}{SERVICE}"));
    (*spec.subscriptions[&ObjectName::new("default", "s")]).clone()
}

const SERVICE: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {externalName: web.example, ports: [{port: 8080}, {port: 9}]}\n\
                       ---\napiVersion: v1\nkind: Service\nmetadata: {name: plain, namespace: other}\nspec: {externalName: 'fd00::1'}\n";

fn uri(target: Option<&Target>) -> String {
    match target {
        Some(Target::Uri { url, .. }) => url.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn each_spelling_of_a_target_is_the_target_it_names() {
    for (written, meant) in [
        ("{uri: 'http://127.0.0.1:9000/a?b=c'}", "http://127.0.0.1:9000/a?b=c"),
        ("{uri: 'h2c://127.0.0.1:9000/a'}", "h2c://127.0.0.1:9000/a"),
        ("{dnsName: host.example}", "http://host.example/"),
        ("{dnsName: 'host.example:81'}", "http://host.example:81/"),
        ("{dnsName: 'https://host.example/x'}", "https://host.example/x"),
        (
            "{ref: {apiVersion: v1, kind: Service, name: web}}",
            "http://web.example:8080/",
        ),
        ("{apiVersion: v1, kind: Service, name: web}", "http://web.example:8080/"),
        (
            "{ref: {apiVersion: v1, kind: Service, name: plain, namespace: other}}",
            "http://[fd00::1]/",
        ),
        (
            "{ref: {apiVersion: v1, kind: Service, name: web}, uri: /hook?x=1}",
            "http://web.example:8080/hook?x=1",
        ),
        (
            "{ref: {apiVersion: v1, kind: Service, name: web}, uri: relative}",
            "http://web.example:8080/relative",
        ),
    ] {
        let found = subscription(&format!("  subscriber: {written}\n"));
        assert_eq!(uri(found.subscriber.as_ref()), meant, "{written}");
    }
    let channel = "apiVersion: eventing.knative.dev/v1alpha1, kind: Channel, name: c";
    for written in [
        format!("{{{channel}}}"),
        format!("{{ref: {{{channel}}}}}"),
        format!("{{channel: {{{channel}}}}}"),
        "{channel: {name: c}}".into(),
    ] {
        let found = subscription(&format!("  reply: {written}\n"));
        assert_eq!(
            found.reply,
            Some(Target::Channel(ObjectName::new("default", "c"))),
            "{written}"
        );
        assert_eq!(found.subscriber, None);
    }
}

#[test]
fn the_defaults_are_those_of_the_documents() {
    let found = subscription("  subscriber: {uri: 'http://h/'}\n");
    let expected = Delivery {
        backoff: backoff::Policy {
            retry: 24,
            growth: backoff::Growth::Exponential,
            delay: Duration::from_millis(200),
            max: Duration::from_secs(600),
            retry_after_max: Duration::from_secs(300),
        },
        timeout: Duration::from_secs(30),
        format: spec::model::Format::Binary,
        max_reply_bytes: 1_048_576,
        dead_letter_sink: None,
    };
    assert_eq!(found.delivery, expected);
    assert_eq!(
        (found.max_in_flight, found.paused, found.start_from),
        (64, false, StartFrom::Latest)
    );
    assert_eq!((found.ordering, found.filters.len()), (spec::model::Ordering::None, 0));
    let spec = valid("");
    let channel = &spec.channels[&ObjectName::new("default", "c")];
    assert_eq!(channel.provisioner.as_ref().unwrap().name, "embedded");
    let day = Duration::from_secs(86_400);
    let expected = EmbeddedArguments {
        retention: Retention {
            age: day,
            bytes: 1 << 30,
        },
        limit: Limit { age: None, bytes: None },
        dedup: None,
        dead_letters: DeadLetters { bytes: 1 << 30 },
        max_event_bytes: None,
    };
    assert_eq!(channel.arguments, Arguments::Embedded(expected));
}

#[test]
fn delivery_settings_are_the_subscriptions_over_the_channels_field_by_field() {
    let text = "apiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata: {name: d}\nspec:\n  delivery:\n    retry: 3\n    \
                timeout: PT5S\n    backoffPolicy: linear\n    deadLetterSink: {uri: 'http://dead/'}\n---\n\
                apiVersion: eventing.knative.dev/v1alpha1\nkind: Subscription\nmetadata: {name: s}\nspec:\n  channel: {name: d}\n  \
                subscriber: {uri: 'http://h/'}\n  delivery: {retry: 0, format: json}\n";
    let delivery = valid(text).subscriptions[&ObjectName::new("default", "s")]
        .delivery
        .clone();
    assert_eq!((delivery.backoff.retry, delivery.timeout), (0, Duration::from_secs(5)));
    assert_eq!(
        (delivery.backoff.growth, delivery.format),
        (backoff::Growth::Linear, spec::model::Format::Json)
    );
    assert_eq!(uri(delivery.dead_letter_sink.as_ref()), "http://dead/");
    assert_eq!(
        delivery.backoff.delay,
        Duration::from_millis(200),
        "what neither says is the default"
    );
}

#[test]
fn a_provisioner_is_known_by_each_of_its_names() {
    for (name, backend, canonical) in [
        ("in-memory-channel", BackendKind::Memory, "in-memory-channel"),
        ("in-memory", BackendKind::Memory, "in-memory-channel"),
        ("memory", BackendKind::Memory, "in-memory-channel"),
        ("embedded", BackendKind::Embedded, "embedded"),
        ("kafka-channel", BackendKind::Kafka, "kafka"),
        ("natss", BackendKind::Nats, "nats"),
        ("mine", BackendKind::Embedded, "mine"),
    ] {
        let text = format!(
            "apiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata: {{name: x}}\nspec: {{provisioner: {{name: {name}}}}}\n---\n\
             apiVersion: eventing.knative.dev/v1alpha1\nkind: ClusterChannelProvisioner\nmetadata: {{name: kafka}}\nspec: {{config: {{bootstrapServers: ['h:1']}}}}\n---\n\
             apiVersion: eventing.knative.dev/v1alpha1\nkind: ClusterChannelProvisioner\nmetadata: {{name: nats}}\nspec: {{config: {{servers: ['h:1']}}}}\n---\n\
             apiVersion: eventing.knative.dev/v1alpha1\nkind: ClusterChannelProvisioner\nmetadata: {{name: mine}}\nspec: {{backend: embedded}}\n---\n\
             apiVersion: eventing.knative.dev/v1alpha1\nkind: ClusterChannelProvisioner\nmetadata: {{name: in-memory-channel}}\nspec: {{}}\n"
        );
        let spec = valid(&text);
        let found = spec.channels[&ObjectName::new("default", "x")]
            .provisioner
            .clone()
            .unwrap();
        assert_eq!(
            (found.config.backend(), found.name.as_str()),
            (backend, canonical),
            "{name}"
        );
    }
}

#[test]
fn subscribers_listed_by_hand_keep_their_identity_in_any_order() {
    let listed = |subscribers: &str| {
        let spec = valid(&format!(
            "apiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata: {{name: h}}\nspec: {{subscribable: {{subscribers: [{subscribers}]}}}}\n"
        ));
        spec.subscriptions
            .values()
            .map(|s| (s.name.name.clone(), uri(s.subscriber.as_ref()), s.implicit))
            .collect::<Vec<_>>()
    };
    let (a, b) = (
        "{subscriberURI: 'http://a/'}",
        "{subscriberURI: 'http://b/', replyURI: 'http://r/'}",
    );
    let one = listed(&format!("{a}, {b}, {a}"));
    assert_eq!(one, listed(&format!("{b}, {a}, {a}")));
    assert_eq!(one.len(), 3, "equal ones are two");
    assert!(
        one.iter()
            .all(|(name, _, implicit)| name.starts_with("h.subscriber-") && *implicit)
    );
    assert!(
        listed(b).iter().all(|subscriber| one.contains(subscriber)),
        "removing another one renames nothing"
    );
}

fn github(sink: &str) -> String {
    format!(
        "apiVersion: sources.eventing.knative.dev/v1alpha1\nkind: GitHubSource\nmetadata: {{name: g}}\nspec:\n  ownerAndRepository: o/r\n  \
         eventTypes: [push]\n  secretToken: {{secretKeyRef: {{name: t, key: k}}}}\n  accessToken: {{secretKeyRef: {{name: t, key: e}}}}\n  \
         serviceAccountname: robot\n  sink: {sink}\n  ceOverrides: {{extensions: {{team: a}}}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: t}}\n\
         stringData: {{k: sesame}}\ndata: {{e: ZW5jb2RlZA==}}\n{SERVICE}"
    )
}

#[test]
fn a_source_to_a_channel_has_that_channel_and_its_secrets() {
    let spec = valid(&github(
        "{apiVersion: eventing.knative.dev/v1alpha1, kind: Channel, name: c}",
    ));
    let source = spec.sources.values().next().unwrap();
    assert_eq!(source.sink, Ok(ObjectName::new("default", "c")));
    assert_eq!(source.extensions["team"], "a");
    let SourceConfig::GitHub(config) = &source.config else {
        panic!("{:?}", source.config)
    };
    let exposed = |secret: &Option<Result<spec::model::SecretText, _>>| match secret {
        Some(Ok(secret)) => String::from_utf8_lossy(secret.expose()).into_owned(),
        _ => String::new(),
    };
    assert_eq!(
        (exposed(&config.secret_token), exposed(&config.access_token)),
        ("sesame".into(), "encoded".into())
    );
    assert!(config.previous_secret_token.is_none() && config.event_types == ["push"]);
    assert_eq!((spec.channels.len(), spec.subscriptions.len()), (1, 0), "no outbox");
}

#[test]
fn a_direct_sink_has_an_outbox_that_survives_its_target() {
    let outbox = ObjectName::new("default", "g.githubsource.outbox");
    let spec = valid(&github("{ref: {apiVersion: v1, kind: Service, name: web}}"));
    assert_eq!(spec.sources.values().next().unwrap().sink, Ok(outbox.clone()));
    assert_eq!(
        spec.sources.values().next().unwrap().sink_uri.as_deref(),
        Some("http://web.example:8080/")
    );
    let (channel, subscription) = (&spec.channels[&outbox], &spec.subscriptions[&outbox]);
    assert!(channel.implicit && subscription.implicit && subscription.channel == outbox);
    assert_eq!(
        channel.provisioner.as_ref().unwrap().config.backend(),
        BackendKind::Embedded
    );
    assert_eq!(
        (subscription.start_from, uri(subscription.subscriber.as_ref())),
        (StartFrom::Earliest, "http://web.example:8080/".into())
    );

    let loaded = loaded(&github("{ref: {apiVersion: v1, kind: Service, name: gone}}"));
    assert!(loaded.faults.iter().all(|fault| fault.dangling) && loaded.faults.len() == 1);
    let spec = loaded.spec;
    assert_eq!(
        spec.sources.values().next().unwrap().sink.as_ref().unwrap_err().reason,
        "NotFound"
    );
    assert!(
        matches!(spec.subscriptions[&outbox].subscriber, Some(Target::Unresolved(_))),
        "what it holds waits"
    );
}

#[test]
fn what_is_missing_is_in_the_model_with_its_reason() {
    let text = "apiVersion: eventing.knative.dev/v1alpha1\nkind: Subscription\nmetadata: {name: s}\nspec:\n  channel: {name: gone}\n  \
                subscriber: {ref: {apiVersion: eventing.knative.dev/v1alpha1, kind: Channel, name: also-gone}}\n---\n\
                apiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata: {name: x}\nspec: {provisioner: {name: nowhere}}\n---\n"
        .to_owned()
        + &github("{apiVersion: eventing.knative.dev/v1alpha1, kind: Channel, name: gone}").replace("name: t}", "name: u}");
    let loaded = loaded(&text);
    assert!(loaded.faults.iter().all(|fault| fault.dangling));
    let reasons: Vec<_> = loaded
        .faults
        .iter()
        .map(|fault| (fault.path.as_str(), fault.reason))
        .collect();
    assert!(
        reasons.contains(&("spec.channel.name", spec::Reason::NotFound))
            && reasons.contains(&("spec.provisioner.name", spec::Reason::NotProvisioned)),
        "{reasons:?}"
    );
    let (key, channel) = (ObjectName::new("default", "s"), ObjectName::new("default", "x"));
    assert!(
        matches!(&loaded.spec.subscriptions[&key].subscriber, Some(Target::Unresolved(why)) if why.reason == "NotFound")
    );
    assert_eq!(
        loaded.spec.channels[&channel].provisioner.as_ref().unwrap_err().reason,
        "NotProvisioned"
    );
    assert_eq!(
        loaded
            .spec
            .sources
            .values()
            .next()
            .unwrap()
            .sink
            .as_ref()
            .unwrap_err()
            .reason,
        "NotFound"
    );
}

#[test]
fn missing_tokens_are_called_as_in_v02() {
    let text = github("{uri: 'http://user:hunter2@h/'}").replace("kind: Secret", "kind: ConfigMap");
    let loaded = loaded(&text);
    let reasons: Vec<_> = loaded.faults.iter().map(|fault| fault.reason).collect();
    assert_eq!(reasons, ["SecretTokenNotFound", "AccessTokenNotFound"]);
    assert_eq!(
        loaded.spec.sources.values().next().unwrap().sink_uri.as_deref(),
        Some("http://h/"),
        "no credentials in status"
    );
}

/// Proves: SR-6
#[test]
fn a_secret_may_lie_in_the_folder_and_values_are_never_shown() {
    let text = github("{uri: 'http://h/'}").replace("kind: Secret", "kind: ConfigMap");
    let loaded = loaded_files(&[
        ("a.yaml", &text),
        ("secrets/default/t/k", "from-file\n"),
        ("secrets/default/t/e", "other"),
    ]);
    assert!(loaded.faults.is_empty(), "{:?}", loaded.faults);
    let SourceConfig::GitHub(config) = loaded.spec.sources.values().next().unwrap().config.clone() else {
        panic!("no GitHub")
    };
    assert_eq!(config.secret_token.unwrap().unwrap().expose(), b"from-file");
    assert_eq!(config.access_token.unwrap().unwrap().expose(), b"other");

    let annotated = github("{uri: 'http://h/'}").replace(
        "metadata: {name: t}",
        "metadata: {name: t, annotations: {last: 'sesame'}}",
    );
    let spec = valid(&annotated);
    let key = ObjectKey::new(Kind::Secret, ObjectName::new("default", "t"));
    let shown = serde_json::to_string(&spec.objects[&key].document).unwrap();
    assert!(
        shown.contains(r#""k":"<redacted>""#) && shown.contains(r#""e":"<redacted>""#),
        "{shown}"
    );
    let debugged = format!("{spec:?}");
    assert!(!debugged.contains("sesame") && !debugged.contains("ZW5jb2RlZA") && !debugged.contains("encoded"));
}

#[test]
fn a_document_is_shown_as_it_was_written_with_its_namespace() {
    let spec = valid(
        "apiVersion: eventing.knative.dev/v1alpha1\nkind: Channel\nmetadata: {name: x, labels: {a: b}}\nspec: {arguments: {maxEventBytes: 5}}\nstatus: {old: 1}\n",
    );
    let object = &spec.objects[&ObjectKey::new(Kind::Channel, ObjectName::new("default", "x"))];
    let expected = serde_json::json!({
        "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "Channel",
        "metadata": { "name": "x", "namespace": "default", "labels": { "a": "b" } },
        "spec": { "arguments": { "maxEventBytes": 5 } },
    });
    assert_eq!(object.document, expected);
    assert!(object.origin.ends_with("documents.yaml:1") && object.faults.is_empty());
    let Arguments::Embedded(arguments) = &spec.channels[&object.key.name].arguments else {
        panic!("the default provisioner is the embedded one")
    };
    assert_eq!(arguments.max_event_bytes, Some(5));
}

#[test]
fn every_sample_is_valid() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/samples");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let loaded = spec::load(&spec::FilesSettings::new([&path], None)).unwrap();
        assert!(loaded.faults.is_empty(), "{}", loaded.faults[0]);
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings[0]);
        assert!(!loaded.spec.objects.is_empty(), "{} says nothing", path.display());
        count += 1;
    }
    assert!(count >= 6, "the samples are where the documents say");
}
