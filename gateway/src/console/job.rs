//! The page of a redrive or a replay: how far it is, and a button that stops it.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use maud::{Markup, html};

use super::{
    Console, Trouble,
    guard::Visitor,
    jobs::Job,
    layout::{self, Head},
    parts::{self, Health},
    urls,
};

pub(super) async fn page(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<u64>,
) -> Result<Response, Trouble> {
    let job = find(&console, id)?;
    let head = Head::new(format!("{} of {}", job.kind, job.subscription));
    let head = if job.progress().ended.is_none() {
        head.ticking()
    } else {
        head
    };
    let body = html! {
        p.crumbs { (job.kind) " of " (parts::subscription(&job.subscription)) }
        h1 { (job.kind) " " (job.id) }
        section { div #progress data-region { (progress(&job, &visitor)) } }
        section.commands { h2 { "By command" } (parts::command(&job.command)) }
    };
    Ok(layout::page(&console, &visitor, &head, &body))
}

fn find(console: &Console, id: u64) -> Result<Arc<Job>, Trouble> {
    let found = console.0.jobs.find(id);
    found.ok_or_else(|| {
        Trouble::not_found(format!(
            "job {id} is not known: it ended long ago, or in an earlier process"
        ))
    })
}

/// `POST /ui/jobs/ID/stop`.
pub(super) async fn stop(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<u64>,
) -> Result<Response, Trouble> {
    let job = find(&console, id)?;
    job.stop();
    visitor.log("stop", &job.subscription, 1);
    Ok(Redirect::to(&urls::job(id)).into_response())
}

fn progress(job: &Job, visitor: &Visitor) -> Markup {
    let progress = job.progress();
    let counts = &progress.counts;
    let (done, all) = job.done_of();
    let (health, word) = match (&progress.ended, &counts.stopped) {
        (None, _) => (Health::Waiting, "Running"),
        (Some(_), Some(_)) => (Health::Warning, "Stopped"),
        (Some(_), None) => (Health::Good, "Done"),
    };
    html! {
        p { (parts::chip(health, word)) " started " (parts::when(job.started))
            @if let Some(ended) = progress.ended { ", ended " (parts::when(ended)) } }
        @if let Some(why) = &counts.stopped { p.fault { "It ended early: " (why) } }
        label.unseen for="bar" { "Progress" }
        progress #bar max=(all.max(1)) value=(if progress.ended.is_some() && counts.stopped.is_none() { all.max(1) } else { done }) {}
        dl.facts {
            dt { @if counts.read.is_some() { "Read" } @else { "Dead letters" } } dd { (parts::number(done)) " of " (parts::number(all)) }
            @if counts.read.is_some() { dt { "Matched" } dd { (parts::counted(counts.matched, "event")) } }
            dt { "Delivered" } dd { (parts::counted(counts.delivered, "event")) }
            dt { "Dead letters again" } dd { (parts::number(counts.dead_lettered)) }
            @if let Some(gone) = counts.gone.filter(|gone| *gone > 0) { dt { "Removed meanwhile" } dd { (parts::number(gone)) } }
            @if let Some(out) = counts.left_out.filter(|out| *out > 0) { dt { "Left out by filters" } dd { (parts::number(out)) } }
            @if let Some(unfit) = counts.unfit.filter(|unfit| *unfit > 0) { dt { "Filter failed on" } dd { (parts::number(unfit)) } }
        }
        @if progress.ended.is_none() && visitor.may_operate {
            form method="post" action=(format!("{}/stop", urls::job(job.id))) {
                input type="hidden" name="form" value=(visitor.form_token);
                button.danger #stop type="submit" { "Stop" }
            }
        }
    }
}

/// The jobs that run, for the home page.
pub(super) fn running(jobs: &[Arc<Job>]) -> Markup {
    let running: Vec<Arc<Job>> = jobs
        .iter()
        .filter(|job| job.progress().ended.is_none())
        .cloned()
        .collect();
    list(&running)
}

/// The jobs of a subscription or of all, for other pages; nothing where there are none.
pub(super) fn list(jobs: &[Arc<Job>]) -> Markup {
    /// A page about something else shows the newest.
    const SHOWN: usize = 8;
    html! {
        @if !jobs.is_empty() {
            section {
                h2 { "Redrives and replays" }
                div.wide { table.cards {
                    thead { tr { th { "Job" } th { "Subscription" } th { "State" } th.number { "Done" } th.number { "Started" } } }
                    tbody { @for job in jobs.iter().take(SHOWN) {
                        @let progress = job.progress();
                        @let (done, all) = job.done_of();
                        tr {
                            th scope="row" data-label="Job" { a href=(urls::job(job.id)) { (job.kind) " " (job.id) } }
                            td data-label="Subscription" { (parts::subscription(&job.subscription)) }
                            td data-label="State" {
                                @match (&progress.ended, &progress.counts.stopped) {
                                    (None, _) => (parts::chip(Health::Waiting, "Running")),
                                    (Some(_), Some(_)) => (parts::chip(Health::Warning, "Stopped")),
                                    (Some(_), None) => (parts::chip(Health::Good, "Done")),
                                }
                            }
                            td.number data-label="Done" { (parts::number(done)) " of " (parts::number(all)) }
                            td.number data-label="Started" { (parts::when(job.started)) }
                        }
                    } }
                } }
            }
        }
    }
}
