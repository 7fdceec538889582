//! The loop: list and compare, or resume a watch where that is possible; watch; start over when it ends.
//!
//! A watch that resumes from the last stored version misses nothing, not even states that were overwritten meanwhile. It is not
//! possible when the history is compacted (410, a few minutes after the fact), or when the cluster has gone back to before that
//! version; then the objects are listed and compared with the mark.

use std::{sync::Arc, time::Duration};

use adapter::{Reason, Report};
use backoff::{Growth, Policy};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    failure::{Failure, Verb},
    intake::{Intake, Stopped},
    upstream::{self, Upstream, WATCH},
    wire::{Change, Line, Page},
};

/// Whether events are being read.
const WATCHING: &str = "Watching";

/// Objects in a page, as client-go has it; about 600 KiB.
const PAGE: u32 = 500;

/// How often a quiet watch is looked after: to see that it has brought everything.
const TICK: Duration = Duration::from_secs(1);

/// The server ends a watch by itself; one that is silent for this much longer has lost its connection.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A client's files and credential command are read again after this, sooner after any failure.
const CLIENT_MAX_AGE: Duration = Duration::from_secs(300);

/// A round that lasted this long was no failure in a row.
const STEADY: Duration = Duration::from_secs(5);

/// Soon after a blip; half a minute at most, so that a right that was given is used while the one who gave it still looks.
const PATIENCE: Policy = Policy {
    retry: u32::MAX,
    growth: Growth::Exponential,
    delay: Duration::from_millis(500),
    max: Duration::from_secs(30),
    retry_after_max: Duration::from_secs(120),
};

/// Why a round ended before its watch did.
enum End {
    Stopped,
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Stopped> for End {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

pub(crate) struct Follow<'a> {
    config: &'a Config,
    report: &'a Report,
    intake: Intake,
    stop: &'a CancellationToken,
    client: Option<(Instant, Arc<Upstream>)>,
    /// Objects asked for in one page: fewer after an answer that was too large.
    page: u32,
}

impl<'a> Follow<'a> {
    pub(crate) fn new(config: &'a Config, report: &'a Report, intake: Intake, stop: &'a CancellationToken) -> Self {
        Self {
            config,
            report,
            intake,
            stop,
            client: None,
            page: PAGE,
        }
    }

    /// Until `stop`; whatever happens meanwhile is a condition.
    pub(crate) async fn run(mut self) {
        self.report
            .unknown(WATCHING, Reason::Connecting, "the API server has not answered yet");
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let ended = self.round().await;
            let steady = begun.elapsed() >= STEADY;
            if steady {
                failures = 0;
            }
            let asked = match ended {
                Err(End::Stopped) => break,
                // The server ends a watch when its time is over; one that ends at once is no better than a failure.
                Ok(()) if steady => continue,
                Ok(()) => None,
                Err(End::Failed(failure)) => {
                    self.fails(&failure);
                    failure.retry_after()
                }
            };
            failures += 1;
            let wait = PATIENCE.wait(failures, asked, rand::random()).unwrap_or(PATIENCE.max);
            if self.pause(wait).await.is_err() {
                break;
            }
        }
        self.intake.close().await;
    }

    fn fails(&mut self, failure: &Failure) {
        let client = self.client.take();
        let server = client
            .as_ref()
            .map_or("the API server", |(_, upstream)| upstream.server());
        self.report.unmet(
            WATCHING,
            failure.reason(),
            failure.message(server, &self.config.scope()),
        );
    }

    /// One client's or one watch's life.
    async fn round(&mut self) -> Result<(), End> {
        let upstream = self.upstream().await?;
        self.intake
            .set_scope(&format!("{} {}", upstream.server(), self.config.scope()));
        if let Some(version) = self.intake.resume() {
            let body = self.or_stop(upstream.page(1, None)).await?;
            let now = Page::read(&body).ok_or_else(no_page)?.version();
            if now >= version {
                match self.watch(&upstream, version).await {
                    Err(End::Failed(Failure::Gone)) => {}
                    ended => return ended,
                }
            }
        }
        let version = self.list(&upstream).await?;
        self.watch(&upstream, version).await
    }

