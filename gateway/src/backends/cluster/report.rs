//! The state of the data plane that this replica reports to the API server.

use std::sync::Arc;

use dataplane::Plane;
use spec::Spec;

use super::replicas::Turns;

/// The data plane, reduced to the objects whose status this replica writes.
pub(super) struct Observing {
    pub(super) plane: Plane,
    pub(super) turns: Turns,
}

impl Observing {
    /// Returns `spec` without the channels whose Services another replica makes.
    fn ours(&self, spec: Arc<Spec>) -> Arc<Spec> {
        let is_ours = |name: &spec::ObjectName| self.is_ours(&spec::ObjectKey::new(spec::Kind::Channel, name.clone()));
        if spec.channels.keys().all(is_ours) {
            return spec;
        }
        let mut ours = Spec::clone(&spec);
        ours.channels.retain(|name, _| is_ours(name));
        Arc::new(ours)
    }

    fn is_ours(&self, key: &spec::ObjectKey) -> bool {
        self.turns.writes_status(key)
    }
}

impl kubernetes::Observe for Observing {
    fn applied(&self) -> u64 {
        self.plane.applied()
    }

    fn observe(&self) -> (Arc<Spec>, spec::Observed) {
        loop {
            let (spec, mut observed) = (self.plane.spec(), self.plane.observe());
            // Another spec may have been applied between the two reads.
            if Arc::ptr_eq(&spec, &self.plane.spec()) {
                observed.objects.retain(|key, _| self.is_ours(key));
                return (self.ours(spec), observed);
            }
        }
    }

    fn has(&self, source: &spec::ObjectKey) -> bool {
        // Another replica decides when its own source may be deleted.
        !self.is_ours(source) || self.plane.has(source)
    }

    fn may_write(&self, key: &spec::ObjectKey) -> bool {
        self.is_ours(key)
    }
}
