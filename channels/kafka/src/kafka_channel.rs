//! The channel itself: what the data plane calls, put together from the other files.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use channel::{
    AppendError, Channel, Cursor, CursorName, CursorStatus, Depth, Letters, Offset, Promises, ReadError, Record,
    Standing, Start, Stored, Watermark,
};
use event::Event;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use uuid::Uuid;

use crate::{
    PAGE_BYTES, Settings,
    cluster::Cluster,
    cursor::{KafkaCursor, Shared},
    error::{OpenError, is_too_large, unavailable, unreadable},
    gather::Gather,
    group::{Member, Stop, group_id},
    letters::KafkaLetters,
    place::{parts, place},
    producer::{Outgoing, WriteError, Written},
    reader::Ends,
    record::incoming,
    registry::{self, Registered, Registry, Row},
    retention,
    table::{Table, Values},
    topic::{self, Found},
};

/// What others write is noticed within this by whoever watches a channel, and what went by retention by whoever looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same while somebody waits for a channel to grow.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// A channel on Kafka.
pub struct KafkaChannel {
    inner: Arc<Inner>,
    tasks: Vec<JoinHandle<()>>,
}

struct Inner {
    cluster: Arc<Cluster>,
    topic: String,
    gather: Gather,
    found: Found,
    letters: Arc<KafkaLetters>,
    registry: Registry,
    /// By partition.
    ends: Mutex<Vec<Ends>>,
    open: Mutex<BTreeMap<CursorName, Arc<Open>>>,
    /// One subscription or its end at a time.
    registering: tokio::sync::Mutex<()>,
    grown: Notify,
    watching: AtomicUsize,
    /// At most what the topic takes.
    max_event_bytes: AtomicUsize,
    closed: AtomicBool,
}

/// A cursor that has a member in its group.
struct Open {
    /// The cursor's own, as it is registered.
    id: String,
    owner: Option<String>,
    shared: Arc<Shared>,
    stop: watch::Sender<Stop>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Open {
    async fn end(&self, stop: Stop) {
        self.shared.seat.end();
        self.stop.send_replace(stop);
        let task = self.task.lock().take();
        if let Some(task) = task {
            // It says itself what did not go well.
            let _ = task.await;
        }
    }
}

impl KafkaChannel {
    /// Opens a channel: makes its topics or adopts them, and learns what they promise and which cursors there are.
    pub async fn open(cluster: Arc<Cluster>, settings: &Settings) -> Result<Self, OpenError> {
        let found = topic::events(&cluster, settings).await?;
        let letters = Arc::new(Table::new(topic::letters(&settings.topic), Values::No));
        let values = Values::Kept {
            replaces: registry::replaces,
        };
        let cursors = Arc::new(Table::new(topic::cursors(&settings.topic), values));
        for table in [&letters, &cursors] {
            topic::table(&cluster, settings, &table.topic, found.max_event_bytes).await?;
            let ends = ends(&cluster, &table.topic, 1).await?;
            let ends = ends.first().copied().unwrap_or_default();
            let opened = cluster.follower.open(table.clone(), ends).await;
            opened.map_err(|error| cluster.unreachable(error))?;
        }
        let registry = Registry::new(cluster.clone(), cursors);
        if found.made {
            let marked = registry.mark_made().await;
            marked.map_err(|error| OpenError::NotMade {
                topic: settings.topic.clone(),
                why: format!("its record of cursors cannot be written: {error}"),
            })?;
        }
        let ends = ends(&cluster, &settings.topic, found.partitions).await?;
        let inner = Arc::new(Inner {
            letters: Arc::new(KafkaLetters::new(cluster.clone(), letters, found.durability)),
            topic: settings.topic.clone(),
            gather: Gather::new(&settings.topic, found.partitions, &cluster.producer),
            cluster,
            found,
            registry,
            ends: Mutex::new(ends),
            open: Mutex::default(),
            registering: tokio::sync::Mutex::default(),
            grown: Notify::new(),
            watching: AtomicUsize::new(0),
            max_event_bytes: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        });
        let tasks = vec![tokio::spawn(look(inner.clone())), tokio::spawn(trim(inner.clone()))];
        let opened = Self { inner, tasks };
        opened.configure(settings.max_event_bytes);
        Ok(opened)
    }

