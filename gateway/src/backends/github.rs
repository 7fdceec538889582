//! What a GitHubSource says becomes its receiver.

use std::sync::Arc;

use adapter_github::{Config, GitHubHook, Metrics, Secret};
use dataplane::Built;
use spec::model;

/// A secret that is named and not there stops the source: taking unsigned deliveries instead would be worse.
pub(super) fn build(
    source: &model::Source,
    config: &model::GitHubSource,
    given: adapter::Source,
    deliveries: &Metrics,
) -> Result<Built, model::Unresolved> {
    let config = settings(source, config)?;
    Ok(Built {
        hook: Some(Arc::new(GitHubHook::counted(config, given.outlet, deliveries))),
        adapter: None,
    })
}

fn settings(source: &model::Source, config: &model::GitHubSource) -> Result<Config, model::Unresolved> {
    let mut secrets = Vec::new();
    for token in [&config.secret_token, &config.previous_secret_token]
        .into_iter()
        .flatten()
    {
        secrets.push(Secret::new(token.as_ref().map_err(Clone::clone)?.expose()));
    }
    let host = config
        .api_url
        .as_ref()
        .and_then(|url| url.host_str())
        .map_or("github.com", |host| match host {
            "api.github.com" => "github.com",
            enterprise => enterprise,
        });
    Ok(Config {
        name: source.key.name.to_string(),
        source: format!("https://{host}/{}", config.owner_and_repository),
        event_types: config.event_types.clone(),
        secrets,
        extensions: source.extensions.clone(),
    })
}
