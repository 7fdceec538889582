//! A registry with one image, or none yet: as much of the distribution protocol as an engine asks for when it pulls.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

pub(super) struct Registry {
    address: SocketAddr,
    pushed: Arc<AtomicBool>,
    _server: AbortOnDropHandle<()>,
}

struct Image {
    manifest: Bytes,
    /// By digest.
    blobs: [(String, Bytes); 2],
}

impl Registry {
    /// Starts a registry with one image, whose root folder is the archive `layer` and which runs `/bin/sh -c SCRIPT`.
    pub(super) async fn start(layer: Vec<u8>, script: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (image, pushed) = (Arc::new(image(layer, script)), Arc::new(AtomicBool::new(false)));
        let visible = pushed.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (image, visible) = (image.clone(), visible.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let response = answer(request.uri().path(), &image, visible.load(Ordering::Relaxed));
                    async move { Ok::<_, std::convert::Infallible>(response) }
                });
                tokio::spawn(async move {
                    let connection = auto::Builder::new(TokioExecutor::new());
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            address,
            pushed,
            _server: AbortOnDropHandle::new(server),
        }
    }

    pub(super) fn image(&self) -> String {
        format!("{}/team/beats:1", self.address)
    }

    /// Until now the registry knew no image.
    pub(super) fn push(&self) {
        self.pushed.store(true, Ordering::Relaxed);
    }
}

fn image(layer: Vec<u8>, script: &str) -> Image {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture, "os": "linux", "config": { "Entrypoint": ["/bin/sh", "-c", script, "image"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    });
    let (config, layer) = (Bytes::from(config.to_string()), Bytes::from(layer));
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "size": config.len(), "digest": digest(&config) },
        "layers": [{ "mediaType": LAYER, "size": layer.len(), "digest": digest(&layer) }],
    });
    Image {
        manifest: manifest.to_string().into(),
        blobs: [config, layer].map(|blob| (digest(&blob), blob)),
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn answer(path: &str, image: &Image, visible: bool) -> Response<Full<Bytes>> {
    let (status, kind, body) = match path.rsplit_once('/') {
        Some(("/v2", "")) => (200, "application/json", Bytes::from_static(b"{}")),
        Some(("/v2/team/beats/manifests", _)) if visible => (200, MANIFEST, image.manifest.clone()),
        Some(("/v2/team/beats/blobs", requested)) => {
            let blob = image.blobs.iter().find(|(digest, _)| digest == requested);
            let blob = blob.map(|(_, blob)| blob.clone());
            (
                if blob.is_some() { 200 } else { 404 },
                "application/octet-stream",
                blob.unwrap_or_default(),
            )
        }
        _ => {
            let error = json!({ "errors": [{ "code": "MANIFEST_UNKNOWN", "message": "manifest unknown" }] });
            (404, "application/json", error.to_string().into())
        }
    };
    let response = Response::builder().status(status).header(CONTENT_TYPE, kind);
    response
        .header("docker-distribution-api-version", "registry/2.0")
        .body(Full::new(body))
        .unwrap()
}
