//! Keeps one container running: finds or creates it, follows it, restarts it, replaces it when its source changed.
//!
//! A stopping gateway leaves the container as it is; the next one finds it by its labels. The condition `Deployed` reports an
//! obstacle, and the adapter retries.

use std::{net::IpAddr, sync::Arc, time::Duration};

use adapter::{Adapter, Cause, Reason, Source};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Engine, EngineAddress, Metrics, Restart, Trouble,
    container_spec::ContainerSpec,
    engine::State,
    follow::follow,
    metrics::Gauges,
    output::Output,
    restart::{Exit, History, Next},
    trouble::NO_ENGINE,
};

/// The condition that reports the container's state.
pub(crate) const DEPLOYED: &str = "Deployed";

/// A container that ended before is believed to run once it did so for this long: a crash loop reads as one.
const STEADY_AFTER: Duration = Duration::from_secs(10);

/// An engine that does not answer is retried after 1 s, doubled up to this: it answers within seconds of its start.
const ENGINE_WAIT_MAX: Duration = Duration::from_secs(30);

/// Makes the ingress reachable from containers, at this machine's address in their network.
#[async_trait]
pub trait Reach: Send + Sync {
    /// Returns once the ingress listens there, or when it needs not to; an error says why it cannot.
    async fn reach(&self, address: IpAddr) -> Result<(), String>;
}

/// Keeps the container of one source running.
pub struct ContainerAdapter {
    config: Config,
    source: Source,
    spec: ContainerSpec,
    address: EngineAddress,
    reach: Arc<dyn Reach>,
    gauges: Arc<Gauges>,
}

/// The state of one run of the adapter.
struct Life {
    history: History,
    output: Output,
    /// A container whose end was dealt with: it is replaced and not looked at again.
    spent: Option<String>,
    engine_away: u32,
}

/// A container that does not run any more.
struct Ended {
    id: String,
    exit: Exit,
    out_of_memory: bool,
}

impl ContainerAdapter {
    /// Makes the adapter of a source. Nothing starts before [`Adapter::run`].
    pub fn new(
        config: Config,
        source: Source,
        address: EngineAddress,
        reach: Arc<dyn Reach>,
        metrics: &Metrics,
    ) -> Self {
        Self {
            spec: ContainerSpec::new(&config, &source),
            gauges: metrics.gauges(&source.name),
            config,
            source,
            address,
            reach,
        }
    }

    /// One container from its start or adoption to its end, and what follows. Cancel safe: the next call finds what there is.
    async fn once(&self, life: &mut Life) -> Next {
        let lived = self.live(life).await;
        self.gauges.running(false);
        match lived {
            Ok(ended) => {
                life.engine_away = 0;
                let next = life.history.ended(self.config.restart, ended.exit);
                self.say_ended(life, &ended, next);
                life.spent = Some(ended.id);
                next
            }
            Err(trouble) => {
                let wait = match trouble.reason {
                    NO_ENGINE => {
                        life.engine_away += 1;
                        Duration::from_secs(1 << life.engine_away.min(6).saturating_sub(1)).min(ENGINE_WAIT_MAX)
                    }
                    _ => life.history.again(),
                };
                let message = life.output.clean(&trouble.message);
                self.source.report.field("container", Value::Null);
                self.source.report.unmet(DEPLOYED, trouble.reason, message);
                Next::StartAfter(wait)
            }
        }
    }

    async fn live(&self, life: &mut Life) -> Result<Ended, Trouble> {
        let engine = Engine::connect(&self.address).await?;
        self.make_reachable(&engine).await?;
        let (id, state) = match self.adopt(&engine, life).await? {
            Some(found) => found,
            None => self.make(&engine).await?,
        };
        life.engine_away = 0;
        if let State::Exited { exit, out_of_memory } = state {
            let _ = follow(&engine, &id, &mut life.output, |_, _| {}).await?;
            return Ok(Ended {
                id,
                exit,
                out_of_memory,
            });
        }
        // Podman makes its bridge with the first container.
        self.make_reachable(&engine).await?;
        let ended = self.follow(&engine, &id, &state, life).await?;
        let (exit, out_of_memory) = match ended {
            Some(State::Exited { exit, out_of_memory }) => (exit, out_of_memory),
            Some(State::Created | State::Running { .. }) | None => (GONE, false),
        };
        Ok(Ended {
            id,
            exit,
            out_of_memory,
        })
    }

    async fn follow(
        &self,
        engine: &Engine,
        id: &str,
        state: &State,
        life: &mut Life,
    ) -> Result<Option<State>, Trouble> {
        let Life { history, output, .. } = life;
        let (restarts, began) = (history.restarts, Instant::now());
        let report = &self.source.report;
        self.gauges.running(true);
        let shown = |output: String| {
            let State::Running { since } = state else { return };
            let since = since.map(|since| since.to_string());
            let container = json!({ "id": short(id), "state": "running", "startedAt": since, "restarts": restarts, "output": output });
            report.field("container", container);
        };
        if !history.is_crashing {
            report.met(DEPLOYED);
        }
        shown(String::new());
        follow(engine, id, output, |output, fresh| {
            if history.is_crashing && began.elapsed() >= STEADY_AFTER {
                history.is_crashing = false;
                report.met(DEPLOYED);
            }
            if fresh {
                shown(output.shown());
            }
        })
        .await
    }

