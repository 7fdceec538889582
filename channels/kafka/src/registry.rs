//! Which cursors a channel has, and where each began: a compacted topic beside the events'.
//!
//! A consumer group alone would not do: brokers forget the commits of a group that was not used for a week
//! (`offsets.retention.minutes`), and a gateway that was down that long would begin at the end and lose what came meanwhile.

use std::{collections::BTreeMap, sync::Arc};

use channel::{CursorName, Offset, ReadError, Watermark, is_anothers};
use channel_broker::unreadable;
use serde::{Deserialize, Serialize};

use crate::{
    cluster::Cluster,
    producer::{Outgoing, WriteError},
    table::Table,
};

/// Says that we made the topic, and may delete from it what everybody settled.
const MADE: &str = "made";
/// The prefix of the key of an unowned cursor.
const CURSOR: &str = "cursor ";
/// The prefix of the key of an owned cursor, before its owner and name. Deleting one touches no key of another owner, whatever is written
/// at the same time.
const OWNED: &str = "owned ";

/// A cursor's entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Registered {
    /// Its own: a cursor that was forgotten and made again is another.
    pub(crate) id: String,
    /// Its owner, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    /// Where it began in each partition. One that is not named came later and is read from its first record on.
    start: BTreeMap<i32, u64>,
    /// The content of a few partitions before that: a topic that was deleted and recreated holds something else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    before: BTreeMap<i32, Before>,
}

/// The content of a partition at the time a cursor began in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Before {
    /// Its first offset, which only rises.
    pub(crate) low: u64,
    /// The offset of the last record before the cursor's beginning, and when it was stored (milliseconds since 1970).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<(u64, i64)>,
}

impl Registered {
    pub(crate) fn new(id: String, owner: Option<&str>, start: BTreeMap<i32, u64>) -> Self {
        Self {
            id,
            owner: owner.map(str::to_owned),
            start,
            before: BTreeMap::new(),
        }
    }

    #[must_use]
    pub(crate) fn after(mut self, before: BTreeMap<i32, Before>) -> Self {
        self.before = before;
        self
    }

    pub(crate) fn before(&self) -> &BTreeMap<i32, Before> {
        &self.before
    }

    pub(crate) fn start_of(&self, partition: i32) -> u64 {
        self.start.get(&partition).copied().unwrap_or(0)
    }

