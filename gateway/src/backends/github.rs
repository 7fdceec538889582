//! What a GitHubSource says becomes its receiver and what looks after GitHub.

use std::sync::Arc;

use adapter::{Adapter, Hook};
use adapter_github::{Config, Credentials, Secret, Sources, Transport};
use dataplane::{Built, Way};
use spec::model;
use url::Url;

/// Where GitHub's own API is.
const API: &str = "https://api.github.com";

/// A host that is never found (RFC 6761): in poll mode GitHub is to list deliveries, not to make them.
const NOWHERE: &str = "https://headgate.invalid";

/// Where the gateway is called.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// `http://HOST:PORT`, no trailing slash.
    pub(crate) url: String,
    /// Somebody said that this is where others find the gateway.
    pub(crate) is_public: bool,
}

pub(super) fn build(
    source: &model::Source,
    config: &model::GitHubSource,
    given: adapter::Source,
    sources: &Sources,
    address: &Address,
) -> Result<Built, model::Unresolved> {
    let config = settings(source, config, &given, address)?;
    let (hook, adapter) = sources.source(config, given);
    Ok(Built {
        hook: hook.map(|hook| Arc::new(hook) as Arc<dyn Hook>),
        way: Way::Hooks,
        adapter: Some(Arc::new(adapter) as Arc<dyn Adapter>),
    })
}

fn settings(
    source: &model::Source,
    config: &model::GitHubSource,
    given: &adapter::Source,
    address: &Address,
) -> Result<Config, model::Unresolved> {
    let api = match &config.api_url {
        Some(url) => url.clone(),
        None => Url::parse(API).map_err(|error| model::Unresolved {
            reason: "ConfigInvalid",
            message: format!("{API}: {error}"),
        })?,
    };
    let host = match api.host_str() {
        None | Some("api.github.com") => "github.com",
        Some(enterprise) => enterprise,
    };
    let name = &source.key.name;
    let transport = match config.mode {
        model::GitHubMode::Webhook => Transport::Webhook {
            address: format!("{}/hooks/{name}", address.url),
            is_public: address.is_public,
        },
        model::GitHubMode::Poll => Transport::Poll {
            marker: format!("{NOWHERE}/{}/{name}", given.gateway),
        },
    };
    Ok(Config {
        repository: config.owner_and_repository.clone(),
        source: format!("https://{host}/{}", config.owner_and_repository),
        event_types: config.event_types.clone(),
        secrets: secrets(config)?,
        extensions: source.extensions.clone(),
        credentials: credentials(config),
        api,
        transport,
        sweep_interval: config.sweep_interval,
    })
}

/// A secret that is named and not there stops the source: taking unsigned deliveries instead would be worse.
fn secrets(config: &model::GitHubSource) -> Result<Vec<Secret>, model::Unresolved> {
    let named = [&config.secret_token, &config.previous_secret_token];
    let found = named.into_iter().flatten().map(|token| match token {
        Ok(token) => Ok(Secret::new(token.expose())),
        Err(missing) => Err(missing.clone()),
    });
    found.collect()
}

/// An App goes before a token: it has rights of its own and ends with nobody's account. What is named and not there keeps no
/// delivery out.
fn credentials(config: &model::GitHubSource) -> Option<Credentials> {
    let missing = |why: &model::Unresolved| Credentials::Missing {
        reason: why.reason,
        message: why.message.clone(),
    };
    match (&config.app, &config.access_token) {
        (Some(app), _) => Some(match &app.private_key {
            Ok(key) => Credentials::App {
                id: app.id,
                installation_id: app.installation_id,
                private_key: Secret::new(key.expose()),
            },
            Err(why) => missing(why),
        }),
        (None, Some(Ok(token))) => Some(Credentials::Token(Secret::new(token.expose()))),
        (None, Some(Err(why))) => Some(missing(why)),
        (None, None) => None,
    }
}
