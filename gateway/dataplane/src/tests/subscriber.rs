//! A subscriber by HTTP/1.1 that never leaves the process: it takes events, or falls silent.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use spec::model::{self, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::subscription;

#[derive(Default)]
pub(super) struct Subscriber {
    is_silent: AtomicBool,
    taken: Mutex<Vec<String>>,
}

impl Subscriber {
    /// Every connection of this thread leads to it from now on.
    pub(super) fn new() -> Arc<Self> {
        let subscriber = Arc::new(Self::default());
        let shared = subscriber.clone();
        connect::replace_network(Some(Arc::new(move |_| {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            tokio::spawn(shared.clone().serve(theirs));
            Ok(ours)
        })));
        subscriber
    }

    /// A subscription of channel `a` to it.
    pub(super) fn subscription(of: &str) -> model::Subscription {
        model::Subscription {
            subscriber: Some(Target::uri("http://subscriber.example/".parse().unwrap())),
            ..subscription(of, "a", "sink")
        }
    }

    /// Requests that come from now on are never answered, or are.
    pub(super) fn fall_silent(&self, is_silent: bool) {
        self.is_silent.store(is_silent, Ordering::Relaxed);
    }

    /// The ids of the events that it took, in order.
    pub(super) fn taken(&self) -> Vec<String> {
        self.taken.lock().clone()
    }

    async fn serve(self: Arc<Self>, mut stream: DuplexStream) {
        let mut head = Vec::new();
        while stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {
            if self.is_silent.load(Ordering::Relaxed) || !head.ends_with(b"\r\n\r\n") {
                continue;
            }
            let text = String::from_utf8_lossy(&head).into_owned();
            let id = text.lines().find_map(|line| line.strip_prefix("ce-id: "));
            self.taken.lock().push(id.unwrap().to_owned());
            head.clear();
            stream.write_all(b"HTTP/1.1 204 Taken\r\n\r\n").await.unwrap();
        }
    }
}
