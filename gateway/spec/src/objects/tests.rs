//! Objects of an API server become the spec that the same documents in files become.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;
use status::{Cause, Reason};
use url::Url;

use super::*;
use crate::model::{SourceConfig, Target};

fn object(kind: Kind, name: &str, uid: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": kind.api_version(), "kind": kind.as_str(), "spec": spec,
        "metadata": {
            "name": name, "namespace": "shop", "uid": uid, "generation": 3, "resourceVersion": "77",
            "creationTimestamp": "2026-11-24T12:00:00Z", "managedFields": [{ "manager": "kubectl" }],
            "annotations": { LAST_APPLIED: "{}" },
        },
        "status": { "conditions": [] },
    })
}

fn subscription(name: &str, uid: &str, subscriber: &Value) -> Value {
    let spec = json!({ "channel": { "name": "orders" }, "subscriber": subscriber });
    object(Kind::Subscription, name, uid, &spec)
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}

struct Store {
    objects: Objects,
    specs: watch::Receiver<Arc<Spec>>,
    found: ResolvedReferences,
}

impl Store {
    fn with(objects: &[(Kind, Value)]) -> Self {
        let (out, specs) = watch::channel(Arc::new(Spec::default()));
        let mut this = Self {
            objects: Objects::new("embedded", out),
            specs,
            found: ResolvedReferences::default(),
        };
        for (kind, object) in objects {
            this.objects.put(*kind, object);
        }
        this
    }

    fn publish(&mut self) -> Arc<Spec> {
        self.objects.publish(&self.found, BTreeSet::new());
        self.specs.borrow_and_update().clone()
    }
}

#[test]
fn objects_become_a_spec_without_what_the_server_added() {
    let mut store = Store::with(&[
        (Kind::Channel, object(Kind::Channel, "orders", "1", &json!({}))),
        (
            Kind::Subscription,
            subscription("all", "2", &json!({ "uri": "http://a/" })),
        ),
    ]);
    let spec = store.publish();
    assert!(spec.generation == 1 && !spec.incomplete && spec.unread.is_empty());
    assert!(spec.channels.contains_key(&name("orders")) && spec.subscriptions.contains_key(&name("all")));
    let object = &spec.objects[&ObjectKey::new(Kind::Channel, name("orders"))];
    assert_eq!(
        object.document["metadata"],
        json!({ "name": "orders", "namespace": "shop" })
    );
    assert_eq!(
        (object.generation, object.created.to_string().as_str()),
        (Some(3), "2026-11-24T12:00:00Z")
    );
    assert_eq!(store.publish().generation, 1, "nothing changed");
    store.objects.remove(&ObjectKey::new(Kind::Subscription, name("all")));
    assert!(store.publish().subscriptions.is_empty());
}

