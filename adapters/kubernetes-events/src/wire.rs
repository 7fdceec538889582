//! The answers of the API server as far as they are read: pages of a list, lines of a watch, refusals. Objects stay the bytes
//! they are (CONTRACT SR-3).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<'a> {
    metadata: ListMetadata,
    /// `null` in an empty list.
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    resource_version: String,
    #[serde(default)]
    r#continue: Option<String>,
}

impl<'a> Page<'a> {
    pub(crate) fn read(body: &'a [u8]) -> Option<Self> {
        let page: Self = serde_json::from_slice(body).ok()?;
        page.metadata.resource_version.parse::<u64>().ok()?;
        Some(page)
    }

    /// The cluster's version that the whole list is of.
    pub(crate) fn version(&self) -> u64 {
        self.metadata.resource_version.parse().unwrap_or_default()
    }

    /// The token that requests the next page.
    pub(crate) fn next(&self) -> Option<&str> {
        self.metadata.r#continue.as_deref().filter(|token| !token.is_empty())
    }

    pub(crate) fn items(&self) -> &[&'a RawValue] {
        self.items.as_deref().unwrap_or_default()
    }
}

/// One line of a watch.
#[derive(Debug, Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// One line of a watch.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    /// The object is new, or has another version.
    Written(&'a RawValue),
    /// The object is gone; its last state, under the version of its deletion.
    Deleted(&'a RawValue),
    /// Nothing below this version follows any more.
    Bookmark(&'a RawValue),
    /// The watch has failed.
    Failed(Status),
}

impl<'a> Line<'a> {
    pub(crate) fn read(line: &'a [u8]) -> Option<Change<'a>> {
        let line: Self = serde_json::from_slice(line).ok()?;
        Some(match &*line.kind {
            "ADDED" | "MODIFIED" => Change::Written(line.object),
            "DELETED" => Change::Deleted(line.object),
            "BOOKMARK" => Change::Bookmark(line.object),
            "ERROR" => Change::Failed(serde_json::from_str(line.object.get()).ok()?),
            _ => return None,
        })
    }
}

/// A refusal.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub(crate) code: u16,
    pub(crate) message: String,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// Proves: SR-3
    #[test]
    fn objects_keep_their_bytes() {
        let body = br#"{"kind":"EventList","metadata":{"resourceVersion":"12","continue":"abc"},"items":[{ "b" : 1.0,"a":"\u00e9" },{}]}"#;
        let page = Page::read(body).unwrap();
        assert_eq!((page.version(), page.next()), (12, Some("abc")));
        assert_eq!(page.items()[0].get(), r#"{ "b" : 1.0,"a":"\u00e9" }"#);
        let line = br#"{"type":"ADDED","object":{ "b" : 1.0,"a":"\u00e9" }}"#;
        assert!(
            matches!(Line::read(line), Some(Change::Written(object)) if object.get() == r#"{ "b" : 1.0,"a":"\u00e9" }"#)
        );
    }

    #[test]
    fn an_empty_list_may_say_so_in_three_ways() {
        for items in [r#","items":[]"#, r#","items":null"#, ""] {
            let body = format!(r#"{{"metadata":{{"resourceVersion":"1","continue":""}}{items}}}"#);
            let page = Page::read(body.as_bytes()).unwrap();
            assert!(page.items().is_empty() && page.next().is_none());
        }
    }

    #[test]
    fn a_failed_watch_says_why() {
        let line = br#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}"#;
        assert!(
            matches!(Line::read(line), Some(Change::Failed(status)) if status.code == 410 && status.message == "too old")
        );
    }

    #[test]
    fn anything_else_is_no_answer() {
        for not in [
            "",
            "{",
            r#"{"metadata":{}}"#,
            r#"{"metadata":{"resourceVersion":"x"}}"#,
            "[]",
        ] {
            assert!(Page::read(not.as_bytes()).is_none(), "{not}");
        }
        for not in [
            "",
            "{}",
            r#"{"type":"NEW","object":{}}"#,
            r#"{"type":"ERROR","object":7}"#,
        ] {
            assert!(Line::read(not.as_bytes()).is_none(), "{not}");
        }
    }
}
