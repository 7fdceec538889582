//! The JSON of the admin API (docs/reference/admin-api.md): `admin` writes what `commands` read, and the other way round.
//!
//! Members are in alphabetical order, in which they were always sent. An answer may lack any, because a command and its gateway may be
//! of different versions; a request may hold no other, so that a slip of the pen is no surprise.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// `GET /readyz`.
#[derive(Serialize)]
pub(crate) struct Ready {
    pub(crate) degraded: Vec<String>,
    pub(crate) ready: bool,
    pub(crate) reasons: Vec<String>,
}

/// `GET /api/v1/info`.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Info {
    pub(crate) admin: String,
    pub(crate) data: String,
    pub(crate) degraded: Vec<String>,
    pub(crate) generation: u64,
    /// The base URL of the ingress.
    pub(crate) ingress: String,
    pub(crate) ready: bool,
    pub(crate) reasons: Vec<String>,
    pub(crate) started_at: Option<Timestamp>,
    /// The certificates of the listeners that have one.
    pub(crate) tls: Vec<Certificate>,
    pub(crate) version: String,
}

/// The certificate of a listener.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Certificate {
    pub(crate) file: String,
    /// `ingress` or `admin`.
    pub(crate) listener: String,
    pub(crate) not_after: Option<Timestamp>,
    /// Why the files are not in force as they are now.
    pub(crate) trouble: Option<String>,
}

/// A dead letter without what may be large: one of `GET /api/v1/deadletters`.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeadLetter {
    pub(crate) attempts: u32,
    /// The HTTP status of the last answer.
    pub(crate) code: Option<u16>,
    pub(crate) destination: Option<String>,
    pub(crate) detail: Option<String>,
    /// The id of the event.
    pub(crate) event: String,
    pub(crate) first_attempt: Option<Timestamp>,
    pub(crate) last_attempt: Option<Timestamp>,
    pub(crate) reason: String,
    pub(crate) source: String,
    pub(crate) stored_at: Option<Timestamp>,
    /// `NAMESPACE/NAME`.
    pub(crate) subscription: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

/// The body of the last answer.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AnswerBody {
    Text(String),
    /// A body that is not UTF-8.
    Base64(String),
}

/// `POST .../deadletters/redrive`.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct RedriveRequest {
    pub(crate) dry_run: bool,
    /// Attributes and the values they must have.
    pub(crate) filter: BTreeMap<String, String>,
    /// The answer goes on until the redrive ends, and the redrive ends with the connection.
    pub(crate) follow: bool,
    /// Event ids; empty means all of the subscription.
    pub(crate) ids: Vec<String>,
    /// Events a second.
    pub(crate) rate: Option<f64>,
}

/// How many dead letters a redrive means.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Matched {
    pub(crate) matched: u64,
}

/// `POST .../deadletters/drop`.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DropRequest {
    /// Must be said when there are no ids.
    pub(crate) all: bool,
    pub(crate) ids: Vec<String>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Dropped {
    pub(crate) dropped: usize,
}

/// `POST .../replay`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ReplayRequest {
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// Attributes and the values they must have.
    #[serde(default)]
    pub(crate) filter: BTreeMap<String, String>,
    pub(crate) from: Position,
    /// Events a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<Position>,
}

/// An offset, a time in RFC 3339, or `"earliest"`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Position {
    Offset(u64),
    Time(Timestamp),
    Word(Word),
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Word {
    Earliest,
}

/// One line of a redrive or a replay that is followed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Counts {
    pub(crate) dead_lettered: u64,
    pub(crate) delivered: u64,
    /// In the last line of what went to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) done: Option<bool>,
    /// Redrive: removed meanwhile, or delivered by another redrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gone: Option<u64>,
    pub(crate) left: u64,
    /// Replay: by the subscription's own filters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) left_out: Option<u64>,
    pub(crate) matched: u64,
    /// Replay: events looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) read: Option<u64>,
    /// In the last line of what ended early: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stopped: Option<String>,
    /// Replay: events on which a filter could not be evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unfit: Option<u64>,
}

/// The line of a tail that stands in place of missing events.
#[derive(Deserialize, Serialize)]
pub(crate) struct Missed {
    pub(crate) missed: u64,
}

/// `GET .../filter`: what an expression would have done with the last events of a channel.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Trial {
    /// False when the expression was too costly to try it on more.
    pub(crate) complete: bool,
    pub(crate) events: u64,
    pub(crate) failed: u64,
    /// The first few failures.
    pub(crate) failures: Vec<TrialFailure>,
    /// Which clause left out how many, most first.
    pub(crate) left_out: Vec<LeftOut>,
    pub(crate) matched: u64,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct TrialFailure {
    /// The id of the event.
    pub(crate) event: String,
    pub(crate) message: String,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct LeftOut {
    pub(crate) clause: String,
    pub(crate) events: u64,
}

/// `GET /api/v1/explain`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explained {
    pub(crate) looked: Vec<Looked>,
    pub(crate) found: Vec<FoundAt>,
    pub(crate) dead_letters: Vec<DeadLetter>,
    /// By subscription, also where the event itself is not kept any more.
    pub(crate) tries: BTreeMap<String, Vec<Tried>>,
}

/// A channel that was looked through.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Looked {
    pub(crate) channel: String,
    pub(crate) error: Option<String>,
    pub(crate) events: u64,
}

/// The event as it was sent, and where it is.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FoundAt {
    pub(crate) channel: String,
    pub(crate) offset: u64,
    pub(crate) stored_at: Timestamp,
    pub(crate) durability: String,
    /// Channels it passed before.
    pub(crate) passed: Vec<String>,
    pub(crate) cloudevent: Box<RawValue>,
    pub(crate) subscriptions: Vec<Row>,
}

/// The fate of an event at one subscription.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Row {
    pub(crate) message: String,
    pub(crate) stage: String,
    pub(crate) subscription: String,
    pub(crate) tries: Vec<Tried>,
}

/// One try to deliver an event.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Tried {
    pub(crate) at: Option<String>,
    /// The HTTP status of the answer.
    pub(crate) code: Option<u16>,
    pub(crate) detail: Option<String>,
    pub(crate) end: String,
    /// When it is tried again, if it is.
    pub(crate) next: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) took_ms: Option<f64>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_sent_in_the_order_of_their_names() {
        fn check(value: &impl Serialize) {
            let sent = serde_json::to_string(value).unwrap_or_default();
            assert_eq!(sent, json!(value).to_string());
        }
        check(&Info::default());
        check(&DeadLetter::default());
        check(&Counts {
            done: Some(true),
            gone: Some(1),
            left_out: Some(1),
            read: Some(1),
            stopped: Some("why".to_owned()),
            unfit: Some(1),
            ..Counts::default()
        });
        check(&Trial {
            failures: vec![TrialFailure::default()],
            left_out: vec![LeftOut::default()],
            ..Trial::default()
        });
        check(&Looked::default());
        check(&Row {
            tries: vec![Tried::default()],
            ..Row::default()
        });
        check(&Ready {
            degraded: Vec::new(),
            ready: true,
            reasons: Vec::new(),
        });
    }

    #[test]
    fn a_position_is_a_number_a_time_or_a_word() {
        for (position, sent) in [
            (Position::Offset(7), json!(7)),
            (Position::Time(Timestamp::UNIX_EPOCH), json!("1970-01-01T00:00:00Z")),
            (Position::Word(Word::Earliest), json!("earliest")),
        ] {
            assert_eq!(json!(position), sent);
            assert_eq!(serde_json::from_value::<Position>(sent).ok(), Some(position));
        }
    }
}
