//! The baselines that the gateway is compared with, each a process of its own on the same HTTP server:
//! `answer` (202 and nothing behind it), `proxy` (one plain hop: read, send on, answer what came), `log` (202 after
//! one `fdatasync` per batch of what came meanwhile).

use std::{fs::File, io::Write as _, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::sync::{mpsc, oneshot};

/// More than the connections of any scenario: appending never waits for room.
const QUEUE: usize = 1024;

type Append = (Bytes, oneshot::Sender<()>);

#[derive(Clone)]
enum Behind {
    Nothing,
    Proxy(Box<(Client<HttpConnector, Full<Bytes>>, Uri)>),
    Log(mpsc::Sender<Append>),
}

/// Serves until it is killed. `arguments`: KIND ADDRESS [URL or FOLDER].
pub(crate) async fn serve(arguments: &[String]) -> anyhow::Result<()> {
    let [kind, address, rest @ ..] = arguments else {
        anyhow::bail!("KIND ADDRESS [URL or FOLDER]")
    };
    let behind = match (kind.as_str(), rest) {
        ("answer", []) => Behind::Nothing,
        ("proxy", [url]) => {
            let mut connector = HttpConnector::new();
            connector.set_nodelay(true);
            Behind::Proxy(Box::new((
                Client::builder(TokioExecutor::new()).build(connector),
                url.parse()?,
            )))
        }
        ("log", [folder]) => Behind::Log(log(PathBuf::from(folder).join("log"))?),
        _ => anyhow::bail!("no such baseline: {arguments:?}"),
    };
    let address: SocketAddr = address.parse().context("ADDRESS")?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let behind = behind.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, behind.clone()));
            let mut server = hyper::server::conn::http1::Builder::new();
            // A client that goes away ends its connection: nothing to report.
            let _ = server
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>, behind: Behind) -> anyhow::Result<Response<Empty<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut status = StatusCode::ACCEPTED;
    match behind {
        Behind::Nothing => {}
        Behind::Proxy(to) => {
            let (client, uri) = *to;
            let mut onward = Request::post(uri).body(Full::new(body))?;
            for (name, value) in &head.headers {
                if name != http::header::HOST {
                    onward.headers_mut().append(name, value.clone());
                }
            }
            let (answer, body) = client.request(onward).await?.into_parts();
            body.collect().await?;
            status = answer.status;
        }
        Behind::Log(log) => {
            let (done, stored) = oneshot::channel();
            log.send((body, done)).await?;
            stored.await?;
        }
    }
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    Ok(response)
}

/// One thread: takes what has gathered, writes it at once, syncs once, answers all.
fn log(path: PathBuf) -> anyhow::Result<mpsc::Sender<Append>> {
    let mut file = File::create(path)?;
    let (sender, mut queue) = mpsc::channel::<Append>(QUEUE);
    std::thread::spawn(move || -> std::io::Result<()> {
        let (mut batch, mut bytes) = (Vec::new(), Vec::new());
        while queue.blocking_recv_many(&mut batch, QUEUE) > 0 {
            bytes.clear();
            batch.iter().for_each(|(data, _)| bytes.extend_from_slice(data));
            file.write_all(&bytes)?;
            file.sync_data()?;
            for (_, done) in batch.drain(..) {
                // A client that went away needs no answer.
                let _ = done.send(());
            }
        }
        Ok(())
    });
    Ok(sender)
}
