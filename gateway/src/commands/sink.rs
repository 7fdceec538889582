//! `headgate sink`: shows what arrives and answers as told.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use event::http_form::{self, Decoded};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use super::tail::summary;
use crate::{
    Failure,
    args::{Sink, TextOrJson},
    output,
};

/// Larger bodies are answered 413: this is a display.
const BODY_MAX_BYTES: usize = 32 * 1024 * 1024;

pub(super) async fn sink(args: Sink) -> Result<(), Failure> {
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.map_err(|error| Failure::Wrong(format!("cannot listen on {}: {error}", args.listen)))?;
    output::note(&format!(
        "showing what arrives at http://{}, Ctrl-C ends",
        listener.local_addr()?
    ));
    let (args, seen) = (Arc::new(args), Arc::new(AtomicU64::new(0)));
    // The first process of a container has no default for signals: without this `docker stop` waits in vain.
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        };
        let (args, seen) = (args.clone(), seen.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let (args, seen) = (args.clone(), seen.clone());
                async move { Ok::<_, Infallible>(answer(request, &args, &seen).await) }
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A client that breaks off is shown by what it did not send.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, args: &Sink, seen: &AtomicU64) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_MAX_BYTES).collect().await else {
        return status(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let count = seen.fetch_add(1, Ordering::Relaxed);
    let answer = match StatusCode::from_u16(args.status) {
        Ok(status) if count >= args.fail_first => status,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let events = match http_form::decode(&head.headers, body.to_bytes()) {
        Ok(Decoded::One(event)) => vec![event],
        Ok(Decoded::Batch(events)) => events,
        Err(error) => {
            output::line(&format!("{answer}  {} {}  no event: {error}", head.method, head.uri));
            vec![]
        }
    };
    for event in &events {
        match args.output {
            TextOrJson::Text => output::line(&format!("{}  {}", answer.as_u16(), summary(event))),
            TextOrJson::Json => output::exact(&String::from_utf8_lossy(&event.to_json_line())),
        }
    }
    tokio::time::sleep(args.delay).await;
    status(answer)
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}
