//! Dead letters: the event unchanged, plus what a person needs to know (CONTRACT DL-6).
//!
//! One letter has two shapes. What a dead-letter sink gets is the event with the facts as attributes, at most 1024 characters of the
//! answer among them. What the channel's log keeps is the event exactly as it was accepted, and the facts beside it, where no
//! sender can write: the whole answer (64 KiB at most) and the times of the attempts. Attributes are never read as facts.

use std::time::SystemTime;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use channel::{Attempts, StoredDeadLetter};
use event::{Edit, Event, InvalidAttribute};
use jiff::Timestamp;
use spec::ObjectName;

use super::DeadLetter;
use crate::journey::failure::{Failure, Reason};

const DESTINATION: &str = "knativeerrordest";
const CODE: &str = "knativeerrorcode";
const DATA: &str = "knativeerrordata";
pub(crate) const SUBSCRIPTION: &str = "headgatesubscription";
const ATTEMPTS: &str = "headgateattempts";
const REASON: &str = "headgatereason";
/// Why no attempt was made, where there is no answer that shows it.
const DETAIL: &str = "headgatedetail";

const ALL: [&str; 7] = [DESTINATION, CODE, DATA, SUBSCRIPTION, ATTEMPTS, REASON, DETAIL];

/// 1024 characters of base64 are 768 bytes; a longer answer is cut before it is encoded, so that what is sent decodes.
const DATA_MAX_BYTES: usize = 768;

/// The name under which letters without readable facts are listed and dropped: another program wrote them, or an earlier version of
/// this one. No object can have it, because names of objects have no underscore.
const UNKNOWN: &str = "_unknown";

/// The facts that a dead letter records beside the event.
pub(crate) struct DeadLetterDetails<'a> {
    pub(crate) subscription: &'a ObjectName,
    pub(crate) failure: &'a Failure,
    /// Attempts of this subscription that failed; zero when there was none to make (a filter error, a loop).
    pub(crate) attempts: Attempts,
}

impl DeadLetterDetails<'_> {
    /// Encodes the details for the channel's own log, which keeps them beside the event.
    pub(crate) fn to_keep(&self) -> Bytes {
        let failure = self.failure;
        let facts = channel::DeadLetterFacts {
            subscription: self.subscription.to_string(),
            reason: failure.reason.as_str().to_owned(),
            detail: self.detail().map(str::to_owned),
            code: failure.code,
            attempts: self.attempts.failed,
            destination: Some(failure.destination.clone()),
            first_attempt: self.attempts.first_at,
            last_attempt: (self.attempts.failed > 0).then(SystemTime::now),
            answer: failure.body.clone(),
        };
        facts.encode()
    }

    /// Returns the fault of an event that was never attempted.
    fn detail(&self) -> Option<&str> {
        matches!(self.failure.reason, Reason::FilterError | Reason::Loop).then_some(&*self.failure.detail)
    }
}

/// Returns the letter as a dead-letter sink gets it.
///
/// # Errors
/// When the event has no room for the facts: it was stored before events had to leave some.
pub(crate) fn to_send(event: &Event, facts: &DeadLetterDetails<'_>) -> Result<Event, InvalidAttribute> {
    let failure = facts.failure;
    // An event that was a letter before must not keep facts of its former death.
    let mut dead_letter = cleared(event)
        .set(DESTINATION, &bounded(&failure.destination))
        .set(SUBSCRIPTION, &bounded(&facts.subscription.to_string()))
        .set(ATTEMPTS, &facts.attempts.failed.to_string())
        .set(REASON, failure.reason.as_str());
    if let Some(code) = failure.code {
        dead_letter = dead_letter.set(CODE, &code.to_string());
    }
    if let Some(detail) = facts.detail() {
        dead_letter = dead_letter.set(DETAIL, &bounded(detail));
    }
    if !failure.body.is_empty() {
        let cut = &failure.body[..failure.body.len().min(DATA_MAX_BYTES)];
        dead_letter = dead_letter.set(DATA, &BASE64_STANDARD.encode(cut));
    }
    dead_letter.finish()
}

/// Reads a stored letter of a channel. One whose facts cannot be read is listed, too: under a name that no subscription has.
pub(crate) fn read(dead_letter: &StoredDeadLetter, channel: &ObjectName) -> DeadLetter {
    let facts = channel::DeadLetterFacts::decode(&dead_letter.facts);
    let subscription = facts.as_ref().ok().and_then(|facts| facts.subscription.split_once('/'));
    let (subscription, facts) = match (subscription, &facts) {
        (Some((namespace, name)), Ok(facts)) => (ObjectName::new(namespace, name), facts.clone()),
        (_, facts) => (unknown(channel), without_facts(facts.as_ref().err())),
    };
    let time = |time: Option<SystemTime>| time.and_then(|time| Timestamp::try_from(time).ok());
    DeadLetter {
        subscription,
        offset: dead_letter.offset.0,
        event: dead_letter.event.clone(),
        reason: facts.reason,
        code: facts.code,
        detail: facts.detail,
        attempts: facts.attempts,
        destination: facts.destination,
        first_attempt: time(facts.first_attempt),
        last_attempt: time(facts.last_attempt),
        stored_at: Timestamp::try_from(dead_letter.stored_at).unwrap_or_default(),
        answer: Some(facts.answer).filter(|answer| !answer.is_empty()),
    }
}

