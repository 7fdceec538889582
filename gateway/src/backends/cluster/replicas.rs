//! The share of this replica: the objects that it runs, the work that only one replica may do, and where all others are.
//!
//! Two leases decide: one for the pod of ordinal 0, whose disk holds the embedded channels, and one for the leader, which does
//! the work that any replica could do. A replica that loses a lease drops its sources from the spec, and the clock alone ends
//! their adapters, however busy the data plane is. Requests for other replicas' objects are forwarded.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arc_swap::ArcSwap;
use dataplane::Plane;
use kubernetes::{
    Cluster, Contender, Fence, Identity, Kubernetes, Turn,
    placement::{Location, Others, REPLICA, Replica, location, ordinal},
    workloads::AdapterWorkload,
};
use parking_lot::Mutex;
use spec::{Kind, ObjectKey, Spec};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::owner;

/// The name prefix of the leases when `POD_NAME` does not tell the StatefulSet.
const SET: &str = "headgate";

/// The identity of this process, from the environment of its pod (deploy/).
#[derive(Clone, Debug, Default)]
pub(super) struct Pod {
    /// `POD_NAME`: in a StatefulSet it ends in the ordinal. Without it this is the only replica.
    name: Option<String>,
    /// `POD_NAMESPACE`: the namespace of the leases and ConfigMaps of the gateway itself.
    namespace: Option<String>,
    /// `POD_UID`: a container that is restarted in its pod keeps its lease.
    uid: Option<String>,
    /// `HEADGATE_POD_URL`: the URL under which other replicas reach this one.
    pub(super) url: Option<String>,
    /// `HEADGATE_IMAGE`: the image of adapters that run in pods of their own.
    pub(super) image: Option<String>,
}

impl Pod {
    pub(super) fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            name: variable("POD_NAME"),
            namespace: variable("POD_NAMESPACE"),
            uid: variable("POD_UID"),
            url: variable("HEADGATE_POD_URL").map(|url| url.trim_end_matches('/').to_owned()),
            image: variable("HEADGATE_IMAGE"),
        }
    }

    /// The lease holder's name. A restarted container has the same one, because its predecessor in the pod has certainly ended.
    fn identity(&self) -> String {
        let unique = self.uid.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        format!("{}_{unique}", self.name.as_deref().unwrap_or("headgate"))
    }
}

/// The namespace of the gateway's own leases and ConfigMaps. Gateways that watch different namespaces are not replicas of each
/// other.
pub(super) fn home(cluster: &Cluster, watched: Option<&str>) -> String {
    let pod = Pod::from_environment().namespace;
    pod.unwrap_or_else(|| watched.unwrap_or(&cluster.namespace).to_owned())
}

/// The leases that this replica holds. Code that acts for an object asks here first. A handle: clones share their state.
#[derive(Clone)]
pub(super) struct Turns {
    first: Fence,
    leader: Fence,
    /// The whole spec, of all replicas.
    spec: Arc<ArcSwap<Spec>>,
    /// Where sources are, and were before they left: who had one takes away what it made upstream.
    responsible: Arc<Mutex<BTreeMap<ObjectKey, Location>>>,
    is_first: bool,
}

/// Deleted sources are kept while there are at most this many; each is needed for two minutes.
const RESPONSIBLE_MAX: usize = 10_000;

impl Turns {
    /// The fence that lets this replica act for a source.
    pub(super) fn of(&self, source: &ObjectKey) -> Fence {
        match location(&self.spec.load(), source) {
            Location::First => self.first.clone(),
            Location::Leader | Location::Everywhere => self.leader.clone(),
        }
    }

    /// Whether this replica writes an object's status now. For a deleted source: whether this replica ran it.
    pub(super) fn writes_status(&self, key: &ObjectKey) -> bool {
        let spec = self.spec.load();
        let left = if spec.sources.contains_key(key) {
            None
        } else {
            self.responsible.lock().get(key).copied()
        };
        self.replica().acts_at(left.unwrap_or_else(|| location(&spec, key)))
    }

    fn take(&self, spec: &Arc<Spec>) {
        self.spec.store(spec.clone());
        let mut responsible = self.responsible.lock();
        if responsible.len() > RESPONSIBLE_MAX {
            responsible.retain(|key, _| spec.sources.contains_key(key));
        }
        responsible.extend(spec.sources.keys().map(|key| (key.clone(), location(spec, key))));
    }

    pub(super) fn spec(&self) -> Arc<Spec> {
        self.spec.load_full()
    }

    fn replica(&self) -> Replica {
        Replica {
            is_first: self.is_first,
            acts_as_first: self.is_first && self.first.is_mine(),
            leads: self.leader.is_mine(),
        }
    }
}

