//! Resolves host names on threads of its own, within bounds.
//!
//! The lookup is the system's (`getaddrinfo`): a name means here what it means to every other program on the machine, with
//! /etc/hosts, nsswitch, search domains and `ndots`. A resolver library would not need threads, but brings its own reading
//! of those files, and some dozens of crates. `getaddrinfo` blocks, and where the DNS server does not answer it blocks for a
//! minute; on tokio's blocking pool that starved the threads that read from disk. Hence:
//!
//! * a name is looked up by one thread at a time; everybody who asks for it meanwhile waits for that answer;
//! * who asks waits [`LOOKUP_TIMEOUT`] at most, however long the thread hangs;
//! * a name whose last lookup took too long has to share [`SLOW_LOOKUPS_MAX`] threads with its like, so that names that are
//!   dead leave [`LOOKUPS_MAX`] threads to all others.
//!
//! Answers are not kept: `getaddrinfo` does not say for how long they are good. `localhost` needs no lookup.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    thread,
    time::Duration,
    vec,
};

use hyper_util::client::legacy::connect::dns::Name;
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};
use tower_service::Service;

/// A DNS server answers in milliseconds. glibc asks the next one after 5 s.
pub(crate) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Lookups at once of names that are not known to be slow: one per name, so this is room for a start of a gateway with as
/// many dead names beside the live ones. Each costs a thread, some dozens of KiB.
const LOOKUPS_MAX: usize = 64;

/// Lookups at once of names whose last lookup took too long.
const SLOW_LOOKUPS_MAX: usize = 8;

/// `getaddrinfo` uses up to some dozens of KiB of stack, modules of nsswitch perhaps more; only what is used is real memory.
const STACK_BYTES: usize = 512 * 1024;

type Lookup = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// A lookup that was answered, or not.
type Answer = Result<Arc<[IpAddr]>, ResolveError>;

/// Why the name of a host has no address.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolveError {
    /// No answer in time.
    #[error("the name {0} could not be resolved within {limit} s: the DNS server does not answer", limit = LOOKUP_TIMEOUT.as_secs())]
    TimedOut(Arc<str>),
    /// Too many lookups wait.
    #[error("the name {0} could not be resolved: too many lookups are waiting for a DNS server that does not answer")]
    Busy(Arc<str>),
    /// The system's resolver failed.
    #[error("the name {name} could not be resolved")]
    Failed {
        /// The name.
        name: Arc<str>,
        /// The cause.
        #[source]
        why: Arc<io::Error>,
    },
    /// The process cannot start a thread.
    #[error("the name {name} could not be resolved: no thread for it can be started")]
    NoThread {
        /// The name.
        name: Arc<str>,
        /// The cause.
        #[source]
        why: Arc<io::Error>,
    },
}

/// A handle; its clones share threads and lookups.
#[derive(Clone)]
pub struct Resolver(Arc<Lookups>);

struct Lookups {
    lookup: Box<Lookup>,
    /// Entries are of names that are being looked up or were slow: never more than there are destinations in documents.
    names: Mutex<HashMap<Arc<str>, State>>,
    quick: Arc<Semaphore>,
    slow: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    /// The lookup that is under way.
    lookup: Option<watch::Receiver<Option<Answer>>>,
    /// The last one took too long.
    is_slow: bool,
}

impl Resolver {
    /// The process's resolver.
    pub fn shared() -> Self {
        static SHARED: OnceLock<Resolver> = OnceLock::new();
        SHARED.get_or_init(|| Self::new(system)).clone()
    }

