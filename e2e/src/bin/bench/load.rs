//! The load: one thread, one epoll, one request in flight per connection, one prebuilt request patched in place.
//!
//! It shares two cores with what it measures, so it must cost little. Closed loop: the next request follows its
//! answer. Open loop: requests are due at a fixed rate, and latency counts from when they were due, so that a
//! stall is not hidden by the requests it kept from being sent.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime},
};

use crate::{histogram::Histogram, process::now};

/// The events to send.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub to: SocketAddr,
    pub connections: usize,
    pub bytes: usize,
    pub seconds: f64,
    /// Events per second; `None` is a closed loop.
    pub rate: Option<f64>,
}

/// The counted results.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub accepted: u64,
    pub refused: u64,
    pub seconds: f64,
    pub ack: Histogram,
}

const DIGITS: usize = 12;
/// Connections are told from the timer by their number.
const TIMER: u64 = u64::MAX;
const PATH: &str = "/default/bench";

/// The request, and where its id and time are written into it.
struct Template {
    bytes: Vec<u8>,
    id: usize,
    time: usize,
}

impl Template {
    fn new(bytes: usize) -> Self {
        let zeros = "0".repeat(DIGITS);
        let stamp = "0".repeat(20);
        let data = format!("{{\"pad\":\"{}\"}}", "x".repeat(bytes.saturating_sub(10)));
        let text = format!(
            "POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\nce-specversion: 1.0\r\nce-id: {zeros}\r\nce-source: /bench\r\n\
             ce-type: bench.event\r\nce-sentns: {stamp}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{data}",
            data.len()
        );
        let end_of = |marker: &str| text.find(marker).expect("it is there") + marker.len();
        Self {
            id: end_of("ce-id: "),
            time: end_of("ce-sentns: "),
            bytes: text.into_bytes(),
        }
    }

    fn patch(&mut self, id: u64, time: u64) -> &[u8] {
        write_digits(&mut self.bytes[self.id..self.id + DIGITS], id);
        write_digits(&mut self.bytes[self.time..self.time + 20], time);
        &self.bytes
    }
}

fn write_digits(slot: &mut [u8], mut number: u64) {
    for digit in slot.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
    }
}

struct Connection {
    stream: TcpStream,
    /// When its request was due.
    due: u64,
    unsent: Vec<u8>,
    answer: Vec<u8>,
}

/// Runs the load to its end; ids count up from `first`.
pub(crate) fn run(load: &Load, first: u64) -> io::Result<Sent> {
    assert!(load.to.ip().is_loopback(), "load goes to loopback addresses only");
    Runner::open(load, first)?.run()
}

struct Runner<'a> {
    load: &'a Load,
    epoll: OwnedFd,
    /// Wakes the loop when a request is due: epoll's own time-out knows milliseconds only.
    timer: OwnedFd,
    connections: Vec<Connection>,
    idle: Vec<usize>,
    template: Template,
    next: u64,
    first: u64,
    sent: Sent,
}