/// The parts that run.
pub(super) struct Replicas {
    first: Contender,
    leader: Contender,
    turns: Turns,
    /// Sources with an account of their own run in pods of their own.
    has_pods: bool,
    /// The key by which this process recognizes requests of other replicas.
    key: String,
}

impl Replicas {
    pub(super) fn new(kubernetes: &Kubernetes, pod: &Pod) -> Self {
        let of_set = pod.name.as_deref().and_then(ordinal);
        let set = of_set.map_or(SET, |(set, _)| set);
        let is_first = of_set.is_none_or(|(_, ordinal)| ordinal == 0);
        // Random for each process: two UUIDs have 244 random bits.
        let key = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let contender = |role: &str, contends: bool| {
            let identity = Identity {
                name: pod.identity(),
                url: pod.url.clone(),
                key: Some(key.clone()),
                contends,
            };
            kubernetes.contender(&format!("{set}-{role}"), identity)
        };
        let (first, leader) = (contender("first", is_first), contender("leader", true));
        Self {
            turns: Turns {
                first: first.fence(),
                leader: leader.fence(),
                spec: Arc::default(),
                responsible: Arc::default(),
                is_first,
            },
            first,
            leader,
            has_pods: pod.image.is_some(),
            key,
        }
    }

    pub(super) fn turns(&self) -> Turns {
        self.turns.clone()
    }

    /// Publishes this replica's part of each spec until `stop`; the leases are given back then, for the data plane has drained.
    pub(super) async fn run(
        self,
        specs: watch::Receiver<Arc<Spec>>,
        publish: watch::Sender<Arc<Spec>>,
        plane: Plane,
        stop: CancellationToken,
    ) {
        plane.trust_replicas(REPLICA, &self.key);
        let (first, first_turn) = watch::channel(Turn::default());
        let (leader, leader_turn) = watch::channel(Turn::default());
        let sharing = Sharing {
            turns: self.turns,
            has_pods: self.has_pods,
            first_turn,
            leader_turn,
        };
        tokio::join!(
            self.first.run(&first, stop.clone()),
            self.leader.run(&leader, stop.clone()),
            sharing.run(specs, publish, plane, stop),
        );
    }
}

struct Sharing {
    turns: Turns,
    has_pods: bool,
    first_turn: watch::Receiver<Turn>,
    leader_turn: watch::Receiver<Turn>,
}

impl Sharing {
    async fn run(
        mut self,
        mut specs: watch::Receiver<Arc<Spec>>,
        publish: watch::Sender<Arc<Spec>>,
        plane: Plane,
        stop: CancellationToken,
    ) {
        loop {
            let whole = specs.borrow_and_update().clone();
            self.turns.take(&whole);
            let others = self.others(&whole);
            let replica = self.turns.replica();
            if whole.generation > 0 {
                plane.publish_others(replica.elsewhere(&whole, &others), replica.asked(&others));
                publish.send_replace(Arc::new(replica.assigned(&whole, &others)));
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = specs.changed() => if changed.is_err() {
                    stop.cancelled().await;
                    return;
                },
                Ok(()) = self.first_turn.changed() => {}
                Ok(()) = self.leader_turn.changed() => {}
            }
        }
    }

    fn others(&mut self, whole: &Spec) -> Others {
        let (first, leader) = (
            self.first_turn.borrow_and_update().clone(),
            self.leader_turn.borrow_and_update().clone(),
        );
        let replica = self.turns.replica();
        Others {
            first_key: first.key.filter(|_| !replica.is_first),
            first: first.url.filter(|_| !replica.is_first),
            leader: leader.url.filter(|_| !replica.leads),
            pods: if self.has_pods { pods(whole) } else { HashMap::new() },
        }
    }
}

/// Sources that are called where they run: in pods of their own.
fn pods(whole: &Spec) -> HashMap<ObjectKey, String> {
    let sources = whole.sources.values();
    let called = sources.filter(|source| source.key.kind == Kind::GitHubSource && source.service_account.is_some());
    called
        .filter_map(|source| Some((source.key.clone(), AdapterWorkload::url(&owner(source)?))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_is_started_again_is_the_same_and_another_pod_is_another() {
        let pod = |uid: Option<&str>| Pod {
            name: Some("headgate-0".into()),
            uid: uid.map(str::to_owned),
            ..Pod::default()
        };
        assert_eq!(pod(Some("u")).identity(), pod(Some("u")).identity());
        assert_ne!(pod(Some("u")).identity(), pod(Some("v")).identity());
        assert_ne!(
            pod(None).identity(),
            pod(None).identity(),
            "nobody knows whether the one before is dead"
        );
    }
}
