//! Derives the source's condition `Deployed` from its Deployment and pods. Pure.
//!
//! A complete rollout is True. Otherwise the condition shows the first obstacle: why a container waits and its last
//! output, why no node accepts the pod, or why no pod is admitted. The kubelet puts the last lines of a failed
//! container into the pod's status (`terminationMessagePolicy`), so no log is read. They are shown only for pods that
//! get no secret, because the gateway does not know its value and could not redact it (CONTRACT SR-6).

use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentStatus},
    core::v1::{
        Container, ContainerState, ContainerStateTerminated, ContainerStatus, EnvFromSource, EnvVar, Pod, Volume,
    },
};
use serde_json::{Value, json};
use spec::{Cause, Reason};

/// How much of a container's last output a condition shows; the kubelet keeps 4096 bytes.
const WORDS_MAX_BYTES: usize = 1024;

/// The rollout is in progress.
pub(super) fn waiting(message: impl Into<String>) -> Cause {
    Cause::new(Reason::Deploying, message)
}

/// Returns `Ok` if the rollout is complete, and else why it is not; the reason is `Deploying` while nothing is wrong.
/// `pods` are those of this Deployment, in any order.
pub fn observe(deployment: &Deployment, pods: &[Pod]) -> Result<(), Cause> {
    let status = deployment.status.clone().unwrap_or_default();
    if is_complete(deployment, &status) {
        return Ok(());
    }
    // A pod that is being deleted belongs to the previous rollout.
    let mut pods: Vec<&Pod> = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect();
    pods.sort_by_key(|pod| std::cmp::Reverse(pod.metadata.creation_timestamp.clone().map(|created| created.0)));
    let of_pod = |pod: &&Pod| of_containers(pod).or_else(|| of_scheduling(pod));
    if let Some(trouble) = pods.iter().find_map(of_pod) {
        return Err(trouble);
    }
    let condition = |kind: &str, truth: &str| {
        let conditions = status.conditions.iter().flatten();
        conditions
            .filter(|condition| condition.type_ == kind && condition.status == truth)
            .map(|condition| condition.message.clone().unwrap_or_default())
            .next()
    };
    if let Some(detail) = condition("ReplicaFailure", "True") {
        let message = format!("the API server does not admit the source's pod: {detail}");
        return Err(Cause::new(Reason::PodRefused, message));
    }
    if let Some(detail) = condition("Progressing", "False") {
        let message = format!("the source's pod did not become available in time: {detail}");
        return Err(Cause::new(Reason::RolloutStalled, message));
    }
    Err(match pods.first() {
        None => waiting("the source's pod is being created"),
        Some(pod) => waiting(format!("pod {} is being started", name(pod))),
    })
}

/// Returns `status.deployment` of the source.
pub(super) fn status_field(deployment: &Deployment, pods: &[Pod]) -> Value {
    let living = pods.iter().find(|pod| pod.metadata.deletion_timestamp.is_none());
    let restarts = living.map(|pod| statuses(pod).map(|status| status.restart_count).sum::<i32>());
    json!({ "name": deployment.metadata.name, "pod": living.map(name), "restarts": restarts })
}

/// All pods have the template that was applied last, and are available.
fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let desired = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) >= desired
        && status.available_replicas.unwrap_or(0) >= desired
}

fn of_containers(pod: &Pod) -> Option<Cause> {
    statuses(pod).find_map(|status| of_container(pod, status))
}

fn of_container(pod: &Pod, status: &ContainerStatus) -> Option<Cause> {
    let container = &status.name;
    let state = status.state.clone().unwrap_or_default();
    let before = status.last_state.clone().and_then(|state| state.terminated);
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let detail = waiting.message.as_deref().unwrap_or_default();
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
                    "image {} of pod {} cannot be pulled ({reason}: {detail}): correct spec.image, or give the source's account an imagePullSecret",
                    status.image,
                    name(pod)
                );
                Some(Cause::new(Reason::ImagePullFailed, message))
            }
            _ => {
                let message = format!(
                    "container {container} of pod {} cannot be started ({reason}: {detail})",
                    name(pod)
                );
                Some(Cause::new(Reason::ContainerRefused, message))
            }
        };
    }
    // It has just failed, or was restarted and is not ready yet. An init container that ended well is no failure.
    let ended = state
        .terminated
        .filter(|ended| ended.exit_code != 0)
        .or(if status.ready {
            None
        } else {
            before.filter(|_| status.restart_count > 0)
        });
    match ended {
        Some(ended) => Some(crashed(pod, status, Some(&ended))),
        // The pod is available only after a while: until then it may still crash again.
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

fn crashed(pod: &Pod, status: &ContainerStatus, ended: Option<&ContainerStateTerminated>) -> Cause {
    let how = match ended {
        None => "ended".to_owned(),
        Some(ended) => match ended.reason.as_deref() {
            Some("OOMKilled") => format!(
                "was killed because it ran out of memory (exit code {})",
                ended.exit_code
            ),
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
            "its output may contain a secret; read it with kubectl logs --previous --namespace {} {}",
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
    Cause::new(Reason::CrashLoop, message)
}

/// Returns whether a container gets a secret by a variable or a file.
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

fn of_scheduling(pod: &Pod) -> Option<Cause> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.iter().flatten();
    let refused = conditions
        .filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .map(|condition| condition.message.clone().unwrap_or_default())
        .next()?;
    let message = format!("no node accepts pod {}: {refused}", name(pod));
    Some(Cause::new(Reason::Unschedulable, message))
}

/// Init containers come first: while one fails, the others wait.
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
        assert_eq!(observe(&deployment(&complete), &[]), Ok(()));
        for (field, value) in [
            ("observedGeneration", 2),
            ("updatedReplicas", 0),
            ("availableReplicas", 0),
        ] {
            let mut status = complete.clone();
            status[field] = json!(value);
            let found = observe(&deployment(&status), &[]).unwrap_err();
            assert_eq!(found.reason, Reason::Deploying, "{field}");
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
                &["ran out of memory", "printed nothing"],
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
            let found = observe(&deployment(&json!({"observedGeneration": 3})), &[pod(&status)]).unwrap_err();
            assert_eq!(found.reason, reason, "{status}");
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
            let found = observe(&deployment(&json!({"observedGeneration": 3})), &[pod]).unwrap_err();
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
            assert_eq!(found, Err(waiting("pod beats-1 is being started")), "{status}");
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
            .unwrap_err()
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
        assert_eq!(observe(&waits, &[going]).unwrap_err().reason, Reason::Deploying);
        let words = format!("{}the end", "é".repeat(3000));
        assert!(end_of(&words).len() <= WORDS_MAX_BYTES && end_of(&words).ends_with("the end"));
    }
}
