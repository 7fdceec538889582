//! The certificates of the listeners: opened by flags, followed on disk, reported.

use dataplane::server::{ListenerName, NamedFile, Tls, TlsFiles, TlsMetrics};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::{Failure, api, args};

/// TLS of each listener that has it.
#[derive(Clone)]
pub(crate) struct Certificates {
    pub(crate) ingress: Option<Tls>,
    pub(crate) admin: Option<Tls>,
}

/// The scheme of a listener's URL.
pub(crate) fn scheme(tls: &Option<Tls>) -> &'static str {
    if tls.is_some() { "https" } else { "http" }
}

impl Certificates {
    /// Reads the files that the flags name.
    pub(crate) fn open(args: &args::Tls, registry: &mut Registry) -> Result<Self, Failure> {
        let metrics = TlsMetrics::registered(registry);
        let open = |listener, files: Option<TlsFiles>| {
            let opened = files
                .map(|files| Tls::open(listener, files, metrics.clone()))
                .transpose();
            opened.map_err(|error| Failure::Wrong(error.to_string()))
        };
        let named = |flag, path: &Option<std::path::PathBuf>| path.clone().map(|path| NamedFile { flag, path });
        let files = |certificate: Option<NamedFile>, key: Option<NamedFile>, client_ca| {
            let (certificate, key) = certificate.zip(key)?;
            Some(TlsFiles {
                certificate,
                key,
                client_ca,
            })
        };
        let ingress = files(
            named("--tls-cert", &args.tls_cert),
            named("--tls-key", &args.tls_key),
            named("--tls-client-ca", &args.tls_client_ca),
        );
        let admin = files(
            named("--admin-tls-cert", &args.admin_tls_cert),
            named("--admin-tls-key", &args.admin_tls_key),
            None,
        );
        Ok(Self {
            ingress: open(ListenerName::Ingress, ingress)?,
            admin: open(ListenerName::Admin, admin)?,
        })
    }

    fn all(&self) -> impl Iterator<Item = &Tls> {
        self.ingress.iter().chain(&self.admin)
    }

    /// Follows all files until `stop`.
    pub(crate) async fn follow(self, stop: CancellationToken) {
        let following = self.all().map(|tls| tls.clone().follow(stop.clone()));
        futures_util::future::join_all(following).await;
        // A part that ends early is a fault; without a certificate there is nothing to follow.
        stop.cancelled().await;
    }

    /// Lists certificates that have expired or cannot be replaced, for `degraded` of `/readyz`: the gateway still takes events.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let now = Timestamp::now();
        let mut troubles = Vec::new();
        for state in self.all().map(Tls::state) {
            let (listener, expires) = (state.listener, state.not_after);
            if let Some(trouble) = state.trouble {
                troubles.push(format!(
                    "certificate of the {listener}: the old one stays in force until {expires}, because the new files cannot be used: {trouble}"
                ));
            }
            if expires <= now {
                troubles.push(format!(
                    "certificate of the {listener}: {} expired at {expires}, clients refuse it; replace the file, the gateway takes the new \
                     one by itself",
                    state.certificate
                ));
            }
        }
        troubles
    }

    /// The certificates, for the admin API.
    pub(crate) fn shown(&self) -> Vec<api::Certificate> {
        let states = self.all().map(Tls::state);
        states
            .map(|state| api::Certificate {
                file: state.certificate,
                listener: state.listener.to_string(),
                not_after: Some(state.not_after),
                trouble: state.trouble,
            })
            .collect()
    }
}
