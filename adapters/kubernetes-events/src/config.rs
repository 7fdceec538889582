//! The configuration of one Kubernetes event source.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use kube::Client;

use crate::event_fields::EventFields;

/// One source's configuration, resolved.
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
    /// How the source authenticates to the API server.
    pub identity: Identity,
}

/// The gateway's identity at the API server. Read again for each client, so that rotated credentials are used (CONTRACT SR-6).
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// `None`: the files of `KUBECONFIG`, else `~/.kube/config`; where there is none, the account of the gateway's pod.
    pub kubeconfig: Option<PathBuf>,
    /// `None`: the current context.
    pub context: Option<String>,
    /// Counts the requests to the API server.
    pub observer: RequestObserver,
}

/// Observes the requests, so that a gateway counts them with its own.
#[derive(Clone)]
pub struct RequestObserver(Arc<dyn Fn(Client) -> Client + Send + Sync>);

impl RequestObserver {
    /// Observes by wrapping each client that is made.
    pub fn by(around: impl Fn(Client) -> Client + Send + Sync + 'static) -> Self {
        Self(Arc::new(around))
    }

    pub(crate) fn around(&self, client: Client) -> Client {
        (self.0)(client)
    }
}

impl Default for RequestObserver {
    /// Observes nothing.
    fn default() -> Self {
        Self::by(|client| client)
    }
}

impl fmt::Debug for RequestObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("around each client")
    }
}

impl Config {
    pub(crate) fn takes(&self, fields: &EventFields) -> bool {
        let among =
            |allowed: &[String], value: &str| allowed.is_empty() || allowed.iter().any(|allowed| allowed == value);
        among(&self.types, fields.kind_of_event())
            && among(&self.reasons, fields.reason())
            && among(&self.kinds, fields.involved().kind())
    }

    /// Describes the watched namespaces for messages.
    pub(crate) fn scope(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("namespace {namespace}"),
            None => "all namespaces".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_fields::tests::fields;

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
        let event = fields(r#"{"type":"Warning","reason":"BackOff","involvedObject":{"kind":"Pod"}}"#);
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
