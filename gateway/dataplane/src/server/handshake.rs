//! Begins a connection of a listener with TLS: the handshake, or the refusal of a client that speaks plain HTTP.
//!
//! The caller bounds the time, as it does for the head of a request. A handshake costs a signature, some 0.1 ms of CPU with an ECDSA
//! key and 1 ms with RSA. So one peer signs for one connection at a time, and all peers together on at most half of the runtime's
//! threads: a peer that floods handshakes delays its own, and leaves the other half to events.

use std::{io, sync::Arc};

use rustls::server::Acceptor;
use spec::Reason;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::LazyConfigAcceptor;

use super::{bounds::Peer, socket::Socket, tls::Tls};

/// The first byte of TLS: a record of the handshake (RFC 8446, 5.1). No request of HTTP begins with it.
const HANDSHAKE_RECORD: u8 = 0x16;

/// The text of the answer to a client that speaks plain HTTP to a listener with TLS. Commands know it by this text.
pub const NEEDS_HTTPS: &str = "this port speaks TLS: write https:// instead of http:// in the URL";

/// Why a connection did not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotBegun {
    #[error("the client speaks plain HTTP, and was told so")]
    PlainHttp,
    /// The client went away, or the two have no version, cipher or trust in common. It was sent the reason as an alert.
    #[error("the handshake failed: {0}")]
    Failed(#[from] io::Error),
    #[error("the client took too long")]
    Late,
    #[error("the gateway drains, or the connection made room for another")]
    Stopped,
}

impl NotBegun {
    /// Returns what is counted.
    pub(super) fn reason(&self) -> Option<Reason> {
        match self {
            Self::PlainHttp => Some(Reason::NeedsTLS),
            Self::Failed(_) => Some(Reason::HandshakeFailed),
            Self::Late => Some(Reason::Stalled),
            Self::Stopped => None,
        }
    }
}

/// Ends what [`begin`] waits for when it is late, or the connection is to stop.
pub(super) async fn bounded(
    begins: impl Future<Output = Result<Socket, NotBegun>>,
    is_late: impl Future<Output = ()>,
    stops: impl Future<Output = ()>,
) -> Result<Socket, NotBegun> {
    tokio::select! {
        begun = begins => begun,
        () = is_late => Err(NotBegun::Late),
        () = stops => Err(NotBegun::Stopped),
    }
}

/// Begins a connection. Not cancel safe: dropped, it closes the connection.
pub(super) async fn begin(mut stream: TcpStream, tls: &Tls, peer: &Arc<Peer>) -> Result<Socket, NotBegun> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    if first[0] != HANDSHAKE_RECORD {
        // The client may be gone or slow: it was refused in any case.
        let _ = refuse_plain(&mut stream).await;
        return Err(NotBegun::PlainHttp);
    }
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let turn = peer.handshake_turn().await;
    // Makes the key exchange and the signature.
    let handshake = hello.into_stream(tls.config());
    drop(turn);
    Ok(Socket::Tls(Box::new(handshake.await?)))
}

/// Answers 400, and reads what the client still sends, or it might not see the answer.
async fn refuse_plain(stream: &mut TcpStream) -> io::Result<()> {
    let length = NEEDS_HTTPS.len() + 1;
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {length}\r\n\r\n{NEEDS_HTTPS}\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    let lingers = async {
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    tokio::time::timeout(super::connections::REFUSAL_TIMEOUT, lingers)
        .await
        .unwrap_or(Ok(()))
}
