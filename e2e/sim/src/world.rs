//! Runs a scenario: one runtime for each process of it, the same disks under all of them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ::channel::{Channel, Start};
use adapter::{MemoryCheckpoint, Outlet};
use async_trait::async_trait;
use dataplane::{Backends, Identity, Plane, Progress, Redrive, Replay, Settings, SourceParts};
use event::Event;
use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use spec::{ObjectName, Spec, model};
use status::{Cause, Reason};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    channel::Disk,
    documents::{Documents, channel_name, channel_number, full, object},
    history::{Fact, History, Millis, Record},
    panics,
    scenario::{Action, Fault, Scenario, Step},
    subscribers::{Subscribers, payload},
};

/// After everything was mended the data plane comes to rest within this: the longest backoff, breakers that probe one event at a
/// time, and replays.
const REST_WITHIN: Duration = Duration::from_secs(2 * 3600);

/// The drain at the end of a run, and what a person waits for.
const LAST_GRACE: Duration = Duration::from_secs(30);

/// From the end of a process to the begin of the next. What the first one still did would be seen meanwhile: an attempt that was left
/// running ends, and the wait after it.
const DOWN: Duration = Duration::from_secs(7);

/// Runs the scenario in this thread and returns what happened.
pub fn run(scenario: &Scenario) -> Vec<Record> {
    let history = Arc::new(History::default());
    let world = Arc::new(World::new(scenario, history.clone()));
    let mut rest: &[Step] = &scenario.steps;
    panics::note_in(Some(history.clone()));
    loop {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        let runtime = runtime.expect("a runtime without I/O needs nothing of the system");
        let base = history.now();
        let subscribers = world.subscribers.clone();
        connect::replace_network(Some(Arc::new(move |to| subscribers.connect(to))));
        let ran = runtime.block_on(async {
            history.go_on(base);
            let ran = tokio::select! {
                biased;
                () = history.overflows() => None,
                ran = world.live(rest) => ran,
            };
            if ran.is_some() {
                world.disks.iter().for_each(|disk| disk.crash());
            }
            history.stop_at(history.now());
            ran
        });
        // What a process that crashed still does while it is dropped has no effect on the disks.
        drop(runtime);
        match ran {
            Some(next) => rest = next,
            None => break,
        }
    }
    connect::replace_network(None);
    panics::note_in(None);
    history.records()
}

struct World {
    history: Arc<History>,
    disks: Vec<Arc<Disk>>,
    subscribers: Arc<Subscribers>,
    documents: Mutex<Documents>,
    /// Each replay and redrive that runs has one of it, unless nobody waits for its end.
    awaited: Arc<()>,
}

/// One process: what it names is gone when it ends.
struct Process {
    plane: Plane,
    outlets: Arc<Outlets>,
    specs: watch::Sender<Arc<Spec>>,
    running: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

type Outlets = Mutex<BTreeMap<ObjectName, Outlet>>;

struct Opener {
    world: Arc<World>,
    outlets: Arc<Outlets>,
}

#[async_trait]
impl Backends for Opener {
    async fn open(&self, channel: &model::Channel) -> Result<Arc<dyn Channel>, Cause> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let disk = &self.world.disks[channel_number(&channel.name)];
        match disk.fails(Fault::Opens) {
            Some(_) => Err(Cause::new(Reason::Unavailable, "scripted fault")),
            None => Ok(disk.open()),
        }
    }

    fn source(&self, source: &model::Source, given: adapter::Source) -> Result<SourceParts, Cause> {
        self.outlets.lock().insert(source.key.name.clone(), given.outlet);
        Ok(SourceParts::default())
    }

    fn identity(&self, source: &model::Source) -> Option<Identity> {
        let uid = source.key.to_string();
        Some(Identity {
            uid,
            gateway: "sim".into(),
            checkpoint: Arc::new(MemoryCheckpoint::default()),
        })
    }
}

impl World {
    fn new(scenario: &Scenario, history: Arc<History>) -> Self {
        let disks = scenario.channels.iter().enumerate();
        Self {
            disks: disks
                .map(|(number, plan)| Disk::new(number, *plan, history.clone()))
                .collect(),
            subscribers: Subscribers::new(scenario.subscribers, history.clone()),
            documents: Mutex::new(Documents::new(scenario.channels.len())),
            awaited: Arc::default(),
            history,
        }
    }

