//! The spec store: it watches the API server and publishes a spec when it changed.
//!
//! One task owns the index. It applies updates, and builds a spec after a moment without updates. The first spec waits
//! until each of our kinds was listed, or turned out to be missing or forbidden. A forbidden kind delays nothing, but
//! an unreachable API server delays everything, because its objects are unknown.

mod advice;
mod defaults;
mod publication;
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
    cache::{Cache, CachedObject, CachedService},
    collection::Collection,
    finalizer,
    reflector::{Message, Reflector, Update},
    refusal::{Refusal, Rule},
};
use advice::{advice, name};
use defaults::DefaultChannels;
use targets::Targets;

/// Updates within this time are one change: `kubectl apply` of a folder sends its objects some milliseconds apart.
const QUIET: Duration = Duration::from_millis(10);

/// Continuous updates are published this often.
const QUIET_WITHIN: Duration = Duration::from_millis(200);

/// After each build the store pauses for this many times the duration of the build, so that a flood of changes leaves
/// time for other work.
const REST_FACTOR: u32 = 3;

/// Updates that wait for the index: it applies one in microseconds and builds a spec in milliseconds.
pub(crate) const INBOX: usize = 256;

/// The key of errors in the default provisioners, in `/readyz`.
const DEFAULTS_TROUBLE: &str = "default provisioners";

/// A collection that is watched.
struct Watched {
    stop: CancellationToken,
    /// Whether it was listed, or why it cannot be.
    state: State,
    rule: Option<Rule>,
}

enum State {
    /// The API server has not answered yet.
    Pending,
    /// Listed at least once; a later error only delays updates.
    Listed,
    Refused(Refusal),
}

pub(crate) struct Store {
    cluster: Cluster,
    settings: Settings,
    cache: Cache,
    objects: Objects,
    targets: Targets,
    default_channels: DefaultChannels,
    /// A ConfigMap has changed, and the spec does not contain it yet.
    defaults_are_new: bool,
    references: References,
    watched: BTreeMap<Collection, Watched>,
    tasks: JoinSet<()>,
    inbox: mpsc::Sender<Message>,
    specs: watch::Receiver<Arc<Spec>>,
}

