//! Dead letters delivered again or dropped: a page that says how many, then the change.

use axum::{
    Extension,
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
};
use dataplane::Redrive;
use futures_util::StreamExt;
use maud::{Markup, html};
use spec::ObjectName;

use super::{Chosen, PATH};
use crate::{
    admin::{self, Refusal},
    console::{
        Console, Trouble,
        guard::{Form, Visitor},
        jobs::{self, NewJob},
        layout::{self, Head},
        parts, urls,
    },
};

impl Chosen {
    /// As a confirmed form has them.
    fn of(form: &Form) -> Self {
        Self {
            subscription: form.text("subscription").to_owned(),
            reason: form.text("reason").to_owned(),
            code: form.text("code").to_owned(),
            destination: form.text("destination").to_owned(),
            id: form.text("id").to_owned(),
            dropped: String::new(),
        }
    }

    fn one(&self) -> Result<ObjectName, Trouble> {
        self.subscription()?
            .ok_or_else(|| Trouble::bad_request("name the subscription whose dead letters are meant"))
    }

    fn ids(&self) -> Vec<String> {
        Some(self.id.clone()).filter(|id| !id.is_empty()).into_iter().collect()
    }

    fn redrive(&self, rate: Option<f64>, dry_run: bool) -> Result<Redrive, Trouble> {
        Ok(Redrive {
            ids: self.ids(),
            filter: None,
            group: self.group()?,
            rate,
            dry_run,
        })
    }

    /// The fields of the form that confirms.
    fn fields(&self, visitor: &Visitor) -> Markup {
        html! {
            input type="hidden" name="form" value=(visitor.form_token);
            @for (name, value) in [
                ("subscription", &self.subscription), ("reason", &self.reason), ("code", &self.code),
                ("destination", &self.destination), ("id", &self.id),
            ] { @if !value.is_empty() { input type="hidden" name=(name) value=(value); } }
        }
    }

    /// In words: which dead letters.
    fn described(&self) -> Markup {
        html! {
            dl.facts {
                dt { "Subscription" } dd { (self.subscription) }
                @if !self.reason.is_empty() {
                    dt { "Reason" } dd { (parts::reason(&self.reason)) " " (self.code) }
                    dt { "Destination" } dd { @if self.destination.is_empty() { "none" } @else { (self.destination) } }
                }
                @if !self.id.is_empty() { dt { "Event" } dd { (self.id) } }
            }
        }
    }

    /// The command line knows events, not groups.
    fn command(&self, what: &str) -> String {
        let mut command = format!("headgate dead {what} {}", self.subscription);
        match (&*self.id, what) {
            ("", "drop") => command.push_str(" --all"),
            ("", _) => {}
            (id, _) => command.push_str(&format!(" {}", parts::quoted(id))),
        }
        command
    }

    fn commands(&self, what: &str, more: &str) -> Markup {
        html! {
            section.commands {
                h2 { @if self.reason.is_empty() || !self.id.is_empty() { "The same by command" } @else { "By command: all dead letters of the subscription" } }
                (parts::command(&format!("{}{more}", self.command(what))))
            }
        }
    }
}

/// How many dead letters are meant.
async fn counted(console: &Console, chosen: &Chosen) -> Result<u64, Trouble> {
    let redrive = console
        .plane()
        .redrive(&chosen.one()?, chosen.redrive(None, true)?)
        .await;
    Ok(redrive.map_err(Refusal::from)?.matched())
}

/// `GET /ui/deadletters/redrive`.
pub(in crate::console) async fn confirm_redrive(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Query(chosen): Query<Chosen>,
) -> Result<Response, Trouble> {
    let count = counted(&console, &chosen).await?;
    let body = html! {
        p.crumbs { a href=(chosen.address(PATH)) { "Dead letters" } }
        h1 { "Deliver " (parts::counted(count, "dead letter")) " again" }
        section {
            (chosen.described())
            p { "Each event is delivered to this subscription alone. A dead letter is removed when its event is settled; one that fails "
                "again becomes a new dead letter. While the subscriber is down the redrive waits." }
            form method="post" action="/ui/deadletters/redrive" {
                (chosen.fields(&visitor))
                div.row {
                    label { "Events a second, at most" input name="rate" inputmode="decimal" placeholder="no limit" autocomplete="off"; }
                    (confirm(&visitor, count, &html! { button.primary type="submit" { "Deliver " (parts::counted(count, "event")) " again" } }))
                }
            }
        }
        (chosen.commands("redrive", ""))
    };
    Ok(layout::page(&console, &visitor, &Head::new("Deliver again"), &body))
}

