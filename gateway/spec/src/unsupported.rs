//! Documents that this build of the gateway cannot run, because it lacks an optional part.

use std::collections::BTreeMap;

use status::Reason;

use crate::{
    Kind,
    document::Document,
    fault::{UnlocatedFault, Warning},
    model::BackendKind,
    resource::Resource,
};

/// The kinds and backends that a build cannot run, each with the sentence that reports it. A document that needs one is
/// valid, and gets a warning.
#[derive(Clone, Debug, Default)]
pub struct Unsupported {
    /// Kinds that this build cannot run, each with the sentence that says so.
    pub kinds: BTreeMap<Kind, String>,
    /// Backends that this build lacks, each with the sentence that says so.
    pub backends: BTreeMap<BackendKind, String>,
}

impl Unsupported {
    /// Returns the warning about a document that the build cannot run.
    pub(crate) fn warning(&self, document: &Document) -> Option<Warning> {
        let (path, message) = match &document.resource {
            Some(Resource::ClusterChannelProvisioner(provisioner)) => {
                let written = document.root.get("spec").and_then(|spec| spec.get("backend"));
                // A provisioner that names no backend has that of its name.
                let path = written.map_or("metadata.name", |_| "spec.backend");
                (path, self.backends.get(&provisioner.config.backend())?)
            }
            _ => ("kind", self.kinds.get(&document.key.kind)?),
        };
        let found = UnlocatedFault::new(document.root.mark(path), path, Reason::NotBuilt, message);
        Some(document.file.warning(found, Some(&document.key)))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use crate::{FilesSettings, Kind, load, model::BackendKind};

    const DOCUMENTS: &str = "\
apiVersion: eventing.knative.dev/v1alpha1
kind: ClusterChannelProvisioner
metadata: { name: kafka }
spec: { config: { bootstrapServers: 'localhost:9092' } }
---
apiVersion: eventing.knative.dev/v1alpha1
kind: ClusterChannelProvisioner
metadata: { name: lab }
spec:
  backend: kafka
  config: { bootstrapServers: 'localhost:9092' }
---
apiVersion: sources.eventing.knative.dev/v1alpha1
kind: ContainerSource
metadata: { name: beats }
spec: { image: beats, sink: { uri: 'http://127.0.0.1:9000/' } }
";

    #[test]
    fn a_document_that_needs_an_absent_part_gets_a_warning() {
        let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        std::fs::write(file.path(), DOCUMENTS).unwrap();
        let mut settings = FilesSettings::new([file.path()], None);
        let loaded = load(&settings).unwrap();
        assert!(loaded.faults.is_empty(), "{:?}", loaded.faults);
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        settings.unsupported.backends = [(BackendKind::Kafka, "no Kafka".to_owned())].into();
        settings.unsupported.kinds = [(Kind::ContainerSource, "no engine".to_owned())].into();
        let loaded = load(&settings).unwrap();
        assert!(loaded.faults.is_empty(), "{:?}", loaded.faults);
        let warnings = loaded.warnings.iter().map(|warning| {
            let fault = warning.fault();
            (fault.line, fault.reason.as_str(), fault.what())
        });
        let expected = [
            (3, "NotBuilt", "metadata.name: no Kafka".to_owned()),
            (10, "NotBuilt", "spec.backend: no Kafka".to_owned()),
            (14, "NotBuilt", "kind: no engine".to_owned()),
        ];
        let mut warnings: Vec<_> = warnings.collect();
        warnings.sort();
        assert_eq!(warnings, expected);
    }
}
