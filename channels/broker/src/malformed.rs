//! Messages of other producers that are no CloudEvents: they become dead letters of the cursor that received them.

use bytes::Bytes;
use channel::{CursorName, DeadLetterFacts, DeadLetterLog, not_an_event};
use log_limit::LogLimit;

use crate::{StopSignal, TRY_AGAIN};

/// Stores the malformed messages that one cursor receives.
pub struct MalformedMessages {
    system: &'static str,
    log: String,
    cursor: CursorName,
    /// One line a minute about malformed messages: a log may be full of them.
    malformed_logged: LogLimit,
    /// One line a minute while dead letters cannot be stored.
    refused_logged: LogLimit,
}

impl MalformedMessages {
    /// For a cursor on a topic or stream `log` of that system.
    pub fn new(system: &'static str, log: &str, cursor: &CursorName) -> Self {
        Self {
            system,
            log: log.to_owned(),
            cursor: cursor.clone(),
            malformed_logged: LogLimit::default(),
            refused_logged: LogLimit::default(),
        }
    }

    /// Stores a dead letter about the message at `position`: an event that carries its payload, and the reason. Retries until
    /// it is stored, because the message must not be settled before. `false`: the member was stopped first.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have stored the dead letter.
    pub async fn store(
        &self,
        dead_letters: &dyn DeadLetterLog,
        position: &str,
        why: String,
        payload: &Bytes,
        stop: &mut StopSignal,
    ) -> bool {
        let (log, cursor) = (self.log.clone(), self.cursor.clone());
        let summary = move |unlogged: u64| tracing::warn!(log, %cursor, unlogged, "more messages are no CloudEvents");
        if self.malformed_logged.admits(summary) {
            tracing::warn!(log = self.log, position, cursor = %self.cursor, why, "a message is no CloudEvent, it goes to the dead letters");
        }
        let event = not_an_event(self.system, &self.log, position, payload);
        let facts = DeadLetterFacts {
            subscription: self.cursor.as_str().to_owned(),
            reason: "NotAnEvent".to_owned(),
            detail: Some(why),
            ..DeadLetterFacts::default()
        };
        let facts = facts.encode();
        while let Err(error) = dead_letters.store(&event, &facts).await {
            let log = self.log.clone();
            let summary = move |unlogged: u64| tracing::warn!(log, unlogged, "dead letters were not stored");
            if self.refused_logged.admits(summary) {
                tracing::warn!(log = self.log, %error, "a dead letter is not stored, retrying");
            }
            if stop.is_stopped_within(TRY_AGAIN).await {
                return false;
            }
        }
        true
    }
}
