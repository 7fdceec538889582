//! The Service of a channel, `NAME-channel` in the channel's namespace: an alias of the gateway's own Service, whose
//! host tells the ingress the channel. The decisions are pure. A Service of that name that the gateway did not create
//! is never changed.

use serde_json::{Value, json};
use spec::{Cause, Kind, ObjectName, Reason};

use crate::cache::{CHANNEL_LABEL, CachedService};

/// The suffix of the Service's name.
const SUFFIX: &str = "-channel";

/// RFC 1035: the name of a Service is one DNS label.
const LABEL_MAX: usize = 63;

/// The next action for a channel's Service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    UpToDate,
    /// It is missing, or differs from the desired one.
    Apply,
    Impossible(Cause),
}

pub(crate) fn service(channel: &ObjectName) -> ObjectName {
    ObjectName::new(&channel.namespace, format!("{}{SUFFIX}", channel.name))
}

/// Returns the channel of a Service and that channel's uid, if the Service is an alias of this gateway.
pub(crate) fn channel_of(service: &ObjectName, gateway: &str, actual: &CachedService) -> Option<(ObjectName, String)> {
    let channel = service.name.strip_suffix(SUFFIX)?;
    let uid = actual.made_for()?;
    let leads_here = actual.external_name.as_deref() == Some(gateway);
    leads_here.then(|| (ObjectName::new(&service.namespace, channel), uid.to_owned()))
}

/// Returns the host name of a channel.
pub(crate) fn host(channel: &ObjectName, domain: &str) -> String {
    let ObjectName { namespace, name } = service(channel);
    format!("{name}.{namespace}.svc.{domain}")
}

pub(crate) fn decide(channel: &ObjectName, uid: &str, gateway: &str, actual: Option<&CachedService>) -> Decision {
    let name = service(channel).name;
    let impossible = |reason, message| Decision::Impossible(Cause { reason, message });
    let starts_well = name.starts_with(|first: char| first.is_ascii_lowercase());
    if name.len() > LABEL_MAX || name.contains('.') || !starts_well {
        let message = format!(
            "{name} is no valid name of a Service, which has {LABEL_MAX} characters at most, no dots, and a letter at the \
             beginning: rename the channel, or send to its address by path"
        );
        return impossible(Reason::ServiceNameInvalid, message);
    }
    let Some(actual) = actual else {
        return Decision::Apply;
    };
    let Some(made_for) = actual.made_for() else {
        let message = format!(
            "the Service {} exists and was not created by the gateway: send to the channel's address by path, or delete that \
             Service",
            service(channel)
        );
        return impossible(Reason::ServiceTaken, message);
    };
    let is_as_desired = actual.external_name.as_deref() == Some(gateway) && made_for == uid;
    if is_as_desired && !actual.is_leaving {
        Decision::UpToDate
    } else {
        Decision::Apply
    }
}

/// Returns the desired Service, for server-side apply.
pub(crate) fn desired(channel: &ObjectName, uid: &str, gateway: &str) -> Value {
    let service = service(channel);
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": service.name,
            "namespace": service.namespace,
            "labels": { CHANNEL_LABEL: channel.name, "app.kubernetes.io/managed-by": "headgate" },
            "ownerReferences": [{
                "apiVersion": Kind::Channel.api_version(), "kind": Kind::Channel.as_str(),
                "name": channel.name, "uid": uid, "controller": true,
            }],
        },
        "spec": { "type": "ExternalName", "externalName": gateway },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: &str = "headgate.system.svc.cluster.local";

    #[test]
    fn a_service_is_made_corrected_or_left_alone() {
        let channel = ObjectName::new("shop", "orders");
        let ours = CachedService::new(&desired(&channel, "u1", GATEWAY));
        let decide = |uid: &str, actual: Option<&CachedService>| decide(&channel, uid, GATEWAY, actual);
        assert_eq!(decide("u1", None), Decision::Apply);
        assert_eq!(decide("u1", Some(&ours)), Decision::UpToDate);
        assert_eq!(decide("u2", Some(&ours)), Decision::Apply, "the channel was made anew");
        let drifted = CachedService {
            external_name: Some("elsewhere".into()),
            ..ours.clone()
        };
        assert_eq!(decide("u1", Some(&drifted)), Decision::Apply);
        let foreign = CachedService {
            is_labelled: false,
            ..ours
        };
        assert!(matches!(decide("u1", Some(&foreign)), Decision::Impossible(why) if why.reason == "ServiceTaken"));
    }

    #[test]
    fn only_a_service_that_leads_here_is_known_as_a_channels() {
        let channel = ObjectName::new("shop", "orders");
        let ours = desired(&channel, "u1", GATEWAY);
        let found = channel_of(&service(&channel), GATEWAY, &CachedService::new(&ours));
        assert_eq!(found, Some((channel.clone(), "u1".to_owned())));
        for (what, foreign) in [
            (
                "of another gateway",
                desired(&channel, "u1", "other.system.svc.cluster.local"),
            ),
            ("without our label", {
                let mut foreign = ours.clone();
                foreign["metadata"]["labels"] = json!({});
                foreign
            }),
            ("without an owner", {
                let mut foreign = ours.clone();
                foreign["metadata"]["ownerReferences"] = json!([]);
                foreign
            }),
        ] {
            assert_eq!(
                channel_of(&service(&channel), GATEWAY, &CachedService::new(&foreign)),
                None,
                "{what}"
            );
        }
        let found = channel_of(&channel, GATEWAY, &CachedService::new(&ours));
        assert_eq!(found, None, "of another name");
    }

    #[test]
    fn a_name_that_no_service_can_have_is_told() {
        for name in ["a.b", "1a", &"a".repeat(60)] {
            let decision = decide(&ObjectName::new("shop", name), "u", GATEWAY, None);
            assert!(
                matches!(&decision, Decision::Impossible(why) if why.reason == "ServiceNameInvalid"),
                "{name}: {decision:?}"
            );
        }
    }
}