    async fn upstream(&mut self) -> Result<Arc<Upstream>, End> {
        if let Some((made, upstream)) = &self.client
            && made.elapsed() < CLIENT_MAX_AGE
        {
            return Ok(upstream.clone());
        }
        let upstream = Arc::new(self.or_stop(Upstream::connect(self.config)).await?);
        self.client = Some((Instant::now(), upstream.clone()));
        Ok(upstream)
    }

    /// Reads the whole list, stores what is new in it, and gives its version.
    async fn list(&mut self, upstream: &Upstream) -> Result<u64, End> {
        let mut body = self.first_page(upstream).await?;
        let version = Page::read(&body).ok_or_else(no_page)?.version();
        let mut list = self.intake.begin_list(version);
        loop {
            let page = Page::read(&body).ok_or_else(no_page)?;
            for object in page.items() {
                self.intake.listed(&mut list, object);
                if self.intake.is_full() {
                    self.intake.store(self.stop).await?;
                }
            }
            self.intake.store(self.stop).await?;
            let Some(next) = page.next() else { break };
            let next = self.or_stop(upstream.page(self.page, Some(next))).await;
            body = next.inspect_err(|end| self.page = smaller(self.page, end))?;
        }
        self.intake.finish_list(&list, version, self.stop).await?;
        Ok(version)
    }

    /// A page that is too large is asked for again with fewer objects, down to one.
    async fn first_page(&mut self, upstream: &Upstream) -> Result<bytes::Bytes, End> {
        loop {
            match self.or_stop(upstream.page(self.page, None)).await {
                Err(end) if smaller(self.page, &end) < self.page => self.page = smaller(self.page, &end),
                answer => return answer,
            }
        }
    }

    /// Reads a watch to its end.
    async fn watch(&mut self, upstream: &Upstream, version: u64) -> Result<(), End> {
        let mut lines = self.or_stop(upstream.watch(version)).await?;
        self.report.met(WATCHING);
        let last = Instant::now() + WATCH + SILENCE_MAX;
        loop {
            let now = Instant::now();
            let tick = now + TICK;
            let wake = self.intake.next_due(now).map_or(tick, |due| due.min(tick));
            let line = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(End::Stopped),
                line = lines.next() => Some(line),
                () = sleep_until(wake) => None,
            };
            match line {
                Some(Ok(Some(line))) => {
                    self.take(&line)?;
                    while !self.intake.is_full()
                        && let Some(line) = lines.buffered_line()
                    {
                        self.take(&line)?;
                    }
                    self.intake.store(self.stop).await?;
                }
                Some(Ok(None)) => return Ok(()),
                Some(Err(failure)) => return Err(failure.into()),
                None if now > last => return Err(Failure::Unreachable("the watch has fallen silent".to_owned()).into()),
                None => {
                    self.intake.caught_up();
                    self.intake.store(self.stop).await?;
                }
            }
        }
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Failure> {
        match Line::read(line) {
            Some(Change::Written(object)) => self.intake.written(object),
            Some(Change::Deleted(object)) => self.intake.deleted(object),
            Some(Change::Bookmark(object)) => self.intake.bookmark(object),
            Some(Change::Failed(status)) => {
                let code = status.code;
                return Err(upstream::failed(status, code, Verb::Watch, None));
            }
            None => return Err(Failure::Malformed("a line of its watch cannot be read".to_owned())),
        }
        Ok(())
    }

    /// Waits; bundles whose window ends meanwhile go out.
    async fn pause(&mut self, wait: Duration) -> Result<(), Stopped> {
        let until = Instant::now() + wait;
        loop {
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            let wake = self.intake.next_due(now).map_or(until, |due| due.min(until));
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Stopped),
                () = sleep_until(wake) => {}
            }
            self.intake.store(self.stop).await?;
        }
    }

    /// Dropping a request halfway costs nothing: all of them only read.
    async fn or_stop<T>(&self, request: impl Future<Output = Result<T, Failure>>) -> Result<T, End> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(End::Stopped),
            answer = request => Ok(answer?),
        }
    }
}

fn no_page() -> End {
    Failure::Malformed("its list of events cannot be read".to_owned()).into()
}

fn smaller(page: u32, end: &End) -> u32 {
    match end {
        End::Failed(Failure::TooLarge { .. }) => (page / 8).max(1),
        _ => page,
    }
}
