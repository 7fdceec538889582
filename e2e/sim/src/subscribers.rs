//! Subscribers, by HTTP/1.1 over streams that never leave the process: they answer as the scenario says at that moment.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use event::Event;
use http::Uri;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::{
    history::{Fact, History, Millis, Purpose},
    scenario::Behavior,
};

const BUFFER_BYTES: usize = 64 << 10;

/// `EMFILE`: the process has no file descriptor left.
const NO_FILES: i32 = 24;

pub(crate) struct Subscribers {
    history: Arc<History>,
    /// How each behaves, and until when.
    behaviors: Mutex<Vec<(Behavior, Millis)>>,
    requests: AtomicU64,
}

/// What an event of this id carries.
pub(crate) fn payload(id: &str, size: usize) -> Vec<u8> {
    id.bytes().cycle().take(size).collect()
}

/// Whether an event of the scenario, or a reply to one, still is what it was.
pub(crate) fn is_intact(event: &Event) -> bool {
    is_whole(
        event.id(),
        event.source(),
        event.kind(),
        event.text("bytes"),
        event.data(),
    )
}

fn is_whole(id: &str, source: &str, kind: &str, size: Option<&str>, data: &[u8]) -> bool {
    let size = size.and_then(|size| size.parse().ok());
    (source, kind) == ("/sim", "sim") && size.is_some_and(|size| payload(id, size) == data)
}

impl Subscribers {
    pub(crate) fn new(count: usize, history: Arc<History>) -> Arc<Self> {
        let behaviors = Mutex::new(vec![(Behavior::Well, 0); count]);
        Arc::new(Self {
            history,
            behaviors,
            requests: AtomicU64::new(0),
        })
    }

    pub(crate) fn set(&self, number: usize, behavior: Behavior, lasts: Millis) {
        self.behaviors.lock()[number] = (behavior, self.history.now() + lasts);
    }

    pub(crate) fn mend(&self) {
        self.behaviors.lock().fill((Behavior::Well, 0));
    }

    fn behavior(&self, number: usize) -> Behavior {
        let (behavior, until) = self.behaviors.lock()[number];
        if self.history.now() < until {
            behavior
        } else {
            Behavior::Well
        }
    }

    /// Connects to the subscriber that the host names: `http://subscriber-2/`.
    pub(crate) fn connect(self: &Arc<Self>, to: &Uri) -> io::Result<DuplexStream> {
        let number = to
            .host()
            .and_then(|host| host.strip_prefix("subscriber-")?.parse().ok());
        let number: usize = number.ok_or(io::ErrorKind::AddrNotAvailable)?;
        match self.behavior(number) {
            Behavior::Away => return Err(io::ErrorKind::ConnectionRefused.into()),
            Behavior::NoFiles => return Err(io::Error::from_raw_os_error(NO_FILES)),
            _ => {}
        }
        let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
        let subscribers = self.clone();
        tokio::spawn(async move { subscribers.serve(number, ours).await });
        Ok(theirs)
    }

    async fn serve(self: Arc<Self>, number: usize, mut stream: DuplexStream) {
        let mut buffer = Vec::new();
        while let Some(request) = Request::read(&mut stream, &mut buffer).await {
            let behavior = self.behavior(number);
            let count = self.requests.fetch_add(1, Ordering::Relaxed);
            self.history.note(Fact::Arrived {
                request: count,
                subscription: request.subscription.clone(),
                subscriber: format!("subscriber-{number}"),
                id: request.id.clone(),
                purpose: request.purpose,
                intact: request.intact,
            });
            let is_answered = self.answer(&mut stream, &request, behavior, count).await;
            if !is_answered {
                self.history.note(Fact::Unanswered {
                    request: count,
                    subscription: request.subscription,
                    id: request.id,
                    purpose: request.purpose,
                });
                return;
            }
        }
    }

    /// Returns false when the connection is to end.
    async fn answer(&self, stream: &mut DuplexStream, request: &Request, behavior: Behavior, count: u64) -> bool {
        let (status, retry_after) = match behavior {
            Behavior::Well | Behavior::NoFiles | Behavior::Away => (200, None),
            Behavior::Status(status) => (status, None),
            Behavior::Later(status, seconds) => (status, Some(seconds)),
            Behavior::Flaky => (if count.is_multiple_of(2) { 503 } else { 202 }, None),
            Behavior::Slow(wait) => {
                let mut byte = [0];
                tokio::select! {
                    // A caller that gave up closes the connection.
                    _ = stream.read(&mut byte) => return false,
                    () = tokio::time::sleep(Duration::from_millis(wait)) => (204, None),
                }
            }
            Behavior::Mute => {
                let _ = stream.read(&mut [0]).await;
                return false;
            }
            Behavior::Breaks => return false,
            Behavior::Garbage => {
                let _ = stream.write_all(b"SMTP 220 ready\r\n\r\n").await;
                return false;
            }
        };
        let reply = (status == 200 && request.purpose != Purpose::DeadLetter && !request.id.starts_with('r'))
            .then(|| format!("r{}", request.id));
        let mut answer = format!("HTTP/1.1 {status} Scripted\r\n");
        if let Some(seconds) = retry_after {
            answer += &format!("retry-after: {seconds}\r\n");
        }
        let body = match &reply {
            Some(id) => {
                answer += &format!(
                    "ce-specversion: 1.0\r\nce-id: {id}\r\nce-source: /sim\r\nce-type: sim\r\nce-bytes: 7\r\nce-lot: a\r\n"
                );
                payload(id, 7)
            }
            None => Vec::new(),
        };
        answer += &format!("content-length: {}\r\n\r\n", body.len());
        // Noted before the caller can see it.
        self.history.note(Fact::Answered {
            request: count,
            subscription: request.subscription.clone(),
            id: request.id.clone(),
            purpose: request.purpose,
            status,
            retry_after: retry_after.map(|seconds| seconds * 1000),
            reply,
        });
        stream.write_all(&[answer.as_bytes(), &body].concat()).await.is_ok()
    }
}

struct Request {
    subscription: String,
    id: String,
    purpose: Purpose,
    intact: bool,
}

impl Request {
    /// Reads the next request; `None` when the caller closed the connection.
    async fn read(stream: &mut DuplexStream, buffer: &mut Vec<u8>) -> Option<Self> {
        let head_end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
        let header = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines
                .filter(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_owned())
                .next()
        };
        let length: usize = header("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        while buffer.len() < head_end + length {
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        }
        let rest = buffer.split_off(head_end + length);
        let body = std::mem::replace(buffer, rest).split_off(head_end);
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let (purpose, subscription) = match path.strip_prefix("/dead-letters/") {
            Some(subscription) => (Purpose::DeadLetter, subscription),
            None => (Purpose::Delivery, path.trim_start_matches('/')),
        };
        let purpose = if purpose == Purpose::Delivery && header("ce-headgatereplay").is_some() {
            Purpose::Replay
        } else {
            purpose
        };
        let text = |name: &str| header(name).unwrap_or_default();
        Some(Self {
            subscription: subscription.to_owned(),
            intact: is_whole(
                &text("ce-id"),
                &text("ce-source"),
                &text("ce-type"),
                header("ce-bytes").as_deref(),
                &body,
            ),
            id: text("ce-id"),
            purpose,
        })
    }
}
