//! TLS of a listener: the certificate in force, and the files it is read from (CONTRACT TL-1).
//!
//! The files are polled, because a Secret of Kubernetes changes by swapping a symbolic link, and an editor by renaming: what
//! counts is the content that a path leads to. A new certificate is in force for the connections that begin afterwards; a connection
//! keeps the configuration that it began with. Files that cannot be used leave the old certificate in force. They are reported when
//! they were the same twice, because a certificate and its key are two files, and may be replaced one after the other.

mod certificate;
mod files;

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use log_limit::LogLimit;
use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio_util::sync::CancellationToken;

pub use certificate::PeerCertificate;
use files::{Content, Usable};
pub use files::{NamedFile, TlsFileError, TlsFiles};

/// How often the files are read. New ones are in force within 10 s (CONTRACT TL-1), and unusable ones are seen twice by then.
const POLL_INTERVAL: Duration = Duration::from_secs(3);

/// Former certificates that are remembered. Replicas see a new Secret a minute or two apart, and a certificate lives for days.
const FORMER_MAX: usize = 2;

/// The name of a listener, as metrics, log lines and the admin API have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerName {
    /// Accepts events.
    Ingress,
    /// Serves the admin API.
    Admin,
}

impl ListenerName {
    /// Returns the word that users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByListener {
    listener: &'static str,
}

/// The metrics of all listeners.
#[derive(Clone, Default)]
pub struct TlsMetrics {
    expiry: Family<ByListener, Gauge>,
    reload_failures: Family<ByListener, Counter>,
}

impl TlsMetrics {
    /// Registers the metrics; without a listener that has TLS they have no series.
    pub fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "headgate_tls_certificate_expiry_timestamp_seconds",
            "When the certificate in force expires, in seconds since 1970",
            metrics.expiry.clone(),
        );
        registry.register(
            "headgate_tls_reload_failures",
            "Changes of certificate files that could not be used",
            metrics.reload_failures.clone(),
        );
        metrics
    }
}

/// TLS of one listener. A handle: clones are the same.
#[derive(Clone)]
pub struct Tls(Arc<ListenerTls>);

struct ListenerTls {
    listener: ListenerName,
    files: TlsFiles,
    in_force: ArcSwap<InForce>,
    reload: Mutex<Reload>,
    metrics: TlsMetrics,
    failures: LogLimit,
}

/// The configuration of new connections.
struct InForce {
    config: Arc<ServerConfig>,
    certificate: CertificateDer<'static>,
    not_after: Timestamp,
    /// The newest first.
    former: VecDeque<CertificateDer<'static>>,
}

/// The last reading of the files.
struct Reload {
    in_force: Content,
    /// Content that cannot be used: it is not tried again.
    rejected: Option<Content>,
    /// Why the files are not in force as they are now.
    trouble: Option<Trouble>,
}

enum Trouble {
    /// Seen once: half of a change, maybe.
    Doubtful(String),
    Reported(String),
}

/// The state of a listener's certificate.
#[derive(Clone, Debug)]
pub struct TlsState {
    /// The listener that serves the certificate.
    pub listener: ListenerName,
    /// The path of the certificate.
    pub certificate: String,
    /// When the certificate in force expires.
    pub not_after: Timestamp,
    /// Why the files are not in force as they are now.
    pub trouble: Option<String>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.0.files).finish()
    }
}

