//! The console: web pages at the admin listener that answer where an event is, who got it, what fails and since when.
//!
//! Pages are made here for each request, work without JavaScript, and load nothing from another host. A small script of ours asks for
//! the page again when something moved. The rules of the admin API hold (`guard`). Nothing here edits documents: files and Git are the
//! truth, and every page shows the command that does the same.

mod assets;
mod channel;
mod dead_letters;
mod documents;
mod flow;
mod graph;
mod guard;
mod health;
mod history;
mod job;
mod jobs;
mod layout;
mod live;
mod login;
mod markdown;
mod parts;
mod reasons;
mod sources;
mod story;
mod subscription;
mod trouble;
mod urls;

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    middleware,
    response::Redirect,
    routing::{get, post},
};
use dataplane::Plane;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::admin;
use history::History;
use jobs::Jobs;
use trouble::Trouble;

/// Pages that read events from a channel at once. Each may hold a page of a channel, a few MiB.
const READERS_MAX: usize = 2;

/// The console of one gateway.
#[derive(Clone)]
pub(crate) struct Console(Arc<ConsoleState>);

struct ConsoleState {
    admin: admin::State,
    /// Open streams that tell pages to ask again.
    live: Arc<Semaphore>,
    readers: Semaphore,
    jobs: Jobs,
    history: History,
    stop: CancellationToken,
}

impl Console {
    /// `stop` ends the streams.
    pub(crate) fn new(admin: admin::State, stop: CancellationToken) -> Self {
        Self(Arc::new(ConsoleState {
            admin,
            live: Arc::new(Semaphore::new(live::LIVE_MAX)),
            readers: Semaphore::new(READERS_MAX),
            jobs: Jobs::default(),
            history: History::default(),
            stop,
        }))
    }

    fn plane(&self) -> &Plane {
        self.0.admin.plane()
    }

    /// Keeps the traffic of the last minutes for as long as it is polled.
    pub(crate) async fn keep_history(&self) -> std::convert::Infallible {
        self.0.history.run(self.plane()).await
    }

    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/", get(flow::page))
            .route("/ui/style.css", get(assets::style))
            .route("/ui/console.js", get(assets::script))
            .route("/ui/icon.svg", get(assets::icon))
            .route("/ui/login", get(login::page).post(login::log_in))
            .route("/ui/logout", post(login::log_out))
            .route("/ui/live", get(live::stream))
            .route("/ui/channels/{namespace}/{name}", get(channel::page))
            .route("/ui/events", get(story::by_query))
            .route("/ui/events/{id}", get(story::by_path))
            .route("/ui/data/{namespace}/{name}/{offset}", get(story::download))
            .route("/ui/subscriptions/{namespace}/{name}", get(subscription::page))
            .route("/ui/subscriptions/{namespace}/{name}/pause", post(subscription::pause))
            .route(
                "/ui/subscriptions/{namespace}/{name}/resume",
                post(subscription::resume),
            )
            .route(
                "/ui/subscriptions/{namespace}/{name}/replay",
                get(subscription::confirm_replay).post(subscription::start_replay),
            )
            .route("/ui/deadletters", get(dead_letters::page))
            .route(
                "/ui/deadletters/redrive",
                get(dead_letters::confirm_redrive).post(dead_letters::redrive),
            )
            .route(
                "/ui/deadletters/drop",
                get(dead_letters::confirm_drop).post(dead_letters::remove),
            )
            .route("/ui/sources", get(sources::list))
            .route("/ui/sources/{kind}/{namespace}/{name}", get(sources::one))
            .route("/ui/documents", get(documents::page))
            .route(documents::VALIDATE_PATH, post(documents::check))
            .route("/ui/health", get(health::page))
            .route("/ui/jobs/{id}", get(job::page))
            .route("/ui/jobs/{id}/stop", post(job::stop))
            .route("/ui/reasons/{word}", get(reasons::page))
            .route("/ui", get(home))
            .route("/ui/", get(home))
            .route("/ui/{*rest}", get(nothing).post(nothing))
            .layer(middleware::from_fn_with_state(self.clone(), guard::guard))
            .with_state(self)
    }
}

async fn home() -> Redirect {
    Redirect::to("/")
}

async fn nothing(State(_console): State<Console>) -> Trouble {
    Trouble::new(
        StatusCode::NOT_FOUND,
        "There is no such page",
        "The address leads nowhere: use the navigation above.",
    )
}
