//! An HTTP/1.1 client that sends exactly the bytes it is told to: duplicated headers, lying lengths, half a request.
//!
//! A real client library would repair or refuse what these tests need to send, hence this one. It reads answers by
//! length, chunks or end of stream.

use std::{
    fmt::{Debug, Write as _},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, pem::PemObject},
    },
};

/// An answer later than this is none.
const LIMIT: Duration = Duration::from_secs(60);

/// A request as it will be written, headers in order.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.into(),
            path: path.into(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub fn post(path: &str) -> Self {
        Self::new("POST", path)
    }

    /// A small valid event in binary mode for channel `NAME` (`default/NAME`) or `NAMESPACE/NAME`.
    pub fn event(channel: &str, id: &str) -> Self {
        Self::post(&path_of(channel))
            .header("ce-specversion", "1.0")
            .header("ce-id", id)
            .header("ce-source", "/e2e")
            .header("ce-type", "e2e.test")
            .header("content-type", "application/json")
            .body(br#"{"n":1}"#)
    }

    /// An event in structured mode: `document` is the whole body.
    pub fn structured(channel: &str, document: impl AsRef<[u8]>) -> Self {
        Self::post(&path_of(channel))
            .header("content-type", "application/cloudevents+json")
            .body(document)
    }

    /// Sets a header: replaces one of that name.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.also(name, value)
    }

    /// Adds a header, beside one of the same name.
    #[must_use]
    pub fn also(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// The same request for another path.
    #[must_use]
    pub fn to(mut self, path: &str) -> Self {
        self.path = path.to_owned();
        self
    }

    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// The head, with the body's length unless the request says `transfer-encoding` or a length itself.
    pub fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        let says = |name: &str| self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if !says("host") {
            head.extend_from_slice(b"host: 127.0.0.1\r\n");
        }
        if !says("content-length") && !says("transfer-encoding") {
            head.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        for (name, value) in &self.headers {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    /// Sends it on a connection of its own.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn send(&self, to: SocketAddr) -> Answer {
        self.try_send(to)
            .await
            .unwrap_or_else(|error| panic!("{} {}: {error}", self.method, self.path))
    }

    /// [`Self::send`] for a gateway that may be gone.
    pub async fn try_send(&self, to: SocketAddr) -> std::io::Result<Answer> {
        let mut connection = Connection::open(to).await?;
        connection.exchange(self).await
    }
}

/// `/NAMESPACE/NAME` of a channel.
pub fn path_of(channel: &str) -> String {
    if channel.contains('/') {
        format!("/{channel}")
    } else {
        format!("/default/{channel}")
    }
}

/// What is below a connection.
trait Stream: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin> Stream for T {}

/// One connection, kept alive as long as both sides want.
#[derive(Debug)]
pub struct Connection {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
}

impl Connection {
    pub async fn open(to: SocketAddr) -> std::io::Result<Self> {
        Self::over(TcpStream::connect(to).await?)
    }

    /// Connects from another address of this machine, such as 127.0.0.2: another peer.
    pub async fn open_from(from: IpAddr, to: SocketAddr) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        Self::over(socket.connect(to).await?)
    }

    /// Connects with TLS to a server whose certificate this authority (PEM) has issued for its address.
    ///
    /// # Panics
    /// When the authority is none.
    pub async fn open_tls(to: SocketAddr, authority: &str) -> std::io::Result<Self> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM");
        roots.add(authority).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring knows them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self {
            stream: Box::new(connector.connect(to.ip().into(), stream).await?),
            unread: Vec::new(),
        })
    }

    fn over(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: Box::new(stream),
            unread: Vec::new(),
        })
    }

    /// Writes a request and reads its answer. A server may answer, and close, before it took the whole body.
    pub async fn exchange(&mut self, request: &Request) -> std::io::Result<Answer> {
        let mut bytes = request.head();
        bytes.extend_from_slice(&request.body);
        let written = self.write(&bytes).await;
        match self.read().await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(written.err().unwrap_or(error)),
        }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads one answer; interim (1xx) answers are skipped.
    pub async fn read(&mut self) -> std::io::Result<Answer> {
        timeout(LIMIT, self.read_final())
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }

    async fn read_final(&mut self) -> std::io::Result<Answer> {
        loop {
            let answer = self.read_one().await?;
            if answer.status >= 200 {
                return Ok(answer);
            }
        }
    }

    async fn read_one(&mut self) -> std::io::Result<Answer> {
        let end = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break at;
            }
            self.fill().await?;
        };
        let head = String::from_utf8_lossy(&self.unread[..end]).into_owned();
        self.unread.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1)?.parse().ok())
            .unwrap_or(0);
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        if status < 200 || status == 204 || status == 304 {
            return Ok(answer);
        }
        answer.body = if answer.header("transfer-encoding").is_some() {
            self.chunks().await?
        } else if let Some(length) = answer.header("content-length").and_then(|length| length.parse().ok()) {
            self.take(length).await?
        } else {
            while self.fill().await.is_ok() {}
            std::mem::take(&mut self.unread)
        };
        Ok(answer)
    }

    async fn chunks(&mut self) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = find(&self.unread, b"\r\n") {
                    break at;
                }
                self.fill().await?;
            };
            let line = String::from_utf8_lossy(&self.unread[..end]).into_owned();
            self.unread.drain(..end + 2);
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(|_| std::io::Error::other("a chunk without a size"))?;
            body.extend(self.take(size).await?);
            self.take(2).await?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    async fn take(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        while self.unread.len() < length {
            self.fill().await?;
        }
        Ok(self.unread.drain(..length).collect())
    }

    async fn fill(&mut self) -> std::io::Result<()> {
        if self.stream.read_buf(&mut self.unread).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// An answer, header names in lower case.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// # Panics
    /// When the body is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// Asserts the status and gives the answer back.
    ///
    /// # Panics
    /// When the status is another.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = format!("{}", self.status);
        for (name, value) in &self.headers {
            write!(text, "\n{name}: {value}")?;
        }
        write!(f, "{text}\n\n{}", self.text())
    }
}
