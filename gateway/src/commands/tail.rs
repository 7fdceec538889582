//! `headgate tail`: a channel's events as they are stored.

use bytes::{Bytes, BytesMut};
use event::Event;
use http_body_util::BodyExt;

use super::name;
use crate::{
    Failure,
    args::{Tail, TextOrJson},
    client::Gateway,
    output,
};

/// Of an event's data this much is shown on its line.
const DATA_SHOWN: usize = 120;

pub(super) async fn tail(gateway: &Gateway, args: Tail) -> Result<(), Failure> {
    let (namespace, channel) = name(&args.channel);
    let query: Vec<(&str, &str)> = args.filter.iter().map(|(name, value)| (&**name, &**value)).collect();
    let mut body = gateway
        .stream(&format!("/api/v1/channels/{namespace}/{channel}/events"), &query)
        .await?;
    output::note(&format!("showing new events of {namespace}/{channel}, Ctrl-C ends"));
    let mut rest = BytesMut::new();
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let Some(Ok(frame)) = frame else {
            return Err(Failure::Unreachable("the gateway ended the stream".into()));
        };
        rest.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = rest.split_to(end + 1).freeze();
            show(&line.slice(..end), args.output);
        }
    }
}

fn show(line: &Bytes, format: TextOrJson) {
    match (format, Event::from_json(line)) {
        (TextOrJson::Text, Ok(event)) => output::line(&summary(&event)),
        _ => output::line(&String::from_utf8_lossy(line)),
    }
}

/// One line that tells an event from others.
pub(super) fn summary(event: &Event) -> String {
    let time = event.text("time").unwrap_or("-");
    let mut line = format!("{time}  {}  {}  {}", event.kind(), event.source(), event.id());
    if let Some(subject) = event.text("subject") {
        line.push_str(&format!("  subject={subject}"));
    }
    if let Ok(data) = std::str::from_utf8(event.data()) {
        let one_line: String = data
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(DATA_SHOWN)
            .collect();
        line.push_str(&format!(
            "  {one_line}{}",
            if data.chars().count() > DATA_SHOWN { "..." } else { "" }
        ));
    } else {
        line.push_str(&format!("  ({} bytes)", event.data().len()));
    }
    line.trim_end().to_owned()
}
