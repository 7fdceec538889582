//! The configuration of one container source.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// The desired container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The image, as the engine names it.
    pub image: String,
    /// Arguments of the image's program.
    pub args: Vec<String>,
    /// In the order of the document: `$(NAME)` may name an earlier one.
    pub env: Vec<Variable>,
    /// Whether a program that ended is started again.
    pub restart: Restart,
    /// Where its events go: this source's URL on the ingress, as the container reaches it.
    pub sink: String,
    /// `ceOverrides.extensions`: told to the container, and laid over its events.
    pub extensions: BTreeMap<String, String>,
}

/// A variable of the program's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The variable's name.
    pub name: String,
    /// The variable's value.
    pub value: Value,
}

/// A variable's value. A secret one is never printed (CONTRACT SR-6).
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Secret(Arc<str>),
}

impl Value {
    pub(crate) fn expose(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Secret(secret) => secret,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Secret(_) => f.write_str("<redacted>"),
        }
    }
}

/// When the container is restarted after the image's program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    Always,
    /// Unless it ended with code 0.
    OnFailure,
    Never,
}

impl Config {
    /// The texts to redact: the secrets, and their longer lines, which a program may print one by one.
    pub(crate) fn secrets(&self) -> Vec<Vec<u8>> {
        let secrets = self.env.iter().filter_map(|variable| match &variable.value {
            Value::Secret(secret) => Some(secret),
            Value::Text(_) => None,
        });
        let mut all: Vec<Vec<u8>> = Vec::new();
        for secret in secrets {
            let lines = secret.lines().filter(|line| line.len() >= SECRET_LINE_MIN);
            all.extend(lines.chain([&**secret]).map(|text| text.as_bytes().to_vec()));
        }
        // The longest first: one may be the beginning of another.
        all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        all.dedup();
        all.retain(|secret| !secret.is_empty());
        all
    }
}

/// Shorter lines of a longer secret are braces and blanks, which would blot out harmless text.
const SECRET_LINE_MIN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: SR-6
    #[test]
    fn a_secret_is_not_printed_and_known_line_by_line() {
        let config = Config {
            image: "registry.example/beats:1".into(),
            args: vec![],
            env: vec![
                Variable {
                    name: "KEY".into(),
                    value: Value::Secret("{\n  private-line-1\n}".into()),
                },
                Variable {
                    name: "LEVEL".into(),
                    value: Value::Text("debug".into()),
                },
            ],
            restart: Restart::Always,
            sink: "http://host.docker.internal:8080/sources/default/beats".into(),
            extensions: BTreeMap::new(),
        };
        let printed = format!("{config:?}");
        assert!(!printed.contains("private") && printed.contains("debug"), "{printed}");
        let secrets = config.secrets();
        assert_eq!(
            secrets,
            [b"{\n  private-line-1\n}".to_vec(), b"  private-line-1".to_vec()]
        );
    }
}
