//! How many channels an event has passed, and which (CONTRACT LP).
//!
//! `headgatehops` is absent in the first channel; what a subscriber replies, or what is forwarded from channel to channel,
//! gets its cause's count plus one, whatever the subscriber sent. `headgatechain` names the channels passed, oldest first,
//! so that a loop can be shown to the person who has to break it.

use event::Event;
use spec::ObjectName;

pub(crate) const HOPS: &str = "headgatehops";
pub(crate) const CHAIN: &str = "headgatechain";

/// "A small integer" of CONTRACT LP: far above any `--max-hops`, and it cannot overflow.
const OUTSIDE_HOPS_MAX: u32 = 9999;

/// A loop repeats itself: its last kilobyte tells as much as all of it.
const CHAIN_MAX_BYTES: usize = 1024;

/// Channels passed before the one it is in.
pub(crate) fn hops(event: &Event) -> u32 {
    event.text(HOPS).and_then(parse).unwrap_or(0)
}

/// The event as it is taken from outside: a count that is no small integer is removed.
pub(crate) fn from_outside(event: Event) -> Event {
    match event.text(HOPS) {
        None => event,
        Some(text) if parse(text).is_some() => event,
        Some(_) => event.edit().remove(HOPS).finish().unwrap_or(event),
    }
}

/// `next`, caused by `cause` in `channel`, as it enters another channel.
pub(crate) fn caused(next: &Event, cause: &Event, channel: &ObjectName) -> Event {
    let hops = hops(cause).saturating_add(1).to_string();
    let chain = extended(cause.text(CHAIN).unwrap_or_default(), &channel.to_string());
    next.edit()
        .set(HOPS, &hops)
        .set(CHAIN, &chain)
        .finish()
        .unwrap_or_else(|_| next.clone())
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
        let reply = caused(&event(Some("0")), &event(Some("4")), &channel);
        assert_eq!(reply.text(HOPS), Some("5"));
        assert_eq!(reply.text(CHAIN), Some("default/a"));
        let again = caused(&event(None), &reply, &ObjectName::new("default", "b"));
        assert_eq!(
            (again.text(HOPS), again.text(CHAIN)),
            (Some("6"), Some("default/a default/b"))
        );
        assert_eq!(caused(&event(None), &event(None), &channel).text(HOPS), Some("1"));
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
