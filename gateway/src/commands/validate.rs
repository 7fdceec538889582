//! `headgate validate`: every fault of a set of documents at once, with its place.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::{
    Failure,
    args::{TextOrJson, Validate},
    features, output,
};

pub(super) fn validate(args: &Validate) -> Result<(), Failure> {
    let open_at = Some(args.listen).filter(|listen| !listen.ip().to_canonical().is_loopback());
    let loaded = load(&args.paths, args.secrets.as_deref(), open_at)?;
    let (faults, warnings) = (loaded.faults.len(), loaded.warnings.len());
    match args.output {
        TextOrJson::Text => {
            let in_color = output::in_colour();
            for fault in &loaded.faults {
                match in_color {
                    true => output::exact(&fault.styled()),
                    false => output::text(&fault.to_string()),
                }
            }
            for warning in &loaded.warnings {
                match in_color {
                    true => output::exact(&warning.styled()),
                    false => output::text(&warning.to_string()),
                }
            }
            output::line(&format!(
                "{}, {}, {}",
                counted(loaded.spec.objects.len(), "document"),
                counted(faults, "fault"),
                counted(warnings, "warning")
            ));
        }
        TextOrJson::Json => {
            let body = json!({ "faults": loaded.faults, "warnings": loaded.warnings });
            output::exact(&format!("{body:#}"));
        }
    }
    // The faults were printed; the exit code says that there are some.
    if faults == 0 && (warnings == 0 || !args.strict) {
        Ok(())
    } else {
        Err(Failure::Wrong(String::new()))
    }
}

/// `1 fault`, `2 faults`.
fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Reads documents as `run` would, with warnings about parts that this build lacks, and about channels that are open to other
/// machines at `open_at`.
pub(super) fn load(
    paths: &[PathBuf],
    secrets: Option<&Path>,
    open_at: Option<SocketAddr>,
) -> Result<spec::Loaded, Failure> {
    let mut settings = spec::FilesSettings::new(paths, secrets.map(Path::to_owned));
    settings.unsupported = features::unsupported();
    settings.open_at = open_at;
    spec::load(&settings).map_err(|error| Failure::Wrong(dataplane::chain(&error)))
}
