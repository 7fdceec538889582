//! Says of a pasted text what `headgate validate` says of a file. Nothing is kept of it.

use std::io::Write;

use axum::{Extension, extract::State, response::Response};
use maud::{Markup, html};
use spec::Loaded;

use crate::{
    console::{
        Console, Trouble,
        guard::{Form, Visitor},
        layout::{self, Head},
        parts::{self, Health},
    },
    features,
};

pub(in crate::console) const PATH: &str = "/ui/documents/validate";

/// Faults of one text that are shown.
const SHOWN_MAX: usize = 50;

/// `POST /ui/documents/validate`. It changes nothing, so the right to read is enough.
pub(in crate::console) async fn check(
    State(console): State<Console>,
    Extension(visitor): Extension<Visitor>,
    Extension(form): Extension<Form>,
) -> Result<Response, Trouble> {
    let text = form.text("text").replace("\r\n", "\n");
    let (checked, shown) = (text.clone(), text);
    // Never closed. One text at a time: the largest take a second.
    let _turn = console.0.readers.acquire().await;
    let result = tokio::task::spawn_blocking(move || validate(&checked)).await;
    let failed = |error: String| Trouble::new(http::StatusCode::INTERNAL_SERVER_ERROR, "This did not work", error);
    let result = result
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(format!("{error:#}")))?;
    let body = html! {
        p.crumbs { a href=(super::PATH) { "Documents" } }
        h1 { "Validation" }
        (self::form(&visitor, &shown, Some(&result)))
        section.commands { h2 { "The same by command" } (parts::command("headgate validate PATH")) }
    };
    Ok(layout::page(&console, &visitor, &Head::new("Validation"), &body))
}

/// The faults of a text.
pub(super) struct Findings {
    documents: usize,
    faults: Vec<String>,
    /// Names that the text refers to and does not have: the gateway may.
    dangling: Vec<String>,
    warnings: Vec<String>,
}

fn validate(text: &str) -> anyhow::Result<Findings> {
    let folder = tempfile::Builder::new().prefix("headgate-console-").tempdir()?;
    let path = folder.path().join("pasted.yaml");
    std::fs::File::create(&path)?.write_all(text.as_bytes())?;
    let mut settings = spec::FilesSettings::new([path], None);
    settings.unsupported = features::unsupported();
    let Loaded { spec, faults, warnings } = spec::load(&settings)?;
    // The name of the file is nothing that was pasted.
    let prefix = format!("{}/", folder.path().display());
    let named = |text: String| text.replace(&prefix, "");
    let (dangling, faults): (Vec<_>, Vec<_>) = faults.into_iter().partition(|fault| fault.dangling);
    Ok(Findings {
        documents: spec.objects.len(),
        faults: faults.iter().map(|fault| named(fault.to_string())).collect(),
        dangling: dangling.iter().map(|fault| named(fault.to_string())).collect(),
        warnings: warnings.iter().map(|warning| named(warning.to_string())).collect(),
    })
}

pub(super) fn form(visitor: &Visitor, text: &str, findings: Option<&Findings>) -> Markup {
    html! {
        section {
            h2 { "Check documents before you save them" }
            @if let Some(findings) = findings { (result(findings)) }
            form method="post" action=(PATH) {
                input type="hidden" name="form" value=(visitor.form_token);
                label for="text" { "YAML documents" }
                textarea #text name="text" rows="12" required spellcheck="false" { (text) }
                p { button type="submit" { "Validate" } }
            }
        }
    }
}

fn result(findings: &Findings) -> Markup {
    let (health, word) = match (findings.faults.is_empty(), findings.warnings.is_empty()) {
        (false, _) => (Health::Bad, "Invalid"),
        (true, false) => (Health::Warning, "Valid, with warnings"),
        (true, true) => (Health::Good, "Valid"),
    };
    html! {
        p role="status" { (parts::chip(health, word)) " " (parts::counted(findings.documents as u64, "valid document")) ", "
            (parts::counted(findings.faults.len() as u64, "fault")) ", " (parts::counted(findings.warnings.len() as u64, "warning")) }
        @for fault in findings.faults.iter().chain(&findings.warnings).take(SHOWN_MAX) { pre.fault tabindex="0" { (fault) } }
        @if !findings.dangling.is_empty() {
            p.quiet { "The text refers to what it does not have itself; that is a fault unless the gateway's other documents have it:" }
            @for fault in findings.dangling.iter().take(SHOWN_MAX) { pre.notice tabindex="0" { (fault) } }
        }
    }
}
