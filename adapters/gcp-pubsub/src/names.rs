//! Names at Google: full names, the source's own subscription, and the labels that say whose it is.

use std::collections::HashMap;

use crate::Config;

/// Google's limit for a subscription's id.
const ID_MAX: usize = 255;
/// As many characters of the source's uid as tell sources of one name apart.
const UID_CHARS: usize = 8;
/// Google's limit for a label's value.
const LABEL_MAX: usize = 63;

/// The label that holds the uid of the source that created a subscription.
pub(crate) const OWNER: &str = "headgate-source-uid";
const GATEWAY: &str = "headgate-gateway";
const NAMESPACE: &str = "headgate-namespace";
const NAME: &str = "headgate-name";

/// Google's name for the topic of a subscription whose topic was deleted.
pub(crate) const DELETED_TOPIC: &str = "_deleted-topic_";

pub(crate) fn topic(config: &Config) -> String {
    format!("projects/{}/topics/{}", config.project, config.topic)
}

/// The full name of the subscription to read: the one that the source names, or its own.
pub(crate) fn subscription(config: &Config, source: &adapter::Source) -> String {
    match &config.subscription {
        Some(full) if full.starts_with("projects/") => full.clone(),
        Some(id) => format!("projects/{}/subscriptions/{id}", config.project),
        None => own(config, source),
    }
}

/// `headgate-NAMESPACE-NAME-UID8`, in the topic's project.
fn own(config: &Config, source: &adapter::Source) -> String {
    let uid: String = alphanumerics(&source.uid).take(UID_CHARS).collect();
    let mut id = format!("headgate-{}", source.name.replace('/', "-"));
    // Names on Kubernetes are ASCII and allowed here; together they may be longer than Google takes.
    id.truncate(ID_MAX - uid.len() - 1);
    format!("projects/{}/subscriptions/{id}-{uid}", config.project)
}

/// Marks a subscription as this source's, for us and for people who look at a project.
pub(crate) fn labels(source: &adapter::Source) -> HashMap<String, String> {
    let (namespace, name) = source.name.split_once('/').unwrap_or(("", &source.name));
    let labels = [
        (OWNER, &*source.uid),
        (GATEWAY, &*source.gateway),
        (NAMESPACE, namespace),
        (NAME, name),
    ];
    labels.map(|(key, value)| (key.to_owned(), label(value))).into()
}

/// Turns text into a label's value: lower-case letters, digits, `-` and `_`, 63 at most.
pub(crate) fn label(value: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let lower = value.chars().map(|c| c.to_ascii_lowercase());
    lower
        .map(|c| if allowed(c) { c } else { '_' })
        .take(LABEL_MAX)
        .collect()
}

fn alphanumerics(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().filter(char::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use adapter::suite::{Scripted, source};

    use super::*;
    use crate::Access;

    fn config(subscription: Option<&str>) -> Config {
        Config {
            project: "shop".into(),
            topic: "orders".into(),
            access: Access::Default,
            subscription: subscription.map(str::to_owned),
            delete: true,
            ordering: false,
            extensions: [].into(),
        }
    }

    #[test]
    fn our_own_subscription_is_named_for_its_source() {
        let mut source = source(Scripted::storing());
        let name = |source: &adapter::Source| subscription(&config(None), source);
        assert_eq!(
            name(&source),
            "projects/shop/subscriptions/headgate-default-test-5f0c7a3e"
        );
        source.name = format!("{}/{}", "n".repeat(63), "s.".repeat(126));
        let id = name(&source).replace("projects/shop/subscriptions/", "");
        assert_eq!(id.len(), ID_MAX);
        assert!(id.ends_with("-5f0c7a3e"), "{id}");
    }

    #[test]
    fn an_existing_subscription_may_be_in_another_project() {
        let source = source(Scripted::storing());
        let name = |subscription_id| subscription(&config(Some(subscription_id)), &source);
        assert_eq!(name("billing"), "projects/shop/subscriptions/billing");
        assert_eq!(name("projects/b/subscriptions/c"), "projects/b/subscriptions/c");
    }

    #[test]
    fn labels_are_what_google_takes() {
        let mut source = source(Scripted::storing());
        source.name = format!("default/{}", "Ab.".repeat(40));
        let labels = labels(&source);
        assert_eq!(labels[OWNER], source.uid);
        assert_eq!(labels[NAME].len(), LABEL_MAX);
        assert!(labels[NAME].starts_with("ab_ab_"));
    }
}
