//! The addresses of pages, with names and ids of any text in them.

use std::fmt::Write;

use spec::{Kind, ObjectName};
use url::form_urlencoded::Serializer;

/// A text as one segment of a path.
fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            // A String takes all that is written to it.
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// A path with parameters, those that have a value.
pub(super) fn with_query<'a>(path: &str, parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut query = Serializer::new(String::new());
    for (name, value) in parameters.into_iter().filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    match query.finish() {
        query if query.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

fn object(page: &str, name: &ObjectName) -> String {
    format!("/ui/{page}/{}/{}", segment(&name.namespace), segment(&name.name))
}

pub(super) fn channel(name: &ObjectName) -> String {
    object("channels", name)
}

pub(super) fn subscription(name: &ObjectName) -> String {
    object("subscriptions", name)
}

/// A redrive or a replay.
pub(super) fn job(id: u64) -> String {
    format!("/ui/jobs/{id}")
}

/// The story of an event. Browsers take `.` and `..` out of a path, however they are written.
pub(super) fn event(id: &str, source: &str, channel: &str) -> String {
    let narrow = [("source", source), ("channel", channel)];
    if matches!(id, "." | ".." | "") {
        return with_query("/ui/events", [("id", id)].into_iter().chain(narrow));
    }
    with_query(&format!("/ui/events/{}", segment(id)), narrow)
}

/// The page on which one event is delivered to a subscription again.
pub(super) fn replay(subscription: &ObjectName, offset: u64, id: &str, source: &str) -> String {
    let offset = offset.to_string();
    let what = [("from", &*offset), ("to", &*offset), ("id", id), ("source", source)];
    with_query(&format!("{}/replay", self::subscription(subscription)), what)
}

/// The data of an event, to be saved.
pub(super) fn data(channel: &ObjectName, offset: u64) -> String {
    format!("{}/{offset}", object("data", channel))
}

pub(super) fn reason(word: &str) -> String {
    format!("/ui/reasons/{}", segment(word))
}

/// The page of an object, where its kind has one.
pub(super) fn page_of(kind: Kind, name: &ObjectName) -> Option<String> {
    match kind {
        Kind::Channel => Some(channel(name)),
        Kind::Subscription => Some(subscription(name)),
        kind if kind.is_source() => Some(object(&format!("sources/{}", kind.as_str().to_lowercase()), name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_id_is_one_segment_of_a_path_or_a_parameter() {
        assert_eq!(event("a/b?<&\"é", "", ""), "/ui/events/a%2Fb%3F%3C%26%22%C3%A9");
        assert_eq!(
            event("1", "/s?a=b", "n/c"),
            "/ui/events/1?source=%2Fs%3Fa%3Db&channel=n%2Fc"
        );
        assert_eq!(event("..", "", ""), "/ui/events?id=..");
        assert_eq!(channel(&ObjectName::new("a", "b c")), "/ui/channels/a/b%20c");
    }
}
