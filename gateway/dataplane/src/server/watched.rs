//! A connection that records when it last moved: how slow senders are told from idle ones.
//!
//! hyper's own header timeout also closes connections that merely wait for their next request, and arms a timer per request.
//! Here the stream records when the first byte of a head came and how long the head is, the service records when the head was
//! whole, and the connection's task checks both every two seconds.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    bounds::{ConnectionPermit, Memory, Peer},
    connections::TOO_MANY_CONNECTIONS,
    protocol::BUFFER_MAX_BYTES,
    socket::Socket,
};

/// Every connection has a read buffer of this size; a head that needs more is counted among the bytes in memory.
const HEAD_FREE_BYTES: usize = 8 * 1024;

/// The last activity of a connection. Times are milliseconds since it was accepted, plus one; zero means not now.
pub(super) struct Activity {
    peer: Arc<Peer>,
    accepted: Instant,
    /// The first byte of a head that is not whole yet; from the start for the first request.
    head_since: AtomicU64,
    /// Bytes of that head so far.
    head_bytes: AtomicUsize,
    /// Room for a head that is longer than usual.
    head_memory: Mutex<Option<Memory>>,
    idle_since: AtomicU64,
    requests: AtomicU32,
    /// HTTP/2 sends frames without a request; its own keep-alive finds the dead ones.
    multiplexed: AtomicBool,
    /// There was no room for a head.
    overloaded: AtomicBool,
}

impl Activity {
    pub(super) fn new(peer: Arc<Peer>) -> Self {
        Self {
            peer,
            accepted: Instant::now(),
            head_since: AtomicU64::new(1),
            head_bytes: AtomicUsize::new(0),
            head_memory: Mutex::default(),
            idle_since: AtomicU64::new(0),
            requests: AtomicU32::new(0),
            multiplexed: AtomicBool::new(false),
            overloaded: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Bytes came; false when they are of a head for which there is no memory.
    fn moved(&self, bytes: usize) -> bool {
        if self.requests.load(Ordering::Relaxed) > 0 {
            return true;
        }
        if self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
        let head = self
            .head_bytes
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes);
        if head <= HEAD_FREE_BYTES {
            return true;
        }
        let mut memory = self.head_memory.lock();
        let memory = memory.get_or_insert_with(|| self.peer.memory());
        let has_room = memory.grow_to(head.min(BUFFER_MAX_BYTES as usize));
        self.overloaded.fetch_or(!has_room, Ordering::Relaxed);
        has_room
    }

    /// A head is whole: its request lasts until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>, version: http::Version) -> Active {
        if version == http::Version::HTTP_2 {
            self.multiplexed.store(true, Ordering::Relaxed);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        let is_long = self.head_bytes.swap(0, Ordering::Relaxed) > HEAD_FREE_BYTES;
        Active {
            activity: self.clone(),
            _head: is_long.then(|| self.head_memory.lock().take()).flatten(),
            _stream: None,
        }
    }

    pub(super) fn head_is_late(&self, limit: Duration) -> bool {
        !self.multiplexed.load(Ordering::Relaxed) && self.is_older(&self.head_since, limit)
    }

    /// Waits until the head of the first request is late, whether or not a handshake comes before it. Cancel safe.
    pub(super) async fn first_head_is_late(&self, limit: Duration) {
        tokio::time::sleep_until(self.accepted + limit).await;
    }

    pub(super) fn is_idle_for(&self, limit: Duration) -> bool {
        self.is_idle() && self.is_older(&self.idle_since, limit)
    }

    /// No request is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    /// A head has begun, or the first one has not come.
    pub(super) fn awaits_head(&self) -> bool {
        self.is_idle() && self.head_since.load(Ordering::Relaxed) != 0
    }

    pub(super) fn is_overloaded(&self) -> bool {
        self.overloaded.load(Ordering::Relaxed)
    }

    fn is_older(&self, since: &AtomicU64, limit: Duration) -> bool {
        let since = since.load(Ordering::Relaxed);
        since != 0 && u128::from(self.now() - since.min(self.now())) >= limit.as_millis()
    }
}

/// One request, and what it holds of the bounds.
pub(super) struct Active {
    activity: Arc<Activity>,
    _head: Option<Memory>,
    _stream: Option<(ConnectionPermit, Memory)>,
}

impl Active {
    /// The request is one of several on its connection, and its head is kept apart from the connection's buffer.
    pub(super) fn holds(mut self, stream: ConnectionPermit, head: Memory) -> Self {
        self._stream = Some((stream, head));
        self
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let activity = &self.activity;
        if activity.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            activity.idle_since.store(activity.now(), Ordering::Relaxed);
        }
    }
}

