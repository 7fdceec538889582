//! Builds the webhook receiver and the adapter of a GitHubSource.

use std::sync::Arc;

use adapter::{Adapter, Hook};
use adapter_github::{Config, Credentials, Secret, Sources, Transport};
use dataplane::{RouteKind, SourceParts};
use spec::{Cause, Reason, model};
use url::Url;

/// The URL of GitHub's own API.
const API: &str = "https://api.github.com";

/// A host that is never found (RFC 6761): in poll mode GitHub lists deliveries and must not make them.
const NOWHERE: &str = "https://headgate.invalid";

/// The URL of the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// `http://HOST:PORT`, no trailing slash.
    pub(crate) url: String,
    /// The user has set the URL as the public one.
    pub(crate) is_public: bool,
}

pub(super) fn build(
    source: &model::Source,
    config: &model::GitHubSource,
    given: adapter::Source,
    sources: &Sources,
    address: &Address,
) -> Result<SourceParts, Cause> {
    let config = settings(source, config, &given, address)?;
    let (hook, adapter) = sources.source(config, given);
    Ok(SourceParts {
        hook: hook.map(|hook| Arc::new(hook) as Arc<dyn Hook>),
        route_kind: RouteKind::Hooks,
        adapter: Some(Arc::new(adapter) as Arc<dyn Adapter>),
    })
}

fn settings(
    source: &model::Source,
    config: &model::GitHubSource,
    given: &adapter::Source,
    address: &Address,
) -> Result<Config, Cause> {
    let api = match &config.api_url {
        Some(url) => url.clone(),
        None => Url::parse(API).map_err(|error| Cause {
            reason: Reason::ConfigInvalid,
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
    let credentials = credentials(config);
    let secrets = match (&config.secret_token, &credentials, &transport) {
        // Only GitHub may send to a webhook that the gateway registers itself.
        (None, Some(credentials), Transport::Webhook { is_public: true, .. }) if !config.allow_unsigned => {
            let derived = match credentials {
                Credentials::Missing(cause) => Err(cause.clone()),
                known => Ok(known.webhook_secret(&name.to_string(), &config.owner_and_repository)),
            };
            let mut secrets = secrets(config)?;
            secrets.splice(0..0, derived?);
            secrets
        }
        _ => secrets(config)?,
    };
    Ok(Config {
        repository: config.owner_and_repository.clone(),
        source: format!("https://{host}/{}", config.owner_and_repository),
        event_types: config.event_types.clone(),
        secrets,
        allow_unsigned: config.allow_unsigned,
        extensions: source.extensions.clone(),
        credentials,
        api,
        transport,
        sweep_interval: config.sweep_interval,
    })
}

/// A missing secret stops the source: accepting unsigned deliveries would be worse.
fn secrets(config: &model::GitHubSource) -> Result<Vec<Secret>, Cause> {
    let named = [&config.secret_token, &config.previous_secret_token];
    let found = named.into_iter().flatten().map(|token| match token {
        Ok(token) => Ok(Secret::new(token.expose())),
        Err(missing) => Err(missing.clone()),
    });
    found.collect()
}

/// An App takes precedence over a token: it has rights of its own and outlives a person's account. A missing secret
/// does not stop deliveries.
fn credentials(config: &model::GitHubSource) -> Option<Credentials> {
    let missing = |cause: &Cause| Credentials::Missing(cause.clone());
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
