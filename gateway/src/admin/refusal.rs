//! Refusals of the admin API: JSON with a reason, also those of the framework.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use dataplane::{DeadLetterError, SwitchError};
use serde_json::json;
use spec::Reason;

use super::BODY_MAX_BYTES;

/// An error as JSON: `{"reason": ..., "message": ...}`.
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) reason: Reason,
    pub(crate) message: String,
    /// Seconds after which asking again may help.
    retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The request lacks something, or contradicts itself.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Reason::BadRequest, message)
    }

    /// The request names something that does not exist.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, Reason::NotFound, message)
    }

    /// A channel cannot be read now.
    pub(crate) fn unavailable(error: &dyn std::error::Error) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Reason::Unavailable,
            dataplane::chain(error),
        )
    }

    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Json(json!({ "reason": self.reason, "message": self.message }));
        let mut answer = (self.status, body).into_response();
        if let Some(seconds) = self.retry_after {
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        answer
    }
}

impl From<DeadLetterError> for Refusal {
    fn from(error: DeadLetterError) -> Self {
        let (status, reason) = match &error {
            DeadLetterError::NoSubscription(_) | DeadLetterError::NoDeadLetter { .. } => {
                (StatusCode::NOT_FOUND, Reason::NotFound)
            }
            DeadLetterError::NotRunning(_) => (StatusCode::CONFLICT, Reason::NotRunning),
            DeadLetterError::Read(_) => (StatusCode::SERVICE_UNAVAILABLE, Reason::Unavailable),
        };
        Self::new(status, reason, dataplane::chain(&error))
    }
}

impl From<SwitchError> for Refusal {
    fn from(error: SwitchError) -> Self {
        match &error {
            SwitchError::NotFound(_) => Self::not_found(error.to_string()),
            SwitchError::NotPersisted(_) => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                Reason::NotPersisted,
                dataplane::chain(&error),
            ),
        }
    }
}

/// Turns a refusal of the framework into one of ours: JSON with a reason.
pub(super) async fn as_refusal(answer: Response) -> Response {
    let status = answer.status();
    let is_ours = answer
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/json");
    let reason = match status {
        _ if is_ours => return answer,
        StatusCode::METHOD_NOT_ALLOWED => Reason::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => Reason::TooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Reason::UnsupportedMediaType,
        _ if status.is_client_error() => Reason::BadRequest,
        _ => return answer,
    };
    let (head, body) = answer.into_parts();
    let body = axum::body::to_bytes(body, BODY_MAX_BYTES).await.unwrap_or_default();
    let message = match &body[..] {
        [] => status.to_string(),
        body => String::from_utf8_lossy(body).into_owned(),
    };
    let mut refusal = Refusal::new(status, reason, message).into_response();
    if let Some(allowed) = head.headers.get(header::ALLOW) {
        refusal.headers_mut().insert(header::ALLOW, allowed.clone());
    }
    refusal
}
