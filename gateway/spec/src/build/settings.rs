//! Single settings, from what was written to what is run.

use sha2::{Digest, Sha256};

use super::{CAPACITY, RETENTION_AGE, RETENTION_BYTES};
use crate::{
    model::{Arguments, BackendKind, StartFrom},
    resource::{self, Subscriber},
};

/// `None`: they do not fit the backend.
pub(super) fn arguments(
    backend: BackendKind,
    written: &serde_json::Map<String, serde_json::Value>,
) -> Option<Arguments> {
    let part = |group: &str, name: &str| written.get(group).and_then(|group| group.get(name));
    let age = |group: &str| match part(group, "age") {
        Some(value) => value
            .as_str()
            .and_then(|text| crate::duration::parse(text).ok())
            .map(Some),
        None => Some(None),
    };
    let bytes = |group: &str| match part(group, "bytes") {
        Some(value) => resource::bytes(value).map(Some),
        None => Some(None),
    };
    Some(match backend {
        BackendKind::Memory => {
            let capacity = match written.get("capacity") {
                Some(value) => usize::try_from(value.as_u64()?).ok()?,
                None => CAPACITY,
            };
            Arguments::Memory { capacity }
        }
        BackendKind::Embedded => Arguments::Embedded {
            retention_age: age("retention")?.unwrap_or(RETENTION_AGE),
            retention_bytes: bytes("retention")?.unwrap_or(RETENTION_BYTES),
            limit_age: age("limit")?,
            limit_bytes: bytes("limit")?,
            dedup: match written.get("dedup") {
                Some(value) => Some(crate::duration::parse(value.as_str()?).ok()?),
                None => None,
            },
        },
        BackendKind::Kafka => {
            let number = |name: &str| match written.get(name) {
                Some(value) => value.as_i64().and_then(|number| i32::try_from(number).ok()).map(Some),
                None => Some(None),
            };
            Arguments::Kafka {
                partitions: number("numPartitions")?.or(number("NumPartitions")?),
                replication: number("replicationFactor")?,
                retention: match written.get("retention") {
                    Some(value) => Some(crate::duration::parse(value.as_str()?).ok()?),
                    None => None,
                },
            }
        }
        BackendKind::Nats => Arguments::Nats {
            replicas: match written.get("replicas") {
                Some(value) => Some(usize::try_from(value.as_u64()?).ok()?),
                None => None,
            },
            max_age: match written.get("maxAge") {
                Some(value) => Some(crate::duration::parse(value.as_str()?).ok()?),
                None => None,
            },
            max_bytes: match written.get("maxBytes") {
                Some(value) => Some(resource::bytes(value)?),
                None => None,
            },
        },
    })
}

/// Letters of the digest in a name: enough that two subscribers of one channel never share them.
const IDENTITY_LETTERS: usize = 12;

pub(super) fn identity(subscriber: &Subscriber) -> String {
    let part = |uri: &Option<String>| uri.clone().unwrap_or_default();
    let digest = Sha256::digest(format!(
        "{}\n{}",
        part(&subscriber.subscriber_uri),
        part(&subscriber.reply_uri)
    ));
    hex::encode(digest)[..IDENTITY_LETTERS].to_owned()
}

pub(super) fn start_from(written: Option<&resource::StartFrom>) -> StartFrom {
    match written {
        Some(resource::StartFrom::Earliest) => StartFrom::Earliest,
        Some(resource::StartFrom::Offset(offset)) => StartFrom::Offset(*offset),
        // The form was checked; a time that is none after all is as good as not written.
        Some(resource::StartFrom::Time(text)) => text.parse().map_or(StartFrom::Latest, StartFrom::Time),
        Some(resource::StartFrom::Latest) | None => StartFrom::Latest,
    }
}
