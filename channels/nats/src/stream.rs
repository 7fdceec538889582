//! A channel's streams: the events', the letters' and the attempts', made or adopted, and what they promise.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use async_nats::jetstream::{
    ErrorCode,
    stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType},
};
use channel::Durability;

use crate::{
    Settings,
    api::ApiError,
    connection::Server,
    consumer,
    durability::{StreamSettings, judge},
    error::OpenError,
    monitoring, names,
};

/// Marks what we made: only that is trimmed and changed.
const OURS: &str = "dev.headgate";

/// Bytes of a dead letter beyond its event: its facts, and what headers cost more than our own form. A message of the
/// server's `max_payload` less this is the largest event.
const OVERHEAD: usize = 128 << 10;
const _: () = assert!(OVERHEAD > channel::FACTS_MAX_BYTES);

/// The largest event where nothing else is said: what the memory and embedded channels take (CONTRACT IN-3).
const EVENT_BYTES: usize = 32 << 20;

/// Attempts of events that were not settled are deleted after this.
const ATTEMPTS_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A channel's stream as it was found or made.
#[derive(Clone, Debug)]
pub(crate) struct StreamState {
    /// Where to publish.
    pub(crate) subject: String,
    pub(crate) durability: Durability,
    /// Where the promise falls short, and what differs from the settings.
    pub(crate) findings: Vec<String>,
    /// The largest event that the server accepts.
    pub(crate) max_event_bytes: usize,
    /// We made it.
    pub(crate) ours: bool,
    /// It deletes nothing by itself.
    pub(crate) keeps_all: bool,
    pub(crate) atomic: bool,
    pub(crate) on_disk: bool,
    pub(crate) replicas: usize,
    pub(crate) created: SystemTime,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) bytes: u64,
}

/// Makes the stream of the events if there is none, brings ours up to date, and finds out what it promises.
pub(crate) async fn events(server: &Server, desired: &Settings) -> Result<StreamState, OpenError> {
    let name = &desired.stream;
    if name.len() > names::NAME_MAX {
        return Err(unfit(
            name,
            format!("its name is longer than {} letters", names::NAME_MAX),
        ));
    }
    let info = match get(server, name).await? {
        Some(info) => info,
        None => create(server, &config(server, desired)).await?,
    };
    fits(&info)?;
    let ours = info.config.metadata.contains_key(OURS);
    let mut findings = Vec::new();
    let info = if ours {
        match update(server, desired, &info).await {
            Ok(updated) => updated.unwrap_or(info),
            Err(why) => {
                findings.push(why);
                info
            }
        }
    } else {
        info
    };
    let config = &info.config;
    let synced = monitoring::synced(server, &desired.monitoring_urls).await;
    let facts = stream_settings(config, synced);
    let (durability, judged) = judge(&facts);
    findings.splice(0..0, judged);
    findings.extend(differences(desired, config, ours));
    if !consumer::pins(server) {
        findings.push(
            "this server pins no consumer to one gateway (NATS 2.11 does): run one gateway, or ordering ends between them"
                .into(),
        );
    }
    let payload = server.client.max_payload();
    let message = usize::try_from(config.max_message_size).ok().filter(|size| *size > 0);
    Ok(StreamState {
        subject: subject(config),
        durability,
        findings,
        max_event_bytes: message
            .map_or(payload, |size| size.min(payload))
            .saturating_sub(OVERHEAD),
        ours,
        keeps_all: config.max_age.is_zero(),
        atomic: config.allow_atomic_publish,
        on_disk: facts.on_disk,
        replicas: config.num_replicas.max(1),
        created: info.created.into(),
        first: info.state.first_sequence,
        last: info.state.last_sequence,
        bytes: info.state.bytes,
    })
}

/// The settings of a stream that decide its durability.
fn stream_settings(config: &Config, synced: Option<bool>) -> StreamSettings {
    let limits = [
        ("max_bytes", config.max_bytes > 0),
        ("max_msgs", config.max_messages > 0),
        ("max_msgs_per_subject", config.max_messages_per_subject > 0),
    ];
    let discards = config.discard == DiscardPolicy::Old || config.max_messages_per_subject > 0;
    StreamSettings {
        stream: config.name.clone(),
        replicas: config.num_replicas.max(1),
        on_disk: config.storage == StorageType::File,
        synced,
        discards: limits
            .iter()
            .filter(|(_, set)| *set && discards)
            .map(|(name, _)| *name)
            .collect(),
    }
}

/// Makes a stream that goes along with a channel's if there is none; returns how many messages it has.
pub(crate) async fn companion(
    server: &Server,
    name: &str,
    found: &StreamState,
    attempts: bool,
) -> Result<u64, OpenError> {
    let desired = Config {
        name: name.to_owned(),
        subjects: vec![if attempts { format!("{name}.>") } else { name.to_owned() }],
        max_messages_per_subject: if attempts { 1 } else { -1 },
        max_age: if attempts { ATTEMPTS_AGE } else { Duration::ZERO },
        discard: if attempts {
            DiscardPolicy::Old
        } else {
            DiscardPolicy::New
        },
        num_replicas: found.replicas,
        ..plain()
    };
    let info = match get(server, name).await? {
        Some(info) => info,
        None => create(server, &desired).await?,
    };
    Ok(info.state.messages)
}

async fn get(server: &Server, name: &str) -> Result<Option<Info>, OpenError> {
    server
        .stream_info(name)
        .await
        .map_err(|error| refused(server, name, error))
}

fn plain() -> Config {
    Config {
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        metadata: HashMap::from([(OURS.to_owned(), "1".to_owned())]),
        ..Config::default()
    }
}

