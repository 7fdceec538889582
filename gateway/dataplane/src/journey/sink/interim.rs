//! Counts interim answers (1xx): a server that sends them without end must not keep an attempt, and a processor, busy.
//!
//! HTTP/1.1: hyper reports each of them. HTTP/2: hyper skips them without a word, so the frames that arrive are counted
//! instead: a head that does not end its stream is an interim one, except for the last.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http::Request;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

/// One or two are usual (100, 103), a slow request may send a 102 each ten seconds or so: over five minutes of them.
pub(super) const INTERIM_MAX: usize = 32;

/// Streams of one connection that have a head and no body yet. A stream that the gateway gave up stays counted, hence the
/// bound: more than a server lets a client open at once.
const STREAMS_MAX: usize = 4096;

/// Counts the interim answers of one HTTP/1.1 exchange.
#[derive(Default)]
struct Count {
    received: AtomicUsize,
    exceeded: Notify,
}

pub(super) struct Interim(Arc<Count>);

impl Interim {
    /// Counts the interim answers to `request`.
    pub(super) fn watch<B>(request: &mut Request<B>) -> Self {
        let count = Arc::<Count>::default();
        let counted = Arc::clone(&count);
        hyper::ext::on_informational(request, move |_| {
            if counted.received.fetch_add(1, Ordering::Relaxed) == INTERIM_MAX {
                counted.exceeded.notify_one();
            }
        });
        Self(count)
    }

    /// Completes when there were more than [`INTERIM_MAX`]. Cancel safe.
    pub(super) async fn exceeded(&self) {
        self.0.exceeded.notified().await;
    }
}

/// An HTTP/2 connection that breaks when one of its streams receives too many interim answers.
pub(super) struct Counted<I> {
    io: I,
    frames: Frames,
}

impl<I> Counted<I> {
    pub(super) fn new(io: I) -> Self {
        Self {
            io,
            frames: Frames::default(),
        }
    }
}

/// The frames that a server sends, as far as their headers tell.
#[derive(Default)]
struct Frames {
    header: [u8; FRAME_HEADER_BYTES],
    header_len: usize,
    payload_left: usize,
    /// Heads received by stream, until its first data or its end.
    heads: HashMap<u32, usize>,
}

/// RFC 9113, 4.1: length (24 bits), type, flags, stream.
const FRAME_HEADER_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

impl Frames {
    /// Reads on; `false`: a stream has too many interim answers.
    fn read(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skipped = self.payload_left.min(bytes.len());
                self.payload_left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let more = (FRAME_HEADER_BYTES - self.header_len).min(bytes.len());
            self.header[self.header_len..self.header_len + more].copy_from_slice(&bytes[..more]);
            self.header_len += more;
            bytes = &bytes[more..];
            if self.header_len == FRAME_HEADER_BYTES {
                self.header_len = 0;
                if !self.frame() {
                    return false;
                }
            }
        }
        true
    }

    fn frame(&mut self) -> bool {
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        self.payload_left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let stream = u32::from_be_bytes(stream);
        match kind {
            HEADERS if flags & END_STREAM == 0 => {
                if self.heads.len() >= STREAMS_MAX {
                    self.heads.clear();
                }
                let heads = self.heads.entry(stream).or_default();
                *heads += 1;
                // The last of them may be the answer.
                *heads <= INTERIM_MAX + 1
            }
            HEADERS | DATA | RST_STREAM => {
                self.heads.remove(&stream);
                true
            }
            _ => true,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Counted<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buffer);
        if let Poll::Ready(Ok(())) = read
            && !this.frames.read(&buffer.filled()[before..])
        {
            return Poll::Ready(Err(io::Error::other(too_many())));
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Counted<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

pub(super) fn too_many() -> String {
    format!("more than {INTERIM_MAX} interim answers (1xx) and no final one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: usize) -> Vec<u8> {
        let length = u8::try_from(payload).expect("a short frame");
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, stream];
        // Payload that would be a head if it were read as one.
        frame.extend(std::iter::repeat_n(1, payload));
        frame
    }

    #[test]
    fn interim_heads_of_one_stream_are_bounded_however_the_bytes_are_cut() {
        let flood: Vec<u8> = (0..INTERIM_MAX + 2).flat_map(|_| frame(HEADERS, 4, 1, 20)).collect();
        let enough: Vec<u8> = (0..=INTERIM_MAX).flat_map(|_| frame(HEADERS, 4, 1, 20)).collect();
        for cut in [1, 2, 9, 10, 29, 1000] {
            let all = |bytes: &[u8]| {
                let mut frames = Frames::default();
                bytes.chunks(cut).all(|chunk| frames.read(chunk))
            };
            assert!(!all(&flood), "cut to {cut}");
            assert!(all(&enough), "cut to {cut}");
        }
    }

    #[test]
    fn answers_with_and_without_a_body_are_not_counted_together() {
        let mut frames = Frames::default();
        for round in 0..1000 {
            let answered = if round % 2 == 0 {
                [frame(HEADERS, 4, 1, 20), frame(DATA, 1, 1, 5)].concat()
            } else {
                [frame(HEADERS, 4, 3, 20), frame(HEADERS, 5, 3, 20)].concat()
            };
            assert!(frames.read(&answered), "{round}");
        }
        assert!(frames.heads.is_empty());
    }

    #[test]
    fn streams_that_were_given_up_are_not_remembered_for_ever() {
        let mut frames = Frames::default();
        for stream in 0..100_000_u32 {
            let mut head = frame(HEADERS, 4, 0, 0);
            head[5..].copy_from_slice(&stream.to_be_bytes());
            assert!(frames.read(&head));
        }
        assert!(frames.heads.len() <= STREAMS_MAX);
    }
}
