//! Errors of the API server, and how a person fixes them.

use std::fmt;

use spec::{Cause, Reason};
use status::chain;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 403: a rule is missing.
    Forbidden,
    /// 404: there is no such object, or no such kind.
    NotFound,
    /// 409: another writer was faster, or owns the field.
    Conflict(String),
    /// 410: the requested history is compacted.
    Gone,
    /// 400 and 422: the API server rejects the object.
    Invalid(String),
    /// The API server is unreachable, or does not answer in time.
    Unreachable(String),
    /// Any other status; 429 and 5xx pass.
    Status { code: u16, detail: String },
}

impl From<kube::Error> for Refusal {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status.code, status.message),
            // The error may quote a credential.
            kube::Error::Auth(_) => Self::Unreachable("the gateway's credentials cannot be read".to_owned()),
            error => Self::Unreachable(chain(&error)),
        }
    }
}

impl Refusal {
    pub(crate) fn of_status(code: u16, detail: String) -> Self {
        match code {
            400 | 422 => Self::Invalid(detail),
            401 => Self::Unreachable("it does not accept the gateway's credentials (401)".to_owned()),
            403 => Self::Forbidden,
            404 => Self::NotFound,
            409 => Self::Conflict(detail),
            410 => Self::Gone,
            _ => Self::Status { code, detail },
        }
    }

    /// Returns whether the installed definition lacks a field; the API server reports that as status 500.
    pub(crate) fn is_unknown_field(&self) -> bool {
        matches!(self, Self::Status { detail, .. } if detail.contains("field not declared in schema"))
    }

    /// Returns whether only a person can fix it, so that the gateway does not wait for it.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Forbidden | Self::NotFound)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden => f.write_str("the gateway may not do that (403)"),
            Self::NotFound => f.write_str("it does not exist"),
            Self::Gone => f.write_str("the history is compacted"),
            Self::Conflict(detail) | Self::Invalid(detail) | Self::Unreachable(detail) => f.write_str(detail),
            Self::Status { code, detail } => write!(f, "it answers with status {code}: {detail}"),
        }
    }
}

/// A rule that a role must contain, printed as it is written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) group: String,
    pub(crate) resource: String,
    /// The only object it is for.
    pub(crate) name: Option<String>,
    /// `None` for the whole cluster.
    pub(crate) namespace: Option<String>,
    pub(crate) verbs: &'static [&'static str],
}

impl Rule {
    pub(crate) fn forbidden(&self) -> Cause {
        Cause {
            reason: Reason::Forbidden,
            message: self.to_string(),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, resource, .. } = self;
        let (verbs, listed) = (self.verbs.join(" and "), self.verbs.join(", "));
        match &self.name {
            Some(name) => write!(f, "the gateway may not {verbs} {resource} {name}")?,
            None => write!(f, "the gateway may not {verbs} {resource}")?,
        }
        let role = match &self.namespace {
            Some(namespace) => {
                write!(f, " in namespace {namespace}")?;
                format!("a Role of namespace {namespace}")
            }
            None => "its ClusterRole".to_owned(),
        };
        write!(
            f,
            ": add to {role} the rule {{apiGroups: [\"{group}\"], resources: [{resource}]"
        )?;
        if let Some(name) = &self.name {
            write!(f, ", resourceNames: [{name}]")?;
        }
        write!(f, ", verbs: [{listed}]}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_told_as_the_rule_to_add() {
        let rule = Rule {
            group: String::new(),
            resource: "secrets".into(),
            name: Some("hook".into()),
            namespace: Some("shop".into()),
            verbs: &["get", "list", "watch"],
        };
        let message = rule.forbidden().message;
        for part in [
            "may not get and list and watch secrets hook in namespace shop",
            "a Role of namespace shop",
            "{apiGroups: [\"\"], resources: [secrets], resourceNames: [hook], verbs: [get, list, watch]}",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }
}
