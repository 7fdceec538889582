//! Paths of objects in the style of the source's first version: `/apis/VERSION/namespaces/NAMESPACE/PLURAL/NAME`, core objects
//! under `/apis/v1`.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Characters to encode: all but those that a path segment may hold (RFC 3986, pchar) and names of objects do hold.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':');

/// The path of an object. A reference without a version (some writers leave it out) is taken for a core object; one without a
/// namespace is of the whole cluster.
pub(crate) fn object(api_version: &str, namespace: &str, plural: &str, name: &str) -> String {
    let mut path = String::from("/apis");
    let version = if api_version.is_empty() { "v1" } else { api_version };
    let mut add = |segment: &str| {
        // Writing to a String does not fail.
        let _ = write!(path, "/{}", utf8_percent_encode(segment, SEGMENT));
    };
    version.split('/').for_each(&mut add);
    if !namespace.is_empty() {
        add("namespaces");
        add(namespace);
    }
    add(plural);
    add(name);
    path
}

/// The path of all core objects of one kind, in a namespace or, where it is empty, in all.
pub(crate) fn collection(namespace: &str, plural: &str) -> String {
    let path = object("v1", namespace, plural, "");
    path.trim_end_matches('/').to_owned()
}

/// A guess, as a reference names only the kind: the one of Kubernetes' own `UnsafeGuessKindToResource`, which events of the
/// first version were addressed by.
pub(crate) fn plural(kind: &str) -> String {
    let singular = kind.to_lowercase();
    match singular.as_bytes().last() {
        None => singular,
        Some(_) if singular.ends_with("endpoints") => singular,
        Some(b's') => singular + "es",
        Some(b'y') => format!("{}ies", &singular[..singular.len() - 1]),
        Some(_) => singular + "s",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_guessed_into_plurals_as_kubernetes_does() {
        let cases = [
            ("Pod", "pods"),
            ("Node", "nodes"),
            ("Ingress", "ingresses"),
            ("NetworkPolicy", "networkpolicies"),
            ("Endpoints", "endpoints"),
            ("HorizontalPodAutoscaler", "horizontalpodautoscalers"),
            ("", ""),
        ];
        for (kind, expected) in cases {
            assert_eq!(plural(kind), expected);
        }
    }

    #[test]
    fn a_path_holds_only_what_a_path_may() {
        let cases = [
            (
                ("v1", "default", "pods", "web-0"),
                "/apis/v1/namespaces/default/pods/web-0",
            ),
            (
                ("apps/v1", "shop", "deployments", "cart"),
                "/apis/apps/v1/namespaces/shop/deployments/cart",
            ),
            (("v1", "", "nodes", "n1"), "/apis/v1/nodes/n1"),
            (("", "a", "pods", "b"), "/apis/v1/namespaces/a/pods/b"),
            (("v1", "", "clusterroles", "system:x"), "/apis/v1/clusterroles/system:x"),
            (
                ("v1", "a", "things", "b/../<ü>"),
                "/apis/v1/namespaces/a/things/b%2F..%2F%3C%C3%BC%3E",
            ),
        ];
        for ((version, namespace, plural, name), expected) in cases {
            assert_eq!(object(version, namespace, plural, name), expected);
        }
        assert_eq!(collection("a", "events"), "/apis/v1/namespaces/a/events");
        assert_eq!(collection("", "events"), "/apis/v1/events");
    }
}
