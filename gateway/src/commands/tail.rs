//! `headgate tail`: a channel's events as they are stored.

use bytes::Bytes;
use event::Event;
use jiff::Timestamp;

use super::name;
use crate::{
    Failure,
    api::Missed,
    args::{Tail, TextOrJson},
    client::Gateway,
    output,
};

/// How many characters of an event's data are shown on its line.
const DATA_SHOWN: usize = 120;

pub(super) async fn tail(gateway: &Gateway, args: Tail) -> Result<(), Failure> {
    let (namespace, channel) = name(&args.channel);
    let query: Vec<(&str, &str)> = args.filter.iter().map(|(name, value)| (&**name, &**value)).collect();
    let mut lines = gateway
        .stream(&format!("/api/v1/channels/{namespace}/{channel}/events"), &query)
        .await?;
    output::note(&format!("showing new events of {namespace}/{channel}, Ctrl-C ends"));
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        match line {
            Some(line) => show(&line, args.output),
            None => return Err(Failure::Unreachable("the gateway ended the stream".into())),
        }
    }
}

fn show(line: &Bytes, format: TextOrJson) {
    match (format, Event::from_json(line)) {
        (TextOrJson::Text, Ok(event)) => output::line(&summary(&event)),
        (TextOrJson::Text, Err(_)) => match missed(line) {
            Some(missed) => output::note(&format!(
                "{missed} events were missed here: they came faster than this tail read them, and the channel does not keep them"
            )),
            None => output::line(&String::from_utf8_lossy(line)),
        },
        (TextOrJson::Json, _) => output::exact(&String::from_utf8_lossy(line)),
    }
}

/// Reads the line that stands in place of missing events.
fn missed(line: &[u8]) -> Option<u64> {
    Some(serde_json::from_slice::<Missed>(line).ok()?.missed)
}

/// Milliseconds of each time, so that columns do not shift; a time that is none is shown as it is.
fn time(event: &Event) -> String {
    let text = event.text("time").unwrap_or("-");
    text.parse::<Timestamp>()
        .map_or_else(|_| text.to_owned(), |time| format!("{time:.3}"))
}

/// One line that tells an event from others.
pub(super) fn summary(event: &Event) -> String {
    let mut line = format!("{}  {}  {}  {}", time(event), event.kind(), event.source(), event.id());
    if let Some(subject) = event.text("subject") {
        line.push_str(&format!("  subject={subject}"));
    }
    if let Ok(data) = std::str::from_utf8(event.data()) {
        let shown: String = data.chars().take(DATA_SHOWN).collect();
        let more = if shown.len() < data.len() { "..." } else { "" };
        line.push_str(&format!("  {shown}{more}"));
    } else {
        line.push_str(&format!("  ({} bytes)", event.data().len()));
    }
    output::one_line(line.trim_end()).into_owned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn line(time: &str, data: &str) -> String {
        let event = Event::builder("1", "/s", "t").set("time", time);
        summary(
            &event
                .data("application/json", Bytes::from(data.to_owned()))
                .finish()
                .unwrap(),
        )
    }

    #[test]
    fn an_event_is_one_line_whatever_its_data_says() {
        let forged = "{\"a\":\n1}\n2026-01-01T00:00:00Z  payment  /bank  FORGED\u{1b}[2J";
        let line = line("2026-01-01T00:00:00.123456789Z", forged);
        assert!(!line.contains(char::is_control), "{line:?}");
    }

    #[test]
    fn times_have_the_same_digits() {
        for time in [
            "2026-01-01T00:00:00Z",
            "2026-01-01T01:00:00.000+01:00",
            "2026-01-01T00:00:00.000123456Z",
        ] {
            assert!(line(time, "1").starts_with("2026-01-01T00:00:00.000Z  t"), "{time}");
        }
    }
}
