//! The channel itself: what the data plane calls, put together from the other files.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_nats::jetstream::consumer::Info;
use async_trait::async_trait;
use channel::{
    AppendError, Channel, Cursor, CursorName, CursorStatus, Depth, Letters, Offset, Promises, ReadError, Record,
    Standing, Start, Stored, is_anothers,
};
use event::Event;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

use crate::{
    PAGE_BYTES, Settings,
    api::ApiError,
    attempts,
    connection::Server,
    consumer::{self, Belongs, Member, Stop},
    cursor::{NatsCursor, Said, Shared},
    error::{OpenError, RETRY_AFTER, unavailable, unreadable},
    letters::NatsLetters,
    message::{Outgoing, incoming},
    names,
    outage::Outage,
    publisher::{Fault, Publisher},
    reader,
    stream::{self, Found},
    trim,
};

/// What others write is noticed within this, and a stream that was deleted.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same while somebody waits for a channel to grow.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// Cursors that other gateways hold are counted this often.
const LIST_EVERY: Duration = Duration::from_secs(60);

/// A channel on NATS JetStream.
pub struct NatsChannel {
    inner: Arc<Inner>,
    tasks: Vec<JoinHandle<()>>,
}

struct Inner {
    server: Arc<Server>,
    settings: Settings,
    found: Found,
    publisher: Publisher,
    letters: Arc<NatsLetters>,
    attempts: String,
    ends: Mutex<Ends>,
    open: Mutex<BTreeMap<CursorName, Arc<Open>>>,
    /// Cursors that are there, as the server counted them last.
    listed: Mutex<Vec<Listed>>,
    /// One subscription or its end at a time.
    registering: tokio::sync::Mutex<()>,
    /// One that makes space at a time.
    freeing: tokio::sync::Mutex<()>,
    /// Why appends are refused while the servers answer.
    refusing: Mutex<Option<Refusal>>,
    outage: Outage,
    grown: Notify,
    watching: AtomicUsize,
    /// At most what the server takes.
    max_event_bytes: AtomicUsize,
    /// Bytes of the stream, as the server said last and what we wrote since.
    bytes: AtomicU64,
    closed: AtomicBool,
}

/// Where a stream begins and ends.
#[derive(Clone, Copy)]
struct Ends {
    first: u64,
    last: u64,
    created: SystemTime,
}

struct Refusal {
    why: String,
    /// It is full, and was settled so far: what is settled since makes space.
    full_at: Option<u64>,
}

/// A cursor as the server has it.
struct Listed {
    name: CursorName,
    owner: Option<String>,
    consumer: String,
    said: Said,
}

/// A cursor whose consumer this gateway pulls from.
struct Open {
    owner: Option<String>,
    consumer: String,
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

impl NatsChannel {
    /// Opens a channel: makes its streams or adopts them, and learns what they promise and which cursors there are.
    pub async fn open(server: Arc<Server>, settings: &Settings) -> Result<Self, OpenError> {
        let found = stream::events(&server, settings).await?;
        let letters = names::letters(&settings.stream);
        let count = stream::companion(&server, &letters, &found, false).await?;
        let attempts = names::attempts(&settings.stream);
        stream::companion(&server, &attempts, &found, true).await?;
        let listed = server.consumers(&settings.stream).await;
        let listed = listed.map_err(|error| server.unreachable(error))?;
        let inner = Arc::new(Inner {
            publisher: Publisher::new(found.subject.as_str().into(), found.atomic),
            letters: Arc::new(NatsLetters::new(server.clone(), letters, found.durability, count)),
            attempts,
            ends: Mutex::new(Ends {
                first: found.first,
                last: found.last,
                created: found.created,
            }),
            bytes: AtomicU64::new(found.bytes),
            server,
            settings: settings.clone(),
            found,
            open: Mutex::default(),
            listed: Mutex::new(cursors(&listed)),
            registering: tokio::sync::Mutex::default(),
            freeing: tokio::sync::Mutex::default(),
            refusing: Mutex::default(),
            outage: Outage::default(),
            grown: Notify::new(),
            watching: AtomicUsize::new(0),
            max_event_bytes: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        });
        let tasks = vec![
            tokio::spawn(look(inner.clone())),
            tokio::spawn(list(inner.clone())),
            tokio::spawn(trim(inner.clone())),
        ];
        let opened = Self { inner, tasks };
        opened.configure(settings.max_event_bytes);
        Ok(opened)
    }

