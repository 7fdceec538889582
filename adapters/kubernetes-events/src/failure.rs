//! Failures between the source and the API server, with the messages and reasons of the condition `Watching`.
//!
//! No message holds a credential (CONTRACT SR-6): of errors that may quote their input, only the kind is reported.

use std::time::Duration;

use adapter::{Reason, chain};
use kube::{
    client::AuthError,
    config::{InClusterError, KubeconfigError},
};

/// The request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    List,
    Watch,
}

impl Verb {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Watch => "watch",
        }
    }
}

#[derive(Debug)]
pub(crate) enum Failure {
    /// 410: the history from there on is compacted. The objects must be listed.
    Gone,
    /// An answer is larger than the limit.
    TooLarge {
        limit: usize,
    },
    /// There are no usable credentials.
    Identity(String),
    /// 401.
    Rejected,
    /// 403.
    Forbidden {
        verb: Verb,
        answer: String,
    },
    Unreachable(String),
    /// Another status than 2xx.
    Status {
        code: u16,
        answer: String,
        retry_after: Option<Duration>,
    },
    /// Not what an API server answers.
    Malformed(String),
}

impl Failure {
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Gone => Reason::HistoryGone,
            Self::TooLarge { .. } => Reason::AnswerTooLarge,
            Self::Identity(_) => Reason::NoClusterAccess,
            Self::Rejected => Reason::CredentialsRejected,
            Self::Forbidden { .. } => Reason::Forbidden,
            Self::Unreachable(_) => Reason::ApiServerUnreachable,
            Self::Status { .. } | Self::Malformed(_) => Reason::ApiServerError,
        }
    }

    /// Explains the failure and its remedy. `scope` is the namespace or all of them.
    pub(crate) fn message(&self, server: &str, scope: &str) -> String {
        match self {
            Self::Gone => {
                format!("{server} forgets its history faster than it can be read: the events are listed again")
            }
            Self::TooLarge { limit } => {
                format!("an answer of {server} is larger than {limit} bytes: look for an oversized Event in {scope}")
            }
            Self::Identity(why) => why.clone(),
            Self::Rejected => {
                format!(
                    "{server} does not accept our credentials (401): renew those of the kubeconfig or the service account"
                )
            }
            Self::Forbidden { verb, answer } => format!(
                "we may not {} events in {scope}: allow the verbs list and watch on the resource events there; {server} says: {answer}",
                verb.as_str()
            ),
            Self::Unreachable(why) => format!("cannot reach {server}: {why}"),
            Self::Status { code, answer, .. } => format!("{server} answers {code}: {answer}"),
            Self::Malformed(why) => format!("{server} does not answer like an API server: {why}"),
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Auth(error) => Self::Identity(format!(
                "cannot use the credentials of the cluster: {}",
                of_auth(&error)
            )),
            kube::Error::RustlsTls(error) => {
                Self::Identity(format!("cannot use the certificates of the cluster: {error}"))
            }
            kube::Error::ProxyProtocolUnsupported { .. } | kube::Error::ProxyProtocolDisabled { .. } => Self::Identity(
                "the cluster's proxy is none of http: or https:; change `proxy-url` or HTTPS_PROXY".to_owned(),
            ),
            error => Self::Unreachable(chain(&error)),
        }
    }
}

impl From<KubeconfigError> for Failure {
    fn from(error: KubeconfigError) -> Self {
        let why = match &error {
            KubeconfigError::Parse(_) => "it is no YAML of a kubeconfig".to_owned(),
            KubeconfigError::ReadConfig(io, path) => format!("cannot read {}: {io}", path.display()),
            KubeconfigError::FindPath => "there is none, and no home folder to look in".to_owned(),
            KubeconfigError::ParseCertificates(_) => "a certificate authority in it is no PEM".to_owned(),
            error => error.to_string(),
        };
        Self::Identity(format!(
            "cannot use the kubeconfig: {why}; give one by KUBECONFIG or ~/.kube/config, and its context by --kube-context"
        ))
    }
}

/// Neither a kubeconfig nor a pod's account.
pub(crate) fn nowhere(error: &InClusterError) -> Failure {
    Failure::Identity(format!(
        "there is no kubeconfig (KUBECONFIG, ~/.kube/config), and this is no pod with a service account ({error}): give one of them"
    ))
}

fn of_auth(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecRun { out, .. } => format!("the kubeconfig's credential command ended with {}", out.status),
        AuthError::AuthExecStart(io) => format!("the kubeconfig's credential command does not start: {io}"),
        AuthError::ReadTokenFile(io, path) => format!("cannot read the token file {}: {io}", path.display()),
        _ => "they are no credentials that can be sent".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_named_whole() {
        let failure = Failure::Forbidden {
            verb: Verb::Watch,
            answer: "events is forbidden".into(),
        };
        assert_eq!(failure.reason(), "Forbidden");
        let message = failure.message("https://k8s:6443", "namespace shop");
        for part in [
            "watch",
            "events",
            "namespace shop",
            "https://k8s:6443",
            "events is forbidden",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }

    /// Proves: SR-6
    #[test]
    fn what_a_kubeconfig_holds_is_in_no_message() {
        let parsed = kube::config::Kubeconfig::from_yaml("users: {token: s3cret, list: [s3cret");
        let message = match parsed {
            Ok(_) => unreachable!("it is no YAML"),
            Err(error) => Failure::from(error).message("", ""),
        };
        assert!(!message.contains("s3cret"), "{message}");
        assert!(message.contains("KUBECONFIG"), "{message}");
    }
}
