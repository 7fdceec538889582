//! What the API server says when it does not do what we ask, and what a person can do about it.

use std::{error::Error, fmt};

use spec::model::Unresolved;

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 403: a rule is missing.
    Forbidden,
    /// 404: there is no such object, or no such kind.
    NotFound,
    /// 409: somebody else was faster, or holds the field.
    Conflict(String),
    /// 410: the history we ask for is compacted.
    Gone,
    /// 400 and 422: it does not take what we send.
    Invalid(String),
    /// It cannot be reached, or does not answer in time.
    Unreachable(String),
    /// Anything else; 429 and 5xx pass.
    Status { code: u16, said: String },
}

impl From<kube::Error> for Refusal {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status.code, status.message),
            // What cannot be read may quote a credential.
            kube::Error::Auth(_) => Self::Unreachable("our credentials cannot be read".to_owned()),
            error => Self::Unreachable(chain(&error)),
        }
    }
}

impl Refusal {
    pub(crate) fn of_status(code: u16, said: String) -> Self {
        match code {
            400 | 422 => Self::Invalid(said),
            401 => Self::Unreachable("it does not accept our credentials (401)".to_owned()),
            403 => Self::Forbidden,
            404 => Self::NotFound,
            409 => Self::Conflict(said),
            410 => Self::Gone,
            _ => Self::Status { code, said },
        }
    }

    /// A definition of another version does not have one of the fields: told so, as an error of the server's own (500).
    pub(crate) fn is_unknown_field(&self) -> bool {
        matches!(self, Self::Status { said, .. } if said.contains("field not declared in schema"))
    }

    /// It will be the same until a person does something: nothing is waited for.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Forbidden | Self::NotFound)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden => f.write_str("we may not"),
            Self::NotFound => f.write_str("it is not there"),
            Self::Gone => f.write_str("the history is compacted"),
            Self::Conflict(said) | Self::Invalid(said) | Self::Unreachable(said) => f.write_str(said),
            Self::Status { code, said } => write!(f, "it answers {code}: {said}"),
        }
    }
}

/// What a role must allow, in the form in which it is written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) group: String,
    pub(crate) resource: String,
    /// One object alone.
    pub(crate) name: Option<String>,
    /// `None`: of the whole cluster.
    pub(crate) namespace: Option<String>,
    pub(crate) verbs: &'static [&'static str],
}

impl Rule {
    pub(crate) fn forbidden(&self) -> Unresolved {
        Unresolved {
            reason: "Forbidden",
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

/// The error and its causes, without what a cause repeats.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
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
