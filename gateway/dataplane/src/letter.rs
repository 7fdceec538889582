//! Dead letters: the event unchanged, plus what a person needs to know (CONTRACT DL-6).
//!
//! Two shapes of one letter: what a dead-letter sink gets carries at most 1024 characters of the answer; what the channel's
//! log keeps carries the whole answer (64 KiB at most) and the times of the attempts. Reading one back gives the original.

use std::time::SystemTime;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use channel::{Attempts, Letter};
use event::{Edit, Event};
use jiff::Timestamp;
use spec::ObjectName;

use crate::{
    deadletters::DeadLetter,
    failure::{Failure, Reason},
};

const DESTINATION: &str = "knativeerrordest";
const CODE: &str = "knativeerrorcode";
const DATA: &str = "knativeerrordata";
pub(crate) const SUBSCRIPTION: &str = "headgatesubscription";
const ATTEMPTS: &str = "headgateattempts";
const REASON: &str = "headgatereason";
/// Why no try was made: there is no answer that could tell.
const DETAIL: &str = "headgatedetail";
/// In the log alone: the whole answer, when it does not fit into `knativeerrordata`.
const ANSWER: &str = "headgateanswer";
/// In the log alone: when the first and the last attempt began or failed, RFC 3339.
const FIRST_ATTEMPT: &str = "headgatefirstattempt";
const LAST_ATTEMPT: &str = "headgatelastattempt";

const ALL: [&str; 10] = [
    DESTINATION,
    CODE,
    DATA,
    SUBSCRIPTION,
    ATTEMPTS,
    REASON,
    DETAIL,
    ANSWER,
    FIRST_ATTEMPT,
    LAST_ATTEMPT,
];

/// 1024 characters of base64 are 768 bytes; a longer answer is cut before it is encoded, so that what is sent decodes.
const DATA_MAX_BYTES: usize = 768;

/// What a letter says beside the event.
pub(crate) struct Facts<'a> {
    pub(crate) subscription: &'a ObjectName,
    pub(crate) failure: &'a Failure,
    /// Tries of this subscription that failed; zero when there was none to make (a filter error, a loop).
    pub(crate) attempts: Attempts,
}

/// For a dead-letter sink.
pub(crate) fn to_send(event: &Event, facts: &Facts<'_>) -> Event {
    finish(written(event, facts), event)
}

/// For the channel's own log.
pub(crate) fn to_keep(event: &Event, facts: &Facts<'_>) -> Event {
    let mut letter = written(event, facts);
    if facts.failure.body.len() > DATA_MAX_BYTES {
        letter = letter.set(ANSWER, &BASE64_STANDARD.encode(&facts.failure.body));
    }
    if let Some(first) = facts.attempts.first_at.and_then(rfc3339) {
        letter = letter.set(FIRST_ATTEMPT, &first);
    }
    if let Some(last) = rfc3339(SystemTime::now()).filter(|_| facts.attempts.failed > 0) {
        letter = letter.set(LAST_ATTEMPT, &last);
    }
    finish(letter, event)
}

/// Reads a stored letter; `None` when it is not one of ours.
pub(crate) fn read(letter: &Letter) -> Option<DeadLetter> {
    let event = &letter.event;
    let (namespace, name) = event.text(SUBSCRIPTION)?.split_once('/')?;
    let answer = event
        .text(ANSWER)
        .or_else(|| event.text(DATA))
        .and_then(|text| BASE64_STANDARD.decode(text).ok());
    let time = |name| event.text(name).and_then(|text| text.parse().ok());
    Some(DeadLetter {
        subscription: ObjectName::new(namespace, name),
        place: letter.offset.0,
        event: original(event),
        reason: event.text(REASON).unwrap_or_default().to_owned(),
        code: event.text(CODE).and_then(|code| code.parse().ok()),
        detail: event.text(DETAIL).map(str::to_owned),
        attempts: event.text(ATTEMPTS).and_then(|count| count.parse().ok()).unwrap_or(0),
        destination: event.text(DESTINATION).map(str::to_owned),
        first_attempt: time(FIRST_ATTEMPT),
        last_attempt: time(LAST_ATTEMPT),
        stored_at: Timestamp::try_from(letter.stored_at).unwrap_or_default(),
        answer: answer.map(Bytes::from),
    })
}

