#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::{collections::BTreeMap, time::Duration};

use spec::model::{
    Addresses, BackendKind, Config, ContainerSource, Delivery, EmbeddedArguments, Format, GitHubMode, GitHubSource,
    KafkaArguments, KafkaConfig, KafkaSecurity, MemoryArguments, NatsArguments, NatsConfig, NatsSecurity, Ordering,
    Provisioner, Publishing, RestartPolicy, SourceConfig, StartFrom,
};

use super::*;

fn name(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}

fn channel(called: &str, backend: BackendKind) -> Arc<Channel> {
    let addresses = || Addresses(vec!["broker:1".to_owned()]);
    let (config, arguments) = match backend {
        BackendKind::Memory => (Config::Memory, Arguments::Memory(MemoryArguments::default())),
        BackendKind::Embedded => (Config::Embedded, Arguments::Embedded(EmbeddedArguments::default())),
        BackendKind::Kafka => (
            Config::Kafka(KafkaConfig {
                bootstrap_servers: addresses(),
                topic_prefix: None,
                security: KafkaSecurity::default(),
            }),
            Arguments::Kafka(KafkaArguments::default()),
        ),
        BackendKind::Nats => (
            Config::Nats(NatsConfig {
                servers: addresses(),
                stream_prefix: None,
                monitoring_urls: None,
                security: NatsSecurity::default(),
            }),
            Arguments::Nats(NatsArguments::default()),
        ),
    };
    let provisioner = Provisioner {
        name: called.into(),
        config,
        credentials: Ok(BTreeMap::new()),
        require_durability: None,
    };
    Arc::new(Channel {
        name: name(called),
        provisioner: Ok(Arc::new(provisioner)),
        arguments,
        implicit: called.ends_with("outbox"),
        publishing: Publishing::default(),
    })
}

fn subscription(called: &str, channel: &str, reply: Option<Target>) -> Arc<Subscription> {
    Arc::new(Subscription {
        name: name(called),
        uid: None,
        channel: name(channel),
        subscriber: Some(Target::uri(Url::parse("http://service/").unwrap())),
        reply,
        filters: vec![],
        delivery: Delivery {
            backoff: backoff::Policy::default(),
            timeout: Duration::from_secs(30),
            format: Format::Binary,
            max_reply_bytes: 1,
            dead_letter_sink: None,
        },
        max_in_flight: 1,
        ordering: Ordering::None,
        start_from: StartFrom::Latest,
        paused: false,
        implicit: false,
    })
}

fn source(called: &str, sink: &str, config: SourceConfig) -> Arc<Source> {
    let kind = match config {
        SourceConfig::GitHub(_) => Kind::GitHubSource,
        _ => Kind::ContainerSource,
    };
    Arc::new(Source {
        key: ObjectKey::new(kind, name(called)),
        sink: Ok(name(sink)),
        sink_uri: None,
        service_account: None,
        uid: None,
        extensions: BTreeMap::new(),
        config,
    })
}

fn container() -> SourceConfig {
    SourceConfig::Container(ContainerSource {
        image: "beats:1".into(),
        args: vec![],
        env: vec![],
        template: None,
        restart: RestartPolicy::Always,
    })
}

fn github() -> SourceConfig {
    SourceConfig::GitHub(GitHubSource {
        owner_and_repository: "octo/hello".into(),
        event_types: vec![],
        api_url: None,
        allow_unsigned: false,
        secret_token: None,
        previous_secret_token: None,
        access_token: None,
        app: None,
        mode: GitHubMode::Webhook,
        sweep_interval: None,
    })
}

/// A log on disk, a topic, an outbox; a subscription of each; sources of both.
fn spec() -> Spec {
    let channels = [
        channel("log", BackendKind::Embedded),
        channel("topic", BackendKind::Kafka),
        channel("beats.outbox", BackendKind::Embedded),
    ];
    let subscriptions = [
        subscription("of-log", "log", None),
        subscription("of-topic", "topic", Some(Target::Channel(name("log")))),
        subscription("of-nothing", "gone", None),
    ];
    let sources = [
        source("beats", "beats.outbox", container()),
        source("hello", "topic", github()),
    ];
    Spec {
        channels: channels.into_iter().map(|c| (c.name.clone(), c)).collect(),
        subscriptions: subscriptions.into_iter().map(|s| (s.name.clone(), s)).collect(),
        sources: sources.into_iter().map(|s| (s.key.clone(), s)).collect(),
        ..Spec::default()
    }
}

fn others() -> Others {
    Others {
        first: Some("http://headgate-0.pods:8080".into()),
        first_key: Some("key".into()),
        leader: Some("http://headgate-1.pods:8080".into()),
        pods: HashMap::new(),
    }
}

fn first() -> Replica {
    Replica {
        is_first: true,
        acts_as_first: true,
        leads: false,
    }
}

fn leader() -> Replica {
    Replica {
        leads: true,
        ..Replica::default()
    }
}

fn names<K: ToString, V>(map: &BTreeMap<K, V>) -> Vec<String> {
    map.keys().map(ToString::to_string).collect()
}

