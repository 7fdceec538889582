//! Reasons why a container does not run although it should: a stable name, and what to do.

use adapter::Reason;
use bollard::errors::Error;

/// The current obstacle. The adapter retries all of them: an engine comes back, an image is pushed, a person corrects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Trouble {
    /// CamelCase, stable, listed in docs/reasons.
    pub reason: Reason,
    /// The problem and its remedy.
    pub message: String,
}

pub(crate) const NO_ENGINE: Reason = Reason::NoContainerEngine;

impl Trouble {
    pub(crate) fn no_engine(address: &str, detail: &str) -> Self {
        Self {
            reason: NO_ENGINE,
            message: format!(
                "no container engine answers at {address} ({detail}): start Docker or Podman, or set DOCKER_HOST to its address"
            ),
        }
    }

    /// An image that is not there.
    pub(crate) fn image(image: &str, error: &Error) -> Self {
        let detail = detail(error);
        let says = detail.to_lowercase();
        // Registries word it differently, and hide images that the caller may not see.
        let words = [
            "not found",
            "manifest unknown",
            "does not exist",
            "no such image",
            "denied",
            "unauthorized",
        ];
        let missing = is_status(error, 404) || words.iter().any(|word| says.contains(word));
        if missing {
            Self {
                reason: Reason::ImageNotFound,
                message: format!(
                    "image {image} is neither on the engine nor can it be pulled ({detail}): correct spec.image, or pull it by hand if its registry asks for a login"
                ),
            }
        } else {
            Self {
                reason: Reason::ImagePullFailed,
                message: format!("image {image} could not be pulled ({detail}): it is tried again"),
            }
        }
    }
}

/// Explains an error of the engine at `address` that was asked to `act`.
pub(crate) fn trouble(address: &str, act: &str, error: &Error) -> Trouble {
    match error {
        Error::DockerResponseServerError { status_code, message } => Trouble {
            reason: Reason::ContainerRefused,
            message: format!(
                "the engine did not {act} (status {status_code}): {}",
                message.trim_end()
            ),
        },
        other => Trouble::no_engine(address, &detail(other)),
    }
}

pub(crate) fn is_status(error: &Error, status: u16) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code, .. } if *status_code == status)
}

/// The engine's own message, or the innermost cause, which says most: "connection refused" instead of "client error".
fn detail(error: &Error) -> String {
    if let Error::DockerResponseServerError { message, .. } = error {
        return message.trim_end().to_owned();
    }
    innermost(error)
}

pub(crate) fn innermost(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError {
            status_code,
            message: message.to_owned(),
        }
    }

    #[test]
    fn a_missing_image_is_told_from_a_registry_that_does_not_answer() {
        let stream = |error: &str| Error::DockerStreamError {
            error: error.to_owned(),
        };
        for (error, reason) in [
            (
                answered(404, "pull access denied for beats, repository does not exist"),
                "ImageNotFound",
            ),
            (
                answered(500, "manifest for beats:1 not found: manifest unknown"),
                "ImageNotFound",
            ),
            (stream("unauthorized: authentication required"), "ImageNotFound"),
            (
                answered(500, "Get \"https://registry/v2/\": dial tcp: i/o timeout"),
                "ImagePullFailed",
            ),
            (stream("unexpected EOF"), "ImagePullFailed"),
        ] {
            assert_eq!(Trouble::image("beats:1", &error).reason, reason, "{error}");
        }
    }

    #[test]
    fn an_answer_is_a_refusal_and_no_answer_is_no_engine() {
        let refused = trouble(
            "unix:///run/docker.sock",
            "start the container",
            &answered(400, "no such file\n"),
        );
        assert_eq!(refused.reason, "ContainerRefused");
        assert!(refused.message.ends_with("no such file"), "{refused}");
        let gone = trouble(
            "unix:///run/docker.sock",
            "start the container",
            &Error::RequestTimeoutError,
        );
        assert_eq!(gone.reason, NO_ENGINE);
        assert!(gone.message.contains("/run/docker.sock"), "{gone}");
    }
}
