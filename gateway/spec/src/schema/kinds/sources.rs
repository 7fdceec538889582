//! The four sources (API.md 2.5).

use super::Described;
use crate::schema::{
    Field, Form, Map, Object, Shape, field, filled_list, list, object,
    parts::{destination, secret_selector, token},
    required,
    rules::{Rule, Test, any, given, not, rule},
    settings, short_list, special,
};

/// Each is a header of every delivery; servers take about a hundred.
const EXTENSIONS_MAX: usize = 64;

/// GitHub has some seventy events, Kubernetes' controllers some hundred reasons; the API server has to know how many there can
/// be.
const WORDS_MAX: usize = 256;

/// What all sources have (API.md 2.5).
fn source(mut fields: Vec<Field>, mut rules: Vec<Rule>, describe: &'static str) -> Described {
    let extensions = Map {
        of: Box::new(Shape::Text(Form::Free)),
        keys: Form::Attribute,
        not: (
            &[
                "specversion",
                "id",
                "source",
                "type",
                "time",
                "subject",
                "datacontenttype",
                "dataschema",
            ],
            "is an attribute of every event, no extension",
        ),
        max: Some(EXTENSIONS_MAX),
    };
    let overrides = object(vec![field("extensions", Shape::Map(extensions), "Set on every event.")]);
    rules.push(rule(
        not(Test::All(vec![
            Test::Has("serviceAccountName"),
            Test::Has("serviceAccountname"),
        ])),
        "serviceAccountname",
        "is the older spelling of `serviceAccountName`, which is there as well",
    ));
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
        rules: Vec::new(),
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
            filled_list(Shape::Text(Form::Filled), WORDS_MAX),
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
    let rules = vec![
        rule(
            any(&["accessToken", "secretToken", "app"]),
            "",
            "at least one of `accessToken` and `secretToken` is needed",
        ),
        rule(
            given(Test::Is("mode", &["poll"]), any(&["accessToken", "app"])),
            "mode",
            "poll reads GitHub's list of deliveries: it needs `accessToken` or `app`",
        ),
    ];
    source(fields, rules, "Events of a GitHub repository or organisation.")
}

pub(super) fn kubernetes_events() -> Described {
    let fields = vec![
        field(
            "namespace",
            Shape::Text(Form::LabelOrNone),
            "The namespace whose events are meant.",
        ),
        field("allNamespaces", Shape::Boolean, "All namespaces instead of one."),
        field(
            "types",
            list(Shape::Text(Form::OneOf(&["Normal", "Warning"]))),
            "Only these types.",
        ),
        field(
            "reasons",
            short_list(Shape::Text(Form::Filled), WORDS_MAX),
            "Only these reasons.",
        ),
        field(
            "kinds",
            short_list(Shape::Text(Form::Filled), WORDS_MAX),
            "Only events about these kinds.",
        ),
        field(
            "coalesce",
            Shape::Text(Form::Duration),
            "Bundles repeats within this time.",
        ),
    ];
    let rules = vec![rule(
        Test::Any(vec![
            Test::True("allNamespaces"),
            Test::All(vec![Test::Has("namespace"), not(Test::Is("namespace", &[""]))]),
        ]),
        "namespace",
        "`namespace` is required, unless `allNamespaces` is true",
    )];
    source(fields, rules, "Kubernetes' own events.")
}

pub(super) fn gcp_pubsub() -> Described {
    let credentials = secret_selector(false);
    let fields = vec![
        required("googleCloudProject", Shape::Text(Form::Filled), "the project's id"),
        required("topic", Shape::Text(Form::PubSubId), "the topic's id"),
        field(
            "gcpCredsSecret",
            credentials,
            "The secret with a service account's key; key.json when no key is named.",
        ),
        field(
            "subscription",
            Shape::Text(Form::PubSubId),
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
                openapi: special::env_schema,
            },
            "Environment.",
        ),
        field("template", settings(), "A pod template."),
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