fn config(server: &Server, desired: &Settings) -> Config {
    Config {
        name: desired.stream.clone(),
        subjects: vec![desired.stream.clone()],
        description: desired.description.clone(),
        num_replicas: desired.replicas.unwrap_or(1),
        max_age: desired.max_age.unwrap_or_default(),
        max_bytes: bytes(desired),
        allow_atomic_publish: server.is_at_least(2, 12),
        ..plain()
    }
}

fn bytes(desired: &Settings) -> i64 {
    desired
        .max_bytes
        .map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

async fn create(server: &Server, config: &Config) -> Result<Info, OpenError> {
    match server.create_stream(config).await {
        Ok(info) => Ok(info),
        // Another gateway was first, and created it with other settings.
        Err(error) if error.code() == Some(ErrorCode::STREAM_NAME_EXIST) => {
            let found = get(server, &config.name).await?;
            found.ok_or_else(|| server.unreachable("a stream is there and then is not"))
        }
        Err(error) => Err(refused(server, &config.name, error)),
    }
}

fn advice(code: ErrorCode, refused: &str) -> String {
    match code {
        ErrorCode::STREAM_SUBJECT_OVERLAP => format!("another stream has the subject already ({refused})"),
        ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED | ErrorCode::CLUSTER_NO_PEERS => {
            format!("lower replicas or add servers ({refused})")
        }
        ErrorCode::STORAGE_RESOURCES_EXCEEDED | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => {
            format!("the account's or the server's storage does not suffice ({refused})")
        }
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
            format!("switch JetStream on in the server's configuration and for the account ({refused})")
        }
        _ => refused.to_owned(),
    }
}

/// Brings a stream of ours to what is asked for; `None` when it is there.
async fn update(server: &Server, desired: &Settings, info: &Info) -> Result<Option<Info>, String> {
    let mut config = info.config.clone();
    config.num_replicas = desired.replicas.unwrap_or(config.num_replicas);
    config.max_age = desired.max_age.unwrap_or_default();
    config.max_bytes = bytes(desired);
    config.allow_atomic_publish |= server.is_at_least(2, 12);
    if config == info.config {
        return Ok(None);
    }
    let updated = server.update_stream(&config).await;
    updated.map(Some).map_err(|error| {
        format!(
            "stream {} cannot be changed to what is asked for: {error}",
            desired.stream
        )
    })
}

/// Checks that a stream can be a channel.
fn fits(info: &Info) -> Result<(), OpenError> {
    let config = &info.config;
    let why = if config.retention != RetentionPolicy::Limits {
        "its retention deletes what one consumer has acknowledged: make it again with retention limits"
    } else if config.mirror.is_some() || config.subjects.is_empty() {
        "it is a mirror, which nobody can publish to"
    } else if config.sealed {
        "it is sealed"
    } else if config.no_ack {
        "it acknowledges nothing (no_ack)"
    } else {
        return Ok(());
    };
    Err(unfit(&config.name, why.to_owned()))
}

/// Differences of a stream from the settings.
fn differences(desired: &Settings, config: &Config, ours: bool) -> Vec<String> {
    let mut found = Vec::new();
    let name = &desired.stream;
    if ours {
        return found;
    }
    if let Some(replicas) = desired.replicas.filter(|asked| *asked != config.num_replicas) {
        found.push(format!(
            "stream {name} was there before with {} replicas, {replicas} are asked for: nats stream edit {name} --replicas {replicas}",
            config.num_replicas
        ));
    }
    if let Some(age) = desired.max_age.filter(|asked| *asked != config.max_age) {
        found.push(format!(
            "stream {name} was there before with max_age {} s, {} s are asked for: nats stream edit {name} --max-age {}s",
            config.max_age.as_secs(),
            age.as_secs(),
            age.as_secs()
        ));
    }
    if desired.max_bytes.is_some() && bytes(desired) != config.max_bytes {
        found.push(format!(
            "stream {name} was there before with max_bytes {}, {} are asked for: nats stream edit {name} --max-bytes {}",
            config.max_bytes,
            bytes(desired),
            bytes(desired)
        ));
    }
    if let Some(asked) = desired.max_event_bytes.filter(|_| config.max_message_size > 0)
        && usize::try_from(config.max_message_size).is_ok_and(|size| size < asked)
    {
        found.push(format!(
            "stream {name} takes messages of {} bytes, maxEventBytes is {asked}: nats stream edit {name} --max-msg-size -1",
            config.max_message_size
        ));
    }
    found
}

/// The subject to publish to: the first, with its wildcards filled in.
fn subject(config: &Config) -> String {
    let first = config.subjects.first().map_or(config.name.as_str(), String::as_str);
    let token = |token| if matches!(token, "*" | ">") { "events" } else { token };
    first.split('.').map(token).collect::<Vec<_>>().join(".")
}

/// The largest event: what is asked for, as far as the server takes it.
pub(crate) fn event_bytes(found: &StreamState, asked: Option<usize>) -> usize {
    asked.unwrap_or(EVENT_BYTES).min(found.max_event_bytes)
}

fn unfit(stream: &str, why: String) -> OpenError {
    OpenError::Unfit {
        stream: stream.to_owned(),
        why,
    }
}

fn refused(server: &Server, name: &str, error: ApiError) -> OpenError {
    match error {
        ApiError::Refused(refused) => OpenError::NotMade {
            stream: name.to_owned(),
            why: advice(refused.error_code(), &refused.to_string()),
        },
        error => server.unreachable(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_of_an_adopted_stream_are_filled_in() {
        let subject = |subjects: &[&str]| {
            subject(&Config {
                name: "s".into(),
                subjects: subjects.iter().map(ToString::to_string).collect(),
                ..Config::default()
            })
        };
        assert_eq!(subject(&["s"]), "s");
        assert_eq!(subject(&["orders.*.in.>", "other"]), "orders.events.in.events");
    }
}
