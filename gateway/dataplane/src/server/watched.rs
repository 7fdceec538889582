//! A connection that knows when it last moved: how slow senders are told from idle ones.
//!
//! hyper's own header timeout also closes connections that merely wait for their next request, and arms a timer per request.
//! Here the stream notes when the first byte of a head came, the service notes when the head was whole, and the
//! connection's task looks at both every two seconds.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::Instant};

/// What a connection did last. Times are milliseconds since it was accepted, plus one; zero means not now.
pub(super) struct Activity {
    accepted: Instant,
    /// The first byte of a head that is not whole yet; from the start for the first request.
    head_since: AtomicU64,
    idle_since: AtomicU64,
    requests: AtomicU32,
    /// HTTP/2 sends frames without a request; its own keep-alive finds the dead ones.
    multiplexed: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            accepted: Instant::now(),
            head_since: AtomicU64::new(1),
            idle_since: AtomicU64::new(0),
            requests: AtomicU32::new(0),
            multiplexed: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Bytes came.
    fn moved(&self) {
        if self.requests.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// A head is whole: its request lasts until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>, version: http::Version) -> Active {
        if version == http::Version::HTTP_2 {
            self.multiplexed.store(true, Ordering::Relaxed);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        Active(self.clone())
    }

    pub(super) fn head_is_late(&self, limit: Duration) -> bool {
        !self.multiplexed.load(Ordering::Relaxed) && self.is_older(&self.head_since, limit)
    }

    pub(super) fn is_idle_for(&self, limit: Duration) -> bool {
        self.requests.load(Ordering::Relaxed) == 0 && self.is_older(&self.idle_since, limit)
    }

    fn is_older(&self, since: &AtomicU64, limit: Duration) -> bool {
        let since = since.load(Ordering::Relaxed);
        since != 0 && u128::from(self.now() - since.min(self.now())) >= limit.as_millis()
    }
}

/// One request.
pub(super) struct Active(Arc<Activity>);

impl Drop for Active {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        }
    }
}

pub(super) struct Watched {
    stream: TokioIo<TcpStream>,
    activity: Arc<Activity>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self {
            stream: TokioIo::new(stream),
            activity,
        }
    }
}

impl Read for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_ready() {
            self.activity.moved();
        }
        polled
    }
}

impl Write for Watched {
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
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Proves: IN-9
    #[tokio::test(start_paused = true)]
    async fn a_head_is_late_ten_seconds_after_its_first_byte() {
        let activity = Arc::new(Activity::new());
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
        activity.moved();
        tokio::time::advance(LIMIT).await;
        assert!(activity.head_is_late(LIMIT));
    }
}
