//! Which cursors a channel has, and where each began: a compacted topic beside the events'.
//!
//! A consumer group alone would not do: brokers forget the commits of a group that nobody used for a week
//! (`offsets.retention.minutes`), and a gateway that was down that long would begin at the end and lose what came meanwhile.

use std::{collections::BTreeMap, sync::Arc};

use channel::{CursorName, ReadError};
use serde::{Deserialize, Serialize};

use crate::{
    cluster::Cluster,
    error::unreadable,
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
    /// Whose it is, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    /// Where it began in each partition. One that is not named came later and is read from its first record on.
    start: BTreeMap<i32, u64>,
}

impl Registered {
    pub(crate) fn new(id: String, owner: Option<&str>, start: BTreeMap<i32, u64>) -> Self {
        Self {
            id,
            owner: owner.map(str::to_owned),
            start,
        }
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

    pub(crate) fn cursor(&self, name: &CursorName) -> Option<Registered> {
        self.cursors().remove(name)
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

    /// Registers a cursor that is not there, or is another's; gives what everybody has of it. When several gateways do so at once, as they do
    /// when they all see a new subscription, the first one's entry counts: with ids and beginnings of their own they would not
    /// believe each other's commits.
    pub(crate) async fn register(&self, name: &CursorName, registered: Registered) -> Result<Registered, WriteError> {
        self.put(&key(name), Some(&value(&registered))).await?;
        match self.cursor(name) {
            Some(first) if first.id != registered.id => {
                // Brokers keep the last one in the end.
                self.put(&key(name), Some(&value(&first))).await?;
                Ok(first)
            }
            _ => Ok(registered),
        }
    }

    /// The same cursor is this owner's from now on.
    pub(crate) async fn own(&self, name: &CursorName, registered: &Registered) -> Result<(), WriteError> {
        self.put(&key(name), Some(&value(registered))).await
    }

    pub(crate) async fn remove(&self, name: &CursorName) -> Result<(), WriteError> {
        self.put(&key(name), None).await
    }

    /// Returns when what was written up to now, by whomever, is known here.
    pub(crate) async fn catch_up(&self) -> Result<(), ReadError> {
        let topic = self.table.topic.clone();
        let asked = self.cluster.reader.run(move |reader| reader.ends(&topic, 0));
        let ends = asked.await.map_err(unreadable)?.map_err(unreadable)?;
        self.table.seen(ends.high).await;
        Ok(())
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

/// Whether an entry takes the place of the one before it. Of entries that one owner has made at the same time, in several
/// gateways, the first stays.
pub(crate) fn replaces(before: &[u8], after: &[u8]) -> bool {
    let read = |value| serde_json::from_slice::<Registered>(value).ok();
    match (read(before), read(after)) {
        (Some(before), Some(after)) => before.id == after.id || before.owner != after.owner,
        _ => true,
    }
}

fn key(name: &CursorName) -> String {
    format!("{CURSOR}{name}")
}

fn value(registered: &Registered) -> Vec<u8> {
    // Numbers and text cannot fail to be written.
    serde_json::to_vec(registered).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: CH-4
    #[test]
    fn of_those_who_register_a_cursor_at_once_the_first_counts_and_another_owner_begins_anew() {
        let entry = |id: &str, owner: Option<&str>| value(&Registered::new(id.into(), owner, BTreeMap::from([(0, 7)])));
        let cases = [
            (entry("a", None), entry("b", None), false),
            (entry("a", Some("u")), entry("b", Some("u")), false),
            (entry("a", None), entry("a", Some("u")), true),
            (entry("a", Some("u")), entry("b", Some("v")), true),
            (b"{}".to_vec(), b"{}".to_vec(), true),
        ];
        for (before, after, expected) in cases {
            let shown = String::from_utf8_lossy(&after).into_owned();
            assert_eq!(replaces(&before, &after), expected, "{shown}");
        }
    }

    #[test]
    fn an_entry_of_an_earlier_version_is_nobodys() {
        let read: Registered = serde_json::from_str(r#"{"id":"a","start":{"0":7}}"#).expect("an entry");
        assert_eq!((read.owner.as_deref(), read.start_of(0)), (None, 7));
    }
}
