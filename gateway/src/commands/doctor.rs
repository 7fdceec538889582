//! `headgate doctor`: what is wrong or doubtful, and how to mend it (API.md 5.3).

mod disk;
mod documents;
mod running;

use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use crate::{Failure, args::TextOrJson, client::Gateway, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Files and folders of documents: they, their targets and the disk of --data are checked. Without any, a running gateway is
    /// checked.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A folder of secrets, as files NAMESPACE/NAME/KEY (with PATHs).
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,
    /// The data folder whose disk is measured (with PATHs).
    #[arg(long, default_value = "./headgate-data", value_name = "DIR")]
    data: PathBuf,
    /// The format of the findings.
    #[arg(short, long, default_value = "text", value_name = "FORMAT")]
    output: TextOrJson,
}

/// How a check ended, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Failed,
    Warning,
    Skipped,
    Ok,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Warning => "warning",
            Self::Skipped => "skipped",
            Self::Ok => "ok",
        }
    }
}

/// The result of one check of one object.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    check: &'static str,
    object: String,
    status: Status,
    message: String,
    /// The remedy; empty where nothing is to be done.
    fix: String,
}

impl Finding {
    pub(crate) fn check(&self) -> &'static str {
        self.check
    }

    pub(crate) fn object(&self) -> &str {
        &self.object
    }

    /// `failed`, `warning`, `skipped` or `ok`.
    pub(crate) fn status_word(&self) -> &'static str {
        self.status.as_str()
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn fix(&self) -> &str {
        &self.fix
    }

    fn ok(check: &'static str, object: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(check, object, Status::Ok, message, "")
    }

    fn new(
        check: &'static str,
        object: impl Into<String>,
        status: Status,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            check,
            object: object.into(),
            status,
            message: message.into(),
            fix: fix.into(),
        }
    }
}

/// The findings of a gateway about itself, worst first: those that need no other machine.
pub(crate) fn of_process(info: &crate::api::Info, objects: &serde_json::Value, metrics: &str) -> Vec<Finding> {
    let mut findings = running::findings(info, objects, metrics);
    findings.sort_by_key(|finding| finding.status);
    findings
}

pub(super) async fn doctor(gateway: impl FnOnce() -> Result<Gateway, Failure>, args: Doctor) -> Result<(), Failure> {
    let mut findings = if args.paths.is_empty() {
        running::check(&gateway()?).await?
    } else {
        let mut findings = documents::check(&args).await?;
        findings.extend(disk::check(args.data.clone()).await?);
        findings
    };
    findings.sort_by_key(|finding| finding.status);
    match args.output {
        TextOrJson::Json => output::exact(&format!("{:#}", json!(findings))),
        TextOrJson::Text => show(&findings),
    }
    // The findings were printed; the exit code says that one failed.
    match findings.first() {
        Some(worst) if worst.status == Status::Failed => Err(Failure::Wrong(String::new())),
        _ => Ok(()),
    }
}

/// One paragraph for each finding, and a line that counts them.
fn show(findings: &[Finding]) {
    for finding in findings {
        let Finding {
            check,
            object,
            message,
            fix,
            ..
        } = finding;
        output::line(&format!("{:<8} {check}: {object}: {message}", finding.status.as_str()));
        if !fix.is_empty() {
            output::line(&format!("         fix: {fix}"));
        }
    }
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    output::line(&format!(
        "{} failed, {} doubtful, {} in order, {} skipped",
        count(Status::Failed),
        count(Status::Warning),
        count(Status::Ok),
        count(Status::Skipped)
    ));
}
