//! A channel's topics: the events', the letters' and the cursors', made or adopted, and what they promise.

use std::time::Duration;

use channel::Durability;

use crate::{
    Settings,
    cluster::{Cluster, DesiredTopic},
    durability::{TopicSettings, judge},
    error::OpenError,
    offset::PARTITIONS_MAX,
    producer::BATCH_BYTES,
    reader::Layout,
};

/// Bytes of a record beyond its event's size: batch and record heads, and what headers cost more than our own form, at
/// up to 256 attributes.
const RECORD_OVERHEAD: usize = 4 << 10;

/// Bytes of a dead letter beyond its event: its facts, and what a record about no event keeps of it.
const DEAD_LETTER_OVERHEAD: usize = 260 << 10;
const _: () = assert!(DEAD_LETTER_OVERHEAD >= channel::FACTS_MAX_BYTES);

/// The largest event where nothing else is said: what the memory and embedded channels take (CONTRACT IN-3).
const EVENT_BYTES: usize = 32 << 20;

/// Kafka's own bound of a topic's name.
const NAME_MAX: usize = 249;

/// After each channel's topic; the longest of them counts for the name's bound.
const DEAD_LETTERS: &str = ".dead-letters";
const CURSORS: &str = ".cursors";

/// A topic as it was found or made.
#[derive(Clone, Debug)]
pub(crate) struct TopicState {
    pub(crate) partitions: i32,
    pub(crate) durability: Durability,
    /// Where the promise falls short, and what differs from the settings.
    pub(crate) findings: Vec<String>,
    /// The largest event that the topic accepts.
    pub(crate) max_event_bytes: usize,
    /// It deletes nothing by itself.
    pub(crate) keeps_all: bool,
    /// We made it just now.
    pub(crate) made: bool,
}

pub(crate) fn dead_letters(topic: &str) -> String {
    format!("{topic}{DEAD_LETTERS}")
}

pub(crate) fn cursors(topic: &str) -> String {
    format!("{topic}{CURSORS}")
}

/// Makes the topic of the events if there is none, and finds out what it promises.
pub(crate) async fn events(cluster: &Cluster, desired: &Settings) -> Result<TopicState, OpenError> {
    let topic = &desired.topic;
    if topic.len() + DEAD_LETTERS.len() > NAME_MAX {
        return Err(unfit(
            topic,
            format!("its name is longer than {} letters", NAME_MAX - DEAD_LETTERS.len()),
        ));
    }
    let mut made = false;
    let layout = match layout(cluster, topic).await? {
        Some(layout) => layout,
        None => {
            made = true;
            let partitions = desired.partitions.unwrap_or(1);
            make(cluster, desired, topic, partitions, events_settings(desired)).await?
        }
    };
    let settings = cluster.settings(topic).await?;
    let setting = |name: &str| settings.get(name).map_or("", String::as_str);
    if setting("cleanup.policy")
        .split(',')
        .any(|policy| policy.trim() == "compact")
    {
        let why = "it is compacted, which discards all but the newest record of a key: set cleanup.policy to delete";
        return Err(unfit(topic, why.to_owned()));
    }
    let max_message: usize = setting("max.message.bytes").parse().unwrap_or(1 << 20);
    if max_message < BATCH_BYTES + RECORD_OVERHEAD {
        let why = format!(
            "it takes {max_message} bytes in one request: set max.message.bytes to {} or more",
            BATCH_BYTES + RECORD_OVERHEAD
        );
        return Err(unfit(topic, why));
    }
    let partitions = i32::try_from(layout.replicas.len()).unwrap_or(i32::MAX);
    if partitions > PARTITIONS_MAX {
        return Err(unfit(topic, format!("it has more than {PARTITIONS_MAX} partitions")));
    }
    let facts = TopicSettings {
        topic: topic.clone(),
        replicas: layout.replicas.iter().copied().min().unwrap_or(0),
        min_insync_replicas: setting("min.insync.replicas").parse().unwrap_or(1),
        unclean_leader_election: setting("unclean.leader.election.enable") == "true",
        flush_messages: setting("flush.messages").parse().unwrap_or(u64::MAX),
    };
    let (durability, mut findings) = judge(&facts);
    let retention: i64 = setting("retention.ms").parse().unwrap_or(-1);
    let bytes: i64 = setting("retention.bytes").parse().unwrap_or(-1);
    findings.extend(differences(desired, partitions, &facts, retention));
    if bytes >= 0 {
        findings.push(format!(
            "topic {topic} has retention.bytes {bytes}: the oldest events go when a partition is larger, settled or not; set it to -1"
        ));
    }
    let fits = max_message - RECORD_OVERHEAD;
    Ok(TopicState {
        partitions,
        durability,
        findings,
        max_event_bytes: fits,
        keeps_all: retention < 0 && bytes < 0,
        made,
    })
}

