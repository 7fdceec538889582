//! Subscribers that count: one thread, one epoll, any number of ports; each remembers which ids it saw.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use e2e::ports;
use parking_lot::Mutex;
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
};

use crate::{histogram::Histogram, process::now};

/// The events that one subscriber received.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub unique: u64,
    pub repeats: u64,
    pub latency: Histogram,
    /// When the last event came, on the benchmark's clock.
    pub last: u64,
    ids: Vec<u64>,
}

impl Received {
    fn record(&mut self, id: u64, sent: u64, time: u64) {
        let word = usize::try_from(id / 64).expect("ids are small");
        if word >= self.ids.len() {
            self.ids.resize(word + 1, 0);
        }
        let bit = 1 << (id % 64);
        if self.ids[word] & bit == 0 {
            self.ids[word] |= bit;
            self.unique += 1;
        } else {
            self.repeats += 1;
        }
        self.latency.record(time.saturating_sub(sent));
        self.last = time;
    }
}

/// Running sinks; dropping them stops the thread.
pub(crate) struct Sinks {
    pub addresses: Vec<SocketAddr>,
    seen: Vec<Arc<Mutex<Received>>>,
    arrived: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Sinks {
    /// One sink for each delay (nanoseconds) with which it answers.
    pub(crate) fn start(delays: &[u64]) -> io::Result<Self> {
        let addresses: Vec<SocketAddr> = delays.iter().map(|_| ports::free()).collect();
        let seen: Vec<Arc<Mutex<Received>>> = delays.iter().map(|_| Arc::default()).collect();
        let (arrived, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let server = Server::bind(&addresses, delays, &seen, &arrived, &stop)?;
        let thread = std::thread::spawn(move || server.run());
        Ok(Self {
            addresses,
            seen,
            arrived,
            stop,
            thread: Some(thread),
        })
    }

    /// Requests of all sinks so far, repeats included.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    pub(crate) fn with<T>(&self, sink: usize, read: impl FnOnce(&Received) -> T) -> T {
        read(&self.seen[sink].lock())
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            panic!("the sinks failed: {error}");
        }
    }
}

struct Connection {
    stream: TcpStream,
    sink: usize,
    input: Vec<u8>,
}

struct Server {
    epoll: OwnedFd,
    listeners: Vec<TcpListener>,
    delays: Vec<u64>,
    seen: Vec<Arc<Mutex<Received>>>,
    connections: Vec<Option<Connection>>,
    /// Answers that are due later, per sink in order of time.
    waiting: Vec<VecDeque<(u64, usize)>>,
    arrived: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

/// Connections are told from listeners by their number.
const FIRST_CONNECTION: u64 = 1 << 32;
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

impl Server {
    fn bind(
        addresses: &[SocketAddr],
        delays: &[u64],
        seen: &[Arc<Mutex<Received>>],
        arrived: &Arc<AtomicU64>,
        stop: &Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut listeners = Vec::new();
        for (at, address) in addresses.iter().enumerate() {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            epoll::add(&epoll, listener.as_fd(), EventData::new_u64(at as u64), EventFlags::IN)?;
            listeners.push(listener);
        }
        Ok(Self {
            epoll,
            listeners,
            delays: delays.to_vec(),
            seen: seen.to_vec(),
            connections: Vec::new(),
            waiting: delays.iter().map(|_| VecDeque::new()).collect(),
            arrived: Arc::clone(arrived),
            stop: Arc::clone(stop),
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(256);
        while !self.stop.load(Ordering::Relaxed) {
            events.clear();
            // Delayed answers are due within milliseconds of their time: enough for a delay of seconds.
            let wait = Timespec {
                tv_sec: 0,
                tv_nsec: 5_000_000,
            };
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait))?;
            for event in &events {
                match event.data.u64().checked_sub(FIRST_CONNECTION) {
                    None => self.accept(usize::try_from(event.data.u64()).expect("an index"))?,
                    Some(at) => self.read(usize::try_from(at).expect("an index")),
                }
            }
            self.answer_what_is_due();
        }
        Ok(())
    }

    fn accept(&mut self, sink: usize) -> io::Result<()> {
        while let Ok((stream, _)) = self.listeners[sink].accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let at = self
                .connections
                .iter()
                .position(Option::is_none)
                .unwrap_or(self.connections.len());
            if at == self.connections.len() {
                self.connections.push(None);
            }
            epoll::add(
                &self.epoll,
                stream.as_fd(),
                EventData::new_u64(FIRST_CONNECTION + at as u64),
                EventFlags::IN,
            )?;
            self.connections[at] = Some(Connection {
                stream,
                sink,
                input: Vec::with_capacity(4096),
            });
        }
        Ok(())
    }

    /// A connection that fails is closed: what was on it is the sender's to repeat.
    fn read(&mut self, at: usize) {
        let Some(connection) = &mut self.connections[at] else {
            return;
        };
        let mut buffer = [0; 65536];
        match connection.stream.read(&mut buffer) {
            Ok(0) => {
                self.connections[at] = None;
                return;
            }
            Ok(read) => connection.input.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => {
                self.connections[at] = None;
                return;
            }
        }
        let sink = connection.sink;
        while let Some((length, id, sent)) = whole_request(&connection.input) {
            connection.input.drain(..length);
            let time = now();
            self.seen[sink].lock().record(id, sent, time);
            self.arrived.fetch_add(1, Ordering::Relaxed);
            if self.delays[sink] > 0 {
                self.waiting[sink].push_back((time + self.delays[sink], at));
            } else if connection.stream.write_all(ANSWER).is_err() {
                self.connections[at] = None;
                return;
            }
        }
    }

    fn answer_what_is_due(&mut self) {
        let time = now();
        for waiting in &mut self.waiting {
            while waiting.front().is_some_and(|(due, _)| *due <= time) {
                let Some((_, at)) = waiting.pop_front() else { return };
                if let Some(connection) = &mut self.connections[at]
                    && connection.stream.write_all(ANSWER).is_err()
                {
                    self.connections[at] = None;
                }
            }
        }
    }
}

/// Length, id and time of sending of the first request, once it is whole.
fn whole_request(bytes: &[u8]) -> Option<(usize, u64, u64)> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (mut length, mut id, mut sent) = (0, 0, 0);
    for line in bytes[..head].split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let number = || {
            std::str::from_utf8(&line[colon + 1..])
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok())
        };
        let name = &line[..colon];
        if name.eq_ignore_ascii_case(b"content-length") {
            length = usize::try_from(number()?).ok()?;
        } else if name.eq_ignore_ascii_case(b"ce-id") {
            id = number().unwrap_or(0);
        } else if name.eq_ignore_ascii_case(b"ce-sentns") {
            sent = number().unwrap_or(0);
        }
    }
    let whole = head + 4 + length;
    (bytes.len() >= whole).then_some((whole, id, sent))
}
