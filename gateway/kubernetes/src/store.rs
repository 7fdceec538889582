//! The spec store: follows all that matters at the API server and publishes a spec when it changed.
//!
//! One task has the index; what comes is put there, and after a moment of quiet a spec is built from all of it. Nothing is
//! published before each kind of ours was listed, or found to be not there or not ours to read: what cannot be read does not
//! hold up the others, and an API server that cannot be reached holds up everything, for nobody knows what it has.

mod advice;
mod defaults;
mod targets;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use spec::{Kind, ObjectKey, Objects, References, Spec};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Cluster, Settings,
    collection::Collection,
    follow::{Follower, Message, Told},
    guard,
    known::{Facts, Known, ServiceFacts},
    refusal::{Refusal, Rule},
};
use advice::{advice, name};
use defaults::DefaultChannels;
use targets::Targets;

/// What comes together is one change: `kubectl apply` of a folder sends its objects some milliseconds apart.
const QUIET: Duration = Duration::from_millis(10);

/// Who writes without a pause is still heard.
const QUIET_WITHIN: Duration = Duration::from_millis(200);

/// A spec of thousands of objects takes its time to build: of a flood of changes, this part of the time at most goes into it.
const REST: u32 = 3;

/// Messages that wait for the index: it takes them in microseconds, and builds in milliseconds.
pub(crate) const INBOX: usize = 256;

/// By which `/readyz` knows what is wrong with the default provisioners.
const DEFAULTS_TROUBLE: &str = "default provisioners";

/// A collection that is followed.
struct Followed {
    stop: CancellationToken,
    /// What was listed, or why it cannot be.
    state: State,
    rule: Option<Rule>,
}

enum State {
    /// Nobody knows yet.
    Asked,
    /// Listed at least once; what is said in the way since then is only a delay.
    Listed,
    Refused(Refusal),
}

pub(crate) struct Store {
    cluster: Cluster,
    settings: Settings,
    known: Known,
    objects: Objects,
    targets: Targets,
    default_channels: DefaultChannels,
    /// They say something that is not in force yet.
    defaults_are_new: bool,
    references: References,
    followed: BTreeMap<Collection, Followed>,
    tasks: JoinSet<()>,
    inbox: mpsc::Sender<Message>,
    specs: watch::Receiver<Arc<Spec>>,
}

impl Store {
    pub(crate) fn new(
        cluster: Cluster,
        settings: Settings,
        known: Known,
        inbox: mpsc::Sender<Message>,
        out: watch::Sender<Arc<Spec>>,
    ) -> Self {
        Self {
            specs: out.subscribe(),
            objects: Objects::new(settings.default_provisioner.clone(), out),
            targets: Targets::new(settings.cluster_domain.clone(), settings.namespace.clone()),
            default_channels: DefaultChannels::default(),
            defaults_are_new: false,
            references: References::default(),
            followed: BTreeMap::new(),
            tasks: JoinSet::new(),
            cluster,
            settings,
            known,
            inbox,
        }
    }

