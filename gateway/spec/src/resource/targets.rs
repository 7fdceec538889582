//! References to objects, and targets of events in all their spellings (API.md 2.1).

use std::collections::BTreeMap;

use super::{Auth, DestinationTls, EventSignature, Unread, access::headers};
use crate::schema::{Form, Object, Shape, document_struct, field, target};

document_struct! {
    /// A reference of which kind and apiVersion are known from where it stands.
    pub struct Reference {
        /// Its name.
        name: String [Shape::Text(Form::Name)],
        /// Its namespace, when it is another one.
        namespace: Option<String> [Shape::Text(Form::Label)],
        ..unread: UnreadReference,
    }
}

document_struct! {
    /// The fields of Kubernetes' ObjectReference that the gateway does not read.
    pub struct UnreadReference {
        /// Not read.
        uid: Unread,
        /// Not read.
        resource_version: Unread,
        /// Not read.
        field_path: Unread,
    }
}

document_struct! {
    /// A reference to an object of any kind.
    pub struct ObjectReference {
        /// The target's apiVersion.
        api_version: String [Shape::Text(Form::Filled)],
        /// The target's kind.
        kind: String [Shape::Text(Form::Filled)],
        /// The target's name.
        name: String [Shape::Text(Form::Name)],
        /// The target's namespace, when it is another one.
        namespace: Option<String> [Shape::Text(Form::Label)],
        ..unread: UnreadReference,
    } with { rules: target::referable() }
}

document_struct! {
    /// Where events go. All spellings are taken in `reply`; the others have a narrower shape.
    pub struct Destination {
        /// The target's apiVersion.
        api_version: Option<String> [Shape::Text(Form::Filled)],
        /// The target's kind.
        kind: Option<String> [Shape::Text(Form::Filled)],
        /// The target's name.
        name: Option<String> [Shape::Text(Form::Name)],
        /// The target's namespace, when it is another one.
        namespace: Option<String> [Shape::Text(Form::Label)],
        /// The target as an object.
        reference ("ref"): Option<ObjectReference>,
        /// A URL; with ref, relative to the ref's.
        uri: Option<String> [Shape::Text(Form::Url)],
        /// v0.2: a host with or without a port, or a URL.
        dns_name: Option<String> [Shape::Text(Form::HostOrUrl)],
        /// v0.2: the channel that takes the answers.
        channel: Option<Reference> [channel()],
        /// Sent with every request.
        headers: BTreeMap<String, String> [headers()],
        /// The credential that is sent with every request.
        auth: Option<Auth>,
        /// Its own authority, and the gateway's certificate.
        tls: Option<DestinationTls>,
        /// Signs every request.
        sign: Option<EventSignature>,
        ..unread: UnreadReference,
    } with { rules: target::rules(true) }
}

impl Destination {
    /// The object it names, under `ref` or directly.
    pub fn object(&self) -> Option<ObjectReference> {
        if let Some(reference) = &self.reference {
            return Some(reference.clone());
        }
        Some(ObjectReference {
            api_version: self.api_version.clone()?,
            kind: self.kind.clone()?,
            name: self.name.clone()?,
            namespace: self.namespace.clone(),
            unread: self.unread.clone(),
        })
    }
}

impl Destination {
    /// The names of the secrets that it refers to, in the document's namespace.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        let auth = self.auth.as_ref().map(|auth| {
            let bearer = auth.bearer.as_ref().map(|token| &token.secret_key_ref.name);
            let basic = auth.basic.as_ref().map(|basic| &basic.secret_ref.name);
            let oauth2 = auth.oauth2.as_ref().map(|client| &client.client_secret_key_ref.name);
            [bearer, basic, oauth2]
        });
        let tls = self.tls.as_ref().map(|tls| {
            let authorities = tls.ca_secret_ref.as_ref().map(|secret| &secret.name);
            let certificate = tls.client_certificate_secret_ref.as_ref().map(|secret| &secret.name);
            [authorities, certificate]
        });
        let sign = self.sign.as_ref().map(|sign| {
            let previous = sign.standard_webhooks.previous_secret_key_ref.as_ref();
            let current = Some(&sign.standard_webhooks.secret_key_ref.name);
            [current, previous.map(|secret| &secret.name)]
        });
        let tls = tls.into_iter().flatten();
        let all = auth.into_iter().flatten().chain(tls).chain(sign.into_iter().flatten());
        all.flatten().map(String::as_str).collect()
    }
}

/// The shape of `sink`, `subscriber` and `deadLetterSink`: a target without v0.2's `channel`.
pub(crate) fn destination() -> Shape {
    let mut object = Destination::schema();
    object.fields.retain(|field| field.name != "channel");
    object.rules = target::rules(false);
    Shape::Object(object)
}

/// The shape of a reference to a Channel.
pub(crate) fn channel() -> Shape {
    Shape::Object(reference_to(&["Channel"]))
}

/// The shape of a reference to a provisioner, which has no namespace.
pub(crate) fn provisioner() -> Shape {
    let mut object = reference_to(&["ClusterChannelProvisioner"]);
    object.fields.retain(|field| field.name != "namespace");
    Shape::Object(object)
}

/// A reference of which only the name is needed, because only one kind can be meant.
fn reference_to(kind: &'static [&'static str]) -> Object {
    let mut object = Reference::schema();
    object.fields.extend([
        field(
            "apiVersion",
            Shape::Text(Form::OneOf(&[target::EVENTING])),
            "Its apiVersion.",
        ),
        field("kind", Shape::Text(Form::OneOf(kind)), "Its kind."),
    ]);
    object
}
