//! Failures of GitHub's API in one table: the answer, its meaning, and the remedy.

use std::{fmt, time::Duration};

use adapter::Reason;
use http::StatusCode;
use serde::Deserialize;

use super::{Answer, budget};

/// The most bytes of an answer's own message that are passed on.
const WORDS_MAX_BYTES: usize = 300;

/// Why a request to GitHub failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No whole answer, or one that says that GitHub itself has trouble. A request may have been acted on.
    Unreachable,
    /// The credentials are not, or no longer, good.
    Unauthorized,
    /// They are good, and do not allow this.
    Forbidden,
    /// There is no such thing, or the credentials may not see it.
    NotFound,
    /// Too many requests: nothing was done.
    RateLimited,
    /// The webhook is refused: there are 20 for an event already.
    HookLimit,
    /// The request is understood and refused.
    Refused,
    /// The configuration is invalid; only an edit helps.
    Setting,
    /// The gateway does not connect to the API's address.
    Egress,
    /// An App's private key cannot be used.
    Key,
    /// The source stops and does not wait for an answer.
    Stopped,
}

impl Trouble {
    /// Its name in conditions and docs/reasons.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Unreachable => Reason::GitHubUnreachable,
            Self::Unauthorized => Reason::AccessTokenRejected,
            Self::Forbidden => Reason::AccessTokenForbidden,
            Self::NotFound => Reason::RepositoryNotFound,
            Self::RateLimited => Reason::RateLimited,
            Self::HookLimit => Reason::HookLimit,
            Self::Refused => Reason::HookRefused,
            Self::Setting => Reason::ConfigInvalid,
            Self::Egress => Reason::EgressRefused,
            Self::Key => Reason::AppKeyInvalid,
            Self::Stopped => Reason::Draining,
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Unreachable => "it is tried again by itself",
            Self::Unauthorized => {
                "the token was revoked, has expired or is another one: put a valid one into its secret"
            }
            Self::Forbidden => {
                "give the token `admin:repo_hook` (an organisation's: `admin:org_hook`), a fine-grained token or an App the permission \"Webhooks: read and write\""
            }
            Self::NotFound => {
                "the repository is gone or renamed, or the token may not see its webhooks: correct ownerAndRepository or the token's rights"
            }
            Self::RateLimited => "it goes on by itself when GitHub allows",
            Self::HookLimit => "GitHub allows 20 webhooks for an event: remove one that is not needed",
            Self::Refused => "GitHub says what it does not accept",
            Self::Setting => "correct the document",
            Self::Egress => "correct githubAPIURL, or permit the address",
            Self::Stopped => "the gateway is ending",
            Self::Key => "put the App's private key into its secret, in PEM as GitHub gives it",
        }
    }
}

/// A request that came to nothing, as far as we know. Holds no credentials (CONTRACT SR-6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) trouble: Trouble,
    /// The request and its result.
    pub(crate) detail: String,
    /// When asking again may help, where GitHub said so.
    pub(crate) retry_after: Option<Duration>,
}

impl ApiError {
    pub(super) fn new(trouble: Trouble, detail: impl Into<String>) -> Self {
        Self {
            trouble,
            detail: detail.into(),
            retry_after: None,
        }
    }

    pub(super) fn unreachable(what: &str, why: &dyn fmt::Display) -> Self {
        Self::new(Trouble::Unreachable, format!("{what}: {why}"))
    }

    pub(crate) fn setting(why: &dyn fmt::Display) -> Self {
        Self::new(Trouble::Setting, why.to_string())
    }

    pub(super) fn egress(url: &url::Url, refused: &connect::EgressRefused) -> Self {
        let host = url.host_str().unwrap_or_default();
        Self::new(
            Trouble::Egress,
            format!("not connected to {host}: its address {refused}"),
        )
    }

    /// An answer that is not what GitHub documents.
    pub(crate) fn unreadable(what: &str, why: &dyn fmt::Display) -> Self {
        Self::unreachable(what, &format!("the answer is not understood: {why}"))
    }