impl Tls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// A file cannot be read or used; the error names it and the remedy.
    pub fn open(listener: ListenerName, files: TlsFiles, metrics: TlsMetrics) -> Result<Self, TlsFileError> {
        let content = files.read()?;
        let usable = content.usable(&files)?;
        let tls = Self(Arc::new(ListenerTls {
            listener,
            files,
            in_force: ArcSwap::from_pointee(InForce::new(&usable, VecDeque::new())),
            reload: Mutex::new(Reload {
                in_force: content,
                rejected: None,
                trouble: None,
            }),
            metrics,
            failures: LogLimit::per_minute(2),
        }));
        tls.0.metrics.reload_failures.get_or_create(&tls.label()).inc_by(0);
        tls.announce();
        Ok(tls)
    }

    /// Follows the files until `stop`.
    pub async fn follow(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
            let tls = self.clone();
            // A file system may hang. A panic there is a fault of the program, which a later poll would repeat.
            if tokio::task::spawn_blocking(move || tls.poll()).await.is_err() {
                tracing::error!(listener = %self.0.listener, "reading the certificate's files panicked");
            }
        }
    }

    /// Reads the files, and puts them into force if they have changed and can be used.
    fn poll(&self) {
        let read = self.0.files.read();
        let mut reload = self.0.reload.lock();
        let error = match read {
            Ok(content) if content == reload.in_force => {
                (reload.rejected, reload.trouble) = (None, None);
                return;
            }
            Ok(content) if reload.rejected.as_ref() == Some(&content) => return self.confirm(&mut reload),
            Ok(content) => match content.usable(&self.0.files) {
                Ok(usable) => {
                    *reload = Reload {
                        in_force: content,
                        rejected: None,
                        trouble: None,
                    };
                    drop(reload);
                    return self.enforce(&usable);
                }
                Err(error) => {
                    reload.rejected = Some(content);
                    error
                }
            },
            Err(error) => {
                reload.rejected = None;
                error
            }
        };
        let message = adapter::chain(&error);
        let is_old = match &reload.trouble {
            Some(Trouble::Doubtful(old) | Trouble::Reported(old)) => *old == message,
            None => false,
        };
        if is_old {
            self.confirm(&mut reload);
        } else {
            reload.trouble = Some(Trouble::Doubtful(message));
        }
    }

    /// Reports trouble that lasts.
    fn confirm(&self, reload: &mut Reload) {
        let Some(Trouble::Doubtful(message)) = &reload.trouble else {
            return;
        };
        let (listener, message) = (self.0.listener, message.clone());
        self.0.metrics.reload_failures.get_or_create(&self.label()).inc();
        let summary = move |unlogged| {
            tracing::warn!(%listener, unlogged, "more changes of certificate files cannot be used");
        };
        if self.0.failures.admits(summary) {
            let expires = self.0.in_force.load().not_after;
            tracing::warn!(
                %listener, %expires, error = message,
                "new certificate files cannot be used, the old certificate stays in force"
            );
        }
        reload.trouble = Some(Trouble::Reported(message));
    }

    fn enforce(&self, usable: &Usable) {
        let shared = &*self.0;
        let old = shared.in_force.load();
        let mut former = old.former.clone();
        if old.certificate != usable.certificate {
            former.push_front(old.certificate.clone());
            former.truncate(FORMER_MAX);
        }
        shared.in_force.store(Arc::new(InForce::new(usable, former)));
        self.announce();
    }

    /// Reports the certificate in force, and trusts other replicas that serve it.
    fn announce(&self) {
        let (listener, in_force) = (self.0.listener, self.0.in_force.load());
        let expires = in_force.not_after;
        if listener == ListenerName::Ingress {
            let former = in_force.former.iter().cloned();
            connect::trust_replicas(std::iter::once(in_force.certificate.clone()).chain(former).collect());
        }
        self.0
            .metrics
            .expiry
            .get_or_create(&self.label())
            .set(expires.as_second());
        let certificate = self.0.files.certificate.path.display();
        if expires <= Timestamp::now() {
            tracing::warn!(%listener, %certificate, %expires, "the certificate has expired, clients refuse it: renew it");
        } else {
            tracing::info!(%listener, %certificate, %expires, "certificate is in force");
        }
    }

    fn label(&self) -> ByListener {
        ByListener {
            listener: self.0.listener.as_str(),
        }
    }

    /// The configuration for a connection that begins now.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.0.in_force.load().config.clone()
    }

    /// The state of the certificate, for the admin API.
    pub fn state(&self) -> TlsState {
        let trouble = match &self.0.reload.lock().trouble {
            Some(Trouble::Reported(message)) => Some(message.clone()),
            Some(Trouble::Doubtful(_)) | None => None,
        };
        TlsState {
            listener: self.0.listener,
            certificate: self.0.files.certificate.path.display().to_string(),
            not_after: self.0.in_force.load().not_after,
            trouble,
        }
    }
}

impl InForce {
    fn new(usable: &Usable, former: VecDeque<CertificateDer<'static>>) -> Self {
        Self {
            config: usable.config.clone(),
            certificate: usable.certificate.clone(),
            not_after: usable.not_after,
            former,
        }
    }
}

#[cfg(test)]
mod tests;
