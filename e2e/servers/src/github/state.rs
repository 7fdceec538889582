//! The state of the fake GitHub: repositories and organizations with their webhooks and deliveries, tokens, planned faults.

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

/// How a request fails.
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

/// A repository or an organization.
#[derive(Default)]
pub(super) struct HookOwner {
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
    owners: BTreeMap<String, HookOwner>,
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
        let owners = ["octo/hello", "octo"].map(|name| (name.to_owned(), HookOwner::default()));
        Self {
            address,
            owners: owners.into(),
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
        for owner in self.owners.values_mut() {
            owner
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

    /// Returns the repository or organization, unless it is hidden or missing.
    pub(super) fn owner(&mut self, name: &str) -> Option<&mut HookOwner> {
        self.owners.get_mut(name).filter(|owner| !owner.is_hidden)
    }

    fn known(&mut self, name: &str) -> &mut HookOwner {
        self.owners.entry(name.to_owned()).or_default()
    }

    pub(super) fn hide(&mut self, name: &str, is_hidden: bool) {
        self.known(name).is_hidden = is_hidden;
    }

    pub(super) fn hooks(&mut self, owner: &str) -> &[Hook] {
        &self.known(owner).hooks
    }

    pub(super) fn hook_mut(&mut self, owner: &str, id: u64) -> Option<&mut Hook> {
        self.known(owner).hooks.iter_mut().find(|hook| hook.id == id)
    }

    pub(super) fn remove_hook(&mut self, owner: &str, id: u64) -> bool {
        let owner = self.known(owner);
        let before = owner.hooks.len();
        owner.hooks.retain(|hook| hook.id != id);
        owner.attempts.retain(|attempt| attempt.hook != id);
        owner.hooks.len() < before
    }

    pub(super) fn add_hook(&mut self, owner: &str, url: &str, events: &[&str]) {
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
        self.known(owner).hooks.push(hook);
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The webhooks that want an event.
    pub(super) fn due(&mut self, owner: &str, event: &str) -> Vec<u64> {
        let Some(owner) = self.owner(owner) else {
            return Vec::new();
        };
        let wants = |hook: &&Hook| hook.active && hook.events.iter().any(|name| name == "*" || name == event);
        owner.hooks.iter().filter(wants).map(|hook| hook.id).collect()
    }

    pub(super) fn attempts(&mut self, owner: &str) -> Vec<Attempt> {
        self.known(owner).attempts.clone()
    }

    pub(super) fn delivered(&mut self, owner: &str, guid: &str) -> Option<(u64, String, Bytes)> {
        let attempts = &self.known(owner).attempts;
        let found = attempts.iter().find(|attempt| attempt.guid == guid)?;
        Some((found.hook, found.event.clone(), found.payload.clone()))
    }

    pub(super) fn record(&mut self, owner: &str, attempt: Attempt) {
        self.known(owner).attempts.push(attempt);
    }

    pub(super) fn lose_answers(&mut self, owner: &str, hook: u64) {
        let attempts = self.known(owner).attempts.iter_mut();
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
