//! The address of a request: a channel, a source's hook or a source that takes CloudEvents.

use std::sync::Arc;

use http::Request;

use super::host;
use crate::ingress::{ChannelEndpoint, Ingress, SourceEndpoint};

/// The channel or source that a request is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Address {
    Channel(String),
    /// A source that is called in the format of its upstream.
    Hook(String),
    /// A source that is posted CloudEvents.
    Source(String),
}

/// The endpoint that serves an address.
pub(super) enum Endpoint {
    Channel(Arc<ChannelEndpoint>),
    Source(Arc<SourceEndpoint>),
}

impl Address {
    pub(super) fn of<T>(request: &Request<T>, host: Option<&str>) -> Self {
        let path = request.uri().path();
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() {
            return Self::Channel(host.and_then(host::channel).unwrap_or_default());
        }
        match (path.strip_prefix("hooks/"), path.strip_prefix("sources/")) {
            (Some(name), _) => Self::Hook(name.to_owned()),
            // With one part behind it, `sources` is a namespace of channels.
            (None, Some(name)) if name.contains('/') => Self::Source(name.to_owned()),
            (None, _) => Self::Channel(path.to_owned()),
        }
    }

    /// Returns the path without its first slash.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Channel(name) => name.clone(),
            Self::Hook(name) => format!("hooks/{name}"),
            Self::Source(name) => format!("sources/{name}"),
        }
    }

    pub(super) fn find(&self, ingress: &Ingress) -> Option<Endpoint> {
        let endpoints = ingress.endpoints();
        match self {
            Self::Channel(name) => endpoints.channels.get(name).cloned().map(Endpoint::Channel),
            Self::Hook(name) => endpoints.hooks.get(name).cloned().map(Endpoint::Source),
            Self::Source(name) => endpoints.sources.get(name).cloned().map(Endpoint::Source),
        }
    }

    /// Why a channel that documents name is not open yet.
    pub(super) fn pending(&self, ingress: &Ingress) -> Option<String> {
        let Self::Channel(name) = self else { return None };
        let endpoints = ingress.endpoints();
        let pending = endpoints.pending.get(name).filter(|pending| pending.has_path)?;
        Some(pending.message.clone())
    }

    pub(super) fn allow(&self) -> &'static str {
        match self {
            Self::Hook(_) => "POST",
            Self::Channel(_) | Self::Source(_) => "POST, OPTIONS",
        }
    }

    pub(super) fn not_found(&self) -> String {
        let path = self.path();
        match self {
            Self::Channel(_) => format!(
                "no channel at /{path}: a channel's address is /NAMESPACE/NAME, or / of the host NAME-channel.NAMESPACE.svc"
            ),
            Self::Hook(_) | Self::Source(_) => format!("no source receives at /{path}"),
        }
    }
}
