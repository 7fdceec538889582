//! An adapter alone runs the sources of one kind, whatever else the documents hold.

use std::sync::Arc;

use spec::Spec;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Publishes each spec reduced to the sources of one kind, until `stop`.
pub(super) async fn publish(
    kind: spec::Kind,
    mut specs: watch::Receiver<Arc<Spec>>,
    out: &watch::Sender<Arc<Spec>>,
    stop: CancellationToken,
) {
    loop {
        let mut spec = Spec::clone(&specs.borrow_and_update());
        spec.channels.clear();
        spec.subscriptions.clear();
        spec.provisioners.clear();
        spec.sources.retain(|key, _| key.kind == kind);
        spec.objects.retain(|key, _| key.kind == kind);
        if spec.generation > 0 && spec.objects.is_empty() {
            tracing::warn!(kind = kind.as_str(), "the documents have no source of this kind");
        }
        out.send_replace(Arc::new(spec));
        tokio::select! {
            () = stop.cancelled() => return,
            changed = specs.changed() => if changed.is_err() {
                stop.cancelled().await;
                return;
            },
        }
    }
}