/// The settings of a topic of events that we make.
fn events_settings(desired: &Settings) -> Vec<(&'static str, String)> {
    let bytes = desired.max_event_bytes.unwrap_or(EVENT_BYTES).max(BATCH_BYTES) + RECORD_OVERHEAD;
    let retention = desired
        .retention
        .map_or(-1, |time| i64::try_from(time.as_millis()).unwrap_or(-1));
    vec![
        ("cleanup.policy", "delete".to_owned()),
        ("max.message.bytes", bytes.to_string()),
        ("retention.ms", retention.to_string()),
        ("retention.bytes", "-1".to_owned()),
        // Start by time and `storedAt` are about when the channel got it, whatever a producer's clock says.
        ("message.timestamp.type", "LogAppendTime".to_owned()),
    ]
}

/// Makes the topic of a table if there is none.
pub(crate) async fn table(
    cluster: &Cluster,
    desired: &Settings,
    topic: &str,
    max_event_bytes: usize,
) -> Result<(), OpenError> {
    if layout(cluster, topic).await?.is_none() {
        let settings = vec![
            ("cleanup.policy", "compact".to_owned()),
            (
                "max.message.bytes",
                (max_event_bytes.max(BATCH_BYTES) + DEAD_LETTER_OVERHEAD + RECORD_OVERHEAD).to_string(),
            ),
            ("message.timestamp.type", "LogAppendTime".to_owned()),
        ];
        make(cluster, desired, topic, 1, settings).await?;
        return Ok(());
    }
    let settings = cluster.settings(topic).await?;
    match settings.get("cleanup.policy").map(String::as_str) {
        None | Some("compact") => Ok(()),
        Some(policy) => Err(unfit(
            topic,
            format!("its cleanup.policy is {policy}, which would delete what nobody removed: set it to compact"),
        )),
    }
}

async fn make(
    cluster: &Cluster,
    desired: &Settings,
    topic: &str,
    partitions: i32,
    settings: Vec<(&'static str, String)>,
) -> Result<Layout, OpenError> {
    let new = DesiredTopic {
        topic,
        replication: desired.replication,
        partitions,
        settings,
    };
    cluster.make(&new).await?;
    // Every broker learns of it in its own time.
    for _ in 0..100 {
        if let Some(layout) = layout(cluster, topic).await? {
            return Ok(layout);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(OpenError::NotMade {
        topic: topic.to_owned(),
        why: "it was created and did not appear within 5 s".into(),
    })
}

async fn layout(cluster: &Cluster, topic: &str) -> Result<Option<Layout>, OpenError> {
    let name = topic.to_owned();
    let found = cluster.reader.run(move |reader| reader.layout(&name)).await;
    let found = found.unwrap_or(Err(rdkafka::error::KafkaError::Canceled));
    let found = found.map_err(|error| cluster.unreachable(error))?;
    // A topic that is just being made may be known without a partition, or without their leaders.
    Ok(found.filter(|layout| !layout.replicas.is_empty() && layout.replicas.iter().all(|replicas| *replicas > 0)))
}

/// Differences of an adopted topic from the channel's arguments. They are reported and not changed, because the topic has another owner.
fn differences(desired: &Settings, partitions: i32, facts: &TopicSettings, retention: i64) -> Vec<String> {
    let topic = &desired.topic;
    let mut findings = Vec::new();
    if let Some(asked) = desired.partitions.filter(|asked| *asked != partitions) {
        findings.push(format!(
            "topic {topic} has {partitions} partitions, numPartitions is {asked}: change one of them (kafka-topics --alter adds partitions)"
        ));
    }
    let replicas = i32::try_from(facts.replicas).unwrap_or(i32::MAX);
    if let Some(asked) = desired.replication.filter(|asked| *asked != replicas) {
        findings.push(format!(
            "topic {topic} has {replicas} replicas, replicationFactor is {asked}: change one of them (kafka-reassign-partitions adds replicas)"
        ));
    }
    let asked = desired
        .retention
        .map(|time| i64::try_from(time.as_millis()).unwrap_or(-1));
    match asked {
        Some(asked) if asked != retention => findings.push(format!(
            "topic {topic} has retention.ms {retention}, retention says {asked}: change one of them"
        )),
        None if retention >= 0 => findings.push(format!(
            "topic {topic} has retention.ms {retention}: events older than that go, settled or not; set it to -1, or say so with retention"
        )),
        _ => {}
    }
    findings
}

fn unfit(topic: &str, why: String) -> OpenError {
    OpenError::Unfit {
        topic: topic.to_owned(),
        why,
    }
}