    /// Changes the largest event of a channel in use; what the topic takes stays the limit.
    pub fn configure(&self, max_event_bytes: Option<usize>) {
        let fits = self.inner.found.max_event_bytes;
        let limit = max_event_bytes.map_or(fits, |asked| asked.min(fits));
        self.inner.max_event_bytes.store(limit, Ordering::Relaxed);
    }

    /// After [`Channel::close`].
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }
}

/// Keeps looking where the topic begins and ends: others write to it, too.
async fn look(inner: Arc<Inner>) {
    loop {
        let every = if inner.watching.load(Ordering::SeqCst) > 0 {
            WATCH_EVERY
        } else {
            LOOK_EVERY
        };
        tokio::time::sleep(every).await;
        match ends(&inner.cluster, &inner.topic, inner.found.partitions).await {
            Ok(seen) => inner.reaches(&seen),
            Err(error) => tracing::debug!(topic = inner.topic, %error, "looking at the topic"),
        }
    }
}

async fn trim(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(retention::LOOK_EVERY).await;
        if !inner.found.keeps_all || !inner.registry.we_made_it() {
            continue;
        }
        let settled: Vec<_> = inner.open.lock().values().map(|open| open.shared.settled()).collect();
        // A cursor that nobody here holds has settled we do not know what.
        if settled.len() == inner.registry.cursors().len() {
            retention::trim(&inner.cluster, &inner.topic, inner.found.partitions, &settled).await;
        }
    }
}

async fn ends(cluster: &Arc<Cluster>, topic: &str, partitions: i32) -> Result<Vec<Ends>, OpenError> {
    let name = topic.to_owned();
    let asked = cluster.reader.run(move |reader| {
        (0..partitions)
            .map(|partition| reader.ends(&name, partition))
            .collect::<Result<Vec<_>, _>>()
    });
    let found = asked.await.unwrap_or(Err(rdkafka::error::KafkaError::Canceled));
    found.map_err(|error| cluster.unreachable(error))
}

impl Inner {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Ends that were seen a moment ago: what we wrote since reaches further.
    fn reaches(&self, seen: &[Ends]) {
        let mut grown = false;
        for (known, seen) in self.ends.lock().iter_mut().zip(seen) {
            grown |= seen.high > known.high;
            *known = Ends {
                low: seen.low.max(known.low),
                high: seen.high.max(known.high),
            };
        }
        if grown {
            self.grown.notify_waiters();
        }
    }

    fn wrote(&self, written: Written) {
        let index = usize::try_from(written.partition).unwrap_or_default();
        if let Some(known) = self.ends.lock().get_mut(index) {
            known.high = known.high.max(written.offset + 1);
        }
        self.grown.notify_waiters();
    }

    /// Where a new cursor begins in each partition.
    async fn start(&self, start: Start) -> Result<BTreeMap<i32, u64>, ReadError> {
        let seen = ends(&self.cluster, &self.topic, self.found.partitions)
            .await
            .map_err(unreadable)?;
        self.reaches(&seen);
        let latest = |ends: &Ends| ends.high;
        let offsets: Vec<u64> = match start {
            Start::Latest => seen.iter().map(latest).collect(),
            Start::Earliest => seen.iter().map(|ends| ends.low).collect(),
            Start::Offset(wanted) => {
                let (wanted_partition, wanted) = parts(wanted);
                let at = |(partition, ends): (i32, &Ends)| match partition.cmp(&wanted_partition) {
                    std::cmp::Ordering::Less => ends.high,
                    std::cmp::Ordering::Equal => wanted.clamp(ends.low, ends.high),
                    std::cmp::Ordering::Greater => ends.low,
                };
                (0..).zip(&seen).map(at).collect()
            }
            Start::Time(time) => {
                let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                // Kafka counts milliseconds: the first one at or after a time within one is the next.
                let millis = i64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
                let (topic, partitions) = (self.topic.clone(), self.found.partitions);
                let asked = self
                    .cluster
                    .reader
                    .run(move |reader| reader.offsets_at(&topic, partitions, millis));
                let found = asked.await.map_err(unreadable)?.map_err(unreadable)?;
                found
                    .iter()
                    .zip(&seen)
                    .map(|(found, ends)| found.unwrap_or(ends.high))
                    .collect()
            }
        };
        Ok((0..).zip(offsets).collect())
    }

