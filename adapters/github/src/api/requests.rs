//! The requests a source makes, typed: webhooks and their deliveries. Each is one exchange; nothing is repeated here.

use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{Answer, Api, ApiError, Cursor, Trouble};
use crate::Secret;

/// GitHub's largest page.
const PER_PAGE: &str = "per_page=100";

/// A repository has at most 20 webhooks for each of some seventy events; more pages than this are no list of webhooks.
const HOOK_PAGES_MAX: usize = 50;

/// A webhook as GitHub shows it. What a document of it lacks is as if it were another value than wanted.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Hook {
    pub(crate) id: u64,
    #[serde(default)]
    pub(crate) active: bool,
    #[serde(default)]
    pub(crate) events: Vec<String>,
    #[serde(default)]
    pub(crate) config: HookConfig,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct HookConfig {
    pub(crate) url: String,
    pub(crate) content_type: String,
    /// Text or number, by who made it.
    pub(crate) insecure_ssl: Value,
}

/// The desired webhook.
pub(crate) struct HookSpec<'a> {
    pub(crate) url: &'a str,
    pub(crate) events: Vec<&'a str>,
    pub(crate) secret: Option<&'a Secret>,
}

impl HookSpec<'_> {
    /// The whole of it, at creation and at a change alike: of a `config` that lacks its secret GitHub removes the one that
    /// was set.
    fn document(&self) -> Result<Value, ApiError> {
        let mut config = json!({ "url": self.url, "content_type": "json", "insecure_ssl": "0" });
        if let Some(secret) = self.secret {
            let text = std::str::from_utf8(secret.bytes())
                .map_err(|_| ApiError::setting(&"the secret that secretToken names is no text"))?;
            config["secret"] = text.into();
        }
        Ok(json!({ "active": true, "events": self.events, "config": config }))
    }
}

/// One attempt to deliver an event, in a list.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) id: u64,
    pub(crate) guid: String,
    pub(crate) delivered_at: Timestamp,
    #[serde(default)]
    pub(crate) redelivery: bool,
    /// Absent or zero where there was no answer.
    #[serde(default)]
    pub(crate) status_code: Option<u16>,
    /// In words.
    #[serde(default)]
    pub(crate) status: Option<String>,
    pub(crate) event: String,
}

impl Attempt {
    pub(crate) fn is_good(&self) -> bool {
        self.status_code.is_some_and(|code| (200..300).contains(&code))
    }

    /// Whether GitHub has not finished the attempt.
    pub(crate) fn is_pending(&self) -> bool {
        self.status_code.is_none_or(|code| code == 0)
            && self
                .status
                .as_ref()
                .is_some_and(|status| status.eq_ignore_ascii_case("pending"))
    }
}

/// A page of deliveries, newest first.
pub(crate) struct Page {
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) next: Option<Cursor>,
    /// When it was made, by GitHub's clock.
    pub(crate) at: Timestamp,
}

/// The payload of a delivery, as GitHub's answer carries it.
#[derive(Debug)]
pub(crate) struct Payload(pub(crate) Bytes);

impl Api {
    /// Reads the webhook of this id.
    pub(crate) async fn hook(&self, id: u64) -> Result<Hook, ApiError> {
        let url = self.below(&["hooks", &id.to_string()])?;
        read(&self.call(&Method::GET, &url, None).await?, url.path())
    }

    /// Finds the first webhook that `matches`, over all pages: GitHub cannot search by URL.
    pub(crate) async fn find_hook(&self, matches: impl Fn(&Hook) -> bool) -> Result<Option<Hook>, ApiError> {
        let mut url = self.below(&["hooks"])?;
        url.set_query(Some(PER_PAGE));
        for _ in 0..HOOK_PAGES_MAX {
            let answer = self.call(&Method::GET, &url, None).await?;
            let hooks: Vec<Hook> = read(&answer, url.path())?;
            if let Some(found) = hooks.into_iter().find(&matches) {
                return Ok(Some(found));
            }
            match Cursor::next(&answer.headers) {
                Some(next) => next.apply(&mut url),
                None => return Ok(None),
            }
        }
        Err(ApiError::unreadable(url.path(), &"the list of webhooks does not end"))
    }

