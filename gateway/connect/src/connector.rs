//! Opens connections: directly, or through the proxy that the environment names.
//!
//! | target | through a proxy |
//! |--|--|
//! | `https` | a tunnel (`CONNECT`), TLS with the target inside it |
//! | `http` | the proxy is sent the whole URL; the caller adds what [`Dialer::forwards`] gives to its requests |
//! | `http` with [`Dialer::tunnels`] (HTTP/2 with prior knowledge) | a tunnel |
//!
//! The proxy itself may be reached over TLS (`https://` in the variable).

use std::{
    error::Error,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, StatusCode, Uri,
    header::{HOST, PROXY_AUTHORIZATION},
};
use http_body_util::Empty;
use hyper::{
    client::conn::http1,
    rt::{Read, ReadBufCursor, Write},
    upgrade::Upgraded,
};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use tokio::{io::DuplexStream, net::TcpStream};
use tower_service::Service;

use crate::{Egress, InvalidProxy, Proxies, Proxy, Resolver, egress::Checked, in_process};

/// Bounds the head of a proxy's answer to CONNECT.
const HEAD_MAX_BYTES: usize = 16 * 1024;

type BoxError = Box<dyn Error + Send + Sync>;
type Plain = HttpConnector<Checked>;

/// Connects to `http` and `https` targets, HTTP/1.1 and HTTP/2 over TLS alike.
pub type Connector = HttpsConnector<Dialer>;

/// # Errors
/// The system has no certificates of authorities.
pub fn connector(dialer: Dialer) -> Result<Connector, String> {
    let builder = HttpsConnectorBuilder::new().with_tls_config((*tls()?).clone());
    Ok(builder
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .wrap_connector(dialer))
}

/// TLS that trusts the system's authorities, or those in the file that `SSL_CERT_FILE` names. Read once, and only when it is
/// needed: they take 2 MB and 20 ms.
///
/// # Errors
/// The system has no certificates of authorities.
pub fn tls() -> Result<Arc<rustls::ClientConfig>, String> {
    static CONFIG: OnceLock<Result<Arc<rustls::ClientConfig>, String>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = builder
            .with_native_roots()
            .map_err(|error| format!("the system's TLS roots cannot be read: {error}"))?;
        Ok(Arc::new(builder.with_no_client_auth()))
    });
    config.clone()
}

/// Opens connections without TLS to the target: TLS goes over what it gives.
#[derive(Clone)]
pub struct Dialer {
    plain: Plain,
    /// Connects to proxies, which the operator named: their addresses are not checked.
    to_proxy: Plain,
    /// `None`: every address may be connected to.
    egress: Option<&'static Egress>,
    /// `None`: never through a proxy.
    proxies: Option<Arc<Proxies>>,
    tunnels: bool,
}

/// A connection to the target, or to the proxy that is sent whole URLs.
pub struct Dialed {
    io: Io,
    is_forwarded: bool,
}

enum Io {
    Stream(Box<MaybeHttpsStream<TokioIo<TcpStream>>>),
    Tunnel(Upgraded),
    InProcess(TokioIo<DuplexStream>),
}

/// The proxy did not connect.
#[derive(Debug, thiserror::Error)]
enum ProxyError {
    #[error("cannot connect to the proxy {proxy}")]
    Connect {
        proxy: String,
        #[source]
        why: BoxError,
    },
    #[error("the proxy {proxy} broke the connection")]
    Broken {
        proxy: String,
        #[source]
        why: hyper::Error,
    },
    #[error("the proxy {proxy} asks for a user and a password (407): write them into its URL")]
    Unauthorized { proxy: String },
    #[error("the proxy {proxy} answers {status} instead of connecting to {to}")]
    Refused {
        proxy: String,
        status: StatusCode,
        to: String,
    },
}

impl Dialer {
    /// For targets that documents name: uses the proxies of the environment and connects only where [`Egress::current`] permits.
    /// `timeout` bounds the time in which a server accepts a connection, after its name was resolved.
    pub fn new(timeout: Duration) -> Self {
        let egress = Some(Egress::current());
        Self {
            plain: plain(timeout, egress),
            egress,
            ..Self::of_operator(timeout)
        }
    }

    /// For targets that the operator names: uses the proxies of the environment and connects to any address.
    pub fn of_operator(timeout: Duration) -> Self {
        Self {
            proxies: Some(Proxies::of_environment()),
            ..Self::direct(timeout)
        }
    }

    /// For other replicas of the gateway: never uses a proxy and connects to any address.
    pub fn direct(timeout: Duration) -> Self {
        Self {
            plain: plain(timeout, None),
            to_proxy: plain(timeout, None),
            egress: None,
            proxies: None,
            tunnels: false,
        }
    }

    /// A proxy gives a tunnel for `http` targets, too.
    #[must_use]
    pub fn tunnels(self) -> Self {
        Self { tunnels: true, ..self }
    }

    /// Whether requests to `to` are sent to a proxy as whole URLs, and if so, their `Proxy-Authorization`.
    ///
    /// # Errors
    /// The environment names a proxy that is none.
    pub fn forwards(&self, to: &Uri) -> Result<Option<Option<HeaderValue>>, InvalidProxy> {
        let proxy = self.proxy(to)?;
        let forwards = proxy.filter(|_| !self.is_tunneled(to));
        Ok(forwards.map(|proxy| proxy.authorization.clone()))
    }

