//! The files of the console: a style sheet, a script, an icon. They are in the binary, and browsers keep them while their tag is the same.

use std::sync::LazyLock;

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

struct Asset {
    kind: &'static str,
    text: &'static str,
    /// A digest of the text, in quotes.
    tag: LazyLock<String>,
}

fn tag(text: &str) -> String {
    format!("\"{}\"", hex::encode(&Sha256::digest(text)[..12]))
}

const STYLE_TEXT: &str = include_str!("assets/style.css");
const SCRIPT_TEXT: &str = include_str!("assets/console.js");
const ICON_TEXT: &str = include_str!("assets/icon.svg");

static STYLE: Asset = Asset {
    kind: "text/css; charset=utf-8",
    text: STYLE_TEXT,
    tag: LazyLock::new(|| tag(STYLE_TEXT)),
};

static SCRIPT: Asset = Asset {
    kind: "text/javascript; charset=utf-8",
    text: SCRIPT_TEXT,
    tag: LazyLock::new(|| tag(SCRIPT_TEXT)),
};

static ICON: Asset = Asset {
    kind: "image/svg+xml",
    text: ICON_TEXT,
    tag: LazyLock::new(|| tag(ICON_TEXT)),
};

pub(super) async fn style(headers: HeaderMap) -> Response {
    STYLE.answer(&headers)
}

pub(super) async fn script(headers: HeaderMap) -> Response {
    SCRIPT.answer(&headers)
}

pub(super) async fn icon(headers: HeaderMap) -> Response {
    ICON.answer(&headers)
}

/// Paths that are open to everyone: they hold nothing of this gateway.
pub(super) fn is_asset(path: &str) -> bool {
    matches!(path, "/ui/style.css" | "/ui/console.js" | "/ui/icon.svg")
}

impl Asset {
    fn answer(&'static self, headers: &HeaderMap) -> Response {
        let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
        let is_known = known.is_some_and(|tags| tags.split(',').any(|known| known.trim() == *self.tag));
        let mut answer = if is_known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(header::CONTENT_TYPE, self.kind)], self.text).into_response()
        };
        let head = answer.headers_mut();
        // Asked for each time, answered with nothing while it is the same: a new version is never shown with an old style.
        head.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(tag) = self.tag.parse() {
            head.insert(header::ETAG, tag);
        }
        answer
    }
}