    async fn make_reachable(&self, engine: &Engine) -> Result<(), Trouble> {
        if self.address.is_remote() {
            return Ok(());
        }
        let Some(address) = engine.host_address().await? else {
            return Ok(());
        };
        let reached = self.reach.reach(address).await;
        reached.map_err(|detail| Trouble {
            reason: Reason::IngressUnreachable,
            message: format!(
                "containers reach this machine at {address}, where the ingress cannot listen ({detail}): free the port there, or give --listen another one"
            ),
        })
    }

    /// The container that fits, whether it runs or has ended. All others of this source are taken away.
    async fn adopt(&self, engine: &Engine, life: &Life) -> Result<Option<(String, State)>, Trouble> {
        let mut fitting = None;
        for found in engine.owned(&self.source.gateway, Some(&self.source.name)).await? {
            let fits = found.uid == self.source.uid
                && found.hash == self.spec.hash
                && life.spent.as_ref() != Some(&found.id)
                && fitting.is_none();
            let state = if fits { engine.inspect(&found.id).await? } else { None };
            match state {
                Some(state @ (State::Running { .. } | State::Exited { .. })) => {
                    tracing::info!(
                        source = self.source.name,
                        container = short(&found.id),
                        "container is adopted"
                    );
                    fitting = Some((found.id, state));
                }
                Some(State::Created) | None => engine.remove(&found.id).await?,
            }
        }
        Ok(fitting)
    }

    async fn make(&self, engine: &Engine) -> Result<(String, State), Trouble> {
        let image = &self.config.image;
        if !engine.has_image(image).await? {
            let report = &self.source.report;
            report.unknown(DEPLOYED, Reason::Deploying, format!("image {image} is being pulled"));
            engine.pull(image).await?;
        }
        let id = engine.create(&self.spec).await?;
        engine.start(&id).await?;
        let state = engine.inspect(&id).await?;
        tracing::info!(
            source = self.source.name,
            container = short(&id),
            image,
            "container is started"
        );
        Ok((id, state.unwrap_or(State::Created)))
    }

    /// The end of a container: in status, in the log, and counted.
    fn say_ended(&self, life: &mut Life, ended: &Ended, next: Next) {
        let how = match (ended.exit.code, ended.out_of_memory) {
            (None, _) => "was removed by somebody else".to_owned(),
            (Some(code), true) => format!("was ended for want of memory (exit code {code})"),
            (Some(code), false) => format!("ended with exit code {code}"),
        };
        let words = life.output.last_words();
        let words = if words.is_empty() {
            "it printed nothing".to_owned()
        } else {
            format!("its last words: {words}")
        };
        let policy = match self.config.restart {
            Restart::Always => "always",
            Restart::OnFailure => "onFailure",
            Restart::Never => "never",
        };
        let (reason, message) = match next {
            Next::StartAfter(wait) => {
                self.gauges.restarted();
                let (ran, wait) = (ended.exit.ran.as_secs(), wait.as_secs());
                (
                    Reason::CrashLoop,
                    format!("the container {how} after {ran} s and is started again in {wait} s; {words}"),
                )
            }
            Next::Completed => (
                Reason::Completed,
                format!(
                    "the container {how}, and restartPolicy is {policy}: it is not started again before the source changes"
                ),
            ),
            Next::Failed => (
                Reason::ContainerFailed,
                format!(
                    "the container {how}, and restartPolicy is {policy}: it is not started again before the source changes; {words}"
                ),
            ),
        };
        let container = json!({
            "id": short(&ended.id), "state": "ended", "exitCode": ended.exit.code, "restarts": life.history.restarts,
            "output": life.output.shown(),
        });
        self.source.report.field("container", container);
        self.source.report.unmet(DEPLOYED, reason, message);
    }
}

const GONE: Exit = Exit {
    code: None,
    ran: Duration::ZERO,
};

/// As Docker's own tools show it.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[async_trait]
impl Adapter for ContainerAdapter {
    async fn run(&self, stop: CancellationToken) -> Result<(), Cause> {
        let mut life = Life {
            history: History::default(),
            output: Output::new(self.config.secrets()),
            spent: None,
            engine_away: 0,
        };
        self.source
            .report
            .unknown(DEPLOYED, Reason::Deploying, "the container is being set up");
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => break,
                next = self.once(&mut life) => next,
            };
            let pause = async {
                match next {
                    Next::StartAfter(wait) => tokio::time::sleep(wait).await,
                    Next::Completed | Next::Failed => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = pause => {}
            }
        }
        self.gauges.running(false);
        Ok(())
    }

    async fn delete(&self) -> Result<(), Cause> {
        let remove = async {
            let engine = Engine::connect(&self.address).await?;
            for found in engine.owned(&self.source.gateway, Some(&self.source.name)).await? {
                engine.remove(&found.id).await?;
            }
            Ok(())
        };
        remove
            .await
            .map_err(|Trouble { reason, message }| Cause { reason, message })
    }
}
