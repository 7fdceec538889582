//! What one Kubernetes event source is told.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use kube::Client;

use crate::facts::Facts;

#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `None` watches all namespaces.
    pub namespace: Option<String>,
    /// `Normal`, `Warning`; empty takes both.
    pub types: Vec<String>,
    /// Empty takes all.
    pub reasons: Vec<String>,
    /// Kinds of involved objects; empty takes all.
    pub kinds: Vec<String>,
    /// Repeats of one object and reason within this time are bundled.
    pub coalesce: Option<Duration>,
    /// `ceOverrides.extensions`, laid over every event.
    pub extensions: BTreeMap<String, String>,
    pub identity: Identity,
}

/// Who the gateway is to the API server. Read anew for each client, so that what was rotated is used (CONTRACT SR-6).
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// `None`: the files of `KUBECONFIG`, else `~/.kube/config`; where there is none, the account of the pod we run in.
    pub kubeconfig: Option<PathBuf>,
    /// `None`: the current one.
    pub context: Option<String>,
    pub seen: Seen,
}

/// What sees the requests: a gateway counts them with its own.
#[derive(Clone)]
pub struct Seen(Arc<dyn Fn(Client) -> Client + Send + Sync>);

impl Seen {
    /// `around` puts something around each client that is made.
    pub fn by(around: impl Fn(Client) -> Client + Send + Sync + 'static) -> Self {
        Self(Arc::new(around))
    }

    pub(crate) fn around(&self, client: Client) -> Client {
        (self.0)(client)
    }
}

impl Default for Seen {
    /// By nobody.
    fn default() -> Self {
        Self::by(|client| client)
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("around each client")
    }
}

impl Config {
    pub(crate) fn takes(&self, facts: &Facts) -> bool {
        let among = |wanted: &[String], value: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == value);
        among(&self.types, facts.kind_of_event())
            && among(&self.reasons, facts.reason())
            && among(&self.kinds, facts.involved().kind())
    }

    /// As people write it.
    pub(crate) fn place(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("namespace {namespace}"),
            None => "all namespaces".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::tests::facts;

    #[test]
    fn each_filter_must_take_an_event() {
        let config = |types: &[&str], reasons: &[&str], kinds: &[&str]| {
            let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
            Config {
                types: texts(types),
                reasons: texts(reasons),
                kinds: texts(kinds),
                ..Config::default()
            }
        };
        let event = facts(r#"{"type":"Warning","reason":"BackOff","involvedObject":{"kind":"Pod"}}"#);
        let cases = [
            (config(&[], &[], &[]), true),
            (config(&["Warning"], &["Killing", "BackOff"], &["Pod"]), true),
            (config(&["Normal"], &[], &[]), false),
            (config(&[], &["Killing"], &[]), false),
            (config(&["Warning"], &["BackOff"], &["Node"]), false),
        ];
        for (config, taken) in cases {
            assert_eq!(config.takes(&event), taken, "{config:?}");
        }
    }
}