    /// One process. Returns the steps that are left when it crashed.
    async fn live<'a>(self: &Arc<Self>, mut steps: &'a [Step]) -> Option<&'a [Step]> {
        self.history.note(Fact::Began);
        let mut process = self.start();
        while let Some((step, rest)) = steps.split_first() {
            steps = rest;
            let wait = step.at.saturating_sub(self.history.now());
            if wait > 0 {
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
            self.history.note(Fact::Step(step.action.clone()));
            match &step.action {
                Action::Crash => {
                    self.history.note(Fact::Crashed);
                    return Some(steps);
                }
                Action::Restart { grace } => {
                    self.drain(process, Duration::from_millis(*grace)).await;
                    self.history.note(Fact::Began);
                    process = self.start();
                }
                action => self.act(action, &process),
            }
        }
        self.come_to_rest(process).await;
        None
    }

    fn start(self: &Arc<Self>) -> Process {
        let outlets = Arc::new(Outlets::default());
        let settings = Settings {
            max_body_bytes: 8 << 20,
            max_hops: 32,
            ingress_url: "http://gateway".into(),
            state_dir: None,
            is_exposed: false,
            remote: None,
        };
        let opener = Arc::new(Opener {
            world: self.clone(),
            outlets: outlets.clone(),
        });
        let plane = Plane::new(settings, opener, &mut Registry::default()).expect("nothing is read from files");
        let (specs, watched) = watch::channel(Arc::new(self.documents.lock().spec()));
        let (stop, runs) = (CancellationToken::new(), plane.clone());
        let stopped = stop.clone();
        let running = tokio::spawn(async move { runs.run(watched, stopped).await });
        Process {
            plane,
            outlets,
            specs,
            running,
            stop,
        }
    }

    async fn drain(&self, process: Process, grace: Duration) {
        self.history.note(Fact::DrainBegan {
            grace: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        });
        // In the order of the binary: documents are applied until everything is drained.
        process.plane.drain(Instant::now() + grace).await;
        process.stop.cancel();
        process
            .running
            .await
            .expect("the task that applies documents ends by itself");
        // Subscribers see that their connections ended.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.history.note(Fact::DrainEnded);
        tokio::time::sleep(DOWN).await;
    }

    fn act(self: &Arc<Self>, action: &Action, process: &Process) {
        match action {
            Action::Publish {
                channel,
                id,
                key,
                lot,
                size,
            } => {
                let event = Event::builder(id, "/sim", "sim")
                    .set("lot", lot)
                    .set("bytes", &size.to_string());
                let event = key.iter().fold(event, |event, key| event.set("partitionkey", key));
                let event = event
                    .data("application/octet-stream", payload(id, *size).into())
                    .finish();
                let event = event.expect("a valid event");
                self.publish(*channel, event, process);
            }
            Action::Subscribe(subscription) => {
                self.edit(process, |documents| {
                    documents
                        .subscriptions
                        .insert(subscription.name.clone(), subscription.clone());
                });
            }
            Action::Unsubscribe(name) => self.edit(process, |documents| {
                if documents.subscriptions.remove(name).is_some() {
                    let subscription = full(name);
                    self.history.note(Fact::Unsubscribed { subscription });
                }
            }),
            Action::Reopen(channel) => self.edit(process, |documents| documents.edits[*channel] += 1),
            Action::Subscriber {
                number,
                behavior,
                lasts,
            } => self.subscribers.set(*number, *behavior, *lasts),
            Action::Channel { number, fault, lasts } => self.disks[*number].fail(*fault, *lasts),
            Action::Replay {
                subscription,
                from,
                rate,
                followed,
            } => self.replay(subscription, *from, *rate, *followed, &process.plane),
            Action::Redrive {
                subscription,
                rate,
                followed,
            } => self.redrive(subscription, *rate, *followed, &process.plane),
            Action::Crash | Action::Restart { .. } => {}
        }
    }

    fn publish(&self, channel: usize, event: Event, process: &Process) {
        let outlet = process.outlets.lock().get(&channel_name(channel)).cloned();
        let (history, id) = (self.history.clone(), event.id().to_owned());
        tokio::spawn(async move {
            let Some(outlet) = outlet else {
                return history.note(Fact::Refused {
                    channel,
                    id,
                    why: "the source does not run yet".into(),
                });
            };
            match outlet.accept(vec![event]).await {
                Ok(accepted) => history.note(Fact::Accepted {
                    channel,
                    id,
                    offset: accepted.stored_proof().last().0,
                }),
                Err(refused) => history.note(Fact::Refused {
                    channel,
                    id,
                    why: refused.to_string(),
                }),
            }
        });
    }

    fn edit(&self, process: &Process, edit: impl FnOnce(&mut Documents)) {
        let mut documents = self.documents.lock();
        edit(&mut documents);
        process.specs.send_replace(Arc::new(documents.spec()));
    }

    fn replay(&self, subscription: &str, from: u64, rate: Option<f64>, followed: Millis, plane: &Plane) {
        let (plane, name, history) = (plane.clone(), object(subscription), self.history.clone());
        let awaited = self.awaited(followed);
        tokio::spawn(async move {
            let _awaited = awaited;
            let what = Replay {
                from: Start::Offset(::channel::Offset(from)),
                to: None,
                filter: None,
                rate,
                dry_run: false,
            };
            let Ok(progress) = plane.replay(&name, what).await else {
                return;
            };
            let subscription = name.to_string();
            history.note(Fact::ReplayBegan {
                subscription: subscription.clone(),
                from,
            });
            let (is_done, counts) = match follow(progress, followed).await {
                Some(Progress::Done(counts)) => (true, counts),
                Some(Progress::Stopped(counts, _) | Progress::Going(counts)) => (false, counts),
                None => return,
            };
            history.note(Fact::ReplayEnded {
                subscription,
                is_done,
                delivered: counts.delivered,
                dead_lettered: counts.dead_lettered,
                matched: counts.matched,
            });
        });
    }

    fn redrive(&self, subscription: &str, rate: Option<f64>, followed: Millis, plane: &Plane) {
        let (plane, name, history) = (plane.clone(), object(subscription), self.history.clone());
        let awaited = self.awaited(followed);
        tokio::spawn(async move {
            let _awaited = awaited;
            let what = Redrive {
                rate,
                ..Redrive::default()
            };
            let Ok(redriving) = plane.redrive(&name, what).await else {
                return;
            };
            let Some((counts, _is_last)) = follow(redriving.follow(), followed).await else {
                return;
            };
            history.note(Fact::RedriveEnded {
                subscription: name.to_string(),
                is_done: counts.stopped.is_none(),
                delivered: counts.delivered,
                dead_lettered: counts.dead_lettered,
                gone: counts.gone,
                matched: counts.matched,
            });
        });
    }

    /// Held as long as a replay or a redrive runs whose end is waited for.
    fn awaited(&self, followed: Millis) -> Option<Arc<()>> {
        (followed == Action::TO_ITS_END).then(|| self.awaited.clone())
    }

    /// Mends everything, waits until nothing is left to do, and drains.
    async fn come_to_rest(&self, process: Process) {
        self.subscribers.mend();
        self.disks.iter().for_each(|disk| disk.mend());
        self.edit(&process, |documents| {
            documents.subscriptions.values_mut().for_each(|one| one.paused = false);
        });
        self.history.note(Fact::Mended);
        let deadline = Instant::now() + REST_WITHIN;
        let unsettled = || self.disks.iter().flat_map(|disk| disk.unsettled()).collect::<Vec<_>>();
        // Longer than any append takes, so that nothing is on its way to a disk.
        tokio::time::sleep(Duration::from_secs(12)).await;
        let awaited = || Arc::strong_count(&self.awaited) - 1;
        while (!unsettled().is_empty() || awaited() > 0) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.history.note(Fact::Rested {
            unsettled: unsettled(),
            awaited: awaited(),
        });
        self.drain(process, LAST_GRACE).await;
    }
}

/// Returns the last progress that somebody saw who follows it for so long; `None`: it goes on when nobody does any more.
async fn follow<T>(progress: impl Stream<Item = T>, followed: Millis) -> Option<T> {
    let last = progress.fold(None, |_, next| std::future::ready(Some(next)));
    if followed == Action::TO_ITS_END {
        return last.await;
    }
    tokio::time::timeout(Duration::from_millis(followed), last)
        .await
        .unwrap_or(None)
}