    pub(crate) fn new(lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Lookups {
            lookup: Box::new(lookup),
            names: Mutex::default(),
            quick: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            slow: Arc::new(Semaphore::new(SLOW_LOOKUPS_MAX)),
        }))
    }

    /// The addresses of a host, at least one. Cancel safe.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn resolve(&self, host: &str) -> Answer {
        // RFC 6761, 6.3: names of this machine, whatever a DNS server says.
        if host.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
            return Ok([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].into());
        }
        let name: Arc<str> = host.into();
        let mut answer = self.join(&name);
        match timeout(LOOKUP_TIMEOUT, answer.wait_for(Option::is_some)).await {
            Ok(Ok(answer)) => answer.clone().unwrap_or(Err(ResolveError::TimedOut(name))),
            // The thread panicked.
            Ok(Err(_)) => Err(ResolveError::Failed {
                name,
                why: Arc::new(io::Error::other("the lookup ended without an answer")),
            }),
            Err(_elapsed) => Err(ResolveError::TimedOut(name)),
        }
    }

    /// The lookup of this name that is under way, or a new one.
    fn join(&self, name: &Arc<str>) -> watch::Receiver<Option<Answer>> {
        let mut names = self.0.names.lock();
        let state = names.entry(Arc::clone(name)).or_default();
        // One whose sender is gone ended without an answer.
        if let Some(lookup) = &state.lookup
            && lookup.has_changed().is_ok()
        {
            return lookup.clone();
        }
        let (answered, answer) = watch::channel(None);
        state.lookup = Some(answer.clone());
        let permits = Arc::clone(if state.is_slow { &self.0.slow } else { &self.0.quick });
        // A task of its own: the first caller may give up, others wait for the same answer.
        tokio::spawn(Arc::clone(&self.0).run_lookup(Arc::clone(name), permits, answered));
        answer
    }
}

impl Lookups {
    async fn run_lookup(
        self: Arc<Self>,
        name: Arc<str>,
        permits: Arc<Semaphore>,
        answered: watch::Sender<Option<Answer>>,
    ) {
        let Ok(Ok(permit)) = timeout(LOOKUP_TIMEOUT, permits.acquire_owned()).await else {
            self.finish(&name, None);
            answered.send_replace(Some(Err(ResolveError::Busy(name))));
            return;
        };
        let mut answer = answered.subscribe();
        let answered = Arc::new(answered);
        let (shared, asked, answering) = (Arc::clone(&self), Arc::clone(&name), Arc::clone(&answered));
        let began = Instant::now();
        let lookup = move || {
            let found = match (shared.lookup)(&asked) {
                Ok(addresses) if addresses.is_empty() => Err(io::Error::other("it has no address")),
                found => found,
            };
            let answer = found.map(Arc::from).map_err(|why| ResolveError::Failed {
                name: Arc::clone(&asked),
                why: Arc::new(why),
            });
            shared.finish(&asked, Some(began.elapsed() >= LOOKUP_TIMEOUT));
            drop(permit);
            answering.send_replace(Some(answer));
        };
        let thread = thread::Builder::new().name("resolve".into()).stack_size(STACK_BYTES);
        if let Err(why) = thread.spawn(lookup) {
            self.finish(&name, None);
            let why = Arc::new(why);
            answered.send_replace(Some(Err(ResolveError::NoThread { name, why })));
            return;
        }
        // The thread's end is seen by its own sender's.
        drop(answered);
        if timeout(LOOKUP_TIMEOUT, answer.wait_for(Option::is_some)).await.is_err()
            && let Some(state) = self.names.lock().get_mut(&name)
        {
            state.is_slow = true;
        }
    }

    /// No lookup of this name is under way any more. `None`: whether it is slow was not found out.
    fn finish(&self, name: &Arc<str>, is_slow: Option<bool>) {
        let mut names = self.names.lock();
        let Some(state) = names.get_mut(name) else { return };
        state.lookup = None;
        state.is_slow = is_slow.unwrap_or(state.is_slow);
        if !state.is_slow {
            names.remove(name);
        }
    }
}