fn written(event: &Event, facts: &Facts<'_>) -> Edit {
    let failure = facts.failure;
    // An event that was a letter before must not keep facts of its former death.
    let mut letter = cleared(event)
        .set(DESTINATION, &failure.destination)
        .set(SUBSCRIPTION, &facts.subscription.to_string())
        .set(ATTEMPTS, &facts.attempts.failed.to_string())
        .set(REASON, failure.reason.as_str());
    if let Some(code) = failure.code {
        letter = letter.set(CODE, &code.to_string());
    }
    if matches!(failure.reason, Reason::FilterError | Reason::Loop) {
        // Attributes hold no control characters, and an expression may.
        letter = letter.set(DETAIL, &failure.detail.replace(char::is_control, " "));
    }
    if !failure.body.is_empty() {
        let cut = &failure.body[..failure.body.len().min(DATA_MAX_BYTES)];
        letter = letter.set(DATA, &BASE64_STANDARD.encode(cut));
    }
    letter
}

/// The event as it was accepted.
fn original(letter: &Event) -> Event {
    finish(cleared(letter), letter)
}

fn cleared(event: &Event) -> Edit {
    ALL.iter().fold(event.edit(), |edit, name| edit.remove(name))
}

/// Our own names and values are valid attributes; should the table be full of the sender's, the event goes without ours
/// rather than not at all.
fn finish(edit: Edit, event: &Event) -> Event {
    edit.finish().unwrap_or_else(|_| event.clone())
}

fn rfc3339(time: SystemTime) -> Option<String> {
    Timestamp::try_from(time).ok().map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use channel::Offset;

    use super::*;

    fn letter(body: usize, code: Option<u16>) -> (Event, Event, Event) {
        let event = Event::builder("1", "/s", "t")
            .set("mine", "x")
            .data("text/plain", Bytes::from_static(b"hi"))
            .finish()
            .unwrap();
        let mut failure = Failure::new(Reason::SinkError, "http://sink/", "answered 500");
        failure.code = code;
        failure.body = vec![b'a'; body].into();
        let subscription = ObjectName::new("default", "sub");
        let attempts = Attempts {
            failed: 3,
            first_at: Some(SystemTime::UNIX_EPOCH),
            ..Attempts::default()
        };
        let facts = Facts {
            subscription: &subscription,
            failure: &failure,
            attempts,
        };
        (to_send(&event, &facts), to_keep(&event, &facts), event)
    }

    /// Proves: DL-6
    #[test]
    fn a_sent_letter_carries_the_event_unchanged_and_the_facts() {
        let (sent, _, event) = letter(5, Some(500));
        for (name, value) in event.attributes() {
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
            let (sent, kept, _) = letter(body, Some(500));
            let data = sent.text(DATA).unwrap();
            assert!(data.len() <= 1024, "{body}: {}", data.len());
            assert_eq!(BASE64_STANDARD.decode(data).unwrap().len(), body.min(768));
            let read = read(&Letter {
                offset: Offset(7),
                stored_at: SystemTime::UNIX_EPOCH,
                event: kept,
            })
            .unwrap();
            assert_eq!(read.answer.unwrap().len(), body, "the log keeps the whole answer");
        }
    }

    /// Proves: DL-6
    #[test]
    fn without_an_answer_there_is_neither_code_nor_data() {
        let (sent, _, _) = letter(0, None);
        assert_eq!((sent.text(CODE), sent.text(DATA)), (None, None));
    }

    #[test]
    fn a_kept_letter_gives_the_original_back() {
        let (_, kept, event) = letter(2000, Some(404));
        let read = read(&Letter {
            offset: Offset(0),
            stored_at: SystemTime::UNIX_EPOCH,
            event: kept,
        })
        .unwrap();
        assert_eq!(read.event, event);
        assert_eq!(
            (read.code, read.attempts, read.reason.as_str()),
            (Some(404), 3, "SinkError")
        );
        assert_eq!(read.first_attempt, Some(Timestamp::UNIX_EPOCH));
    }
}
