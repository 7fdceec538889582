//! The four sources (API.md 2.5).

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value as Json;
use url::Url;

use super::{Destination, Unread, environment::Environment, targets::destination};
use crate::{
    model::{DeletionPolicy, GitHubMode, RestartPolicy},
    schema::{
        Form, Map, Shape, document_struct, filled_list, integer, list,
        rules::{Test, any, given, not, rule},
        settings, short_list,
    },
};

/// Each is a header of every delivery; servers take about a hundred.
const EXTENSIONS_MAX: usize = 64;

/// GitHub has some seventy events, Kubernetes' controllers some hundred reasons; the API server has to know how many there can
/// be.
const WORDS_MAX: usize = 256;

/// The key that `gcpCredsSecret` means when it names none.
pub const GCP_CREDENTIALS_KEY: &str = "key.json";

document_struct! {
    /// The fields that every source has.
    pub struct SourceFields {
        /// Not read (v0.2).
        generation: Unread,
        /// Where the events go.
        sink: Option<Destination> [destination()],
        /// Runs the adapter under this account.
        service_account_name: Option<String> [Shape::Text(Form::Name)],
        /// v0.2's spelling of serviceAccountName.
        service_account_name_v02 ("serviceAccountname"): Option<String> [Shape::Text(Form::Name)],
        /// Changes to the events.
        ce_overrides: Overrides,
    } with {
        rules: vec![rule(
            not(Test::All(vec![Test::Has("serviceAccountName"), Test::Has("serviceAccountname")])),
            "serviceAccountname",
            "is the older spelling of `serviceAccountName`, which is there as well",
        )],
    }
}

document_struct! {
    /// Changes that a source makes to its events.
    pub struct Overrides: Default {
        /// Set on every event.
        extensions: BTreeMap<String, String> [extensions()],
    }
}

fn extensions() -> Shape {
    const ATTRIBUTES: [&str; 8] = [
        "specversion",
        "id",
        "source",
        "type",
        "time",
        "subject",
        "datacontenttype",
        "dataschema",
    ];
    Shape::Map(Map {
        of: Box::new(Shape::Text(Form::Free)),
        keys: Form::Attribute,
        not: (&ATTRIBUTES, "is an attribute of every event, no extension"),
        max: Some(EXTENSIONS_MAX),
    })
}

document_struct! {
    /// Events of a GitHub repository or organisation.
    pub struct GitHubSource {
        /// `org/repo`, or `org` for all its repositories.
        owner_and_repository: String [Shape::Text(Form::OwnerAndRepository)],
        /// Event names as GitHub has them; `*` takes all, as does no list.
        event_types: Vec<String> [filled_list(Shape::Text(Form::Filled), WORDS_MAX)] = vec!["*".to_owned()],
        /// Manages the webhook and reads missed deliveries.
        access_token: Option<Token>,
        /// Signs deliveries.
        secret_token: Option<Token>,
        /// Still accepted while the secret is changed.
        previous_secret_token: Option<Token>,
        /// Takes deliveries of anybody who knows the address; default false. Stands in place of secretToken.
        allow_unsigned: bool,
        /// GitHub Enterprise's API.
        github_api_url ("githubAPIURL"): Option<Url> [Shape::Text(Form::ApiUrl)],
        /// A GitHub App instead of an access token.
        app: Option<GitHubApp>,
        /// How events come; default webhook.
        mode: GitHubMode = GitHubMode::Webhook,
        /// How often missed deliveries are looked for; PT0S is off.
        sweep_interval: Duration = Duration::from_secs(5 * 60),
        ..common: SourceFields,
    } with {
        rules: vec![
            rule(
                Test::Any(vec![any(&["accessToken", "secretToken", "app"]), Test::True("allowUnsigned")]),
                "",
                "at least one of `accessToken` and `secretToken` is needed",
            ),
            rule(
                not(Test::All(vec![Test::Has("secretToken"), Test::True("allowUnsigned")])),
                "allowUnsigned",
                "a source with `secretToken` takes signed deliveries alone: remove one of the two",
            ),
            rule(
                given(Test::Is("mode", &["poll"]), any(&["accessToken", "app"])),
                "mode",
                "poll reads GitHub's list of deliveries: it needs `accessToken` or `app`",
            ),
        ],
    }
}

document_struct! {
    /// The GitHub App that the gateway authenticates as.
    pub struct GitHubApp {
        /// The App's id.
        id: u64 [integer(1, i64::MAX)],
        /// The installation's id.
        installation_id: u64 [integer(1, i64::MAX)],
        /// The secret that has the App's private key.
        private_key: Token,
    }
}

document_struct! {
    /// A value that a secret has.
    pub struct Token {
        /// Name and key of the secret that has it.
        secret_key_ref: SecretSelector [keyed()],
    } with { secret: true }
}

document_struct! {
    /// A key of a secret.
    pub struct SecretSelector {
        /// The secret's name.
        name: String [Shape::Text(Form::Name)],
        /// The key in the secret.
        key: Option<String> [Shape::Text(Form::SecretKey)],
        /// Not read.
        optional: Unread,
    } with { secret: true }
}

/// The shape of a selector that has to name the key, because there is no default.
pub(super) fn keyed() -> Shape {
    let mut object = SecretSelector::schema();
    for field in &mut object.fields {
        field.required |= field.name == "key";
    }
    Shape::Object(object)
}

document_struct! {
    /// Kubernetes' own events.
    pub struct KubernetesEventSource {
        /// The namespace whose events are meant; its own when absent.
        namespace: Option<String> [Shape::Text(Form::LabelOrNone)],
        /// All namespaces instead of one.
        all_namespaces: bool,
        /// Only these types.
        types: Vec<String> [list(Shape::Text(Form::OneOf(&["Normal", "Warning"])))],
        /// Only these reasons.
        reasons: Vec<String> [short_list(Shape::Text(Form::Filled), WORDS_MAX)],
        /// Only events about these kinds.
        kinds: Vec<String> [short_list(Shape::Text(Form::Filled), WORDS_MAX)],
        /// Bundles repeats within this time.
        coalesce: Option<Duration>,
        ..common: SourceFields,
    }
}

document_struct! {
    /// Messages of a Google Cloud Pub/Sub topic.
    pub struct GcpPubSubSource {
        /// The project's id.
        google_cloud_project: String [Shape::Text(Form::Filled)],
        /// The topic's id.
        topic: String [Shape::Text(Form::PubSubId)],
        /// The secret with a service account's key; key.json when no key is named.
        gcp_creds_secret: Option<SecretSelector>,
        /// An existing subscription to use.
        subscription: Option<String> [Shape::Text(Form::PubSubId)],
        /// host:port of an emulator.
        emulator_host: Option<String> [Shape::Text(Form::Filled)],
        /// Whether our subscription is deleted with the source; default Delete.
        deletion_policy: DeletionPolicy = DeletionPolicy::Delete,
        /// Keeps the order of each ordering key.
        ordering: bool,
        ..common: SourceFields,
    }
}

document_struct! {
    /// Events that a container sends.
    pub struct ContainerSource {
        /// The image to run.
        image: String [Shape::Text(Form::Filled)],
        /// Arguments; `--sink=` is set by us.
        args: Vec<String>,
        /// Environment.
        env: Environment,
        /// A pod template.
        template: Option<Json> [settings()],
        /// Default always.
        restart_policy: RestartPolicy = RestartPolicy::Always,
        ..common: SourceFields,
    }
}
