//! Counts requests to the API server by verb, resource and outcome.
//!
//! The set of series is closed: all kinds that documents refer to count as one resource. A watch is counted when its
//! response begins; a request that was cancelled counts as unanswered.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::{FutureExt, future::BoxFuture};
use http::{Method, Request, Response, StatusCode, Uri};
use kube::{Client, client::Body};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::counter::ConstCounter,
    registry::Registry,
};
use tower_service::Service;

const VERBS: [&str; 7] = ["get", "list", "watch", "create", "patch", "update", "delete"];

/// The last one stands for all other kinds.
const RESOURCES: [&str; 12] = [
    "documents",
    "status",
    "services",
    "secrets",
    "configmaps",
    "leases",
    "events",
    "deployments",
    "pods",
    "roles",
    "discovery",
    "targets",
];

const OUTCOMES: [&str; 9] = [
    "ok",
    "invalid",
    "forbidden",
    "not_found",
    "conflict",
    "gone",
    "throttled",
    "error",
    "unanswered",
];

type Counts = [[[AtomicU64; OUTCOMES.len()]; RESOURCES.len()]; VERBS.len()];

/// Counts the requests of all clients that it wraps. A handle: clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<Counts>);

impl Requests {
    /// Adds the counts to the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    /// Returns the same client, counted. Adapters that build their own client use it, too.
    pub fn count(&self, client: Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        let counted = CountingService {
            client,
            requests: self.clone(),
        };
        Client::new(counted, namespace)
    }

    fn add(&self, (verb, resource): (usize, usize), outcome: usize) {
        self.0[verb][resource][outcome].fetch_add(1, Ordering::Relaxed);
    }
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = || self.0.iter().flatten().flatten();
        // A gateway without a cluster has no such metric.
        if counts().all(|count| count.load(Ordering::Relaxed) == 0) {
            return Ok(());
        }
        let help = "Requests to the Kubernetes API server";
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut family = encoder.encode_descriptor("headgate_kubernetes_requests", help, None, kind)?;
        for (verb, resources) in VERBS.iter().zip(self.0.iter()) {
            for (resource, outcomes) in RESOURCES.iter().zip(resources) {
                for (outcome, count) in OUTCOMES.iter().zip(outcomes) {
                    let count = count.load(Ordering::Relaxed);
                    if count > 0 {
                        let labels = [("verb", *verb), ("resource", *resource), ("outcome", *outcome)];
                        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
                    }
                }
            }
        }
        Ok(())
    }
}

struct CountingService {
    client: Client,
    requests: Requests,
}

impl Service<Request<Body>> for CountingService {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, kube::Result<Response<Body>>>;

    /// The wrapped client applies its own backpressure in `call`.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<kube::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let counting = PendingCount {
            requests: self.requests.clone(),
            labels: labels(request.method(), request.uri()),
            outcome: outcome(None),
        };
        let client = self.client.clone();
        async move {
            // Moves the whole value into the future: its drop counts the request.
            let mut counting = counting;
            let answer = client.send(request).await;
            counting.outcome = outcome(answer.as_ref().ok().map(Response::status));
            answer
        }
        .boxed()
    }
}

/// Counts the request when it is dropped, also after a cancellation.
struct PendingCount {
    requests: Requests,
    labels: (usize, usize),
    outcome: usize,
}

impl Drop for PendingCount {
    fn drop(&mut self) {
        self.requests.add(self.labels, self.outcome);
    }
}

