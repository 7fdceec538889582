//! How many channels an event has passed, and which (CONTRACT LP).
//!
//! `headgatehops` is absent in the first channel; what a subscriber replies, or what is forwarded from channel to channel,
//! gets its cause's count plus one, whatever the subscriber sent. `headgatechain` names the channels passed, oldest first,
//! so that a loop can be shown to the person who has to break it.

use event::{Event, InvalidAttribute};
use spec::ObjectName;

/// Attributes of the gateway itself begin so.
const OURS: &str = "headgate";
pub(crate) const HOPS: &str = "headgatehops";
pub(crate) const CHAIN: &str = "headgatechain";
/// The publisher that sent an event, by its name in the channel that took it in (CONTRACT PU-3).
const PUBLISHER: &str = "headgatepublisher";

/// "A small integer" of CONTRACT LP: far above any `--max-hops`, and it cannot overflow.
const OUTSIDE_HOPS_MAX: u32 = 9999;

/// A loop repeats itself: its last kilobyte tells as much as all of it.
const CHAIN_MAX_BYTES: usize = 1024;

/// Channels passed before the one it is in.
pub(crate) fn hops(event: &Event) -> u32 {
    event.text(HOPS).and_then(parse).unwrap_or(0)
}

/// The event as it is taken from outside, a subscriber's reply too: attributes that begin with `headgate` are the gateway's own and
/// are removed (CONTRACT IN-8), but a count of hops that is a small integer.
pub(crate) fn from_outside(event: Event) -> Event {
    let is_forged = |name: &str, text: &str| name.starts_with(OURS) && !(name == HOPS && parse(text).is_some());
    if !event.attributes().any(|(name, value)| is_forged(name, value.text)) {
        return event;
    }
    let forged = event.attributes().filter(|(name, value)| is_forged(name, value.text));
    let edit = forged.fold(event.edit(), |edit, (name, _)| edit.remove(name));
    edit.finish()
        .expect("a valid event without some of its extensions is valid")
}

/// The event as it is taken from a publisher, whose name it gets.
pub(crate) fn published(event: Event, publisher: &str) -> Event {
    let event = from_outside(event);
    let named = event.edit().set(PUBLISHER, publisher).finish();
    named.expect("an event from outside leaves room for the gateway's attributes, and an object's name fits one")
}

/// `next`, caused by `cause` in `channel`, as it enters another channel.
///
/// # Errors
/// When `next` has no room for the count: it must not go on uncounted, or a loop would never end. What came through the ingress has
/// room; what another program wrote to a broker may not.
pub(crate) fn caused(next: &Event, cause: &Event, channel: &ObjectName) -> Result<Event, InvalidAttribute> {
    let hops = hops(cause).saturating_add(1).to_string();
    let chain = extended(cause.text(CHAIN).unwrap_or_default(), &channel.to_string());
    next.edit().set(HOPS, &hops).set(CHAIN, &chain).finish()
}

fn parse(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&hops| digits && hops <= OUTSIDE_HOPS_MAX)
}

fn extended(chain: &str, channel: &str) -> String {
    let mut all = if chain.is_empty() {
        channel.to_owned()
    } else {
        format!("{chain} {channel}")
    };
    while all.len() > CHAIN_MAX_BYTES {
        match all.split_once(' ') {
            Some((_oldest, rest)) => all = rest.to_owned(),
            None => break,
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn event(hops: Option<&str>) -> Event {
        let builder = Event::builder("1", "/s", "t");
        hops.map_or(builder.clone(), |hops| builder.set(HOPS, hops))
            .finish()
            .unwrap()
    }

    /// Proves: LP
    #[test]
    fn from_outside_a_small_integer_is_kept_and_anything_else_removed() {
        for (sent, kept) in [
            ("0", true),
            ("31", true),
            ("9999", true),
            ("10000", false),
            ("-1", false),
            ("+1", false),
            ("x", false),
        ] {
            let text = from_outside(event(Some(sent))).text(HOPS).map(str::to_owned);
            assert_eq!(text.as_deref(), kept.then_some(sent), "{sent}");
        }
        assert_eq!(from_outside(event(None)).text(HOPS), None);
    }

    /// Proves: LP
    #[test]
    fn a_reply_counts_from_its_cause_whatever_it_says_itself() {
        let channel = ObjectName::new("default", "a");
        let reply = caused(&event(Some("0")), &event(Some("4")), &channel).unwrap();
        assert_eq!(reply.text(HOPS), Some("5"));
        assert_eq!(reply.text(CHAIN), Some("default/a"));
        let again = caused(&event(None), &reply, &ObjectName::new("default", "b")).unwrap();
        assert_eq!(
            (again.text(HOPS), again.text(CHAIN)),
            (Some("6"), Some("default/a default/b"))
        );
        let first = caused(&event(None), &event(None), &channel).unwrap();
        assert_eq!(first.text(HOPS), Some("1"));
    }

    /// Proves: IN-8
    #[test]
    fn what_a_sender_says_in_the_gateways_name_is_removed_and_nothing_else() {
        let names = [
            "headgatereason",
            "headgatesubscription",
            "headgatechain",
            "headgate",
            "headgatepublisher",
        ];
        let sent = names
            .iter()
            .fold(event(Some("3")).edit(), |edit, name| edit.set(name, "forged"));
        let sent = sent.set("knativeerrordest", "http://bank.example/").set("head", "x");
        let expected = event(Some("3"))
            .edit()
            .set("knativeerrordest", "http://bank.example/")
            .set("head", "x");
        assert_eq!(from_outside(sent.finish().unwrap()), expected.finish().unwrap());
    }

    /// Proves: PU-3
    #[test]
    fn a_publishers_name_is_the_gateways_and_stays_from_channel_to_channel() {
        let forged = event(None).edit().set("headgatepublisher", "bank").finish().unwrap();
        assert_eq!(from_outside(forged.clone()).text(PUBLISHER), None);
        let published = published(forged, "shop");
        assert_eq!(published.text(PUBLISHER), Some("shop"));
        let forwarded = caused(&published, &published, &ObjectName::new("default", "a")).unwrap();
        assert_eq!(forwarded.text(PUBLISHER), Some("shop"));
    }

    /// Proves: LP, IN-8
    #[test]
    fn whatever_comes_from_outside_has_room_for_the_count_and_what_has_none_is_no_event_that_goes_on() {
        let full = |count: usize, bytes: usize| {
            let edit = (0..count).fold(event(None).edit(), |edit, n| {
                edit.set(&format!("x{n}"), &"v".repeat(bytes))
            });
            edit.finish().unwrap()
        };
        let channel = ObjectName::new("default", "a");
        let brought = full(event::BROUGHT_MAX - 4, 500);
        brought.ensure_room().unwrap();
        let mut gone_on = brought;
        for hop in 1..=40 {
            gone_on = caused(&gone_on, &gone_on, &channel).unwrap();
            assert_eq!(hops(&gone_on), hop);
        }
        assert!(full(event::BROUGHT_MAX - 3, 1).ensure_room().is_err());
        assert!(full(100, 1400).ensure_room().is_err());
        let no_room = full(252, 1);
        assert!(caused(&no_room, &no_room, &channel).is_err());
    }

    #[test]
    fn the_chain_is_bounded_and_keeps_its_newest_end() {
        let mut chain = String::new();
        for n in 0..1000 {
            chain = extended(&chain, &format!("default/channel-{n}"));
        }
        assert!(
            chain.len() <= CHAIN_MAX_BYTES && chain.ends_with("default/channel-999"),
            "{chain}"
        );
    }
}
