//! Which cursors a channel has, and where each began: a compacted topic beside the events'.
//!
//! A consumer group alone would not do: brokers forget the commits of a group that nobody used for a week
//! (`offsets.retention.minutes`), and a gateway that was down that long would begin at the end and lose what came meanwhile.

use std::{collections::BTreeMap, sync::Arc};

use channel::CursorName;
use serde::{Deserialize, Serialize};

use crate::{
    cluster::Cluster,
    producer::{Outgoing, WriteError},
    table::Table,
};

/// Says that we made the topic, and may delete from it what everybody settled.
const MADE: &str = "made";
/// Before a cursor's name.
const CURSOR: &str = "cursor ";

/// A cursor's entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Registered {
    /// Its own: a cursor that was forgotten and made again is another.
    pub(crate) id: String,
    /// Where it began in each partition. One that is not named came later and is read from its first record on.
    start: BTreeMap<i32, u64>,
}

impl Registered {
    pub(crate) fn new(id: String, start: BTreeMap<i32, u64>) -> Self {
        Self { id, start }
    }

    pub(crate) fn start_of(&self, partition: i32) -> u64 {
        self.start.get(&partition).copied().unwrap_or(0)
    }

    pub(crate) fn start(&self) -> &BTreeMap<i32, u64> {
        &self.start
    }
}

pub(crate) struct Registry {
    cluster: Arc<Cluster>,
    table: Arc<Table>,
}

impl Registry {
    pub(crate) fn new(cluster: Arc<Cluster>, table: Arc<Table>) -> Self {
        Self { cluster, table }
    }

    pub(crate) fn cursors(&self) -> BTreeMap<CursorName, Registered> {
        let rows = self.table.rows();
        let cursor = |(key, value): &(Arc<[u8]>, bytes::Bytes)| {
            let name = std::str::from_utf8(key).ok()?.strip_prefix(CURSOR)?;
            Some((CursorName::new(name), serde_json::from_slice(value).ok()?))
        };
        rows.iter().filter_map(cursor).collect()
    }

    pub(crate) fn we_made_it(&self) -> bool {
        self.table.rows().iter().any(|(key, _)| **key == *MADE.as_bytes())
    }

    pub(crate) async fn mark_made(&self) -> Result<(), WriteError> {
        self.put(MADE, Some(b"{}")).await
    }

    pub(crate) async fn register(&self, name: &CursorName, registered: &Registered) -> Result<(), WriteError> {
        // Numbers and text cannot fail to be written.
        let value = serde_json::to_vec(registered).unwrap_or_default();
        self.put(&format!("{CURSOR}{name}"), Some(&value)).await
    }

    pub(crate) async fn remove(&self, name: &CursorName) -> Result<(), WriteError> {
        self.put(&format!("{CURSOR}{name}"), None).await
    }

    async fn put(&self, key: &str, value: Option<&[u8]>) -> Result<(), WriteError> {
        let record = Outgoing::keyed(key.as_bytes(), value);
        let written = self
            .cluster
            .producer
            .write(&self.table.topic, vec![record], Some(0))
            .await?;
        self.table.seen(written.offset + 1).await;
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.cluster.follower.close(&self.table.topic);
    }
}
