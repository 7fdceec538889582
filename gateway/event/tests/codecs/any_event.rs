//! Events as strangers could make them: every attribute, every kind of value, any data.

use bytes::Bytes;
use event::{Event, Value, ValueKind};
use proptest::{collection::vec, option, prelude::*};

/// Every character that CloudEvents allows in an attribute (1.0.2, type system, String), the ones codecs trip over often.
pub(crate) fn text() -> impl Strategy<Value = String> {
    let awkward = prop::sample::select(vec![
        '"',
        '%',
        '\\',
        ' ',
        ',',
        ';',
        '=',
        '/',
        '\u{20AC}',
        '\u{1F600}',
        '\u{2028}',
        '\u{FEFF}',
    ]);
    let one = prop_oneof![4 => prop::char::range('!', '~'), 2 => awkward, 1 => any::<char>()];
    vec(one, 1..24).prop_map(|chars| {
        let allowed: String = chars.into_iter().filter(|c| !is_forbidden(*c)).collect();
        if allowed.is_empty() { "x".into() } else { allowed }
    })
}

fn is_forbidden(c: char) -> bool {
    let code = u32::from(c);
    c.is_control() || matches!(code, 0xFDD0..=0xFDEF) || code & 0xFFFE == 0xFFFE
}

fn uri_reference() -> impl Strategy<Value = String> {
    prop_oneof![
        "/[a-z0-9/._~-]{0,20}",
        "https://[a-z]{1,8}\\.example/[a-z%0-9]{0,9}\\?q=[a-z]{0,4}",
        "urn:[a-z]{2,5}:[a-z0-9-]{1,10}",
    ]
}

/// What kind of data, and bytes that may or may not be what that says.
fn data() -> impl Strategy<Value = (Option<String>, Bytes)> {
    let json = prop_oneof![
        Just("null".to_owned()),
        Just(" { \"b\" : 1.0, \"a\":1e2,\n \"b\": -0 } ".to_owned()),
        Just("12345678901234567890.0123456789".to_owned()),
        Just("\"\\u00e9\\ud83d\\ude00\"".to_owned()),
        "\\[[0-9]{1,3}(,[0-9]{1,3}){0,4}\\]",
    ];
    let json_type = prop::sample::select(vec![
        "application/json",
        "application/json; charset=utf-8",
        "application/problem+json",
        "text/json",
        "APPLICATION/JSON",
    ]);
    let other_type = prop::sample::select(vec![
        "text/plain",
        "text/plain; charset=iso-8859-1",
        "application/xml",
        "application/octet-stream",
        "image/png",
        // In binary mode these would make the data the event.
        "application/cloudevents+json",
        " Application/CloudEvents-batch; charset=utf-8",
    ]);
    prop_oneof![
        (json_type.clone(), json).prop_map(|(kind, json)| (Some(kind.to_owned()), Bytes::from(json))),
        (json_type, vec(any::<u8>(), 0..64)).prop_map(|(kind, bytes)| (Some(kind.to_owned()), bytes.into())),
        (other_type.clone(), vec(any::<u8>(), 0..64)).prop_map(|(kind, bytes)| (Some(kind.to_owned()), bytes.into())),
        (other_type, any::<String>()).prop_map(|(kind, text)| (Some(kind.to_owned()), text.into())),
        option::of(Just("application/json".to_owned())).prop_map(|kind| (kind, Bytes::new())),
        vec(any::<u8>(), 1..16).prop_map(|bytes| (None, bytes.into())),
    ]
}

fn extension() -> impl Strategy<Value = (String, String, ValueKind)> {
    let value = prop_oneof![
        4 => text().prop_map(|text| (text, ValueKind::String)),
        1 => Just((String::new(), ValueKind::String)),
        1 => any::<i32>().prop_map(|number| (number.to_string(), ValueKind::Integer)),
        1 => any::<bool>().prop_map(|truth| (truth.to_string(), ValueKind::Boolean)),
    ];
    // A prefix keeps generated names apart from those the specification gives a type.
    ("x[a-z0-9]{1,15}", value).prop_map(|(name, (text, kind))| (name, text, kind))
}

/// A valid event of either version.
pub(crate) fn event() -> impl Strategy<Value = Event> {
    let required = (
        prop::sample::select(vec!["1.0", "0.3"]),
        text(),
        uri_reference(),
        text(),
    );
    let times = prop::sample::select(vec![
        "2026-01-31T12:00:00Z",
        "1985-04-12T23:20:50.52Z",
        "1990-12-31T15:59:60-08:00",
        "2026-02-28t00:00:00.123456789+05:30",
    ]);
    let optional = (option::of(text()), option::of(times), option::of(uri_reference()));
    (required, optional, data(), vec(extension(), 0..6)).prop_map(
        |((version, id, source, kind), (subject, time, schema), (content_type, data), extensions)| {
            let schema_name = if version == "1.0" { "dataschema" } else { "schemaurl" };
            let mut edit = Event::builder(&id, &source, &kind).set("specversion", version);
            let named = [
                ("subject", subject.as_deref()),
                ("time", time),
                (schema_name, schema.as_deref()),
            ];
            for (name, value) in named {
                if let Some(value) = value {
                    edit = edit.set(name, value);
                }
            }
            for (name, text, kind) in &extensions {
                edit = edit.set_value(name, Value { text, kind: *kind });
            }
            edit = match content_type {
                Some(content_type) => edit.data(&content_type, data),
                None => edit.data("application/json", data).remove("datacontenttype"),
            };
            edit.finish().unwrap()
        },
    )
}