    /// A cursor as everybody has it: as it is, the owner's from now on, or new.
    async fn registered(&self, name: &CursorName, owner: Option<&str>, start: Start) -> Result<Registered, ReadError> {
        match self.registry.cursor(name, owner) {
            Some(mut known) => {
                if known.owner.is_none() && owner.is_some() {
                    known.owner = owner.map(str::to_owned);
                    self.registry.own(name, &known).await.map_err(unreadable)?;
                }
                Ok(known)
            }
            None => {
                let new = Registered::new(Uuid::now_v7().simple().to_string(), owner, self.start(start).await?);
                self.registry.register(name, new).await.map_err(unreadable)
            }
        }
    }

    /// Whether another gateway consumes for a cursor. It knows the subscription, which may not have been heard of here yet; once that
    /// is deleted, it forgets the cursor itself.
    async fn is_used(&self, name: &CursorName) -> Result<bool, ReadError> {
        let asked = self.cluster.group(&group_id(&self.topic, name.as_str())).await;
        let (state, members) = asked.map_err(unreadable)?;
        if members > 0 {
            tracing::info!(topic = self.topic, cursor = %name, state, members, "a cursor is in use by other gateways and stays");
        }
        Ok(members > 0)
    }

    /// Begins to consume for a cursor that is registered.
    fn consume(self: &Arc<Self>, name: &CursorName, registered: Registered) -> Result<Arc<Open>, ReadError> {
        let known = registered
            .start()
            .iter()
            .map(|(id, start)| (*id, Watermark::new(Offset(*start))));
        let shared = Arc::new(Shared::new(name.clone(), known.collect()));
        let (id, owner) = (registered.id.clone(), registered.owner.clone());
        let (stop, stopped) = watch::channel(Stop::Runs);
        let joined = Member::join(
            self.cluster.clone(),
            &self.topic,
            registered,
            shared.clone(),
            self.letters.clone(),
            stopped,
        );
        let task = tokio::spawn(joined.map_err(unreadable)?.run());
        Ok(Arc::new(Open {
            id,
            owner,
            shared,
            stop,
            task: Mutex::new(Some(task)),
        }))
    }
}

#[async_trait]
impl Channel for KafkaChannel {
    fn promises(&self) -> Promises {
        Promises {
            durability: self.inner.found.durability,
            survives_restart: true,
            total_order: self.inner.found.partitions == 1,
            replay: true,
            remembers_attempts: false,
            max_event_bytes: self.inner.max_event_bytes.load(Ordering::Relaxed),
        }
    }

