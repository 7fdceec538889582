//! This replica among the others: what it runs of the whole, what it may do that is to be done once, and where the rest is.
//!
//! Two leases say so: one for the pod of ordinal 0, whose disk has the channels that are kept there, and one for whoever looks
//! after what any replica could. Losing one takes the sources it stands for out of the spec, and ends their adapters by the
//! clock alone, however busy the data plane is. What is elsewhere is forwarded there.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use arc_swap::ArcSwap;
use dataplane::Plane;
use kubernetes::{
    Cluster, Contender, Fence, Identity, Kubernetes, Turn,
    share::{Others, Place, Replica, ordinal, place},
    workloads::{AdapterWorkload, Workloads},
};
use parking_lot::Mutex;
use spec::{Kind, ObjectKey, Spec};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    args,
    backends::{InCluster, owner},
};

/// Of the leases where nobody says what set of pods this is.
const SET: &str = "headgate";

/// Who this process is, from the environment of its pod (deploy/).
#[derive(Clone, Debug, Default)]
struct Pod {
    /// `POD_NAME`: in a StatefulSet it ends in the ordinal. Without one this is taken for the only replica.
    name: Option<String>,
    /// `POD_NAMESPACE`: where the leases are, and what else is the gateway's own.
    namespace: Option<String>,
    /// `POD_UID`: a container that is started again in its pod goes on with its lease at once.
    uid: Option<String>,
    /// `HEADGATE_POD_URL`: by which other replicas reach this one.
    url: Option<String>,
    /// `HEADGATE_IMAGE`: what adapters run that have a pod of their own.
    image: Option<String>,
}

impl Pod {
    fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            name: variable("POD_NAME"),
            namespace: variable("POD_NAMESPACE"),
            uid: variable("POD_UID"),
            url: variable("HEADGATE_POD_URL").map(|url| url.trim_end_matches('/').to_owned()),
            image: variable("HEADGATE_IMAGE"),
        }
    }

    /// Of a process before this one in the same pod only when that is certainly over.
    fn identity(&self) -> String {
        let unique = self.uid.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        format!("{}_{unique}", self.name.as_deref().unwrap_or("headgate"))
    }
}

/// The namespace of the gateway itself: its leases are there, and its ConfigMaps. Gateways that look at different namespaces are
/// no replicas of each other.
pub(crate) fn home(cluster: &Cluster, watched: Option<&str>) -> String {
    let pod = Pod::from_environment().namespace;
    pod.unwrap_or_else(|| watched.unwrap_or(&cluster.namespace).to_owned())
}

/// What this replica holds, for whoever has to ask before it acts. A handle: clones are the same.
#[derive(Clone)]
pub(crate) struct Turns {
    first: Fence,
    leader: Fence,
    /// The whole spec, of all replicas.
    spec: Arc<ArcSwap<Spec>>,
    /// Where sources are, and were before they left: who had one takes away what it made upstream.
    places: Arc<Mutex<BTreeMap<ObjectKey, Place>>>,
    is_first: bool,
}

/// Sources that left are remembered as long as there are no more than this; each is of interest for two minutes.
const PLACES_MAX: usize = 10_000;

impl Turns {
    /// What lets this replica act for a source.
    pub(crate) fn of(&self, source: &ObjectKey) -> Fence {
        match place(&self.spec.load(), source) {
            Place::First => self.first.clone(),
            Place::Leader | Place::Everywhere => self.leader.clone(),
        }
    }

    /// Whether this replica writes an object's status, right now; and, of a source that has left, whether it was this one's.
    pub(crate) fn writes_status(&self, key: &ObjectKey) -> bool {
        let spec = self.spec.load();
        let left = match spec.sources.contains_key(key) {
            true => None,
            false => self.places.lock().get(key).copied(),
        };
        self.replica().acts_at(left.unwrap_or_else(|| place(&spec, key)))
    }

    fn take(&self, spec: &Arc<Spec>) {
        self.spec.store(spec.clone());
        let mut places = self.places.lock();
        if places.len() > PLACES_MAX {
            places.retain(|key, _| spec.sources.contains_key(key));
        }
        places.extend(spec.sources.keys().map(|key| (key.clone(), place(spec, key))));
    }

    pub(crate) fn spec(&self) -> Arc<Spec> {
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

/// What a gateway has besides, in a cluster: its place among the replicas, and what runs in pods for its sources.
pub(crate) fn join(kubernetes: &Kubernetes, args: &args::Run, listen: SocketAddr) -> (Replicas, InCluster) {
    let cluster = kubernetes.access();
    let mut pod = Pod::from_environment();
    // Good for others where it listens at one address of the machine.
    let own = || (!listen.ip().is_unspecified()).then(|| format!("http://{listen}"));
    pod.url = pod.url.or_else(own);
    let replicas = Replicas::new(kubernetes, &pod);
    let trimmed = |url: &url::Url| url.as_str().trim_end_matches('/').to_owned();
    let in_cluster = InCluster {
        cluster: cluster.clone(),
        workloads: Workloads::new(
            cluster.client.clone(),
            &cluster.server,
            args.cluster.namespace.as_deref(),
        ),
        turns: replicas.turns(),
        guarded: kubernetes.guarded(),
        image: pod.image,
        url: match &args.cluster.service {
            Some(service) => format!("http://{service}"),
            None => format!("http://{listen}"),
        },
        public_url: args.public_url.as_ref().map(trimmed),
        max_body_bytes: args.max_body_bytes,
    };
    (replicas, in_cluster)
}

/// The parts that run.
pub(crate) struct Replicas {
    first: Contender,
    leader: Contender,
    turns: Turns,
    /// Sources with an account of their own run in pods of their own.
    has_pods: bool,
}

impl Replicas {
    fn new(kubernetes: &Kubernetes, pod: &Pod) -> Self {
        let of_set = pod.name.as_deref().and_then(ordinal);
        let set = of_set.map_or(SET, |(set, _)| set);
        let is_first = of_set.is_none_or(|(_, ordinal)| ordinal == 0);
        let contender = |role: &str, contends: bool| {
            let identity = Identity {
                name: pod.identity(),
                url: pod.url.clone(),
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
                places: Arc::default(),
                is_first,
            },
            first,
            leader,
            has_pods: pod.image.is_some(),
        }
    }

    pub(crate) fn turns(&self) -> Turns {
        self.turns.clone()
    }

    /// Publishes this replica's part of each spec until `stop`; the leases are given back then, for the data plane has drained.
    pub(crate) async fn run(
        self,
        specs: watch::Receiver<Arc<Spec>>,
        publish: watch::Sender<Arc<Spec>>,
        plane: Plane,
        stop: CancellationToken,
    ) {
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
                publish.send_replace(Arc::new(replica.share(&whole, &others)));
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
