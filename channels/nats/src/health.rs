//! Whether the servers of a connection are there, reported once for all channels that use them.
//!
//! The client reports each try to connect, once a second while servers are away, and names neither them nor what follows. Here
//! an outage is one WARN line when it begins and one INFO line when it is over; what a server refuses is said once.

use std::collections::BTreeMap;

use async_nats::{Event, ServerError};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Channels named in a line at most: the rest is counted.
const NAMED_MAX: usize = 10;

/// The state of one connection.
pub(crate) struct Health {
    /// As people may see them.
    servers: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Channels that use the connection, by their names; a channel may be opened again before it is closed.
    channels: BTreeMap<String, usize>,
    away: Option<Away>,
    /// The refusal that was logged last.
    refusal: Option<String>,
}

struct Away {
    since: Instant,
    /// Why the last try to connect failed.
    why: Option<String>,
}

/// How an event of the client is logged.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Away,
    Back { after_ms: u128 },
    Refused(String),
    Leaves,
    Slow,
}

impl Health {
    pub(crate) fn new(servers: String) -> Self {
        Self {
            servers,
            state: Mutex::default(),
        }
    }

    /// A channel uses the connection.
    pub(crate) fn joins(&self, channel: &str) {
        *self.state.lock().channels.entry(channel.to_owned()).or_default() += 1;
    }

    /// It does not any more.
    pub(crate) fn leaves(&self, channel: &str) {
        let channels = &mut self.state.lock().channels;
        if let Some(count) = channels.get_mut(channel) {
            *count -= 1;
            if *count == 0 {
                channels.remove(channel);
            }
        }
    }

    /// For the condition of a channel while the servers are away.
    pub(crate) fn away(&self) -> String {
        let state = self.state.lock();
        let why = state.away.as_ref().and_then(|away| away.why.as_deref());
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        format!("NATS at {} is not connected{why}", self.servers)
    }

    /// The client reports something. Must not block.
    pub(crate) fn reported(&self, event: &Event) {
        tracing::debug!(servers = self.servers, %event, "connection to NATS");
        let mut state = self.state.lock();
        let Some(line) = state.judge(event) else { return };
        let (servers, channels) = (&self.servers, names(&state.channels));
        drop(state);
        match line {
            Line::Away => tracing::warn!(
                servers,
                channels,
                "NATS is away: its channels refuse events until it is back"
            ),
            Line::Back { after_ms } => tracing::info!(
                servers,
                channels,
                after_ms,
                "NATS is back: its channels accept events again"
            ),
            Line::Refused(why) => tracing::warn!(
                servers,
                channels,
                why,
                "NATS refuses something: check what its account allows"
            ),
            Line::Leaves => tracing::info!(
                servers,
                channels,
                "a NATS server is about to stop, the client moves to another"
            ),
            Line::Slow => tracing::warn!(
                servers,
                channels,
                "messages of NATS came faster than they were taken, the server sends them again"
            ),
        }
    }
}

impl State {
    fn judge(&mut self, event: &Event) -> Option<Line> {
        match event {
            Event::Disconnected if self.away.is_none() => {
                self.away = Some(Away {
                    since: Instant::now(),
                    why: None,
                });
                Some(Line::Away)
            }
            Event::Connected => {
                self.refusal = None;
                let away = self.away.take()?;
                Some(Line::Back {
                    after_ms: away.since.elapsed().as_millis(),
                })
            }
            Event::ClientError(error) => {
                if let Some(away) = &mut self.away {
                    away.why = Some(error.to_string());
                }
                None
            }
            Event::ServerError(error) => self.refused(error),
            Event::LameDuckMode => Some(Line::Leaves),
            Event::SlowConsumer(_) => Some(Line::Slow),
            Event::Disconnected | Event::Draining | Event::Closed => None,
        }
    }

    fn refused(&mut self, error: &ServerError) -> Option<Line> {
        let why = error.to_string();
        if let Some(away) = &mut self.away {
            away.why = Some(why.clone());
        }
        if self.refusal.as_deref() == Some(&why) {
            return None;
        }
        self.refusal = Some(why.clone());
        Some(Line::Refused(why))
    }
}

fn names(channels: &BTreeMap<String, usize>) -> String {
    let mut named: Vec<&str> = channels.keys().take(NAMED_MAX).map(String::as_str).collect();
    let more = channels.len() - named.len();
    let rest = format!("{more} more");
    if more > 0 {
        named.push(&rest);
    }
    named.join(", ")
}

#[cfg(test)]
mod tests {
    use async_nats::ClientError;

    use super::*;

    /// Proves: OP-3
    #[tokio::test(start_paused = true)]
    async fn an_outage_is_one_line_when_it_begins_and_one_when_it_is_over() {
        let mut state = State::default();
        assert_eq!(state.judge(&Event::Connected), None, "it was never away");
        assert_eq!(state.judge(&Event::Disconnected), Some(Line::Away));
        tokio::time::advance(std::time::Duration::from_secs(13)).await;
        let failed = Event::ClientError(ClientError::Other("IO error".into()));
        for _ in 0..13 {
            assert_eq!(state.judge(&failed), None);
        }
        assert_eq!(state.judge(&Event::Disconnected), None);
        let why = state.away.as_ref().and_then(|away| away.why.clone());
        assert_eq!(why.as_deref(), Some("nats: IO error"));
        assert_eq!(state.judge(&Event::Connected), Some(Line::Back { after_ms: 13_000 }));
        assert_eq!(state.judge(&Event::Connected), None);
    }

    #[test]
    fn what_a_server_refuses_is_said_once_a_connection() {
        let mut state = State::default();
        let refused = Event::ServerError(ServerError::AuthorizationViolation);
        assert!(matches!(state.judge(&refused), Some(Line::Refused(_))));
        assert_eq!(state.judge(&refused), None);
        state.judge(&Event::Connected);
        assert!(state.judge(&refused).is_some());
    }

    #[test]
    fn channels_are_named_up_to_a_bound() {
        let health = Health::new("n:4222".into());
        for number in 0..12 {
            health.joins(&format!("default/c{number:02}"));
        }
        health.joins("default/c00");
        health.leaves("default/c00");
        let named = names(&health.state.lock().channels);
        assert!(
            named.starts_with("default/c00, default/c01, ") && named.ends_with(", 2 more"),
            "{named}"
        );
    }
}
