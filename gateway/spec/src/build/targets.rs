//! Resolves the name of a target (API.md 2.1): our channels, URLs, and standalone `v1/Service` documents, in a cluster whatever its
//! API server says has an address.

use status::{Cause, Reason};
use url::Url;

use crate::{
    Kind, ObjectKey, ObjectName,
    model::Target,
    nearest::suggestion,
    resolver::{Reference, ResolvedReferences, Resolver},
    resource::{Destination, ObjectReference, Resource},
    schema::{
        forms::{host_or_url, http_url},
        target,
    },
    set::{Set, named},
    validate::service_url,
};

pub(super) struct Targets<'a> {
    pub(super) set: &'a Set,
    pub(super) resolver: Resolver<'a>,
}

impl Targets<'_> {
    /// In the namespace of `from`, unless the reference names another one.
    pub(super) fn resolve(&self, from: &ObjectKey, written: &Destination) -> Target {
        if let Some(channel) = &written.channel {
            return self.channel(named(channel, from));
        }
        if let Some(object) = written.object() {
            return self.object(from, &object, written.uri.as_deref());
        }
        let url = match (&written.uri, &written.dns_name) {
            (Some(uri), _) => http_url(uri),
            (None, Some(name)) => host_or_url(name),
            (None, None) => Err("names no target".to_owned()),
        };
        // Its form was checked with the document; a fault here is told rather than dropped.
        url.map_or_else(
            |message| {
                Target::Unresolved(Cause {
                    reason: Reason::SinkEmpty,
                    message,
                })
            },
            Target::uri,
        )
    }

    fn channel(&self, name: ObjectName) -> Target {
        match self.set.get(Kind::Channel, &name) {
            Some(_) => Target::Channel(name),
            None => missing(self.no_channel(&name)),
        }
    }

    /// Says that it is not there, and what may have been meant.
    pub(super) fn no_channel(&self, name: &ObjectName) -> String {
        if self
            .set
            .invalid
            .contains_key(&ObjectKey::new(Kind::Channel, name.clone()))
        {
            return format!("channel {name} has faults of its own");
        }
        let known = self
            .set
            .valid
            .keys()
            .filter(|key| key.kind == Kind::Channel && key.name.namespace == name.namespace);
        let meant = suggestion(&name.name, known.map(|key| key.name.name.as_str()));
        format!("channel {name} does not exist{meant}")
    }

    fn object(&self, from: &ObjectKey, object: &ObjectReference, uri: Option<&str>) -> Target {
        let namespace = object.namespace.as_ref().unwrap_or(&from.name.namespace);
        let name = ObjectName::new(namespace, &object.name);
        match (object.api_version.as_str(), object.kind.as_str(), self.resolver) {
            (target::EVENTING, "Channel", _) => self.channel(name),
            (api_version, kind, Resolver::Cluster(found)) => {
                let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
                let reference = Reference {
                    api_version,
                    kind,
                    name,
                };
                addressed(found, &reference, uri)
            }
            ("v1", "Service", Resolver::Files(_)) => self.service(&name, uri),
            (api_version, kind, Resolver::Files(_)) => Target::Unresolved(Cause {
                reason: Reason::NotFound,
                message: format!(
                    "{api_version} {kind} {name} cannot be resolved: without Kubernetes, targets are Channels, Services (v1) and URIs"
                ),
            }),
        }
    }

    fn service(&self, name: &ObjectName, uri: Option<&str>) -> Target {
        let Some(Resource::Service(service)) = self.set.get(Kind::Service, name) else {
            return missing(format!(
                "service {name} does not exist: add a Service document with spec.externalName"
            ));
        };
        let Some(host) = &service.external_name else {
            return missing(format!(
                "service {name} has no spec.externalName: without Kubernetes, that is its address"
            ));
        };
        let url = service_url(host, service.ports.first().map(|port| port.port));
        let joined = url.and_then(|url: Url| join(&url, uri));
        joined.map_or_else(|message| missing(format!("service {name}: {message}")), Target::uri)
    }
}

/// Where an object of the cluster is, as its API server says.
fn addressed(found: &ResolvedReferences, reference: &Reference, uri: Option<&str>) -> Target {
    match found.addresses.get(reference) {
        Some(Ok(url)) => join(url, uri).map_or_else(|message| missing(format!("{reference}: {message}")), Target::uri),
        Some(Err(why)) => Target::Unresolved(why.clone()),
        None => Target::Unresolved(Cause {
            reason: Reason::Deploying,
            message: format!("the address of {reference} is being looked up"),
        }),
    }
}

fn join(url: &Url, uri: Option<&str>) -> Result<Url, String> {
    match uri {
        Some(uri) => url.join(uri).map_err(|error| error.to_string()),
        None => Ok(url.clone()),
    }
}

fn missing(message: String) -> Target {
    Target::Unresolved(Cause {
        reason: Reason::NotFound,
        message,
    })
}