/// The button, where there is something to do and the right to do it.
fn confirm(visitor: &Visitor, count: u64, button: &Markup) -> Markup {
    html! {
        @if count == 0 { p.empty { "There is nothing to do." } }
        @else if visitor.may_operate { (button) }
        @else { p { a href=(urls::with_query("/ui/login", [("next", visitor.address.as_str())])) { "Log in with the operate token" } " to do this." } }
    }
}

/// `POST /ui/deadletters/redrive`.
pub(in crate::console) async fn redrive(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Extension(form): Extension<Form>,
) -> Result<Response, Trouble> {
    let chosen = Chosen::of(&form);
    let name = chosen.one()?;
    let rate = form.rate()?;
    console.0.jobs.check_room()?;
    let running = console.plane().redrive(&name, chosen.redrive(rate, false)?).await;
    let running = running.map_err(Refusal::from)?;
    let count = running.matched();
    let job = NewJob {
        kind: "Redrive",
        subscription: name.clone(),
        command: match rate {
            Some(rate) => format!("{} --rate {rate}", chosen.command("redrive")),
            None => chosen.command("redrive"),
        },
    };
    let counts = running
        .follow()
        .map(|(counted, is_last)| (jobs::redriven(counted), is_last));
    let job = console.0.jobs.start(job, counts, &console.0.stop);
    visitor.log("redrive", &name, usize::try_from(count).unwrap_or(usize::MAX));
    Ok(Redirect::to(&urls::job(job.id)).into_response())
}

/// `GET /ui/deadletters/drop`.
pub(in crate::console) async fn confirm_drop(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Query(chosen): Query<Chosen>,
) -> Result<Response, Trouble> {
    let count = counted(&console, &chosen).await?;
    let body = drop_form(&visitor, &chosen, count, None);
    Ok(layout::page(&console, &visitor, &Head::new("Drop dead letters"), &body))
}

/// The words that are typed.
fn words(count: u64) -> String {
    format!("drop {count}")
}

fn drop_form(visitor: &Visitor, chosen: &Chosen, count: u64, fault: Option<&str>) -> Markup {
    html! {
        p.crumbs { a href=(chosen.address(PATH)) { "Dead letters" } }
        h1 { "Drop " (parts::counted(count, "dead letter")) }
        section {
            (chosen.described())
            p { strong { "This removes the last copy of these events that the gateway has." } " It cannot be undone." }
            @if let Some(fault) = fault { p.fault role="alert" { (fault) } }
            form method="post" action="/ui/deadletters/drop" {
                (chosen.fields(visitor))
                div.row {
                    label { span { "Type " code { (words(count)) } }
                        input name="confirmed" autocomplete="off" autocapitalize="off" spellcheck="false" required; }
                    (confirm(visitor, count, &html! { button.danger type="submit" { "Drop " (parts::counted(count, "dead letter")) } }))
                }
            }
        }
        (chosen.commands("drop", ""))
    }
}

/// `POST /ui/deadletters/drop`: as many as were shown, or none.
pub(in crate::console) async fn remove(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Extension(form): Extension<Form>,
) -> Result<Response, Trouble> {
    let chosen = Chosen::of(&form);
    let name = chosen.one()?;
    let count = counted(&console, &chosen).await?;
    let typed = form.text("confirmed").trim();
    if typed != words(count) {
        let fault = format!("There are {count} dead letters now, and {typed:?} was typed: nothing was dropped.");
        let mut page = layout::page(
            &console,
            &visitor,
            &Head::new("Drop dead letters"),
            &drop_form(&visitor, &chosen, count, Some(&fault)),
        );
        *page.status_mut() = http::StatusCode::CONFLICT;
        return Ok(page);
    }
    let dropped = console
        .plane()
        .drop_dead_letters(&name, &chosen.ids(), chosen.group()?.as_ref())
        .await;
    let dropped = dropped.map_err(Refusal::from)?;
    visitor.log("drop", &name, dropped);
    let address = urls::with_query(PATH, [("dropped", &*dropped.to_string())]);
    Ok(Redirect::to(&address).into_response())
}

impl Form {
    /// Events a second, of a redrive or a replay; `None` where nothing was typed.
    pub(in crate::console) fn rate(&self) -> Result<Option<f64>, Trouble> {
        let text = self.text("rate").trim();
        if text.is_empty() {
            return Ok(None);
        }
        let rate = text
            .parse()
            .map_err(|_error| Trouble::bad_request(format!("{text:?} is no number of events a second")))?;
        admin::check_rate(Some(rate))?;
        Ok(Some(rate))
    }
}
