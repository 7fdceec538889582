//! `headgate validate`: every fault of a set of documents at once, with its place.

use serde_json::json;

use crate::{
    Failure,
    args::{TextOrJson, Validate},
    output,
};

pub(super) fn validate(args: &Validate) -> Result<(), Failure> {
    let settings = settings(args);
    let loaded = spec::load(&settings).map_err(|error| Failure::Wrong(dataplane::chain(&error)))?;
    let (faults, warnings) = (loaded.faults.len(), loaded.warnings.len());
    match args.output {
        TextOrJson::Text => {
            loaded.faults.iter().for_each(|fault| output::text(&fault.to_string()));
            loaded
                .warnings
                .iter()
                .for_each(|warning| output::text(&warning.to_string()));
            let documents = loaded.spec.objects.len();
            output::line(&format!("{documents} documents, {faults} faults, {warnings} warnings"));
        }
        TextOrJson::Json => {
            let body = json!({ "faults": loaded.faults, "warnings": loaded.warnings });
            output::text(&format!("{body:#}"));
        }
    }
    // What is wrong was said; the exit code says that something is.
    if faults == 0 {
        Ok(())
    } else {
        Err(Failure::Wrong(String::new()))
    }
}

fn settings(args: &Validate) -> spec::FilesSettings {
    spec::FilesSettings::new(args.paths.clone(), args.secrets.clone())
}