/// The system's own lookup. Blocks.
fn system(name: &str) -> io::Result<Vec<IpAddr>> {
    let found = (name, 0).to_socket_addrs();
    found
        .map(|found| found.map(|address| address.ip()).collect())
        .map_err(|error| crate::words::lack_of_files().unwrap_or(error))
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.resolve(name.as_str()).await?;
            let addresses: Vec<_> = addresses.iter().map(|&ip| SocketAddr::new(ip, 0)).collect();
            Ok(addresses.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LIVE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    /// Names that begin with `dead` are not answered until the gate is opened.
    struct Server {
        is_open: Mutex<bool>,
        opened: parking_lot::Condvar,
        asked: AtomicUsize,
    }

    impl Server {
        fn start() -> (Arc<Self>, Resolver) {
            let server = Arc::new(Self {
                is_open: Mutex::default(),
                opened: parking_lot::Condvar::new(),
                asked: AtomicUsize::new(0),
            });
            let asked = Arc::clone(&server);
            (server, Resolver::new(move |name| asked.answer(name)))
        }

        fn answer(&self, name: &str) -> io::Result<Vec<IpAddr>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if name == "unknown" {
                return Err(io::Error::other("no such host"));
            }
            if name.starts_with("dead") {
                let mut is_open = self.is_open.lock();
                while !*is_open {
                    self.opened.wait(&mut is_open);
                }
            }
            Ok(vec![LIVE])
        }

        fn open(&self) {
            *self.is_open.lock() = true;
            self.opened.notify_all();
        }
    }

    /// Ends the threads of a test that failed, too.
    impl Drop for Opens {
        fn drop(&mut self) {
            self.0.open();
        }
    }

    struct Opens(Arc<Server>);

    #[tokio::test]
    async fn names_that_hang_delay_no_others() {
        let (server, resolver) = Server::start();
        let _opens = Opens(server);
        for n in 0..LOOKUPS_MAX - 1 {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.resolve(&format!("dead{n}")).await });
        }
        // Runs them up to their wait.
        tokio::task::yield_now().await;
        for n in 0..100 {
            let found = resolver.resolve(&format!("live{n}")).await.expect("an address");
            assert_eq!(*found, [LIVE]);
        }
        assert_eq!(
            *resolver.resolve("LocalHost.").await.expect("no lookup"),
            [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
        );
        assert!(matches!(
            resolver.resolve("unknown").await,
            Err(ResolveError::Failed { .. })
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_hangs_is_given_up_in_time_and_asked_for_by_one_thread() {
        let (server, resolver) = Server::start();
        let _opens = Opens(Arc::clone(&server));
        for round in 1..=3 {
            let began = Instant::now();
            let asked = (0..100).map(|_| {
                let resolver = resolver.clone();
                tokio::spawn(async move { resolver.resolve("dead").await })
            });
            for asked in asked.collect::<Vec<_>>() {
                let answer = asked.await.expect("no panic");
                assert!(matches!(answer, Err(ResolveError::TimedOut(_))), "{answer:?}");
            }
            assert_eq!(began.elapsed(), LOOKUP_TIMEOUT, "round {round}");
        }
        // The thread that asks runs in real time, which the paused clock may be ahead of.
        while server.asked.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        assert_eq!(server.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn names_known_to_hang_have_few_threads_and_come_back() {
        let (server, resolver) = Server::start();
        let _opens = Opens(Arc::clone(&server));
        for n in 0..LOOKUPS_MAX {
            resolver.0.names.lock().insert(
                format!("dead{n}").into(),
                State {
                    lookup: None,
                    is_slow: true,
                },
            );
        }
        let asked = (0..LOOKUPS_MAX).map(|n| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.resolve(&format!("dead{n}")).await })
        });
        for asked in asked.collect::<Vec<_>>() {
            assert!(asked.await.expect("no panic").is_err());
        }
        assert_eq!(resolver.0.quick.available_permits(), LOOKUPS_MAX);
        assert_eq!(resolver.0.slow.available_permits(), 0);
        server.open();
        // Real time passes while the threads end; paused time does not matter to them.
        while resolver.0.slow.available_permits() < SLOW_LOOKUPS_MAX {
            tokio::task::yield_now().await;
        }
        tokio::time::resume();
        assert_eq!(*resolver.resolve("dead63").await.expect("an address"), [LIVE]);
        assert!(
            !resolver.0.names.lock().contains_key("dead63"),
            "an answer in time: no longer slow"
        );
    }
}