    fn is_tunneled(&self, to: &Uri) -> bool {
        self.tunnels || to.scheme_str() == Some("https")
    }

    fn proxy(&self, to: &Uri) -> Result<Option<&Proxy>, InvalidProxy> {
        match &self.proxies {
            Some(proxies) => proxies.proxy(to),
            None => Ok(None),
        }
    }
}

impl Service<Uri> for Dialer {
    type Response = Dialed;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Dialed, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (mut plain, to_proxy) = (self.plain.clone(), self.to_proxy.clone());
        let refusal = self
            .egress
            .map_or(Ok(()), |egress| egress.check_host(to.host().unwrap_or_default()));
        let is_tunneled = self.is_tunneled(&to);
        let proxy = self.proxy(&to).map(|proxy| proxy.cloned());
        Box::pin(async move {
            if let Some(stream) = in_process::connect(&to) {
                return Ok(Dialed {
                    io: Io::InProcess(TokioIo::new(stream?)),
                    is_forwarded: false,
                });
            }
            refusal?;
            let Some(proxy) = proxy? else {
                let stream = Box::new(MaybeHttpsStream::Http(plain.call(to).await?));
                return Ok(Dialed {
                    io: Io::Stream(stream),
                    is_forwarded: false,
                });
            };
            let stream = connect(to_proxy, &proxy).await.map_err(|why| ProxyError::Connect {
                proxy: proxy.to_string(),
                why,
            })?;
            let io = if is_tunneled {
                Io::Tunnel(tunnel(stream, &proxy, &to).await?)
            } else {
                Io::Stream(Box::new(stream))
            };
            Ok(Dialed {
                io,
                is_forwarded: !is_tunneled,
            })
        })
    }
}

fn plain(timeout: Duration, egress: Option<&'static Egress>) -> Plain {
    let resolver = Resolver::shared();
    let mut plain = HttpConnector::new_with_resolver(Checked { resolver, egress });
    plain.set_nodelay(true);
    plain.enforce_http(false);
    plain.set_connect_timeout(Some(timeout));
    plain
}

/// Connects to the proxy itself.
async fn connect(mut plain: Plain, proxy: &Proxy) -> Result<MaybeHttpsStream<TokioIo<TcpStream>>, BoxError> {
    if proxy.uri.scheme_str() != Some("https") {
        return Ok(MaybeHttpsStream::Http(plain.call(proxy.uri.clone()).await?));
    }
    let builder = HttpsConnectorBuilder::new().with_tls_config((*tls()?).clone());
    let mut connector = builder.https_only().enable_http1().wrap_connector(plain);
    connector.call(proxy.uri.clone()).await
}

/// Asks the proxy for a tunnel to the target (RFC 9110, 9.3.6).
async fn tunnel(stream: MaybeHttpsStream<TokioIo<TcpStream>>, proxy: &Proxy, to: &Uri) -> Result<Upgraded, ProxyError> {
    let broken = |why| ProxyError::Broken {
        proxy: proxy.to_string(),
        why,
    };
    let default = if to.scheme_str() == Some("https") { 443 } else { 80 };
    let authority = format!("{}:{}", to.host().unwrap_or_default(), to.port_u16().unwrap_or(default));
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_MAX_BYTES)
        .handshake(stream)
        .await
        .map_err(broken)?;
    // Ends with the exchange; its error is the request's.
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::connect(&authority).header(HOST, &authority);
    if let Some(authorization) = &proxy.authorization {
        request = request.header(PROXY_AUTHORIZATION, authorization);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .expect("an authority of a URL that was parsed");
    let response = sender.send_request(request).await.map_err(broken)?;
    match response.status() {
        status if status.is_success() => hyper::upgrade::on(response).await.map_err(broken),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(ProxyError::Unauthorized {
            proxy: proxy.to_string(),
        }),
        status => Err(ProxyError::Refused {
            proxy: proxy.to_string(),
            status,
            to: authority,
        }),
    }
}

impl Connection for Dialed {
    fn connected(&self) -> Connected {
        match &self.io {
            Io::Stream(stream) => stream.connected().proxy(self.is_forwarded),
            Io::Tunnel(_) | Io::InProcess(_) => Connected::new(),
        }
    }
}

impl Read for Dialed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Stream(stream) => Pin::new(stream).poll_read(cx, buffer),
            Io::Tunnel(tunnel) => Pin::new(tunnel).poll_read(cx, buffer),
            Io::InProcess(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl Write for Dialed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Stream(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Tunnel(tunnel) => Pin::new(tunnel).poll_write(cx, bytes),
            Io::InProcess(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Stream(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tunnel(tunnel) => Pin::new(tunnel).poll_flush(cx),
            Io::InProcess(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Stream(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tunnel(tunnel) => Pin::new(tunnel).poll_shutdown(cx),
            Io::InProcess(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Stream(stream) => stream.is_write_vectored(),
            Io::Tunnel(tunnel) => tunnel.is_write_vectored(),
            Io::InProcess(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Stream(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Io::Tunnel(tunnel) => Pin::new(tunnel).poll_write_vectored(cx, slices),
            Io::InProcess(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }
}