    pub(crate) async fn run(mut self, mut messages: mpsc::Receiver<Message>, stop: CancellationToken) {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_ours()) {
            self.follow(Collection::Kind(kind));
        }
        self.follow(Collection::Services);
        for name in defaults::places(&self.settings.home.clone()) {
            self.follow(Collection::Defaults(name));
        }
        let work = async {
            // The inbox never closes: this task holds its other end.
            while let Some(message) = messages.recv().await {
                let mut dirty = self.take(message);
                let end = Instant::now() + QUIET_WITHIN;
                while let Ok(Some(message)) = timeout_at((Instant::now() + QUIET).min(end), messages.recv()).await {
                    dirty |= self.take(message);
                }
                self.known.told();
                if !dirty {
                    continue;
                }
                let began = Instant::now();
                self.refer();
                if self.may_publish() {
                    self.publish();
                }
                tokio::time::sleep(began.elapsed() * REST).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
        self.tasks.shutdown().await;
    }

    fn follow(&mut self, collection: Collection) {
        let stop = CancellationToken::new();
        let follower = Follower {
            client: self.cluster.client.clone(),
            collection: collection.clone(),
            namespace: self.settings.namespace.clone(),
            labels: None,
            out: self.inbox.clone(),
        };
        self.tasks.spawn(follower.run(stop.clone()));
        let followed = Followed {
            stop,
            state: State::Asked,
            rule: None,
        };
        self.followed.insert(collection, followed);
        // Those that have ended leave nothing behind.
        while self.tasks.try_join_next().is_some() {}
    }

    /// True when it may be another spec now.
    fn take(&mut self, Message { of, told }: Message) -> bool {
        // What was not wanted any more may still have something to say.
        let Some(followed) = self.followed.get_mut(&of) else {
            return false;
        };
        match told {
            Told::Listed(objects) => {
                let was_listed = matches!(followed.state, State::Listed);
                followed.state = State::Listed;
                self.trouble(&of, None);
                self.listed(&of, &objects) || !was_listed
            }
            Told::Changed(object) => self.changed(&of, &object),
            Told::Deleted(object) => self.deleted(&of, &object),
            Told::Left(key) => {
                self.known.with(|known| known.resumed.remove(&key));
                self.objects.remove(&key);
                true
            }
            Told::Resumed => {
                self.trouble(&of, None);
                false
            }
            Told::Refused(refusal, rule) => {
                self.trouble(&of, Some((&refusal, rule.as_ref())));
                let Some(followed) = self.followed.get_mut(&of) else {
                    return false;
                };
                followed.rule = rule;
                // Of what documents refer to, a stale address is worse than none.
                let is_kept = matches!(of, Collection::Kind(_) | Collection::Services | Collection::Defaults(_));
                match followed.state {
                    State::Listed if is_kept || !refusal.is_final() => false,
                    _ => {
                        followed.state = State::Refused(refusal);
                        true
                    }
                }
            }
        }
    }

    fn listed(&mut self, of: &Collection, objects: &[Value]) -> bool {
        match of {
            Collection::Kind(kind) => {
                let mut gone: BTreeSet<ObjectKey> = self.known.with(|known| {
                    let keys = known.objects.keys().filter(|key| key.kind == *kind);
                    keys.cloned().collect()
                });
                let mut dirty = false;
                for object in objects {
                    gone.remove(&Objects::key(*kind, object));
                    dirty |= self.changed(of, object);
                }
                for key in gone {
                    self.forget(&key);
                    dirty = true;
                }
                dirty
            }
            Collection::Services => {
                self.known.with(|known| {
                    let named = |service: &Value| (Objects::name(service), Arc::new(ServiceFacts::new(service)));
                    known.services = objects.iter().map(named).collect();
                    known.services_are_known = true;
                });
                self.targets.listed("v1", "Service", objects)
            }
            Collection::Targets { api_version, kind } => self.targets.listed(api_version, kind, objects),
            Collection::Defaults(name) => match objects.first() {
                Some(object) => self.changed(of, object),
                None => {
                    self.defaults_are_new |= self.default_channels.remove(name);
                    self.defaults_are_new
                }
            },
            Collection::Secret(name) => match objects.first() {
                Some(secret) => self.changed(of, secret),
                None => {
                    self.objects.remove(&ObjectKey::new(Kind::Secret, name.clone()));
                    true
                }
            },
        }
    }

    fn changed(&mut self, of: &Collection, object: &Value) -> bool {
        match of {
            Collection::Kind(kind) => {
                let facts = Facts::new(object);
                let key = Objects::key(*kind, object);
                let (is_leaving, facts) = (facts.is_leaving, Arc::new(facts));
                let before = self
                    .known
                    .with(|known| known.objects.insert(key.clone(), facts.clone()));
                // A new status, which may well be ours, is nothing new to want.
                if before.is_some_and(|before| before.means_the_same(&facts)) {
                    return false;
                }
                // What the gateway before us had not taken away is taken up once more, and then away.
                let is_resumed = is_leaving && self.specs.borrow().generation == 0 && guard::has_finalizer(&facts);
                if is_resumed {
                    self.known.with(|known| known.resumed.insert(key.clone()));
                }
                match is_leaving && !is_resumed {
                    true => self.objects.remove(&key),
                    false => self.objects.put(*kind, object),
                }
                true
            }
            Collection::Services => {
                let (name, facts) = (Objects::name(object), ServiceFacts::new(object));
                self.known.with(|known| known.services.insert(name, Arc::new(facts)));
                self.targets.changed("v1", "Service", object)
            }
            Collection::Targets { api_version, kind } => self.targets.changed(api_version, kind, object),
            Collection::Defaults(name) => {
                self.defaults_are_new |= self.default_channels.put(name, object);
                self.defaults_are_new
            }
            Collection::Secret(_) => {
                self.objects.put(Kind::Secret, object);
                true
            }
        }
    }

    fn deleted(&mut self, of: &Collection, object: &Value) -> bool {
        match of {
            Collection::Kind(kind) => {
                self.forget(&Objects::key(*kind, object));
                true
            }
            Collection::Services => {
                let name = Objects::name(object);
                self.known.with(|known| known.services.remove(&name));
                self.targets.deleted("v1", "Service", object)
            }
            Collection::Targets { api_version, kind } => self.targets.deleted(api_version, kind, object),
            Collection::Defaults(name) => {
                self.defaults_are_new |= self.default_channels.remove(name);
                self.defaults_are_new
            }
            Collection::Secret(name) => {
                self.objects.remove(&ObjectKey::new(Kind::Secret, name.clone()));
                true
            }
        }
    }

    /// What counts from now on for channels that name no provisioner. What is wrong with it is told once.
    fn take_defaults(&mut self) {
        let (place, said) = self.default_channels.said();
        let place = place.map(ToString::to_string);
        let trouble = said.as_ref().err().map(|why| why.message.clone());
        match (&trouble, place) {
            (Some(trouble), _) => tracing::warn!(
                trouble,
                "cannot use the default provisioners, those that were read before count"
            ),
            (None, Some(configmap)) => tracing::info!(configmap, "default provisioners are read"),
            (None, None) => tracing::info!("default provisioner is what a gateway is told itself"),
        }
        self.known.with(|known| match trouble {
            Some(trouble) => drop(known.troubles.insert(DEFAULTS_TROUBLE.to_owned(), trouble)),
            None => drop(known.troubles.remove(DEFAULTS_TROUBLE)),
        });
        self.objects.set_defaults(said);
    }

    fn forget(&mut self, key: &ObjectKey) {
        self.known.with(|known| {
            known.resumed.remove(key);
            known.unguarded.remove(key);
            known.objects.remove(key);
        });
        self.objects.remove(key);
    }

    /// Says once what is in the way of a collection, and that it no longer is.
    fn trouble(&self, of: &Collection, trouble: Option<(&Refusal, Option<&Rule>)>) {
        let name = name(of);
        let text = trouble.map(|(refusal, rule)| advice(of, refusal, rule, &self.cluster.server));
        let before = self.known.with(|known| match &text {
            Some(text) => known.troubles.insert(name.clone(), text.clone()),
            None => known.troubles.remove(&name),
        });
        match (text, before) {
            (Some(now), before) if before.as_ref() != Some(&now) => {
                tracing::warn!(
                    of = name,
                    trouble = now,
                    "cannot read from the API server, trying again"
                );
            }
            (None, Some(_)) => tracing::info!(of = name, "reading from the API server goes on"),
            _ => {}
        }
    }

    /// Follows what documents refer to now, and nothing that none refers to any more.
    fn refer(&mut self) {
        let references = self.objects.references();
        if references == self.references {
            return;
        }
        let targets = references
            .targets
            .iter()
            .map(|target| match (&*target.api_version, &*target.kind) {
                ("v1", "Service") => Collection::Services,
                (api_version, kind) => Collection::Targets {
                    api_version: api_version.to_owned(),
                    kind: kind.to_owned(),
                },
            });
        let secrets = references.secrets.iter().cloned().map(Collection::Secret);
        let wanted: BTreeSet<Collection> = targets.chain(secrets).collect();
        self.references = references;
        let is_optional = |of: &Collection| matches!(of, Collection::Targets { .. } | Collection::Secret(_));
        let unwanted = |of: &&Collection| is_optional(of) && !wanted.contains(*of);
        let unwanted: Vec<Collection> = self.followed.keys().filter(unwanted).cloned().collect();
        for of in unwanted {
            if let Some(followed) = self.followed.remove(&of) {
                followed.stop.cancel();
            }
            self.known.with(|known| known.troubles.remove(&name(&of)));
            match of {
                Collection::Secret(name) => self.objects.remove(&ObjectKey::new(Kind::Secret, name)),
                Collection::Targets { api_version, kind } => self.targets.forget(&api_version, &kind),
                Collection::Kind(_) | Collection::Services | Collection::Defaults(_) => {}
            }
        }
        for of in wanted {
            if !self.followed.contains_key(&of) {
                self.follow(of);
            }
        }
    }

    /// The first spec waits until it is known what there is; later ones do not wait.
    fn may_publish(&self) -> bool {
        if self.specs.borrow().generation > 0 {
            return true;
        }
        self.followed.iter().all(|(of, followed)| match (&followed.state, of) {
            (State::Listed, _) => true,
            (State::Asked, _) => false,
            // A kind of ours that is not there has no objects; one that we may not read is told.
            (State::Refused(refusal), Collection::Kind(_) | Collection::Defaults(_)) => refusal.is_final(),
            (State::Refused(_), _) => true,
        })
    }

    fn publish(&mut self) {
        // Not before: of two ConfigMaps the one that counts may come second.
        if std::mem::take(&mut self.defaults_are_new) {
            self.take_defaults();
        }
        let refused = |of: &Collection| self.refused(of);
        let found = self.targets.found(&self.references, refused);
        // A kind that does not exist has no objects. Of one that we may not read nobody knows.
        let unread = self
            .followed
            .iter()
            .filter_map(|(of, followed)| match (&followed.state, of) {
                (State::Refused(refusal), Collection::Kind(kind)) if *refusal != Refusal::NotFound => Some(*kind),
                _ => None,
            });
        let unread = unread.collect();
        self.objects.publish(&found, unread);
        let generation = self.specs.borrow().generation;
        let is_unserved = |(of, followed): (&Collection, &Followed)| match (&followed.state, of) {
            (State::Refused(_), Collection::Kind(kind)) => !kind.is_source(),
            _ => false,
        };
        let is_served = !self.followed.iter().any(is_unserved);
        self.known.with(|known| {
            known.published = generation;
            known.is_served = is_served;
        });
    }

    /// Why a collection that documents refer to cannot be read.
    fn refused(&self, of: &Collection) -> Option<(Refusal, Option<Rule>)> {
        let followed = self.followed.get(of)?;
        match &followed.state {
            State::Refused(refusal) => Some((refusal.clone(), followed.rule.clone())),
            State::Asked | State::Listed => None,
        }
    }
}