/// Returns verb and resource as indices into their lists.
fn labels(method: &Method, uri: &Uri) -> (usize, usize) {
    let mut parts = uri.path().split('/').filter(|part| !part.is_empty());
    let group = match parts.next() {
        Some("apis") => parts.next().unwrap_or_default(),
        _ => "",
    };
    let _version = parts.next();
    let mut rest: Vec<&str> = parts.collect();
    // `namespaces/NAME` alone is a Namespace, which the gateway never requests.
    if rest.len() > 2 && rest[0] == "namespaces" {
        rest.drain(..2);
    }
    let (plural, name, part) = (rest.first().copied(), rest.get(1), rest.get(2).copied());
    let is_ours = group.ends_with("eventing.knative.dev");
    let resource = match (group, plural, part) {
        (_, None, _) => "discovery",
        (_, _, Some("status")) if is_ours => "status",
        (_, _, _) if is_ours => "documents",
        ("events.k8s.io", _, _) | ("", Some("events"), _) => "events",
        ("rbac.authorization.k8s.io", _, _) => "roles",
        ("" | "apps" | "coordination.k8s.io", Some(plural), _) => plural,
        _ => "targets",
    };
    let is_watch = uri
        .query()
        .is_some_and(|query| query.split('&').any(|part| part.starts_with("watch=")));
    let verb = match *method {
        Method::POST => "create",
        Method::PATCH => "patch",
        Method::PUT => "update",
        Method::DELETE => "delete",
        _ if is_watch => "watch",
        _ if name.is_none() && plural.is_some() => "list",
        _ => "get",
    };
    (index_of(&VERBS, verb), index_of(&RESOURCES, resource))
}

fn outcome(answer: Option<StatusCode>) -> usize {
    let outcome = match answer.map(|status| status.as_u16()) {
        None => "unanswered",
        Some(0..400) => "ok",
        Some(401 | 403) => "forbidden",
        Some(404) => "not_found",
        Some(409) => "conflict",
        Some(410) => "gone",
        Some(400 | 413 | 415 | 422) => "invalid",
        Some(429) => "throttled",
        Some(_) => "error",
    };
    index_of(&OUTCOMES, outcome)
}

/// Returns the index of the word; the last index for a word that is not in the list.
fn index_of(words: &[&str], word: &str) -> usize {
    let found = words.iter().position(|known| *known == word);
    found.unwrap_or(words.len() - 1)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_request_is_known_by_its_path() {
        let cases = [
            (
                "GET",
                "/apis/eventing.knative.dev/v1alpha1/channels?limit=500",
                "list documents",
            ),
            (
                "GET",
                "/apis/sources.eventing.knative.dev/v1alpha1/namespaces/a/githubsources?watch=true&timeoutSeconds=120",
                "watch documents",
            ),
            (
                "PATCH",
                "/apis/sources.eventing.knative.dev/v1alpha1/namespaces/a/githubsources/b",
                "patch documents",
            ),
            (
                "PATCH",
                "/apis/eventing.knative.dev/v1alpha1/namespaces/a/channels/b/status?force=true",
                "patch status",
            ),
            (
                "GET",
                "/api/v1/namespaces/a/secrets?fieldSelector=metadata.name%3Db",
                "list secrets",
            ),
            ("PUT", "/api/v1/namespaces/a/configmaps/b", "update configmaps"),
            (
                "GET",
                "/apis/coordination.k8s.io/v1/namespaces/a/leases/b",
                "get leases",
            ),
            ("POST", "/apis/events.k8s.io/v1/namespaces/a/events", "create events"),
            (
                "DELETE",
                "/apis/apps/v1/namespaces/a/deployments/b",
                "delete deployments",
            ),
            (
                "PATCH",
                "/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings/b",
                "patch roles",
            ),
            ("GET", "/apis/example.org/v1/boxes", "list targets"),
            ("GET", "/api/v1/nodes", "list targets"),
            ("GET", "/apis/apps/v1", "get discovery"),
            ("GET", "/api/v1", "get discovery"),
        ];
        for (method, path, expected) in cases {
            let (verb, resource) = labels(&method.parse().unwrap(), &path.parse().unwrap());
            assert_eq!(
                format!("{} {}", VERBS[verb], RESOURCES[resource]),
                expected,
                "{method} {path}"
            );
        }
    }

    #[tokio::test]
    async fn a_request_that_is_not_answered_is_counted_too() {
        let config = kube::Config::new(Uri::from_static("http://127.0.0.1:1"));
        let requests = Requests::default();
        let client = requests.count(Client::try_from(config).unwrap());
        let mut registry = Registry::default();
        requests.register(&mut registry);
        let shown = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        assert_eq!(shown(), "# EOF\n");
        assert!(client.apiserver_version().await.is_err());
        let text = shown();
        let series = r#"headgate_kubernetes_requests_total{verb="get",resource="discovery",outcome="unanswered"} 1"#;
        assert!(text.contains(series), "{text}");
        assert!(!text.contains(r#"outcome="ok""#), "{text}");
    }
}