    async fn append(&self, events: &[Event]) -> Result<Stored, AppendError> {
        let inner = &self.inner;
        if inner.is_closed() {
            return Err(AppendError::Closed);
        }
        let limit = inner.max_event_bytes.load(Ordering::Relaxed);
        if let Some(large) = events.iter().find(|event| event.size() > limit) {
            return Err(AppendError::TooLarge {
                bytes: large.size(),
                limit,
            });
        }
        if events.is_empty() {
            return Ok(Stored::at(inner.found.durability, Offset(0)));
        }
        let records = events.iter().map(Outgoing::event).collect();
        match inner.gather.write(records).await {
            Ok(written) => {
                inner.wrote(written);
                Ok(Stored::at(
                    inner.found.durability,
                    place(written.partition, written.offset),
                ))
            }
            Err(WriteError::Failed(error)) if is_too_large(&error) => Err(AppendError::TooLarge {
                bytes: events.iter().map(Event::size).max().unwrap_or(0),
                limit,
            }),
            Err(WriteError::Closed) => Err(AppendError::Closed),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn subscribe(
        &self,
        name: &CursorName,
        owner: Option<&str>,
        start: Start,
    ) -> Result<Box<dyn Cursor>, ReadError> {
        let inner = &self.inner;
        let _alone = inner.registering.lock().await;
        if inner.is_closed() {
            return Err(ReadError::Closed);
        }
        let registered = inner.registered(name, owner, start).await?;
        let known = inner.open.lock().get(name).cloned();
        let open = match known {
            Some(open) if open.id == registered.id => open,
            before => {
                // Of the cursor that had this name before.
                if let Some(before) = before {
                    before.end(Stop::AtOnce).await;
                }
                let open = inner.consume(name, registered)?;
                inner.open.lock().insert(name.clone(), open.clone());
                open
            }
        };
        if !open.shared.hold() {
            return Err(ReadError::InUse { name: name.to_string() });
        }
        Ok(Box::new(KafkaCursor::new(open.shared.clone())))
    }

    async fn forget(&self, name: &CursorName, owner: Option<&str>) -> Result<(), ReadError> {
        let inner = &self.inner;
        let _alone = inner.registering.lock().await;
        if inner.is_closed() {
            return Err(ReadError::Closed);
        }
        inner.registry.catch_up().await?;
        let open = inner.open.lock().get(name).cloned();
        let owner = owner.or_else(|| open.as_ref()?.owner.as_deref());
        if owner.is_none() && open.is_none() && inner.is_used(name).await? {
            return Ok(());
        }
        let is_left = inner.registry.remove(name, owner).await.map_err(unreadable)?;
        if let Some(open) = open.as_ref().filter(|open| open.owner.as_deref() == owner) {
            inner.open.lock().remove(name);
            open.end(Stop::AtOnce).await;
            // Cursors of one name have one group; of what another committed there nothing is believed but by its id.
            if !is_left {
                inner.cluster.delete_group(&group_id(&inner.topic, name.as_str())).await;
            }
        }
        Ok(())
    }

    async fn read(&self, from: Offset, max: usize) -> Result<Vec<Record>, ReadError> {
        let inner = &self.inner;
        if inner.is_closed() {
            return Err(ReadError::Closed);
        }
        let (first, offset) = parts(from);
        let (ends, topic) = (inner.ends.lock().clone(), inner.topic.clone());
        let read = inner.cluster.reader.run(move |reader| {
            let (mut page, mut bytes) = (Vec::new(), 0);
            for (partition, ends) in (0..).zip(&ends).filter(|(partition, _)| *partition >= first) {
                let start = if partition == first {
                    offset.max(ends.low)
                } else {
                    ends.low
                };
                if page.len() >= max || bytes >= PAGE_BYTES {
                    break;
                }
                reader.page(&topic, partition, start, ends.high, |message| {
                    let record = incoming(message);
                    // What is no event is among the letters of those it was for.
                    let Ok(event) = record.content else { return true };
                    bytes += event.size();
                    if bytes > PAGE_BYTES && !page.is_empty() {
                        return false;
                    }
                    page.push(Record {
                        offset: place(partition, record.offset),
                        stored_at: record.stored_at,
                        event,
                    });
                    page.len() < max
                })?;
            }
            Ok::<_, rdkafka::error::KafkaError>(page)
        });
        read.await.map_err(unreadable)?.map_err(unreadable)
    }

    async fn stretches(&self, start: Start) -> Result<Vec<Range<Offset>>, ReadError> {
        let inner = &self.inner;
        if inner.is_closed() {
            return Err(ReadError::Closed);
        }
        let begins = inner.start(start).await?;
        let ends = inner.ends.lock().clone();
        let stretch = |(partition, begin): (i32, u64)| {
            let end = usize::try_from(partition).ok().and_then(|index| ends.get(index));
            place(partition, begin)..place(partition, end.map_or(begin, |end| end.high.max(begin)))
        };
        Ok(begins.into_iter().map(stretch).collect())
    }

    fn standing(&self, cursor: &CursorName, place: Offset) -> Option<Standing> {
        let shared = self.inner.open.lock().get(cursor).map(|open| open.shared.clone())?;
        shared.standing(place)
    }

    async fn grown(&self, from: Offset) {
        let inner = &self.inner;
        inner.watching.fetch_add(1, Ordering::SeqCst);
        let _watching = Watching(&inner.watching);
        let (first, offset) = parts(from);
        loop {
            let grown = inner.grown.notified();
            let there = {
                let ends = inner.ends.lock();
                let reaches = |(partition, ends): (i32, &Ends)| match partition.cmp(&first) {
                    std::cmp::Ordering::Less => false,
                    std::cmp::Ordering::Equal => ends.high > offset,
                    std::cmp::Ordering::Greater => ends.high > ends.low,
                };
                (0..).zip(&*ends).any(reaches)
            };
            if there || inner.is_closed() {
                return;
            }
            grown.await;
        }
    }

    fn letters(&self) -> &dyn Letters {
        &*self.inner.letters
    }

    fn findings(&self) -> Vec<String> {
        self.inner.found.findings.clone()
    }

    fn depth(&self) -> Depth {
        let inner = &self.inner;
        let ends = inner.ends.lock().clone();
        let last = i32::try_from(ends.len()).unwrap_or(1) - 1;
        let mut cursors = Vec::new();
        let mut gaps = Vec::new();
        let mut registered = inner.registry.cursors();
        for (name, open) in &*inner.open.lock() {
            let (settled_below, unsettled, oldest) = open.shared.status(&ends);
            gaps.extend(open.shared.gaps());
            registered.retain(|row| row.registered.id != open.id);
            cursors.push(CursorStatus {
                name: name.clone(),
                owner: open.owner.clone(),
                settled_below,
                unsettled,
                oldest,
            });
        }
        // Registered, and not consumed by this gateway: what it settled is known to its group alone, so it counts from
        // where it began.
        for Row { name, registered, .. } in registered {
            let known = registered
                .start()
                .iter()
                .map(|(id, start)| (*id, Watermark::new(Offset(*start))));
            let (settled_below, unsettled, oldest) = Shared::new(name.clone(), known.collect()).status(&ends);
            cursors.push(CursorStatus {
                name,
                owner: registered.owner,
                settled_below,
                unsettled,
                oldest,
            });
        }
        gaps.sort_by_key(|gap| gap.found_at);
        Depth {
            earliest: place(0, ends.first().map_or(0, |ends| ends.low)),
            next: place(last.max(0), ends.last().map_or(0, |ends| ends.high)),
            unsettled: cursors.iter().map(|cursor| cursor.unsettled).max().unwrap_or(0),
            bytes: None,
            cursors,
            gaps,
            refusing: inner.cluster.producer.trouble(),
            slow: None,
        }
    }

    async fn close(&self) {
        let inner = &self.inner;
        if inner.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        inner.grown.notify_waiters();
        for task in &self.tasks {
            task.abort();
        }
        let open: Vec<Arc<Open>> = std::mem::take(&mut *inner.open.lock()).into_values().collect();
        // Side by side: each waits for its group.
        let mut ending = tokio::task::JoinSet::new();
        for open in open {
            ending.spawn(async move { open.end(Stop::Cleanly).await });
        }
        while ending.join_next().await.is_some() {}
        let cluster = inner.cluster.clone();
        let _ = tokio::task::spawn_blocking(move || cluster.producer.flush()).await;
        inner.letters.close();
        inner.registry.close();
    }
}

/// Saves nothing that was not saved: whoever wants a clean end closes first.
impl Drop for KafkaChannel {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        for open in self.inner.open.lock().values() {
            open.shared.seat.end();
            open.stop.send_if_modified(|stop| {
                let runs = *stop == Stop::Runs;
                *stop = if runs { Stop::AtOnce } else { *stop };
                runs
            });
        }
        if !self.inner.is_closed() {
            self.inner.letters.close();
            self.inner.registry.close();
        }
    }
}

struct Watching<'a>(&'a AtomicUsize);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