#[test]
fn each_replica_runs_its_part_and_together_they_run_all() {
    let all = spec();
    let alone = Replica::alone().assigned(&all, &Others::default());
    assert_eq!(
        (names(&alone.channels), names(&alone.sources)),
        (names(&all.channels), names(&all.sources))
    );
    let first = first().assigned(&all, &others());
    assert_eq!(names(&first.channels), ["shop/beats.outbox", "shop/log", "shop/topic"]);
    assert_eq!(names(&first.subscriptions), ["shop/of-log", "shop/of-topic"]);
    assert_eq!(names(&first.sources), ["ContainerSource shop/beats"]);
    let leader = leader().assigned(&all, &others());
    assert_eq!(names(&leader.channels), ["shop/topic"]);
    assert_eq!(names(&leader.subscriptions), ["shop/of-nothing", "shop/of-topic"]);
    assert_eq!(names(&leader.sources), ["GitHubSource shop/hello"]);
    let third = Replica::default().assigned(&all, &others());
    assert_eq!(
        (names(&third.channels), third.sources.len()),
        (vec!["shop/topic".to_owned()], 0)
    );
}

#[test]
fn a_pod_that_is_not_certain_to_be_the_only_first_takes_events_and_does_nothing_that_is_done_once() {
    let uncertain = Replica {
        is_first: true,
        ..Replica::default()
    };
    let part = uncertain.assigned(&spec(), &others());
    assert!(part.channels.contains_key(&name("log")) && part.sources.is_empty());
    assert!(!uncertain.writes_status(&spec(), &ObjectKey::new(Kind::Channel, name("log"))));
}

#[test]
fn every_status_is_written_by_exactly_one_replica() {
    let all = spec();
    let mut keys: Vec<ObjectKey> = all.sources.keys().cloned().collect();
    keys.extend(
        all.channels
            .keys()
            .map(|name| ObjectKey::new(Kind::Channel, name.clone())),
    );
    keys.extend(
        all.subscriptions
            .keys()
            .map(|name| ObjectKey::new(Kind::Subscription, name.clone())),
    );
    keys.push(ObjectKey::new(Kind::ClusterChannelProvisioner, name("kafka")));
    for key in keys {
        let replicas = [first(), leader(), Replica::default()];
        let writers = replicas.iter().filter(|replica| replica.writes_status(&all, &key));
        assert_eq!(writers.count(), 1, "{key}");
        assert!(Replica::alone().writes_status(&all, &key), "{key}");
    }
}

#[test]
fn a_channel_elsewhere_is_reached_by_its_address() {
    let leader = leader().assigned(&spec(), &others());
    let reply = &leader.subscriptions[&name("of-topic")].reply;
    assert_eq!(
        *reply,
        Some(Target::Elsewhere {
            channel: name("log"),
            url: Url::parse("http://headgate-replica:key@headgate-0.pods:8080/shop/log").unwrap()
        })
    );
    let first = first().assigned(&spec(), &others());
    assert_eq!(
        first.subscriptions[&name("of-topic")].reply,
        Some(Target::Channel(name("log")))
    );
}

#[test]
fn requests_find_who_has_what_they_are_for() {
    let at = |replica: &Replica, others: &Others| {
        let found = replica.elsewhere(&spec(), others);
        let mut found: Vec<(String, Option<String>)> = found
            .into_iter()
            .map(|(path, url)| (path, url.map(|url| url.to_string())))
            .collect();
        found.sort();
        found
    };
    let to = |path: &str, url: &str| (path.to_owned(), Some(url.to_owned()));
    let (zero, one) = ("http://headgate-0.pods:8080", "http://headgate-1.pods:8080");
    assert_eq!(
        at(&first(), &others()),
        [to("hooks/shop/hello", one), to("sources/shop/hello", one)]
    );
    assert_eq!(
        at(&leader(), &others()),
        [to("shop/log", zero), to("sources/shop/beats", zero)]
    );
    let no_leader = Others {
        leader: None,
        ..others()
    };
    assert!(at(&first(), &no_leader).contains(&("hooks/shop/hello".to_owned(), None)));
    // A source in a pod of its own receives its requests there, through any replica.
    let key = ObjectKey::new(Kind::GitHubSource, name("hello"));
    let mut pods = others();
    pods.pods.insert(key, "http://hello.shop.svc:8090".into());
    for replica in [first(), leader(), Replica::default()] {
        let called = to("hooks/shop/hello", "http://hello.shop.svc:8090");
        assert!(at(&replica, &pods).contains(&called), "{replica:?}");
    }
}

#[test]
fn whoever_says_that_something_is_ready_is_asked_about_what_is_not_known() {
    let asked = |replica: &Replica, others: &Others| -> Vec<Option<String>> {
        let asked = replica.asked(others).into_iter();
        asked.map(|url| url.map(|url| url.to_string())).collect()
    };
    let (zero, one) = (others().first, others().leader);
    let other = Replica::default();
    assert_eq!(asked(&other, &others()), [one.clone(), zero.clone()]);
    assert_eq!(asked(&first(), &others()), [one]);
    assert_eq!(asked(&leader(), &others()), std::slice::from_ref(&zero));
    assert!(asked(&Replica::alone(), &others()).is_empty());
    let both = Others {
        leader: zero.clone(),
        ..others()
    };
    assert_eq!(asked(&other, &both), [zero]);
    // Without a leader no replica can say that a path does not exist. A first pod that does not exist has set nothing Ready.
    assert_eq!(asked(&other, &Others::default()), [None]);
    assert!(asked(&leader(), &Others::default()).is_empty());
}

#[test]
fn a_pod_of_a_set_knows_its_ordinal() {
    for (pod, expected) in [
        ("headgate-0", Some(("headgate", 0))),
        ("head-gate-12", Some(("head-gate", 12))),
        ("headgate", None),
        ("headgate-7d9f8b6c5-x2x4z", None),
        ("headgate-", None),
        ("headgate-+1", None),
    ] {
        assert_eq!(ordinal(pod), expected, "{pod}");
    }
}