/// A source's workload belongs to its object, which the uid tells from a predecessor of the same name.
#[test]
fn a_source_is_known_by_the_uid_of_its_object() {
    let spec = json!({ "image": "beats:1", "sink": { "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "Channel", "name": "orders" } });
    let source = object(Kind::ContainerSource, "beats", "7", &spec);
    let mut store = Store::with(&[(Kind::ContainerSource, source)]);
    let key = ObjectKey::new(Kind::ContainerSource, name("beats"));
    assert_eq!(store.publish().sources[&key].uid.as_deref(), Some("7"));
}

#[test]
fn a_target_is_what_the_api_server_says_of_it_now() {
    let service = json!({ "ref": { "apiVersion": "v1", "kind": "Service", "name": "cart" }, "uri": "/in" });
    let mut store = Store::with(&[
        (Kind::Channel, object(Kind::Channel, "orders", "1", &json!({}))),
        (Kind::Subscription, subscription("all", "2", &service)),
    ]);
    let cart = Reference {
        api_version: "v1".into(),
        kind: "Service".into(),
        name: name("cart"),
    };
    assert_eq!(store.objects.references().targets, [cart.clone()].into());
    let mut subscriber = |address: Option<Result<Url, Cause>>| {
        if let Some(address) = address {
            store.found.addresses.insert(cart.clone(), address);
        }
        store.publish().subscriptions[&name("all")].subscriber.clone().unwrap()
    };
    assert!(matches!(subscriber(None), Target::Unresolved(why) if why.reason == "Deploying"));
    let url = Url::parse("http://cart.shop.svc.cluster.local/").unwrap();
    assert_eq!(subscriber(Some(Ok(url.clone()))), Target::uri(url.join("/in").unwrap()));
    let gone = Cause {
        reason: Reason::NotFound,
        message: "service shop/cart does not exist".into(),
    };
    assert_eq!(subscriber(Some(Err(gone.clone()))), Target::Unresolved(gone));
}

#[test]
fn an_invalid_edit_leaves_the_last_valid_version_and_a_new_object_has_none() {
    let mut store = Store::with(&[
        (Kind::Channel, object(Kind::Channel, "orders", "1", &json!({}))),
        (
            Kind::Subscription,
            subscription("all", "2", &json!({ "uri": "http://a/" })),
        ),
    ]);
    store.publish();
    store.objects.put(
        Kind::Subscription,
        &subscription("all", "2", &json!({ "uri": "nowhere" })),
    );
    let spec = store.publish();
    let key = ObjectKey::new(Kind::Subscription, name("all"));
    assert!(spec.subscriptions.contains_key(&key.name), "it goes on");
    let faults = &spec.objects[&key].faults;
    assert!(
        faults.len() == 1 && faults[0].starts_with("spec.subscriber.uri: "),
        "{faults:?}"
    );
    // Another channel would be a fault of the same object, and is none of another.
    let mut other = subscription("all", "9", &json!({ "uri": "http://b/" }));
    other["spec"]["channel"]["name"] = json!("letters");
    store.objects.put(Kind::Subscription, &other);
    let spec = store.publish();
    assert_eq!(spec.objects[&key].faults, [""; 0]);
    assert_eq!(spec.subscriptions[&key.name].channel, name("letters"));
}

/// Proves: SR-6
#[test]
fn a_secret_is_asked_for_by_name_and_its_values_are_shown_nowhere() {
    let spec = json!({
        "ownerAndRepository": "o/r", "secretToken": { "secretKeyRef": { "name": "hook", "key": "token" } },
        "sink": { "apiVersion": "eventing.knative.dev/v1alpha1", "kind": "Channel", "name": "orders" },
    });
    let mut store = Store::with(&[
        (Kind::Channel, object(Kind::Channel, "orders", "1", &json!({}))),
        (Kind::GitHubSource, object(Kind::GitHubSource, "g", "2", &spec)),
    ]);
    assert_eq!(store.objects.references().secrets, [name("hook")].into());
    let token = |spec: &Spec| match &spec.sources.values().next().unwrap().config {
        SourceConfig::GitHub(github) => github.secret_token.clone().unwrap(),
        _ => unreachable!("a GitHubSource"),
    };
    assert_eq!(token(&store.publish()).unwrap_err().reason, "SecretTokenNotFound");
    let forbidden = Cause {
        reason: Reason::Forbidden,
        message: "may not be read".into(),
    };
    store.found.withheld.insert(name("hook"), forbidden.clone());
    assert_eq!(token(&store.publish()), Err(forbidden));
    store.found.withheld.clear();
    let mut secret = object(Kind::Secret, "hook", "3", &Value::Null);
    secret["data"] = json!({ "token": "czNjcmV0" });
    store.objects.put(Kind::Secret, &secret);
    let spec = store.publish();
    assert_eq!(token(&spec).unwrap().expose(), b"s3cret");
    assert!(!format!("{spec:?}").contains("czNjcmV0"));
}

fn backend(spec: &Spec, channel: &str) -> Result<String, &'static str> {
    let provisioner = &spec.channels[&name(channel)].provisioner;
    provisioner
        .as_ref()
        .map(|found| found.name.clone())
        .map_err(|why| why.reason.as_str())
}

fn defaults(text: &str) -> Result<Defaults, Cause> {
    Defaults::parse(text).map_err(|message| Cause {
        reason: Reason::DefaultChannelInvalid,
        message,
    })
}

/// Another default moves no events.
#[test]
fn a_channel_keeps_the_default_that_it_was_given() {
    let plain = |name: &str, uid: &str| object(Kind::Channel, name, uid, &json!({}));
    let mut store = Store::with(&[(Kind::Channel, plain("first", "1"))]);
    store
        .objects
        .set_defaults(defaults("namespacedefaults: {shop: {name: memory}}"));
    assert_eq!(backend(&store.publish(), "first"), Ok("in-memory-channel".into()));
    store.objects.set_defaults(defaults("clusterdefault: {name: embedded}"));
    // Known from a gateway before this one, by its status; and of one that knew no defaults, by having been taken.
    let mut known = plain("known", "2");
    known["status"]["provisioner"] = json!({ "name": "in-memory-channel" });
    let mut taken = plain("taken", "3");
    taken["status"]["address"] = json!({ "url": "http://h/shop/taken" });
    for channel in [plain("second", "4"), known, taken] {
        store.objects.put(Kind::Channel, &channel);
    }
    store.objects.set_defaults(defaults("clusterdefault: {name: memory}"));
    store.objects.put(Kind::Channel, &plain("third", "5"));
    let mut edited = plain("first", "1");
    edited["spec"]["delivery"] = json!({ "retry": 2 });
    store.objects.put(Kind::Channel, &edited);
    let spec = store.publish();
    let names = ["first", "second", "known", "taken", "third"];
    let memory = || Ok("in-memory-channel".to_owned());
    let expected = [memory(), memory(), memory(), Ok("embedded".into()), memory()];
    assert_eq!(names.map(|name| backend(&spec, name)), expected);
    // A recreated object is another one.
    store.objects.set_defaults(defaults("clusterdefault: {name: embedded}"));
    store.objects.put(Kind::Channel, &plain("first", "6"));
    assert_eq!(backend(&store.publish(), "first"), Ok("embedded".into()));
    // To name what it has changes nothing, to name another one is refused.
    for (named, faults) in [("memory", 0), ("embedded", 1)] {
        let spec = json!({ "provisioner": { "name": named } });
        store
            .objects
            .put(Kind::Channel, &object(Kind::Channel, "third", "5", &spec));
        let spec = store.publish();
        let object = &spec.objects[&ObjectKey::new(Kind::Channel, name("third"))];
        assert_eq!(
            (object.faults.len(), backend(&spec, "third")),
            (faults, memory()),
            "{named}"
        );
    }
}

#[test]
fn a_channel_waits_for_a_default_that_can_be_used() {
    let mut store = Store::with(&[(Kind::Channel, object(Kind::Channel, "orders", "1", &json!({})))]);
    store.objects.set_defaults(defaults("clusterdefault: {nam: memory}"));
    assert_eq!(backend(&store.publish(), "orders"), Err("DefaultChannelInvalid"));
    store.objects.set_defaults(defaults("clusterdefault: {name: memry}"));
    assert_eq!(backend(&store.publish(), "orders"), Err("NotProvisioned"));
    store.objects.set_defaults(defaults("clusterdefault: {name: memory}"));
    assert_eq!(backend(&store.publish(), "orders"), Ok("in-memory-channel".into()));
}