impl Store {
    pub(crate) fn new(
        cluster: Cluster,
        settings: Settings,
        cache: Cache,
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
            watched: BTreeMap::new(),
            tasks: JoinSet::new(),
            cluster,
            settings,
            cache,
            inbox,
        }
    }

    pub(crate) async fn run(mut self, mut messages: mpsc::Receiver<Message>, stop: CancellationToken) {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_ours()) {
            self.watch_collection(Collection::Kind(kind));
        }
        self.watch_collection(Collection::Services);
        for name in defaults::config_maps(&self.settings.home.clone()) {
            self.watch_collection(Collection::Defaults(name));
        }
        let work = async {
            // The inbox never closes: this task holds a sender.
            while let Some(message) = messages.recv().await {
                let mut dirty = self.apply(message);
                let end = Instant::now() + QUIET_WITHIN;
                while let Ok(Some(message)) = timeout_at((Instant::now() + QUIET).min(end), messages.recv()).await {
                    dirty |= self.apply(message);
                }
                self.cache.notify();
                if !dirty {
                    continue;
                }
                let began = Instant::now();
                self.watch_references();
                if self.may_publish() {
                    self.publish();
                }
                tokio::time::sleep(began.elapsed() * REST_FACTOR).await;
            }
        };
        stop.run_until_cancelled(work).await;
        self.tasks.shutdown().await;
    }

    fn watch_collection(&mut self, collection: Collection) {
        let stop = CancellationToken::new();
        let follower = Reflector {
            client: self.cluster.client.clone(),
            collection: collection.clone(),
            namespace: self.settings.namespace.clone(),
            labels: None,
            out: self.inbox.clone(),
        };
        self.tasks.spawn(follower.run(stop.clone()));
        let watched = Watched {
            stop,
            state: State::Pending,
            rule: None,
        };
        self.watched.insert(collection, watched);
        // Drops the results of tasks that have ended.
        while self.tasks.try_join_next().is_some() {}
    }

    /// Applies an update. Returns whether the spec may have changed.
    fn apply(&mut self, Message { collection, update }: Message) -> bool {
        // A reflector that was stopped may still have sent an update.
        let Some(watched) = self.watched.get_mut(&collection) else {
            return false;
        };
        match update {
            Update::Listed(objects) => {
                let was_listed = matches!(watched.state, State::Listed);
                watched.state = State::Listed;
                self.trouble(&collection, None);
                self.listed(&collection, &objects) || !was_listed
            }
            Update::Changed(object) => self.changed(&collection, &object),
            Update::Deleted(object) => self.deleted(&collection, &object),
            Update::DropFromSpec(key) => {
                self.cache.with(|cache| cache.resumed.remove(&key));
                self.objects.remove(&key);
                true
            }
            Update::Resumed => {
                self.trouble(&collection, None);
                false
            }
            Update::Refused(refusal, rule) => {
                self.trouble(&collection, Some((&refusal, rule.as_ref())));
                let Some(watched) = self.watched.get_mut(&collection) else {
                    return false;
                };
                watched.rule = rule;
                // A referenced object's stale address is worse than none.
                let is_kept = matches!(
                    collection,
                    Collection::Kind(_) | Collection::Services | Collection::Defaults(_)
                );
                match watched.state {
                    State::Listed if is_kept || !refusal.is_final() => false,
                    _ => {
                        watched.state = State::Refused(refusal);
                        true
                    }
                }
            }
        }
    }

    fn listed(&mut self, collection: &Collection, objects: &[Value]) -> bool {
        match collection {
            Collection::Kind(kind) => {
                let mut gone: BTreeSet<ObjectKey> = self.cache.with(|cache| {
                    let keys = cache.objects.keys().filter(|key| key.kind == *kind);
                    keys.cloned().collect()
                });
                let mut dirty = false;
                for object in objects {
                    gone.remove(&Objects::key(*kind, object));
                    dirty |= self.changed(collection, object);
                }
                for key in gone {
                    self.delete(&key);
                    dirty = true;
                }
                dirty
            }
            Collection::Services => {
                self.cache.with(|cache| {
                    let named = |service: &Value| (Objects::name(service), Arc::new(CachedService::new(service)));
                    cache.services = objects.iter().map(named).collect();
                    cache.services_are_known = true;
                });
                self.targets.listed("v1", "Service", objects)
            }
            Collection::Targets { api_version, kind } => self.targets.listed(api_version, kind, objects),
            Collection::Defaults(name) => match objects.first() {
                Some(object) => self.changed(collection, object),
                None => {
                    self.defaults_are_new |= self.default_channels.remove(name);
                    self.defaults_are_new
                }
            },
            Collection::Secret(name) => match objects.first() {
                Some(secret) => self.changed(collection, secret),
                None => {
                    self.objects.remove(&ObjectKey::new(Kind::Secret, name.clone()));
                    true
                }
            },
        }
    }

    fn changed(&mut self, collection: &Collection, object: &Value) -> bool {
        match collection {
            Collection::Kind(kind) => {
                let cached = CachedObject::new(object);
                let key = Objects::key(*kind, object);
                let (is_leaving, cached) = (cached.is_leaving, Arc::new(cached));
                let before = self
                    .cache
                    .with(|cache| cache.objects.insert(key.clone(), cached.clone()));
                // A new status, often our own write, does not change the spec.
                if before.is_some_and(|before| before.means_the_same(&cached)) {
                    return false;
                }
                // The source runs once more, so that it deletes what the previous process left upstream.
                let is_resumed = is_leaving && self.specs.borrow().generation == 0 && finalizer::has_finalizer(&cached);
                if is_resumed {
                    self.cache.with(|cache| cache.resumed.insert(key.clone()));
                }
                if is_leaving && !is_resumed {
                    self.objects.remove(&key);
                } else {
                    self.objects.put(*kind, object);
                }
                true
            }
            Collection::Services => {
                let (name, cached) = (Objects::name(object), CachedService::new(object));
                self.cache.with(|cache| cache.services.insert(name, Arc::new(cached)));
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

    fn deleted(&mut self, collection: &Collection, object: &Value) -> bool {
        match collection {
            Collection::Kind(kind) => {
                self.delete(&Objects::key(*kind, object));
                true
            }
            Collection::Services => {
                let name = Objects::name(object);
                self.cache.with(|cache| cache.services.remove(&name));
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

    /// Sets the default provisioners of channels that name none. Logs an error once.
    fn apply_defaults(&mut self) {
        let (config_map, effective) = self.default_channels.effective();
        let config_map = config_map.map(ToString::to_string);
        let trouble = effective.as_ref().err().map(|why| why.message.clone());
        match (&trouble, config_map) {
            (Some(trouble), _) => tracing::warn!(
                trouble,
                "the ConfigMap of default provisioners is invalid, the previous defaults stay in force"
            ),
            (None, Some(configmap)) => tracing::info!(configmap, "using the default provisioners of a ConfigMap"),
            (None, None) => tracing::info!("using the --default-provisioner flag: no ConfigMap sets a default"),
        }
        self.cache.with(|cache| match trouble {
            Some(trouble) => drop(cache.troubles.insert(DEFAULTS_TROUBLE.to_owned(), trouble)),
            None => drop(cache.troubles.remove(DEFAULTS_TROUBLE)),
        });
        self.objects.set_defaults(effective);
    }

    fn delete(&mut self, key: &ObjectKey) {
        self.cache.with(|cache| {
            cache.resumed.remove(key);
            cache.unguarded.remove(key);
            cache.objects.remove(key);
        });
        self.objects.remove(key);
    }

    /// Logs an error of a collection once, and once when it is over.
    fn trouble(&self, collection: &Collection, trouble: Option<(&Refusal, Option<&Rule>)>) {
        let name = name(collection);
        let text = trouble.map(|(refusal, rule)| advice(collection, refusal, rule, &self.cluster.server));
        let before = self.cache.with(|cache| match &text {
            Some(text) => cache.troubles.insert(name.clone(), text.clone()),
            None => cache.troubles.remove(&name),
        });
        match (text, before) {
            (Some(now), before) if before.as_ref() != Some(&now) => {
                tracing::warn!(
                    collection = name,
                    trouble = now,
                    "cannot read from the API server, trying again"
                );
            }
            (None, Some(_)) => tracing::info!(collection = name, "reading from the API server works again"),
            _ => {}
        }
    }
}
