//! How a source's Deployment is, in the words of its source's condition `Deployed`. Pure.
//!
//! A rollout that is complete is True. Else the first thing that stands in its way is told: what a container waits for and what
//! it said last, why no node takes the pod, why no pod is admitted. The kubelet puts a failed container's last lines into the
//! pod's status (`terminationMessagePolicy`), so that is all that is read. They are shown only of pods that get no secret: the
//! gateway does not know its value, and could not leave it out (CONTRACT SR-6).

use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentStatus},
    core::v1::{
        Container, ContainerState, ContainerStateTerminated, ContainerStatus, EnvFromSource, EnvVar, Pod, Volume,
    },
};
use serde_json::{Value, json};
use spec::observed::Truth;

/// The condition `Deployed` of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    pub truth: Truth,
    /// CamelCase, stable, listed in docs/reasons; empty when True.
    pub reason: &'static str,
    pub message: String,
}

/// As much of what a container said last as a condition shows; the kubelet keeps 4096 bytes.
const WORDS_MAX_BYTES: usize = 1024;

impl Deployed {
    pub(super) fn met() -> Self {
        Self {
            truth: Truth::True,
            reason: "",
            message: String::new(),
        }
    }

    pub(super) fn waiting(message: impl Into<String>) -> Self {
        Self {
            truth: Truth::Unknown,
            reason: "Deploying",
            message: message.into(),
        }
    }

    pub(super) fn unmet(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            truth: Truth::False,
            reason,
            message: message.into(),
        }
    }
}

/// `pods` are those of this Deployment, in any order.
pub fn observe(deployment: &Deployment, pods: &[Pod]) -> Deployed {
    let status = deployment.status.clone().unwrap_or_default();
    if is_complete(deployment, &status) {
        return Deployed::met();
    }
    // A pod that is going is the one of before.
    let mut pods: Vec<&Pod> = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect();
    pods.sort_by_key(|pod| std::cmp::Reverse(pod.metadata.creation_timestamp.clone().map(|created| created.0)));
    let of_pod = |pod: &&Pod| of_containers(pod).or_else(|| of_scheduling(pod));
    if let Some(trouble) = pods.iter().find_map(of_pod) {
        return trouble;
    }
    let condition = |kind: &str, truth: &str| {
        let conditions = status.conditions.iter().flatten();
        conditions
            .filter(|condition| condition.type_ == kind && condition.status == truth)
            .map(|condition| condition.message.clone().unwrap_or_default())
            .next()
    };
    if let Some(said) = condition("ReplicaFailure", "True") {
        let message = format!("the API server does not admit the source's pod: {said}");
        return Deployed::unmet("PodRefused", message);
    }
    if let Some(said) = condition("Progressing", "False") {
        let message = format!("the source's pod is not there in time: {said}");
        return Deployed::unmet("RolloutStalled", message);
    }
    match pods.first() {
        None => Deployed::waiting("the source's pod is being made"),
        Some(pod) => Deployed::waiting(format!("pod {} is being started", name(pod))),
    }
}

/// What `status.deployment` of the source shows.
pub(super) fn shown(deployment: &Deployment, pods: &[Pod]) -> Value {
    let living = pods.iter().find(|pod| pod.metadata.deletion_timestamp.is_none());
    let restarts = living.map(|pod| statuses(pod).map(|status| status.restart_count).sum::<i32>());
    json!({ "name": deployment.metadata.name, "pod": living.map(name), "restarts": restarts })
}

/// All pods are of the template that was applied last, and ran for a while.
fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) >= wanted
        && status.available_replicas.unwrap_or(0) >= wanted
}

fn of_containers(pod: &Pod) -> Option<Deployed> {
    statuses(pod).find_map(|status| of_container(pod, status))
}

fn of_container(pod: &Pod, status: &ContainerStatus) -> Option<Deployed> {
    let container = &status.name;
    let state = status.state.clone().unwrap_or_default();
    let before = status.last_state.clone().and_then(|state| state.terminated);
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let said = waiting.message.as_deref().unwrap_or_default();
        return match reason {
            "" | "ContainerCreating" | "PodInitializing" => None,
            "CrashLoopBackOff" => Some(crashed(pod, status, before.as_ref())),
            "ErrImagePull"
            | "ImagePullBackOff"
            | "ErrImageNeverPull"
            | "InvalidImageName"
            | "ImageInspectError"
            | "RegistryUnavailable" => {
                let message = format!(
                    "image {} of pod {} cannot be had ({reason}: {said}): correct spec.image, or give the source's account an imagePullSecret",
                    status.image,
                    name(pod)
                );
                Some(Deployed::unmet("ImagePullFailed", message))
            }
            _ => {
                let message = format!(
                    "container {container} of pod {} cannot be started ({reason}: {said})",
                    name(pod)
                );
                Some(Deployed::unmet("ContainerRefused", message))
            }
        };
    }
    // Just ended and not yet waiting to be started again; or started again, and not long ago. An init container is to end well.
    let ended = state
        .terminated
        .filter(|ended| ended.exit_code != 0)
        .or(match status.ready {
            true => None,
            false => before.filter(|_| status.restart_count > 0),
        });
    match ended {
        Some(ended) => Some(crashed(pod, status, Some(&ended))),
        // Its pod counts as available after a while: until then it may still be in a loop.
        None if status.restart_count > 0 && is_running(status.state.as_ref()) => {
            let before = status.last_state.clone().and_then(|state| state.terminated);
            Some(crashed(pod, status, before.as_ref()))
        }
        None => None,
    }
}