    /// Everything before its beginning, as settled, by partition.
    pub(crate) fn watermarks(&self) -> BTreeMap<i32, Watermark> {
        let start = self.start.iter();
        start.map(|(id, start)| (*id, Watermark::new(Offset(*start)))).collect()
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

    #[cfg(test)]
    pub(crate) fn panic_once(&self) {
        self.table.panics.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// The owner's cursor, or one that can become its.
    pub(crate) fn cursor(&self, name: &CursorName, owner: Option<&str>) -> Option<Registered> {
        let rows = self.cursors().into_iter().filter(|row| row.name == *name);
        pick(rows.collect(), owner).map(|row| row.registered)
    }

    pub(crate) fn cursors(&self) -> Vec<Row> {
        let rows = self.table.rows();
        rows.iter().filter_map(|(key, value)| Row::read(key, value)).collect()
    }

    pub(crate) fn we_made_it(&self) -> bool {
        self.table.rows().iter().any(|(key, _)| **key == *MADE.as_bytes())
    }

    pub(crate) async fn mark_made(&self) -> Result<(), WriteError> {
        self.put(MADE, Some(b"{}")).await
    }

    /// Registers a cursor that is not there; gives what everybody has of it. When several gateways do so at once, as they do
    /// when they all see a new subscription, the first one's entry counts: with ids and beginnings of their own they would not
    /// believe each other's commits.
    pub(crate) async fn register(&self, name: &CursorName, registered: Registered) -> Result<Registered, WriteError> {
        let owner = registered.owner.clone();
        let key = key(name, owner.as_deref());
        self.put(&key, Some(&value(&registered))).await?;
        match self.cursor(name, owner.as_deref()) {
            Some(first) if first.id != registered.id && first.owner == owner => {
                // Brokers keep the last one in the end.
                self.put(&key, Some(&value(&first))).await?;
                Ok(first)
            }
            _ => Ok(registered),
        }
    }

    /// Gives an unowned cursor to an owner, with the same id, so that its commits stay valid.
    pub(crate) async fn own(&self, name: &CursorName, registered: &Registered) -> Result<(), WriteError> {
        let owned = key(name, registered.owner.as_deref());
        self.put(&owned, Some(&value(registered))).await?;
        // Last: a crash in between leaves it twice, and loses nothing.
        self.put(&key(name, None), None).await
    }

    /// Removes the owner's cursor, or the unowned one. Returns whether one of that name is left.
    pub(crate) async fn remove(&self, name: &CursorName, owner: Option<&str>) -> Result<bool, WriteError> {
        let of_name = || self.cursors().into_iter().filter(|row| row.name == *name);
        for row in of_name().filter(|row| row.registered.owner.as_deref() == owner) {
            self.put(&row.key, None).await?;
        }
        Ok(of_name().next().is_some())
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

/// Whether an entry takes the place of the one before it. Of entries that were made at the same time, in several gateways, the
/// first stays.
pub(crate) fn replaces(before: &[u8], after: &[u8]) -> bool {
    let read = |value| serde_json::from_slice::<Registered>(value).ok();
    match (read(before), read(after)) {
        (Some(before), Some(after)) => before.id == after.id || before.owner != after.owner,
        _ => true,
    }
}

/// A cursor in the table.
#[derive(Debug)]
pub(crate) struct Row {
    key: String,
    pub(crate) name: CursorName,
    pub(crate) registered: Registered,
}

impl Row {
    fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let key = std::str::from_utf8(key).ok()?;
        let registered: Registered = serde_json::from_slice(value).ok()?;
        let owned = || {
            let owner = registered.owner.as_deref()?;
            key.strip_prefix(OWNED)?.strip_prefix(owner)?.strip_prefix(' ')
        };
        let name = key.strip_prefix(CURSOR).or_else(owned)?;
        Some(Self {
            key: key.to_owned(),
            name: CursorName::new(name),
            registered,
        })
    }
}

/// Picks among the cursors of one name: the owner's, else an unowned one. Without an owner, any of them.
fn pick(mut rows: Vec<Row>, owner: Option<&str>) -> Option<Row> {
    rows.retain(|row| !is_anothers(row.registered.owner.as_deref(), owner));
    let exact = |row: &Row| row.registered.owner.as_deref() == owner;
    rows.sort_by_key(|row| !exact(row));
    rows.into_iter().next()
}

fn key(name: &CursorName, owner: Option<&str>) -> String {
    match owner {
        Some(owner) => format!("{OWNED}{owner} {name}"),
        None => format!("{CURSOR}{name}"),
    }
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

    /// Proves: CH-4
    #[test]
    fn each_owner_has_a_cursor_of_its_own_under_one_name() {
        let name = CursorName::new("shop/all");
        let row = |owner: Option<&str>| {
            let registered = Registered::new(format!("id of {owner:?}"), owner, BTreeMap::new());
            Row::read(key(&name, owner).as_bytes(), &value(&registered)).expect("a row")
        };
        let picked = |there: &[Option<&str>], owner: Option<&str>| {
            let rows = there.iter().map(|owner| row(*owner)).collect();
            pick(rows, owner).map(|row| row.registered.owner)
        };
        assert_eq!(row(Some("u")).name, name);
        assert_eq!(row(None).name, name);
        let (nobody, one, two) = (None, Some("1"), Some("2"));
        let some = |owner: Option<&str>| Some(owner.map(str::to_owned));
        assert_eq!(picked(&[nobody, one, two], two), some(two));
        assert_eq!(picked(&[nobody, one], two), some(nobody), "it may become its");
        assert_eq!(picked(&[one], two), None);
        assert_eq!(picked(&[one, nobody], nobody), some(nobody));
        assert_eq!(picked(&[one], nobody), some(one), "documents in files have no owners");
        // The key of one owner's is no other's.
        assert!(Row::read(key(&name, one).as_bytes(), &value(&row(two).registered)).is_none());
    }

    #[test]
    fn an_entry_of_an_earlier_version_is_nobodys() {
        let read: Registered = serde_json::from_str(r#"{"id":"a","start":{"0":7}}"#).expect("an entry");
        assert_eq!((read.owner.as_deref(), read.start_of(0)), (None, 7));
    }
}
