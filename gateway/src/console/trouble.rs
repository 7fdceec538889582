//! A page that cannot be shown, or a change that was not made: the handler returns what happened, `guard` makes a page of it.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use spec::Reason;

use crate::admin::Refusal;

/// The refusal of a page, in words for people.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) status: StatusCode,
    pub(super) title: String,
    pub(super) message: String,
    pub(super) reason: Option<Reason>,
}

impl Trouble {
    pub(super) fn new(status: StatusCode, title: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status,
            title: title.into(),
            message: message.into(),
            reason: None,
        }
    }

    /// The page names something that does not exist.
    pub(super) fn not_found(what: impl Into<String>) -> Self {
        Self::from(Refusal::not_found(what))
    }

    /// The request lacks something, or contradicts itself.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::from(Refusal::bad_request(message))
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        let title = match refusal.status {
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::BAD_REQUEST => "This cannot be done as asked",
            StatusCode::CONFLICT => "Not possible now",
            StatusCode::UNAUTHORIZED => "Log in first",
            StatusCode::FORBIDDEN => "Not allowed",
            StatusCode::MISDIRECTED_REQUEST => "Wrong host",
            StatusCode::SERVICE_UNAVAILABLE => "Not available now",
            _ => "This did not work",
        };
        Self {
            status: refusal.status,
            title: title.to_owned(),
            message: refusal.message,
            reason: Some(refusal.reason),
        }
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let mut answer = self.status.into_response();
        answer.extensions_mut().insert(self);
        answer
    }
}