fn is_running(state: Option<&ContainerState>) -> bool {
    state.is_some_and(|state| state.running.is_some())
}

fn crashed(pod: &Pod, status: &ContainerStatus, ended: Option<&ContainerStateTerminated>) -> Deployed {
    let how = match ended {
        None => "ended".to_owned(),
        Some(ended) => match ended.reason.as_deref() {
            Some("OOMKilled") => format!("was ended for want of memory (exit code {})", ended.exit_code),
            _ => format!("ended with exit code {}", ended.exit_code),
        },
    };
    let words = ended
        .and_then(|ended| ended.message.as_deref())
        .unwrap_or_default()
        .trim();
    let words = match (words, gets_a_secret(pod)) {
        ("", _) => "it printed nothing".to_owned(),
        (_, true) => format!(
            "what it printed may hold a secret that it gets: kubectl logs --previous --namespace {} {}",
            pod.metadata.namespace.as_deref().unwrap_or_default(),
            name(pod)
        ),
        (words, false) => format!("its last words: {}", end_of(words)),
    };
    let message = format!(
        "container {} of pod {} {how} and is started again, {} times until now; {words}",
        status.name,
        name(pod),
        status.restart_count
    );
    Deployed::unmet("CrashLoop", message)
}

/// By a variable or a file.
fn gets_a_secret(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let by_variable = |container: &Container| {
        let of_one = |variable: &EnvVar| {
            variable
                .value_from
                .as_ref()
                .is_some_and(|from| from.secret_key_ref.is_some())
        };
        let of_all = |from: &EnvFromSource| from.secret_ref.is_some();
        container.env.iter().flatten().any(of_one) || container.env_from.iter().flatten().any(of_all)
    };
    let by_file = |volume: &Volume| {
        let projected = volume
            .projected
            .iter()
            .flat_map(|projected| projected.sources.iter().flatten());
        volume.secret.is_some() || volume.csi.is_some() || projected.clone().any(|source| source.secret.is_some())
    };
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.clone().any(by_variable) || spec.volumes.iter().flatten().any(by_file)
}

/// The end says most.
fn end_of(words: &str) -> &str {
    let start = words.len().saturating_sub(WORDS_MAX_BYTES);
    let start = (start..words.len()).find(|start| words.is_char_boundary(*start));
    &words[start.unwrap_or(0)..]
}

fn of_scheduling(pod: &Pod) -> Option<Deployed> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.iter().flatten();
    let refused = conditions
        .filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .map(|condition| condition.message.clone().unwrap_or_default())
        .next()?;
    let message = format!("no node takes pod {}: {refused}", name(pod));
    Some(Deployed::unmet("Unschedulable", message))
}

/// Of init containers first: while one fails, the others wait.
fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    })
}

