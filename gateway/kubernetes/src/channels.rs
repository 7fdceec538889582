//! A Service for each channel, `NAME-channel` beside it: an alias of the gateway's own Service, by which the ingress knows the
//! channel. Decided here, purely; a Service of that name that somebody else made is left alone.

use serde_json::{Value, json};
use spec::{Kind, ObjectName, model::Unresolved};

use crate::known::{CHANNEL_LABEL, ServiceFacts};

/// What a channel's Service is called behind the channel's name.
const SUFFIX: &str = "-channel";

/// RFC 1035: a Service's name is one label.
const LABEL_MAX: usize = 63;

/// What is to be done about a channel's Service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    InPlace,
    /// Not there, or not as it should be.
    Apply,
    Impossible(Unresolved),
}

pub(crate) fn service(channel: &ObjectName) -> ObjectName {
    ObjectName::new(&channel.namespace, format!("{}{SUFFIX}", channel.name))
}

/// The channel of such a Service, and that channel's uid, if it is one that leads to this gateway.
pub(crate) fn channel_of(service: &ObjectName, gateway: &str, there: &ServiceFacts) -> Option<(ObjectName, String)> {
    let channel = service.name.strip_suffix(SUFFIX)?;
    let uid = there.made_for()?;
    let leads_here = there.external_name.as_deref() == Some(gateway);
    leads_here.then(|| (ObjectName::new(&service.namespace, channel), uid.to_owned()))
}

/// The host by which a channel is reached.
pub(crate) fn host(channel: &ObjectName, domain: &str) -> String {
    let ObjectName { namespace, name } = service(channel);
    format!("{name}.{namespace}.svc.{domain}")
}

pub(crate) fn decide(channel: &ObjectName, uid: &str, gateway: &str, there: Option<&ServiceFacts>) -> Decision {
    let name = service(channel).name;
    let impossible = |reason, message| Decision::Impossible(Unresolved { reason, message });
    let starts_well = name.starts_with(|first: char| first.is_ascii_lowercase());
    if name.len() > LABEL_MAX || name.contains('.') || !starts_well {
        let message = format!(
            "a Service cannot be called {name}: it takes {LABEL_MAX} characters at most, no dots, and a letter at the \
             beginning; send to the address by path instead, or give the channel such a name"
        );
        return impossible("ServiceNameInvalid", message);
    }
    let Some(there) = there else {
        return Decision::Apply;
    };
    let Some(made_for) = there.made_for() else {
        let message = format!(
            "the Service {} is somebody else's and is left alone: send to the address by path instead, or delete that \
             Service",
            service(channel)
        );
        return impossible("ServiceTaken", message);
    };
    let as_wanted = there.external_name.as_deref() == Some(gateway) && made_for == uid;
    match as_wanted && !there.is_leaving {
        true => Decision::InPlace,
        false => Decision::Apply,
    }
}

/// What is applied.
pub(crate) fn wanted(channel: &ObjectName, uid: &str, gateway: &str) -> Value {
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
        let ours = ServiceFacts::new(&wanted(&channel, "u1", GATEWAY));
        let decide = |uid: &str, there: Option<&ServiceFacts>| decide(&channel, uid, GATEWAY, there);
        assert_eq!(decide("u1", None), Decision::Apply);
        assert_eq!(decide("u1", Some(&ours)), Decision::InPlace);
        assert_eq!(decide("u2", Some(&ours)), Decision::Apply, "the channel was made anew");
        let drifted = ServiceFacts {
            external_name: Some("elsewhere".into()),
            ..ours.clone()
        };
        assert_eq!(decide("u1", Some(&drifted)), Decision::Apply);
        let foreign = ServiceFacts {
            is_labelled: false,
            ..ours
        };
        assert!(matches!(decide("u1", Some(&foreign)), Decision::Impossible(why) if why.reason == "ServiceTaken"));
    }

    #[test]
    fn only_a_service_that_leads_here_is_known_as_a_channels() {
        let channel = ObjectName::new("shop", "orders");
        let ours = wanted(&channel, "u1", GATEWAY);
        let found = channel_of(&service(&channel), GATEWAY, &ServiceFacts::new(&ours));
        assert_eq!(found, Some((channel.clone(), "u1".to_owned())));
        for (what, foreign) in [
            (
                "of another gateway",
                wanted(&channel, "u1", "other.system.svc.cluster.local"),
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
                channel_of(&service(&channel), GATEWAY, &ServiceFacts::new(&foreign)),
                None,
                "{what}"
            );
        }
        let found = channel_of(&channel, GATEWAY, &ServiceFacts::new(&ours));
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