/// An answer's body. The request is under way until it is sent.
pub(super) struct Answering<B> {
    body: Answer<B>,
    active: Option<Active>,
}

enum Answer<B> {
    Service(B),
    Text(Full<Bytes>),
}

impl<B> Answering<B> {
    pub(super) fn of(body: B, active: Active) -> Self {
        Self {
            body: Answer::Service(body),
            active: Some(active),
        }
    }

    /// The answer to a request that was not begun.
    pub(super) fn text(text: &'static str) -> Self {
        Self {
            body: Answer::Text(Full::new(Bytes::from_static(text.as_bytes()))),
            active: None,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answering<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = match &mut self.body {
            Answer::Service(body) => Pin::new(body).poll_frame(cx),
            Answer::Text(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
        };
        if matches!(polled, Poll::Ready(None)) {
            self.active = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Answer::Service(body) => body.is_end_stream(),
            Answer::Text(text) => text.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Answer::Service(body) => body.size_hint(),
            Answer::Text(text) => text.size_hint(),
        }
    }
}

pub(super) struct Watched {
    stream: Socket,
    activity: Arc<Activity>,
}

impl Watched {
    pub(super) fn new(stream: Socket, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let came = buffer.filled().len() - before;
        if polled.is_ready() && !self.activity.moved(came) {
            // hyper cannot answer a head that it has not read. A client that does not read this sees a closed connection.
            let _ = Pin::new(&mut self.stream).poll_write(cx, TOO_MANY_CONNECTIONS);
            return Poll::Ready(Err(io::Error::other("no memory is left for the heads of requests")));
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{super::bounds::Bounds, *};

    const LIMIT: Duration = Duration::from_secs(10);

    fn activity(bounds: &Arc<Bounds>) -> Arc<Activity> {
        Arc::new(Activity::new(bounds.peer(Ipv4Addr::LOCALHOST.into())))
    }

    /// Proves: IN-9
    #[tokio::test(start_paused = true)]
    async fn a_head_is_late_ten_seconds_after_its_first_byte() {
        let activity = activity(&Arc::new(Bounds::new(16, 1024)));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(!activity.head_is_late(LIMIT));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(
            activity.head_is_late(LIMIT),
            "a client that connects and says nothing is late, too"
        );
        let active = activity.begin(http::Version::HTTP_11);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(
            !activity.head_is_late(LIMIT),
            "a request that takes long is not a late head"
        );
        drop(active);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(
            !activity.head_is_late(LIMIT),
            "waiting for the next request is not a late head"
        );
        assert!(activity.is_idle_for(Duration::from_secs(60)));
        assert!(activity.moved(1));
        tokio::time::advance(LIMIT).await;
        assert!(activity.head_is_late(LIMIT));
    }

    /// Proves: IN-9
    #[tokio::test(start_paused = true)]
    async fn long_heads_are_counted_and_refused_when_there_is_no_room() {
        let bounds = Arc::new(Bounds::new(16, 1024));
        let mut heads = vec![];
        let full = loop {
            let activity = activity(&bounds);
            if !activity.moved(60 * 1024) {
                break activity;
            }
            heads.push(activity);
            assert!(heads.len() < 2000, "2000 heads of 60 KiB are refused to one peer");
        };
        assert!(full.is_overloaded());
        let requests: Vec<_> = heads.iter().map(|head| head.begin(http::Version::HTTP_11)).collect();
        assert!(
            !activity(&bounds).moved(60 * 1024),
            "a head is kept as long as its request"
        );
        assert!(
            activity(&bounds).moved(4 * 1024),
            "usual heads need no room of their own"
        );
        drop(requests);
        assert!(activity(&bounds).moved(60 * 1024));
    }
}
