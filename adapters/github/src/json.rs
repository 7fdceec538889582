//! Reads single values out of a JSON document without making a tree of it: payloads reach 25 MiB, and of them a handful of
//! values is wanted. What is not wanted is scanned once, at any depth, and nothing of it is kept.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The values of `names` in the object that `json` is, unparsed, in the order of `names`. Of a name that is there twice the
/// last value counts. `None` when `json` is no object, or anything besides.
pub(crate) fn members<'a>(json: &'a str, names: &[&str]) -> Option<Vec<Option<&'a RawValue>>> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let found = deserializer.deserialize_map(Members(names)).ok()?;
    deserializer.end().ok()?;
    Some(found)
}

/// A string, or the digits of a whole number; nothing else is a name of something.
pub(crate) fn text(value: &RawValue) -> Option<String> {
    let json = value.get();
    if json.starts_with('"') {
        return serde_json::from_str(json).ok();
    }
    json.bytes().all(|byte| byte.is_ascii_digit()).then(|| json.to_owned())
}

struct Members<'n>(&'n [&'n str]);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = vec![None; self.0.len()];
        while let Some(index) = map.next_key_seed(NameIndex(self.0))? {
            match index.and_then(|index| found.get_mut(index)) {
                Some(slot) => *slot = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// The index of a key among the names. Read as bytes, because a key that is no proper text is no reason to refuse the document.
struct NameIndex<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for NameIndex<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for NameIndex<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E>(self, key: &[u8]) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| name.as_bytes() == key))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn one(json: &str, name: &str) -> Option<String> {
        members(json, &[name])?.first().copied().flatten().and_then(text)
    }

    #[test]
    fn values_are_found_wherever_they_stand() {
        let json = r#" {"a":{"b":"no"}, "b" : "yes", "n":7, "\u0062\u0062":"escaped", "f":7.5, "l":[1], "b":"last"} "#;
        let found = members(json, &["n", "b", "a", "none"]).unwrap();
        let found: Vec<_> = found.into_iter().map(|value| value.map(RawValue::get)).collect();
        assert_eq!(found, [Some("7"), Some("\"last\""), Some(r#"{"b":"no"}"#), None]);
        let cases = [
            ("n", Some("7")),
            ("bb", Some("escaped")),
            ("f", None),
            ("l", None),
            ("a", None),
        ];
        for (name, expected) in cases {
            assert_eq!(one(json, name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn only_one_whole_object_is_an_object() {
        for not in [
            "",
            "[]",
            "1",
            "\"x\"",
            "{",
            "null",
            "{} x",
            "{}{}",
            "{\"a\":}",
            "{\"a\":1,}",
        ] {
            assert!(members(not, &["a"]).is_none(), "{not}");
        }
    }

    #[test]
    fn odd_and_deep_documents_are_read() {
        let deep = format!(r#"{{"x":{}{}, "a":"found"}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(one(&deep, "a").as_deref(), Some("found"));
        assert_eq!(one(r#"{"\ud800":1, "a":"found"}"#, "a").as_deref(), Some("found"));
        assert_eq!(one(r#"{"a":"\ud800"}"#, "a"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(json in "[\\[\\]{}:,\"\\\\a-c0-9. ]{0,40}|.*") {
            let _ = one(&json, "a");
        }

        #[test]
        fn it_agrees_with_a_reader_that_makes_a_tree(value in any::<String>(), key in "[a-c]{1,2}", number in any::<u64>()) {
            let json = serde_json::json!({ "other": [&value], &key: &value, "n": number }).to_string();
            prop_assert_eq!(one(&json, &key), Some(value));
            prop_assert_eq!(one(&json, "n"), Some(number.to_string()));
        }
    }
}