    /// For a condition: what happened and what to do.
    pub(crate) fn message(&self) -> String {
        format!("{}; {}", self.detail, self.trouble.advice())
    }
}

/// GitHub's words for a refusal.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Words {
    message: String,
    errors: Vec<Word>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Object {
        message: Option<String>,
        code: Option<String>,
    },
}

impl Words {
    fn of(answer: &Answer) -> String {
        let words: Self = serde_json::from_slice(&answer.body).unwrap_or_default();
        let mut text = words.message;
        for word in words.errors {
            let detail = match word {
                Word::Text(text) => Some(text),
                Word::Object { message, code } => message.or(code),
            };
            if let Some(detail) = detail {
                text = format!("{text}; {detail}");
            }
        }
        let end = (0..=WORDS_MAX_BYTES.min(text.len()))
            .rev()
            .find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text
    }
}

/// The meaning of an answer that is neither a success nor a redirect.
pub(super) fn refused(what: &str, answer: &Answer) -> ApiError {
    let words = Words::of(answer);
    let status = answer.status;
    let retry_after = budget::wait(status, &answer.headers, &words);
    let limited = retry_after.is_some() && matches!(status.as_u16(), 403 | 429);
    let trouble = match status {
        _ if limited => Trouble::RateLimited,
        StatusCode::UNAUTHORIZED => Trouble::Unauthorized,
        StatusCode::FORBIDDEN => Trouble::Forbidden,
        StatusCode::NOT_FOUND | StatusCode::GONE => Trouble::NotFound,
        StatusCode::UNPROCESSABLE_ENTITY if words.contains("more than 20 hooks") => Trouble::HookLimit,
        status if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => Trouble::Refused,
        _ => Trouble::Unreachable,
    };
    ApiError {
        trouble,
        detail: format!("{what} was answered {}: {words}", status.as_u16()),
        retry_after,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use http::HeaderMap;

    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: map,
            body: body.to_owned().into(),
        }
    }

    #[test]
    fn each_documented_refusal_has_its_meaning() {
        let secondary = r#"{"message":"You have exceeded a secondary rate limit. Please wait a few minutes"}"#;
        let cases = [
            (
                answer(401, &[], r#"{"message":"Bad credentials"}"#),
                Trouble::Unauthorized,
            ),
            (
                answer(
                    403,
                    &[],
                    r#"{"message":"Resource not accessible by personal access token"}"#,
                ),
                Trouble::Forbidden,
            ),
            (
                answer(403, &[("x-ratelimit-remaining", "0")], "{}"),
                Trouble::RateLimited,
            ),
            (answer(429, &[], "{}"), Trouble::RateLimited),
            (answer(403, &[("retry-after", "7")], "{}"), Trouble::RateLimited),
            (answer(403, &[], secondary), Trouble::RateLimited),
            (answer(404, &[], r#"{"message":"Not Found"}"#), Trouble::NotFound),
            (answer(410, &[], "{}"), Trouble::NotFound),
            (
                answer(
                    422,
                    &[],
                    r#"{"message":"Validation Failed","errors":[{"resource":"Hook","code":"custom","message":"The \"push\" event cannot have more than 20 hooks"}]}"#,
                ),
                Trouble::HookLimit,
            ),
            (answer(422, &[], r#"{"errors":["no"]}"#), Trouble::Refused),
            (answer(415, &[], "no JSON"), Trouble::Refused),
            (answer(500, &[], ""), Trouble::Unreachable),
            (answer(503, &[("retry-after", "7")], ""), Trouble::Unreachable),
        ];
        for (answer, trouble) in cases {
            assert_eq!(refused("GET /x", &answer).trouble, trouble, "{answer:?}");
        }
    }

    #[test]
    fn a_page_of_words_is_cut() {
        let body = serde_json::json!({ "message": "é".repeat(5000) }).to_string();
        let error = refused("GET /x", &answer(422, &[], &body));
        assert!(error.detail.len() < WORDS_MAX_BYTES + 60, "{}", error.detail);
    }
}
