//! Messages as Google's REST API writes them, and the events they become: one pair a file in golden/.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::Access;

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Golden {
    message: Message,
    delivery_attempt: Option<i32>,
    #[serde(default)]
    extensions: BTreeMap<String, String>,
    /// In the JSON format of CloudEvents; its data is compared byte for byte.
    event: Box<RawValue>,
}

fn origin(extensions: BTreeMap<String, String>) -> Origin {
    Origin::new(&Config {
        project: "shop".into(),
        topic: "orders".into(),
        access: Access::Default,
        subscription: None,
        delete: true,
        ordering: false,
        extensions,
    })
}

/// Proves: SR-2, SR-3
#[test]
fn messages_become_the_events_of_the_golden_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut compared = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let golden: Golden =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let expected = Event::from_json(&Bytes::copy_from_slice(golden.event.get().as_bytes())).unwrap();
        let event = origin(golden.extensions)
            .convert(&golden.message, golden.delivery_attempt)
            .unwrap();
        assert_eq!(event, expected, "{path:?}");
        compared += 1;
    }
    assert!(compared >= 9, "golden files are missing");
}

proptest! {
    /// Proves: SR-3
    #[test]
    fn no_message_stops_its_event(
        data in any::<Vec<u8>>(),
        key in any::<String>(),
        attributes in proptest::collection::hash_map("(ce-)?(specversion|id|source|type|time|[a-z]{1,9})|content-type|.*", any::<String>(), 0..8),
        seconds in -62_135_596_800_i64..253_402_300_800,
    ) {
        let message = Message::new()
            .set_message_id("1")
            .set_data(data.clone())
            .set_ordering_key(key)
            .set_attributes(attributes)
            .set_publish_time(google_cloud_wkt::Timestamp::clamp(seconds, 0));
        let event = origin([].into()).convert(&message, Some(1)).unwrap();
        let body: serde_json::Value = serde_json::from_slice(event.data()).unwrap_or_default();
        let whole = body["Data"].as_str().and_then(|data| BASE64_STANDARD.decode(data).ok());
        prop_assert!(whole.as_deref() == Some(&data[..]) || event.data()[..] == data[..]);
    }
}
