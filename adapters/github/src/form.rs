//! The JSON document of a delivery: the body itself, or the `payload` field of a form (GitHub's default content type).

use bytes::Bytes;
use http::StatusCode;

use crate::{Outcome, outcome::Answered};

/// A body without a content type is taken for JSON.
pub(crate) fn document(content_type: Option<&str>, body: Bytes) -> Result<Bytes, Answered> {
    let media = content_type
        .and_then(|value| value.split(';').next())
        .map_or("application/json", str::trim);
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(body);
    }
    if !media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let message = format!("content type {media} is not supported: set the webhook's to application/json");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Answered::new(Outcome::UnsupportedFormat, status, message));
    }
    let field = body
        .split(|byte| *byte == b'&')
        .find_map(|field| field.strip_prefix(b"payload="));
    match field {
        Some(field) => Ok(unescape(field)),
        None => {
            let message = "form has no field `payload`";
            Err(Answered::new(Outcome::Invalid, StatusCode::BAD_REQUEST, message))
        }
    }
}

/// In a form a plus is a space; one that is meant is escaped.
fn unescape(field: &[u8]) -> Bytes {
    let mut spaced = field.to_vec();
    for byte in &mut spaced {
        if *byte == b'+' {
            *byte = b' ';
        }
    }
    percent_encoding::percent_decode(&spaced).collect::<Vec<u8>>().into()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

    /// Proves: SR-3
    #[test]
    fn a_json_body_is_the_document_as_it_is() {
        for content_type in [None, Some("application/json"), Some("Application/JSON; charset=utf-8")] {
            let body = Bytes::from_static(b" {\"a\" : 1.0} ");
            assert_eq!(document(content_type, body.clone()).unwrap(), body, "{content_type:?}");
        }
    }

    #[test]
    fn what_is_neither_json_nor_a_form_with_a_payload_is_refused() {
        let cases = [
            (Some("text/xml"), &b"<a/>"[..], 415),
            (Some("application/json+x"), b"{}", 415),
            (FORM, b"other=%7B%7D", 400),
            (FORM, b"", 400),
        ];
        for (content_type, body, status) in cases {
            let refused = document(content_type, Bytes::from_static(body)).unwrap_err();
            assert_eq!(refused.answer.status.as_u16(), status, "{content_type:?}");
        }
    }

    proptest! {
        /// Proves: SR-3
        #[test]
        fn a_form_carries_any_document(json in any::<Vec<u8>>(), before in "([a-z]{1,5}=[a-z]{0,5}&)?") {
            let escaped = percent_encoding::percent_encode(&json, percent_encoding::NON_ALPHANUMERIC);
            let spaced = escaped.to_string().replace("%20", "+");
            let form = Bytes::from(format!("{before}payload={spaced}&after=1"));
            prop_assert_eq!(&document(FORM, form).unwrap()[..], &json[..]);
        }
    }
}