    /// Changes the largest event of a channel in use; what the server takes stays the limit.
    pub fn configure(&self, max_event_bytes: Option<usize>) {
        let limit = stream::event_bytes(&self.inner.found, max_event_bytes);
        self.inner.max_event_bytes.store(limit, Ordering::Relaxed);
    }

    /// After [`Channel::close`].
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }
}

fn cursors(listed: &[Info]) -> Vec<Listed> {
    let cursor = |info: &Info| {
        Some(Listed {
            name: consumer::cursor_of(info)?,
            owner: consumer::owner_of(info).map(str::to_owned),
            consumer: info.name.clone(),
            said: consumer::said(info),
        })
    };
    listed.iter().filter_map(cursor).collect()
}

/// Keeps looking where the stream begins and ends: others write to it, too.
async fn look(inner: Arc<Inner>) {
    loop {
        let every = if inner.watching.load(Ordering::SeqCst) > 0 {
            WATCH_EVERY
        } else {
            LOOK_EVERY
        };
        tokio::time::sleep(every).await;
        if !inner.server.is_connected() {
            continue;
        }
        let name = &inner.settings.stream;
        match inner.server.stream_info(name).await {
            Ok(Some(info)) => {
                if info.cluster.as_ref().is_none_or(|cluster| cluster.leader.is_some()) {
                    inner.outage.answers(name);
                }
                inner.reaches(&info);
            }
            Ok(None) => inner.make_again().await,
            Err(error) => tracing::debug!(stream = name, %error, "looking at the stream"),
        }
        match inner.server.stream_info(inner.letters.stream()).await {
            Ok(Some(info)) => inner.letters.counted(info.state.messages),
            Ok(None) => inner.make_again().await,
            Err(error) => tracing::debug!(stream = inner.letters.stream(), %error, "looking at the letters"),
        }
    }
}

async fn list(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(LIST_EVERY).await;
        match inner.server.consumers(&inner.settings.stream).await {
            Ok(listed) => *inner.listed.lock() = cursors(&listed),
            Err(error) => tracing::debug!(stream = inner.settings.stream, %error, "listing the consumers"),
        }
    }
}

async fn trim(inner: Arc<Inner>) {
    loop {
        tokio::time::sleep(trim::LOOK_EVERY).await;
        let Ends { first, last, .. } = *inner.ends.lock();
        if inner.found.ours && inner.found.keeps_all {
            trim::trim(&inner.server, &inner.settings.stream, first, last).await;
        }
    }
}

impl Inner {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Ends that were seen a moment ago: what we wrote since reaches further.
    fn reaches(&self, seen: &async_nats::jetstream::stream::Info) {
        self.bytes.store(seen.state.bytes, Ordering::Relaxed);
        let created = seen.created.into();
        let mut known = self.ends.lock();
        let grown = if created == known.created {
            let grown = seen.state.last_sequence > known.last;
            known.first = known.first.max(seen.state.first_sequence);
            known.last = known.last.max(seen.state.last_sequence);
            grown
        } else {
            *known = Ends {
                first: seen.state.first_sequence,
                last: seen.state.last_sequence,
                created,
            };
            true
        };
        drop(known);
        if grown {
            self.grown.notify_waiters();
        }
    }

