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
    durability::{Facts, judge},
    error::OpenError,
    monitoring, names,
};

/// Marks what we made: only that is trimmed and changed.
const OURS: &str = "dev.headgate";

/// What a letter has beyond its event: an answer of 64 KiB in base64 and its headers; and what headers cost more than our own
/// form. A message of the server's `max_payload` less this is the largest event.
const OVERHEAD: usize = 128 << 10;

/// The largest event where nothing else is said: what the memory and embedded channels take (CONTRACT IN-3).
const EVENT_BYTES: usize = 32 << 20;

/// Attempts of events that nobody settled here are forgotten after this.
const ATTEMPTS_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A channel's stream as it was found or made.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Where to publish.
    pub(crate) subject: String,
    pub(crate) durability: Durability,
    /// What the promise falls short of, and what differs from what was asked for.
    pub(crate) findings: Vec<String>,
    /// What the server takes.
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
pub(crate) async fn events(server: &Server, wanted: &Settings) -> Result<Found, OpenError> {
    let name = &wanted.stream;
    if name.len() > names::NAME_MAX {
        return Err(unfit(
            name,
            format!("its name is longer than {} letters", names::NAME_MAX),
        ));
    }
    let info = match get(server, name).await? {
        Some(info) => info,
        None => create(server, &config(server, wanted)).await?,
    };
    fits(&info)?;
    let ours = info.config.metadata.contains_key(OURS);
    let mut findings = Vec::new();
    let info = if ours {
        match update(server, wanted, &info).await {
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
    let limits = [
        ("max_bytes", config.max_bytes > 0),
        ("max_msgs", config.max_messages > 0),
        ("max_msgs_per_subject", config.max_messages_per_subject > 0),
    ];
    let discards = config.discard == DiscardPolicy::Old || config.max_messages_per_subject > 0;
    let facts = Facts {
        stream: name.clone(),
        replicas: config.num_replicas.max(1),
        on_disk: config.storage == StorageType::File,
        synced: monitoring::synced(server, &wanted.monitoring_urls).await,
        discards: limits
            .iter()
            .filter(|(_, set)| *set && discards)
            .map(|(name, _)| *name)
            .collect(),
    };
    let (durability, judged) = judge(&facts);
    findings.splice(0..0, judged);
    findings.extend(differences(wanted, config, ours));
    if !consumer::pins(server) {
        findings.push(
            "this server pins no consumer to one gateway (NATS 2.11 does): run one gateway, or ordering ends between them"
                .into(),
        );
    }
    let payload = server.client.max_payload();
    let message = usize::try_from(config.max_message_size).ok().filter(|size| *size > 0);
    Ok(Found {
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

/// Makes a stream that goes along with a channel's if there is none; returns how many messages it has.
pub(crate) async fn companion(server: &Server, name: &str, found: &Found, attempts: bool) -> Result<u64, OpenError> {
    let wanted = Config {
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
        None => create(server, &wanted).await?,
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

fn config(server: &Server, wanted: &Settings) -> Config {
    Config {
        name: wanted.stream.clone(),
        subjects: vec![wanted.stream.clone()],
        description: wanted.description.clone(),
        num_replicas: wanted.replicas.unwrap_or(1),
        max_age: wanted.max_age.unwrap_or_default(),
        max_bytes: bytes(wanted),
        allow_atomic_publish: server.is_at_least(2, 12),
        ..plain()
    }
}

fn bytes(wanted: &Settings) -> i64 {
    wanted
        .max_bytes
        .map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

async fn create(server: &Server, config: &Config) -> Result<Info, OpenError> {
    match server.create_stream(config).await {
        Ok(info) => Ok(info),
        // Somebody else, another gateway mostly, was first, and made it otherwise.
        Err(error) if error.code() == Some(ErrorCode::STREAM_NAME_EXIST) => {
            let found = get(server, &config.name).await?;
            found.ok_or_else(|| server.unreachable("a stream is there and then is not"))
        }
        Err(error) => Err(refused(server, &config.name, error)),
    }
}

fn advice(code: ErrorCode, said: &str) -> String {
    match code {
        ErrorCode::STREAM_SUBJECT_OVERLAP => format!("another stream has the subject already ({said})"),
        ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED | ErrorCode::CLUSTER_NO_PEERS => {
            format!("lower replicas or add servers ({said})")
        }
        ErrorCode::STORAGE_RESOURCES_EXCEEDED | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => {
            format!("the account's or the server's storage does not suffice ({said})")
        }
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
            format!("switch JetStream on in the server's configuration and for the account ({said})")
        }
        _ => said.to_owned(),
    }
}

/// Brings a stream of ours to what is asked for; `None` when it is there.
async fn update(server: &Server, wanted: &Settings, info: &Info) -> Result<Option<Info>, String> {
    let mut config = info.config.clone();
    config.num_replicas = wanted.replicas.unwrap_or(config.num_replicas);
    config.max_age = wanted.max_age.unwrap_or_default();
    config.max_bytes = bytes(wanted);
    config.allow_atomic_publish |= server.is_at_least(2, 12);
    if config == info.config {
        return Ok(None);
    }
    let updated = server.update_stream(&config).await;
    updated.map(Some).map_err(|error| {
        format!(
            "stream {} cannot be changed to what is asked for: {error}",
            wanted.stream
        )
    })
}

/// What makes a stream no channel, whoever made it.
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

/// What was asked for and is not so.
fn differences(wanted: &Settings, config: &Config, ours: bool) -> Vec<String> {
    let mut found = Vec::new();
    let name = &wanted.stream;
    if ours {
        return found;
    }
    if let Some(replicas) = wanted.replicas.filter(|asked| *asked != config.num_replicas) {
        found.push(format!(
            "stream {name} was there before with {} replicas, {replicas} are asked for: nats stream edit {name} --replicas {replicas}",
            config.num_replicas
        ));
    }
    if let Some(age) = wanted.max_age.filter(|asked| *asked != config.max_age) {
        found.push(format!(
            "stream {name} was there before with max_age {} s, {} s are asked for: nats stream edit {name} --max-age {}s",
            config.max_age.as_secs(),
            age.as_secs(),
            age.as_secs()
        ));
    }
    if wanted.max_bytes.is_some() && bytes(wanted) != config.max_bytes {
        found.push(format!(
            "stream {name} was there before with max_bytes {}, {} are asked for: nats stream edit {name} --max-bytes {}",
            config.max_bytes,
            bytes(wanted),
            bytes(wanted)
        ));
    }
    if let Some(asked) = wanted.max_event_bytes.filter(|_| config.max_message_size > 0)
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
pub(crate) fn event_bytes(found: &Found, asked: Option<usize>) -> usize {
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
        ApiError::Refused(said) => OpenError::NotMade {
            stream: name.to_owned(),
            why: advice(said.error_code(), &said.to_string()),
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