impl<'a> Runner<'a> {
    fn open(load: &'a Load, first: u64) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        epoll::add(&epoll, timer.as_fd(), EventData::new_u64(TIMER), EventFlags::IN)?;
        let mut connections = Vec::new();
        for at in 0..load.connections {
            let stream = TcpStream::connect(load.to)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, stream.as_fd(), EventData::new_u64(at as u64), EventFlags::IN)?;
            connections.push(Connection {
                stream,
                due: 0,
                unsent: Vec::new(),
                answer: Vec::with_capacity(512),
            });
        }
        let idle = (0..load.connections).rev().collect();
        let template = Template::new(load.bytes);
        Ok(Self {
            load,
            epoll,
            timer,
            connections,
            idle,
            template,
            next: first,
            first,
            sent: Sent::default(),
        })
    }

    fn run(mut self) -> io::Result<Sent> {
        let start = now();
        let end = start + nanoseconds(self.load.seconds);
        let mut events = Vec::with_capacity(256);
        loop {
            let wait = self.send_what_is_due(start, end)?;
            let sending = now() < end;
            if !sending && self.idle.len() == self.connections.len() {
                break;
            }
            if self.load.rate.is_some() {
                self.wake_after(wait)?;
            }
            events.clear();
            let longest = Timespec {
                tv_sec: 0,
                tv_nsec: 50_000_000,
            };
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&longest))?;
            for event in events.iter().filter(|event| event.data.u64() != TIMER) {
                self.ready(usize::try_from(event.data.u64()).expect("an index"), event.flags)?;
            }
        }
        self.sent.seconds = (now() - start) as f64 / 1e9;
        Ok(self.sent)
    }

    /// Sets the timer; what is later than the loop's own time-out needs none.
    fn wake_after(&self, nanoseconds: u64) -> io::Result<()> {
        let nanoseconds = i64::try_from(nanoseconds).unwrap_or(0);
        let off = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = if nanoseconds < 50_000_000 {
            Timespec {
                tv_sec: 0,
                tv_nsec: nanoseconds,
            }
        } else {
            off
        };
        timerfd_settime(
            &self.timer,
            TimerfdTimerFlags::empty(),
            &Itimerspec {
                it_interval: off,
                it_value,
            },
        )?;
        Ok(())
    }

    /// Sends on idle connections; gives nanoseconds until the next request is due.
    fn send_what_is_due(&mut self, start: u64, end: u64) -> io::Result<u64> {
        while let Some(&at) = self.idle.last() {
            let time = now();
            let due = match self.load.rate {
                None => time,
                Some(rate) => start + nanoseconds((self.next - self.first) as f64 / rate),
            };
            if due >= end || time >= end {
                return Ok(u64::MAX);
            }
            if due > time {
                return Ok(due - time);
            }
            self.idle.pop();
            let bytes = self.template.patch(self.next, due);
            let connection = &mut self.connections[at];
            connection.due = due;
            connection.unsent.clear();
            match connection.stream.write(bytes) {
                Ok(written) if written == bytes.len() => {}
                Ok(written) => connection.unsent.extend_from_slice(&bytes[written..]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.unsent.extend_from_slice(bytes),
                Err(error) => return Err(error),
            }
            if !connection.unsent.is_empty() {
                self.watch(at, EventFlags::IN | EventFlags::OUT)?;
            }
            self.next += 1;
        }
        Ok(u64::MAX)
    }

    fn watch(&self, at: usize, flags: EventFlags) -> io::Result<()> {
        let stream = self.connections[at].stream.as_fd();
        Ok(epoll::modify(
            &self.epoll,
            stream,
            EventData::new_u64(at as u64),
            flags,
        )?)
    }

    fn ready(&mut self, at: usize, flags: EventFlags) -> io::Result<()> {
        let connection = &mut self.connections[at];
        if flags.contains(EventFlags::OUT) && !connection.unsent.is_empty() {
            match connection.stream.write(&connection.unsent) {
                Ok(written) => drop(connection.unsent.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if connection.unsent.is_empty() {
                self.watch(at, EventFlags::IN)?;
            }
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return Ok(());
        }
        let connection = &mut self.connections[at];
        let mut buffer = [0; 4096];
        match connection.stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::other("the server closed a connection under load")),
            Ok(read) => connection.answer.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        if let Some(status) = whole_answer(&connection.answer) {
            connection.answer.clear();
            self.sent.ack.record(now().saturating_sub(connection.due));
            if (200..300).contains(&status) {
                self.sent.accepted += 1;
            } else {
                self.sent.refused += 1;
            }
            self.idle.push(at);
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds of a benchmark, not negative"
)]
fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// The status, once head and body are there. With one request in flight an answer ends where the input does.
fn whole_answer(bytes: &[u8]) -> Option<u16> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let status = text.get(9..12)?.parse().ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    (bytes.len() >= head + 4 + length.unwrap_or(0)).then_some(status)
}
