//! The four sources (API.md 2.5).

use super::Described;
use crate::schema::{
    Field, Form, Object, Shape, field, filled_list, list, map, object,
    parts::{destination, secret_selector, token},
    required, special,
};

/// What all sources have (API.md 2.5).
fn source(mut fields: Vec<Field>, rules: Vec<(&'static str, &'static str)>, describe: &'static str) -> Described {
    let overrides = object(vec![field(
        "extensions",
        map(Shape::Text(Form::Free)),
        "Set on every event.",
    )]);
    fields.extend([
        field("generation", Shape::Any, "Not read (v0.2)."),
        field("sink", destination(), "Where the events go."),
        field(
            "serviceAccountName",
            Shape::Text(Form::Name),
            "Runs the adapter under this account.",
        ),
        field(
            "serviceAccountname",
            Shape::Text(Form::Name),
            "v0.2's spelling of serviceAccountName.",
        ),
        field("ceOverrides", overrides, "Changes to the events."),
    ]);
    Described {
        spec: Shape::Object(Object {
            fields,
            rules,
            ..Object::default()
        }),
        spec_required: true,
        describe,
    }
}

pub(super) fn github() -> Described {
    let number = || Shape::Integer { min: 1, max: i64::MAX };
    let app = object(vec![
        required("id", number(), "the App's id"),
        required("installationId", number(), "the installation's id"),
        required("privateKey", token(), "the secret that has the App's private key"),
    ]);
    let fields = vec![
        required(
            "ownerAndRepository",
            Shape::Text(Form::OwnerAndRepository),
            "`org/repo`, or `org` for all its repositories",
        ),
        field(
            "eventTypes",
            filled_list(Shape::Text(Form::Filled)),
            "Event names as GitHub has them; `*` takes all, as does no list.",
        ),
        field(
            "accessToken",
            token(),
            "Manages the webhook and reads missed deliveries.",
        ),
        field("secretToken", token(), "Signs deliveries."),
        field(
            "previousSecretToken",
            token(),
            "Still accepted while the secret is changed.",
        ),
        field("githubAPIURL", Shape::Text(Form::HttpUrl), "GitHub Enterprise's API."),
        field("app", app, "A GitHub App instead of an access token."),
        field(
            "mode",
            Shape::Text(Form::OneOf(&["webhook", "poll"])),
            "How events come; default webhook.",
        ),
        field(
            "sweepInterval",
            Shape::Text(Form::Duration),
            "How often missed deliveries are looked for; PT0S is off.",
        ),
    ];
    let rules = vec![(
        "has(self.accessToken) || has(self.secretToken) || has(self.app)",
        "at least one of accessToken and secretToken is needed",
    )];
    source(fields, rules, "Events of a GitHub repository or organisation.")
}

pub(super) fn kubernetes_events() -> Described {
    let fields = vec![
        field(
            "namespace",
            Shape::Text(Form::Free),
            "The namespace whose events are meant.",
        ),
        field("allNamespaces", Shape::Boolean, "All namespaces instead of one."),
        field(
            "types",
            list(Shape::Text(Form::OneOf(&["Normal", "Warning"]))),
            "Only these types.",
        ),
        field("reasons", list(Shape::Text(Form::Filled)), "Only these reasons."),
        field(
            "kinds",
            list(Shape::Text(Form::Filled)),
            "Only events about these kinds.",
        ),
        field(
            "coalesce",
            Shape::Text(Form::Duration),
            "Bundles repeats within this time.",
        ),
    ];
    let rules = vec![(
        "(has(self.__namespace__) && self.__namespace__ != '') || (has(self.allNamespaces) && self.allNamespaces)",
        "namespace is required, unless allNamespaces is true",
    )];
    source(fields, rules, "Kubernetes' own events.")
}

pub(super) fn gcp_pubsub() -> Described {
    let credentials = secret_selector(false);
    let fields = vec![
        required("googleCloudProject", Shape::Text(Form::Filled), "the project's id"),
        required("topic", Shape::Text(Form::Filled), "the topic's id"),
        field(
            "gcpCredsSecret",
            credentials,
            "The secret with a service account's key; key.json when no key is named.",
        ),
        field(
            "subscription",
            Shape::Text(Form::Filled),
            "An existing subscription to use.",
        ),
        field("emulatorHost", Shape::Text(Form::Filled), "host:port of an emulator."),
        field(
            "deletionPolicy",
            Shape::Text(Form::OneOf(&["Delete", "Retain"])),
            "What becomes of our subscription.",
        ),
        field("ordering", Shape::Boolean, "Keeps the order of each ordering key."),
    ];
    source(fields, Vec::new(), "Messages of a Google Cloud Pub/Sub topic.")
}

pub(super) fn container() -> Described {
    let fields = vec![
        required("image", Shape::Text(Form::Filled), "the image to run"),
        field(
            "args",
            list(Shape::Text(Form::Free)),
            "Arguments; `--sink=` is set by us.",
        ),
        field(
            "env",
            Shape::Special {
                check: special::env,
                describe: "A list of EnvVar, or a map.",
            },
            "Environment.",
        ),
        field("template", Shape::Any, "A pod template."),
        field(
            "restartPolicy",
            Shape::Text(Form::OneOf(&[
                "always",
                "onFailure",
                "never",
                "Always",
                "OnFailure",
                "Never",
            ])),
            "Default always.",
        ),
    ];
    source(fields, Vec::new(), "Events that a container sends.")
}
