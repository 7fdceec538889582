//! Builds the container that an engine is asked to create for a source. Pure: the same source always gives the same
//! container, which the hash in its labels shows.

use std::collections::HashMap;

use adapter_sink_binding::{overrides, with_sink};
use bollard::models::{ContainerCreateBody, HostConfig};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{Config, engine::HOST, expand::expand};

/// The label that holds the gateway's id. A gateway finds its containers by it, and touches no others.
pub(crate) const GATEWAY: &str = "headgate.gateway";
/// `NAMESPACE/NAME` of the source.
pub(crate) const SOURCE: &str = "headgate.source";
pub(crate) const UID: &str = "headgate.source-uid";
/// The label that holds a hash of everything that the container is created from.
pub(crate) const HASH: &str = "headgate.configuration";

/// Increased with every change of what is created from the same source, so that a newer gateway replaces older containers.
const RECIPE: u32 = 1;

/// Room for a person to read a name by; the uid's first letters tell it from every other.
const NAME_MAX: usize = 200;

/// The desired container of a source.
pub(crate) struct ContainerSpec {
    pub(crate) name: String,
    pub(crate) hash: String,
    pub(crate) body: ContainerCreateBody,
}

impl ContainerSpec {
    pub(crate) fn new(config: &Config, source: &adapter::Source) -> Self {
        let env = environment(config);
        let known = |name: &str| {
            env.iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
        };
        let args: Vec<String> = with_sink(&config.args, &config.sink);
        let args: Vec<String> = args.iter().map(|argument| expand(argument, known)).collect();
        let env: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let hash = hash(&config.image, &args, &env, &source.uid);
        let labels = [
            (GATEWAY, source.gateway.as_str()),
            (SOURCE, &source.name),
            (UID, &source.uid),
            (HASH, &hash),
        ];
        let labels: HashMap<String, String> = labels
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let body = ContainerCreateBody {
            image: Some(config.image.clone()),
            // As in a pod: args take the place of the image's CMD, its ENTRYPOINT stays.
            cmd: Some(args),
            env: Some(env),
            labels: Some(labels),
            host_config: Some(HostConfig {
                // Docker Desktop defines it by itself; on Linux the container has to.
                extra_hosts: Some(vec![format!("{HOST}:host-gateway")]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        Self {
            name: name(source),
            hash,
            body,
        }
    }
}

/// `headgate-NAMESPACE-NAME-UID8`.
fn name(source: &adapter::Source) -> String {
    let mut name = format!("headgate-{}", source.name.replace('/', "-"));
    name.truncate(NAME_MAX);
    let uid: String = source.uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    format!("{name}-{uid}")
}

/// The source's variables, expanded, and the gateway's own, which the source cannot override.
fn environment(config: &Config) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = vec![
        ("K_SINK".into(), config.sink.clone()),
        ("SINK".into(), config.sink.clone()),
        ("K_CE_OVERRIDES".into(), overrides(&config.extensions)),
    ];
    let ours = all.len();
    for variable in &config.env {
        if all.iter().take(ours).any(|(name, _)| *name == variable.name) {
            continue;
        }
        let known = |name: &str| {
            all.iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
        };
        let value = expand(variable.value.expose(), known);
        // The last of several wins, as in a pod.
        all.retain(|(name, _)| *name != variable.name);
        all.push((variable.name.clone(), value));
    }
    all
}

/// The parts are in a JSON array, so that no two different containers are written alike.
fn hash(image: &str, args: &[String], env: &[String], uid: &str) -> String {
    let text = json!([RECIPE, image, args, env, uid]).to_string();
    hex::encode(Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use adapter::suite::{Scripted, source};

    use super::*;
    use crate::{Restart, Value, Variable};

    const SINK: &str = "http://host.docker.internal:8080/sources/default/test";

    fn config() -> Config {
        let variable = |name: &str, value: Value| Variable {
            name: name.to_owned(),
            value,
        };
        Config {
            image: "registry.example/beats:1".into(),
            args: vec!["--period=$(PERIOD)".into()],
            env: vec![
                variable("PERIOD", Value::Text("5".into())),
                variable("K_SINK", Value::Text("http://elsewhere".into())),
                variable("TOKEN", Value::Secret("s3cret".into())),
                variable("LINE", Value::Text("$(TOKEN) every $(PERIOD) to $(SINK)".into())),
            ],
            restart: Restart::Always,
            sink: SINK.into(),
            extensions: [("team".to_owned(), "blue".to_owned())].into(),
        }
    }

    fn spec(config: &Config) -> ContainerSpec {
        ContainerSpec::new(config, &source(Scripted::storing()))
    }

    #[test]
    fn a_container_gets_its_sink_its_overrides_and_its_variables() {
        let spec = spec(&config());
        let env = spec.body.env.unwrap();
        let line = format!("LINE=s3cret every 5 to {SINK}");
        for expected in [
            &format!("K_SINK={SINK}"),
            &format!("SINK={SINK}"),
            r#"K_CE_OVERRIDES={"extensions":{"team":"blue"}}"#,
            "PERIOD=5",
            "TOKEN=s3cret",
            &line,
        ] {
            assert_eq!(
                env.iter().filter(|found| *found == expected).count(),
                1,
                "{expected} in {env:?}"
            );
        }
        assert_eq!(env.iter().filter(|found| found.starts_with("K_SINK=")).count(), 1);
        assert_eq!(
            spec.body.cmd.unwrap(),
            ["--period=5".to_owned(), format!("--sink={SINK}")]
        );
        assert_eq!(spec.name, "headgate-default-test-5f0c7a3e");
    }

    #[test]
    fn without_overrides_the_variable_is_empty() {
        let config = Config {
            extensions: [].into(),
            ..config()
        };
        assert!(spec(&config).body.env.unwrap().contains(&"K_CE_OVERRIDES=".to_owned()));
    }

    #[test]
    fn the_hash_changes_with_what_makes_the_container_and_with_nothing_else() {
        let one = spec(&config()).hash;
        assert_eq!(spec(&config()).hash, one);
        // The policy is the gateway's: the container stays.
        let policy = Config {
            restart: Restart::Never,
            ..config()
        };
        assert_eq!(spec(&policy).hash, one);
        let mut changed = [config(), config(), config(), config()];
        changed[0].image.push('0');
        changed[1].args.push("more".into());
        changed[2].env[2].value = Value::Secret("rotated".into());
        changed[3].sink.push('2');
        for changed in changed {
            assert_ne!(spec(&changed).hash, one, "{changed:?}");
        }
    }
}