    /// Creates a webhook. Not repeated blindly: when the answer is lost, the webhook may exist.
    pub(crate) async fn create_hook(&self, spec: &HookSpec<'_>) -> Result<Hook, ApiError> {
        let url = self.below(&["hooks"])?;
        let mut document = spec.document()?;
        document["name"] = "web".into();
        read(&self.call(&Method::POST, &url, Some(&document)).await?, url.path())
    }

    /// Changes a webhook to the desired one.
    pub(crate) async fn update_hook(&self, id: u64, spec: &HookSpec<'_>) -> Result<Hook, ApiError> {
        let url = self.below(&["hooks", &id.to_string()])?;
        let document = spec.document()?;
        read(&self.call(&Method::PATCH, &url, Some(&document)).await?, url.path())
    }

    /// Deletes a webhook; succeeds if it does not exist.
    pub(crate) async fn delete_hook(&self, id: u64) -> Result<(), ApiError> {
        let url = self.below(&["hooks", &id.to_string()])?;
        match self.call(&Method::DELETE, &url, None).await {
            Err(error) if error.trouble != Trouble::NotFound => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Lists the newest deliveries of a webhook, or the page at `cursor`.
    pub(crate) async fn deliveries(&self, hook: u64, cursor: Option<&Cursor>) -> Result<Page, ApiError> {
        let mut url = self.below(&["hooks", &hook.to_string(), "deliveries"])?;
        match cursor {
            Some(cursor) => cursor.apply(&mut url),
            None => url.set_query(Some(PER_PAGE)),
        }
        let answer = self.call(&Method::GET, &url, None).await?;
        Ok(Page {
            attempts: read(&answer, url.path())?,
            next: Cursor::next(&answer.headers),
            at: answer.date(),
        })
    }

    /// Reads the payload of an attempt; `None` when GitHub does not have it any more.
    pub(crate) async fn payload(&self, hook: u64, attempt: u64) -> Result<Option<Payload>, ApiError> {
        let url = self.below(&["hooks", &hook.to_string(), "deliveries", &attempt.to_string()])?;
        match self.call(&Method::GET, &url, None).await {
            Ok(answer) => payload(&answer.body)
                .map(Some)
                .map_err(|error| ApiError::unreadable(url.path(), &error)),
            Err(error) if error.trouble == Trouble::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn read<T: for<'de> Deserialize<'de>>(answer: &Answer, path: &str) -> Result<T, ApiError> {
    serde_json::from_slice(&answer.body).map_err(|error| ApiError::unreadable(path, &error))
}

/// The bytes of `request.payload`, not what they mean (CONTRACT SR-3).
fn payload(body: &Bytes) -> Result<Payload, serde_json::Error> {
    #[derive(Deserialize)]
    struct Delivery<'a> {
        #[serde(borrow)]
        request: Request<'a>,
    }
    #[derive(Deserialize)]
    struct Request<'a> {
        #[serde(borrow)]
        payload: &'a RawValue,
    }
    let delivery: Delivery<'_> = serde_json::from_slice(body)?;
    Ok(Payload(body.slice_ref(delivery.request.payload.get().as_bytes())))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// Proves: SR-3
    #[test]
    fn a_payload_is_its_bytes() {
        let inner = "{ \"n\" : 1.0,\n  \"big\":12345678901234567890, \"u\":\"\\u00e9é\", \"n\":2}";
        let body = format!(
            r#"{{"id":1,"request":{{"headers":{{"A":"b"}},"payload": {inner} }},"response":{{"payload":"x"}}}}"#
        );
        assert_eq!(payload(&body.into()).unwrap().0, inner.as_bytes());
    }
}