    fn wrote(&self, sequence: u64, events: &[Event]) {
        let bytes: usize = events.iter().map(Event::size).sum();
        self.bytes
            .fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed);
        let mut known = self.ends.lock();
        known.last = known.last.max(sequence);
        drop(known);
        *self.refusing.lock() = None;
        self.outage.is_over(&self.settings.stream);
        self.grown.notify_waiters();
    }

    /// A stream of ours that somebody deleted; one that was adopted is for others to make.
    async fn make_again(&self) {
        let made = async {
            if !self.found.ours {
                return Err(OpenError::Unfit {
                    stream: self.settings.stream.clone(),
                    why: "it was deleted; Headgate did not make it, so it waits until somebody makes it again".into(),
                });
            }
            let found = stream::events(&self.server, &self.settings).await?;
            stream::companion(&self.server, self.letters.stream(), &found, false).await?;
            stream::companion(&self.server, &self.attempts, &found, true).await
        };
        match made.await {
            Ok(_) => {
                tracing::warn!(
                    stream = self.settings.stream,
                    "a stream was deleted and has been made again"
                );
                if let Ok(Some(info)) = self.server.stream_info(&self.settings.stream).await {
                    self.reaches(&info);
                }
            }
            Err(error) => {
                tracing::warn!(stream = self.settings.stream, %error, "a stream was deleted and cannot be made again");
                self.refuse(error.to_string(), None);
            }
        }
    }

    fn refuse(&self, why: String, full_at: Option<u64>) {
        *self.refusing.lock() = Some(Refusal { why, full_at });
    }

    /// Below that, every cursor that is held here has settled everything.
    fn settled_here(&self) -> u64 {
        let last = self.ends.lock().last;
        let open = self.open.lock();
        let settled = open.values().map(|open| open.shared.settled_below());
        settled.min().unwrap_or(last + 1).min(last + 1)
    }

    /// Deletes what everybody has settled; `false` when there is nothing of it.
    async fn make_space(&self) -> Result<bool, ApiError> {
        if !self.found.ours {
            return Ok(false);
        }
        let name = &self.settings.stream;
        let Some(info) = self.server.stream_info(name).await? else {
            return Ok(false);
        };
        let first = info.state.first_sequence;
        let Some(settled) = trim::settled_below(&self.server, name, info.state.last_sequence).await? else {
            return Ok(false);
        };
        if settled <= first {
            return Ok(false);
        }
        trim::purge(&self.server, name, settled).await?;
        let mut known = self.ends.lock();
        known.first = known.first.max(settled);
        Ok(true)
    }

    async fn publish(&self, messages: &[Outgoing<'_>]) -> Result<u64, Fault> {
        match self.publisher.publish(&self.server, messages).await {
            Err(Fault::Full(why)) => {
                let _alone = self.freeing.lock().await;
                match self.make_space().await {
                    Ok(true) => self.publisher.publish(&self.server, messages).await,
                    Ok(false) => Err(Fault::Full(why)),
                    Err(error) => {
                        tracing::debug!(stream = self.settings.stream, %error, "space cannot be made");
                        Err(Fault::Full(why))
                    }
                }
            }
            done => done,
        }
    }

    /// Where a new cursor begins.
    async fn start(&self, start: Start) -> Result<u64, ReadError> {
        let name = &self.settings.stream;
        let info = self.server.stream_info(name).await.map_err(unreadable)?;
        let info = info.ok_or_else(|| unreadable(format!("stream {name} is not there")))?;
        self.reaches(&info);
        let (first, next) = (info.state.first_sequence.max(1), info.state.last_sequence + 1);
        Ok(match start {
            Start::Latest => next,
            Start::Earliest => first,
            Start::Offset(wanted) => wanted.0.clamp(first.min(next), next),
            Start::Time(time) => {
                let found = reader::sequence_at(&self.server, name, time)
                    .await
                    .map_err(unreadable)?;
                found.unwrap_or(next)
            }
        })
    }

    /// The consumer of a cursor: as it is, or new.
    async fn register(&self, name: &CursorName, owner: Option<&str>, start: Start) -> Result<Info, ReadError> {
        let stream = &self.settings.stream;
        if let Some(mut info) = self.registered(name, owner).await? {
            if let (None, Some(owner)) = (consumer::owner_of(&info), owner) {
                let owned = consumer::owned(&info, owner);
                let changed = self.server.change_consumer(stream, &info.name, &owned).await;
                info = changed.map_err(unreadable)?;
            }
            return Ok(info);
        }
        let start = self.start(start).await?;
        let consumer = names::owned(name.as_str(), owner);
        let config = consumer::config(&self.server, consumer, name, owner, start);
        self.server.create_consumer(stream, &config).await.map_err(unreadable)
    }

    /// A cursor's consumer, as the server has it: the owner's, else one that can become its, and for nobody in particular
    /// whichever there is.
    async fn registered(&self, name: &CursorName, owner: Option<&str>) -> Result<Option<Info>, ReadError> {
        let own = names::owned(name.as_str(), owner);
        let nobodys = owner.map(|_| names::consumer(name.as_str()));
        for consumer in [Some(own), nobodys].into_iter().flatten() {
            match self.server.consumer_info(&self.settings.stream, &consumer).await {
                Ok(info) if !is_anothers(consumer::owner_of(&info), owner) => return Ok(Some(info)),
                Ok(_) => {}
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        if owner.is_some() {
            return Ok(None);
        }
        let all = self.server.consumers(&self.settings.stream).await.map_err(unreadable)?;
        Ok(all
            .into_iter()
            .find(|info| consumer::cursor_of(info).as_ref() == Some(name)))
    }

    /// Deletes a cursor's consumer and what was remembered of its events.
    async fn unregister(&self, consumer: &str) -> Result<(), ReadError> {
        let deleted = self.server.delete_consumer(&self.settings.stream, consumer).await;
        deleted.map_err(unreadable)?;
        self.listed.lock().retain(|listed| listed.consumer != consumer);
        let attempts = self.place_of_attempts(consumer).forget(&self.server).await;
        attempts.map_err(unreadable)
    }

    fn place_of_attempts(&self, consumer: &str) -> attempts::Place {
        attempts::Place {
            stream: self.attempts.clone(),
            consumer: consumer.to_owned(),
        }
    }

    async fn consume(&self, name: &CursorName, owner: Option<&str>, start: Start) -> Result<Arc<Open>, ReadError> {
        let info = self.register(name, owner, start).await?;
        let shared = Arc::new(Shared::new(name.clone(), consumer::said(&info)));
        let owner = consumer::owner_of(&info).map(str::to_owned);
        let (stop, stopped) = watch::channel(Stop::Runs);
        let belongs = Belongs {
            server: self.server.clone(),
            stream: self.settings.stream.clone(),
            created: self.ends.lock().created,
            owner: owner.clone(),
            attempts: self.place_of_attempts(&info.name),
            shared: shared.clone(),
            letters: self.letters.clone(),
        };
        let member = Member::join(belongs, stopped).await.map_err(unreadable)?;
        let task = tokio::spawn(member.run());
        Ok(Arc::new(Open {
            owner,
            consumer: info.name,
            shared,
            stop,
            task: Mutex::new(Some(task)),
        }))
    }
}

#[async_trait]
impl Channel for NatsChannel {
    fn promises(&self) -> Promises {
        Promises {
            durability: self.inner.found.durability,
            survives_restart: self.inner.found.on_disk,
            total_order: true,
            replay: true,
            remembers_attempts: self.inner.found.on_disk,
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
        if let Some(why) = inner.outage.refusal() {
            return Err(unavailable(why));
        }
        let messages: Vec<Outgoing<'_>> = events.iter().map(Outgoing::new).collect();
        match inner.publish(&messages).await {
            Ok(sequence) => {
                inner.wrote(sequence, events);
                Ok(Stored::at(inner.found.durability, Offset(sequence)))
            }
            Err(Fault::Full(why)) => {
                let stream = &inner.settings.stream;
                let why = format!("stream {stream} is full of events that not every subscription has settled ({why})");
                inner.refuse(why, Some(inner.settled_here()));
                Err(AppendError::Full {
                    retry_after: RETRY_AFTER,
                })
            }
            Err(Fault::NoSpace(why)) => {
                inner.refuse(format!("NATS has no storage left ({why})"), None);
                Err(AppendError::DiskFull {
                    retry_after: RETRY_AFTER,
                })
            }
            Err(Fault::TooLarge(bytes)) => Err(AppendError::TooLarge { bytes, limit }),
            Err(fault @ Fault::NotConnected) => Err(unavailable(fault)),
            Err(fault) => {
                let why = fault.to_string();
                inner.outage.failed(&inner.settings.stream, why);
                Err(unavailable(fault))
            }
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
        let known = inner.open.lock().get(name).cloned();
        let open = match known {
            Some(open) if owner.is_none() || open.owner.as_deref() == owner => open,
            before => {
                // Of the cursor that had this name before, or of nobody: then it is the owner's from now on, as it is.
                if let Some(before) = before {
                    let is_another = is_anothers(before.owner.as_deref(), owner);
                    before.end(if is_another { Stop::AtOnce } else { Stop::Cleanly }).await;
                }
                let open = inner.consume(name, owner, start).await?;
                inner.open.lock().insert(name.clone(), open.clone());
                open
            }
        };
        if !open.shared.hold() {
            return Err(ReadError::InUse { name: name.to_string() });
        }
        Ok(Box::new(NatsCursor::new(open.shared.clone())))
    }

    async fn forget(&self, name: &CursorName, owner: Option<&str>) -> Result<(), ReadError> {
        let inner = &self.inner;
        let _alone = inner.registering.lock().await;
        if inner.is_closed() {
            return Err(ReadError::Closed);
        }
        let open = inner.open.lock().get(name).cloned();
        let owner = owner.or_else(|| open.as_ref()?.owner.as_deref());
        if let Some(open) = open.as_ref().filter(|open| open.owner.as_deref() == owner) {
            inner.open.lock().remove(name);
            open.end(Stop::AtOnce).await;
            return inner.unregister(&open.consumer).await;
        }
        match inner.registered(name, owner).await? {
            Some(info) if consumer::owner_of(&info) == owner => inner.unregister(&info.name).await,
            _ => Ok(()),
        }
    }

    async fn read(&self, from: Offset, max: usize) -> Result<Vec<Record>, ReadError> {
        let inner = &self.inner;
        if inner.is_closed() {
            return Err(ReadError::Closed);
        }
        if from.0 > inner.ends.lock().last {
            return Ok(Vec::new());
        }
        let (mut page, mut bytes) = (Vec::new(), 0);
        let see = |message: &async_nats::jetstream::Message| {
            let Some(message) = incoming(message) else { return true };
            // What is no event is among the letters of those it was for.
            let Ok(event) = message.content else { return true };
            bytes += event.size();
            if bytes > PAGE_BYTES && !page.is_empty() {
                return false;
            }
            page.push(Record {
                offset: Offset(message.sequence),
                stored_at: message.stored_at,
                event,
            });
            page.len() < max
        };
        let from = reader::from_sequence(from.0);
        reader::page(&inner.server, &inner.settings.stream, from, None, max, see)
            .await
            .map_err(unreadable)?;
        Ok(page)
    }

    async fn stretches(&self, start: Start) -> Result<Vec<Range<Offset>>, ReadError> {
        let inner = &self.inner;
        if inner.is_closed() {
            return Err(ReadError::Closed);
        }
        let begin = inner.start(start).await?;
        let end = inner.ends.lock().last + 1;
        Ok(vec![Offset(begin)..Offset(end.max(begin))])
    }

    fn standing(&self, cursor: &CursorName, place: Offset) -> Option<Standing> {
        let open = self.inner.open.lock().get(cursor).cloned()?;
        open.shared.standing(place.0, consumer::pins(&self.inner.server))
    }

    async fn grown(&self, from: Offset) {
        let inner = &self.inner;
        inner.watching.fetch_add(1, Ordering::SeqCst);
        let _watching = Watching(&inner.watching);
        loop {
            let grown = inner.grown.notified();
            let last = inner.ends.lock().last;
            if last > 0 && last >= from.0 || inner.is_closed() {
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
        let Ends { first, last, .. } = *inner.ends.lock();
        let mut cursors = BTreeMap::new();
        let mut gaps = Vec::new();
        for open in inner.open.lock().values() {
            gaps.extend(open.shared.gaps());
            let status = open.shared.status(open.owner.as_deref(), last);
            cursors.insert(open.consumer.clone(), status);
        }
        // There, and not pulled from by this gateway.
        for listed in &*inner.listed.lock() {
            if let Entry::Vacant(vacant) = cursors.entry(listed.consumer.clone()) {
                vacant.insert(listed.said.status(&listed.name, listed.owner.as_deref(), last));
            }
        }
        gaps.sort_by_key(|gap| gap.found_at);
        let refusing = inner.refusing.lock();
        let away = (!inner.server.is_connected())
            .then(|| format!("NATS at {} is not connected", inner.server.connection().shown()))
            .or_else(|| inner.outage.why());
        let still = |refusal: &&Refusal| refusal.full_at.is_none_or(|full_at| inner.settled_here() <= full_at);
        Depth {
            earliest: Offset(first.max(1)),
            next: Offset(last + 1),
            unsettled: cursors
                .values()
                .map(|cursor: &CursorStatus| cursor.unsettled)
                .max()
                .unwrap_or(0),
            bytes: Some(inner.bytes.load(Ordering::Relaxed)),
            cursors: cursors.into_values().collect(),
            gaps,
            refusing: away.or_else(|| refusing.as_ref().filter(still).map(|refusal| refusal.why.clone())),
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
        // Side by side: each waits for the server.
        let mut ending = tokio::task::JoinSet::new();
        for open in open {
            ending.spawn(async move { open.end(Stop::Cleanly).await });
        }
        while ending.join_next().await.is_some() {}
        inner.letters.close();
    }
}

/// Tells the server nothing: whoever wants a clean end closes first.
impl Drop for NatsChannel {
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
        }
    }
}

struct Watching<'a>(&'a AtomicUsize);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