/// The subscription that a channel's letters without readable facts are listed under.
fn unknown(channel: &ObjectName) -> ObjectName {
    ObjectName::new(&*channel.namespace, UNKNOWN)
}

fn without_facts(error: Option<&channel::UnreadableFacts>) -> channel::DeadLetterFacts {
    let why = error.map_or_else(|| "unreadable facts of a dead letter".to_owned(), ToString::to_string);
    channel::DeadLetterFacts {
        reason: Reason::FactsUnreadable.as_str().to_owned(),
        detail: Some(format!(
            "{why}: another program wrote it, or an earlier version of this one; look at it and drop it"
        )),
        ..channel::DeadLetterFacts::default()
    }
}

fn cleared(event: &Event) -> Edit {
    ALL.iter().fold(event.edit(), |edit, name| edit.remove(name))
}

/// Returns the text as an attribute may hold it: without control characters, and cut to a readable length.
fn bounded(text: &str) -> String {
    event::storable(&text[..text.floor_char_boundary(channel::TEXT_MAX_BYTES)].replace(char::is_control, " "))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use channel::Offset;

    use super::*;

    fn event() -> Event {
        Event::builder("1", "/s", "t")
            .set("mine", "x")
            .set("headgatereason", "Forged")
            .set("knativeerrordest", "http://bank.example/")
            .data("text/plain", Bytes::from_static(b"hi"))
            .finish()
            .unwrap()
    }

    fn with_facts<T>(body: usize, code: Option<u16>, read_details: impl FnOnce(&DeadLetterDetails<'_>) -> T) -> T {
        let mut failure = Failure::new(Reason::SinkError, "http://sink/", "answered 500");
        failure.code = code;
        failure.body = vec![b'a'; body].into();
        read_details(&DeadLetterDetails {
            subscription: &ObjectName::new("default", "sub"),
            failure: &failure,
            attempts: Attempts {
                failed: 3,
                first_at: Some(SystemTime::UNIX_EPOCH),
                ..Attempts::default()
            },
        })
    }

    fn sent(event: &Event, body: usize, code: Option<u16>) -> Event {
        with_facts(body, code, |facts| to_send(event, facts).unwrap())
    }

    fn kept(event: &Event, facts: Bytes) -> DeadLetter {
        let dead_letter = StoredDeadLetter {
            offset: Offset(7),
            stored_at: SystemTime::UNIX_EPOCH,
            event: event.clone(),
            facts,
        };
        read(&dead_letter, &ObjectName::new("shop", "orders"))
    }

    /// Proves: DL-6
    #[test]
    fn a_sent_letter_carries_the_event_and_the_facts() {
        let (sent, event) = (sent(&event(), 5, Some(500)), event());
        for (name, value) in event.attributes().filter(|(name, _)| !ALL.contains(name)) {
            assert_eq!(sent.text(name), Some(value.text), "{name}");
        }
        assert_eq!(sent.data(), event.data());
        let facts = [
            (DESTINATION, "http://sink/"),
            (CODE, "500"),
            (DATA, "YWFhYWE="),
            (SUBSCRIPTION, "default/sub"),
            (ATTEMPTS, "3"),
            (REASON, "SinkError"),
        ];
        for (name, text) in facts {
            assert_eq!(sent.text(name), Some(text));
        }
    }

    /// Proves: DL-6
    #[test]
    fn error_data_is_at_most_1024_characters_and_decodes() {
        for body in [1, 767, 768, 769, 1024, 64 * 1024] {
            let sent = sent(&event(), body, Some(500));
            let data = sent.text(DATA).unwrap();
            assert!(data.len() <= 1024, "{body}: {}", data.len());
            assert_eq!(BASE64_STANDARD.decode(data).unwrap().len(), body.min(768));
            let read = kept(&event(), with_facts(body, Some(500), |facts| facts.to_keep()));
            assert_eq!(read.answer.unwrap().len(), body, "the log keeps the whole answer");
        }
    }

    /// Proves: DL-6
    #[test]
    fn without_an_answer_there_is_neither_code_nor_data() {
        let sent = sent(&event(), 0, None);
        assert_eq!((sent.text(CODE), sent.text(DATA)), (None, None));
    }

    /// Proves: DL-6, IN-8
    #[test]
    fn a_kept_letter_gives_the_event_back_with_all_it_says_itself() {
        let read = kept(&event(), with_facts(2000, Some(404), |facts| facts.to_keep()));
        assert_eq!(read.event, event());
        assert_eq!(
            (read.code, read.attempts, read.reason.as_str()),
            (Some(404), 3, "SinkError")
        );
        assert_eq!(read.destination.as_deref(), Some("http://sink/"));
        assert_eq!(read.first_attempt, Some(Timestamp::UNIX_EPOCH));
    }

    /// Proves: DL-5, DL-6, IN-8
    #[test]
    fn a_letter_without_readable_facts_is_listed_under_an_unknown_subscription() {
        let without_subscription = channel::DeadLetterFacts::default().encode();
        for facts in [Bytes::new(), Bytes::from_static(b"{}"), without_subscription] {
            let read = kept(&event(), facts);
            assert_eq!(read.subscription.to_string(), "shop/_unknown");
            assert_eq!((read.reason.as_str(), read.destination), ("FactsUnreadable", None));
            assert_eq!(read.event, event());
        }
    }
}