fn name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn deployment(status: &Value) -> Deployment {
        let json = json!({
            "metadata": {"name": "containersource-beats-5f0c7a3e", "generation": 3},
            "spec": {"replicas": 1, "selector": {}, "template": {}}, "status": status,
        });
        serde_json::from_value(json).unwrap()
    }

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "beats-1"}, "status": status})).unwrap()
    }

    #[expect(clippy::needless_pass_by_value, reason = "they are written where they are given")]
    fn container(state: Value, before: Value, restarts: u32) -> Value {
        json!({"containerStatuses": [{
            "name": "source", "image": "beats:1", "imageID": "", "ready": false, "restartCount": restarts,
            "state": state, "lastState": before,
        }]})
    }

    #[test]
    fn a_complete_rollout_is_deployed_and_nothing_less() {
        let complete = json!({"observedGeneration": 3, "updatedReplicas": 1, "availableReplicas": 1});
        assert_eq!(observe(&deployment(&complete), &[]), Deployed::met());
        for (field, value) in [
            ("observedGeneration", 2),
            ("updatedReplicas", 0),
            ("availableReplicas", 0),
        ] {
            let mut status = complete.clone();
            status[field] = json!(value);
            let found = observe(&deployment(&status), &[]);
            assert_eq!((found.truth, found.reason), (Truth::Unknown, "Deploying"), "{field}");
        }
    }

    #[test]
    fn what_stands_in_the_way_of_a_pod_is_told_with_its_own_words() {
        let ended = json!({"terminated": {"exitCode": 2, "reason": "Error", "message": "no such host: sink\n"}});
        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let waiting = |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
        let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available: insufficient memory."}]});
        let cases = [
            (
                container(waiting("CrashLoopBackOff", "back-off 10s"), ended.clone(), 4),
                "CrashLoop",
                &["exit code 2", "4 times", "last words: no such host: sink"][..],
            ),
            (
                container(waiting("CrashLoopBackOff", ""), killed, 1),
                "CrashLoop",
                &["want of memory", "printed nothing"],
            ),
            (container(ended.clone(), json!({}), 0), "CrashLoop", &["exit code 2"]),
            (container(json!({"running": {}}), ended, 2), "CrashLoop", &["2 times"]),
            (
                container(waiting("ImagePullBackOff", "manifest unknown"), json!({}), 0),
                "ImagePullFailed",
                &["beats:1", "ImagePullBackOff", "manifest unknown"],
            ),
            (
                container(
                    waiting("CreateContainerConfigError", "secret \"beats\" not found"),
                    json!({}),
                    0,
                ),
                "ContainerRefused",
                &["secret \"beats\" not found"],
            ),
            (unscheduled, "Unschedulable", &["beats-1", "insufficient memory"]),
        ];
        for (status, reason, parts) in cases {
            let found = observe(&deployment(&json!({"observedGeneration": 3})), &[pod(&status)]);
            assert_eq!((found.truth, found.reason), (Truth::False, reason), "{status}");
            for part in parts {
                assert!(found.message.contains(part), "{part}: {}", found.message);
            }
        }
    }

    /// Proves: SR-6
    #[test]
    fn what_a_pod_that_gets_a_secret_printed_is_not_shown() {
        let ended = json!({"terminated": {"exitCode": 2, "message": "token s3cret refused"}});
        let status = container(json!({"waiting": {"reason": "CrashLoopBackOff"}}), ended, 1);
        let secret = json!({"secretName": "beats"});
        for spec in [
            json!({"containers": [{"name": "source", "env": [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "beats", "key": "t"}}}]}]}),
            json!({"containers": [{"name": "source", "envFrom": [{"secretRef": {"name": "beats"}}]}]}),
            json!({"containers": [{"name": "source"}], "volumes": [{"name": "v", "secret": secret}]}),
            json!({"containers": [{"name": "source"}], "volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "beats"}}]}}]}),
        ] {
            let mut pod = pod(&status);
            pod.spec = serde_json::from_value(spec.clone()).unwrap();
            let found = observe(&deployment(&json!({"observedGeneration": 3})), &[pod]);
            assert!(
                !found.message.contains("s3cret") && found.message.contains("kubectl logs"),
                "{}",
                found.message
            );
        }
    }

    #[test]
    fn a_pod_that_starts_is_waited_for() {
        for status in [
            json!({}),
            container(json!({"waiting": {"reason": "ContainerCreating"}}), json!({}), 0),
            container(json!({"running": {}}), json!({}), 0),
        ] {
            let found = observe(&deployment(&json!({"observedGeneration": 3})), &[pod(&status)]);
            assert_eq!(found, Deployed::waiting("pod beats-1 is being started"), "{status}");
        }
    }

    #[test]
    fn a_pod_that_is_not_admitted_and_one_that_does_not_come_are_told() {
        let with = |kind: &str, status: &str, message: &str| {
            let condition = json!({"type": kind, "status": status, "message": message, "reason": "x"});
            observe(
                &deployment(&json!({"observedGeneration": 3, "conditions": [condition]})),
                &[],
            )
        };
        let refused = with(
            "ReplicaFailure",
            "True",
            "pods \"beats-1\" is forbidden: exceeded quota: team",
        );
        assert_eq!(refused.reason, "PodRefused");
        assert!(refused.message.contains("exceeded quota: team"));
        assert_eq!(
            with("Progressing", "False", "has timed out progressing").reason,
            "RolloutStalled"
        );
        assert_eq!(with("Progressing", "True", "").reason, "Deploying");
    }

    #[test]
    fn a_pod_that_is_going_tells_nothing_and_long_words_are_cut_in_front() {
        let mut going = pod(&container(
            json!({"waiting": {"reason": "ImagePullBackOff"}}),
            json!({}),
            0,
        ));
        going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-24T12:00:00Z")).unwrap();
        let waits = deployment(&json!({"observedGeneration": 3}));
        assert_eq!(observe(&waits, &[going]).truth, Truth::Unknown);
        let words = format!("{}the end", "é".repeat(3000));
        assert!(end_of(&words).len() <= WORDS_MAX_BYTES && end_of(&words).ends_with("the end"));
    }
}
