//! What GitHub knows: places with their webhooks and deliveries, who may ask, what goes wrong next.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;

/// Good at the start.
pub const TOKEN: &str = "github_pat_good";

/// How long deliveries are kept.
const RETENTION: Duration = Duration::from_secs(3 * 24 * 60 * 60);

const HOUR: Duration = Duration::from_secs(60 * 60);

pub(super) const LIMIT: u64 = 5000;

/// A webhook, with the secret that its owner cannot read back.
#[derive(Clone, Debug)]
pub struct Hook {
    pub id: u64,
    pub active: bool,
    pub events: Vec<String>,
    pub url: String,
    pub content_type: String,
    pub insecure_ssl: String,
    pub secret: Option<String>,
    /// How often it was changed by a request.
    pub updates: usize,
}

/// One attempt to deliver.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub id: u64,
    pub hook: u64,
    pub guid: String,
    pub event: String,
    pub at: Timestamp,
    pub redelivery: bool,
    /// 0: there was no answer.
    pub status_code: u16,
    pub payload: Bytes,
}

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is acted on, and the connection breaks before the answer.
    AnswerLost,
    /// It is acted on after a while.
    Slow(Duration),
    /// It is answered so, and not acted on.
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
}

#[derive(Default)]
pub(super) struct Place {
    pub(super) hooks: Vec<Hook>,
    pub(super) attempts: Vec<Attempt>,
    is_hidden: bool,
}

struct Scripted {
    method: String,
    path: String,
    fault: Fault,
    times: usize,
}

pub(super) struct State {
    pub(super) address: SocketAddr,
    places: BTreeMap<String, Place>,
    pub(super) tokens: Vec<String>,
    pub(super) installation_tokens: Vec<String>,
    pub(super) installation_tokens_made: usize,
    pub(super) requests: Vec<String>,
    pub(super) is_down: bool,
    pub(super) remaining: u64,
    reset: Timestamp,
    moved: Duration,
    faults: Vec<Scripted>,
    next_id: u64,
}

impl State {
    pub(super) fn new(address: SocketAddr) -> Self {
        let places = ["octo/hello", "octo"].map(|name| (name.to_owned(), Place::default()));
        Self {
            address,
            places: places.into(),
            tokens: vec![TOKEN.to_owned()],
            installation_tokens: Vec::new(),
            installation_tokens_made: 0,
            requests: Vec::new(),
            is_down: false,
            remaining: LIMIT,
            reset: Timestamp::now() + HOUR,
            moved: Duration::ZERO,
            faults: Vec::new(),
            next_id: 292_430_182,
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::now() + self.moved
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.moved += time;
        let now = self.now();
        for place in self.places.values_mut() {
            place
                .attempts
                .retain(|attempt| now.duration_since(attempt.at) < RETENTION.try_into().expect("days"));
        }
    }

    /// One request is spent. The moment the limit is renewed, and what is left; `None` when nothing is.
    pub(super) fn spend(&mut self) -> (Option<u64>, Timestamp) {
        let now = self.now();
        if now >= self.reset {
            self.reset = now + HOUR;
            self.remaining = LIMIT;
        }
        let left = self.remaining.checked_sub(1);
        self.remaining = left.unwrap_or(0);
        (left, self.reset)
    }

    /// A place that can be seen.
    pub(super) fn place(&mut self, name: &str) -> Option<&mut Place> {
        self.places.get_mut(name).filter(|place| !place.is_hidden)
    }

    fn known(&mut self, name: &str) -> &mut Place {
        self.places.entry(name.to_owned()).or_default()
    }

    pub(super) fn hide(&mut self, name: &str, is_hidden: bool) {
        self.known(name).is_hidden = is_hidden;
    }

    pub(super) fn hooks(&mut self, place: &str) -> &[Hook] {
        &self.known(place).hooks
    }

    pub(super) fn hook_mut(&mut self, place: &str, id: u64) -> Option<&mut Hook> {
        self.known(place).hooks.iter_mut().find(|hook| hook.id == id)
    }

    pub(super) fn remove_hook(&mut self, place: &str, id: u64) -> bool {
        let place = self.known(place);
        let before = place.hooks.len();
        place.hooks.retain(|hook| hook.id != id);
        place.attempts.retain(|attempt| attempt.hook != id);
        place.hooks.len() < before
    }

    pub(super) fn add_hook(&mut self, place: &str, url: &str, events: &[&str]) {
        let hook = Hook {
            id: self.new_id(),
            active: true,
            events: events.iter().map(|&event| event.to_owned()).collect(),
            url: url.to_owned(),
            content_type: "json".into(),
            insecure_ssl: "0".into(),
            secret: None,
            updates: 0,
        };
        self.known(place).hooks.push(hook);
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The webhooks that want an event.
    pub(super) fn due(&mut self, place: &str, event: &str) -> Vec<u64> {
        let Some(place) = self.place(place) else {
            return Vec::new();
        };
        let wants = |hook: &&Hook| hook.active && hook.events.iter().any(|name| name == "*" || name == event);
        place.hooks.iter().filter(wants).map(|hook| hook.id).collect()
    }

    pub(super) fn attempts(&mut self, place: &str) -> Vec<Attempt> {
        self.known(place).attempts.clone()
    }

    pub(super) fn delivered(&mut self, place: &str, guid: &str) -> Option<(u64, String, Bytes)> {
        let attempts = &self.known(place).attempts;
        let found = attempts.iter().find(|attempt| attempt.guid == guid)?;
        Some((found.hook, found.event.clone(), found.payload.clone()))
    }

    pub(super) fn record(&mut self, place: &str, attempt: Attempt) {
        self.known(place).attempts.push(attempt);
    }

    pub(super) fn forget_answers(&mut self, place: &str, hook: u64) {
        let attempts = self.known(place).attempts.iter_mut();
        attempts
            .filter(|attempt| attempt.hook == hook)
            .for_each(|attempt| attempt.status_code = 0);
    }

    pub(super) fn script(&mut self, method: &str, path: &str, fault: Fault, times: usize) {
        self.faults.push(Scripted {
            method: method.to_owned(),
            path: path.to_owned(),
            fault,
            times,
        });
    }

    pub(super) fn fault(&mut self, method: &str, path: &str) -> Option<Fault> {
        let fits = |fault: &&mut Scripted| fault.times > 0 && fault.method == method && path.contains(&fault.path);
        let found = self.faults.iter_mut().find(fits)?;
        found.times -= 1;
        Some(found.fault.clone())
    }
}
