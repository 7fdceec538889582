//! `headgate send`: one event to a channel.

use std::{io::Read, path::Path};

use bytes::Bytes;
use event::{Event, http_form};
use http::{
    HeaderMap, HeaderValue, Method, Request,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::BodyExt;
use url::Url;
use uuid::Uuid;

use super::name;
use crate::{Failure, api::Info, args::Send, client, client::Gateway, output};

pub(super) async fn send(gateway: &Gateway, args: Send) -> Result<(), Failure> {
    let (namespace, channel) = name(&args.channel);
    let mut url = match &args.ingress {
        Some(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url.clone(),
        Some(url) => return Err(Failure::Usage(format!("--ingress {url} is no http:// or https:// URL"))),
        None => ingress(gateway).await?,
    };
    let token = args.token_file.as_deref().map(authorization).transpose()?;
    let (mut headers, body, id) = message(args)?;
    headers.extend(token.map(|token| (AUTHORIZATION, token)));
    // A proxy may serve it below a path of its own.
    let base = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{base}/{namespace}/{channel}"));
    let mut request = Request::builder().method(Method::POST);
    if let Some(all) = request.headers_mut() {
        std::mem::swap(all, &mut headers);
    }
    let sent = client::send(&url, gateway.authorities(), request, body).await;
    let response = sent.map_err(|error| {
        let hint = "--ingress names another address, such as that of a port-forward";
        Failure::Unreachable(format!("cannot send to {url}: {error:#}; {hint}"))
    })?;
    let status = response.status();
    let durability = response
        .headers()
        .get("headgate-durability")
        .and_then(|value| value.to_str().ok())
        .unwrap_or("unknown")
        .to_owned();
    let answer = response
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    if !status.is_success() {
        let answer = String::from_utf8_lossy(&answer);
        return Err(Failure::Wrong(format!("{url} answered {status}: {}", answer.trim())));
    }
    output::line(&format!("stored  id={id}  durability={durability}"));
    Ok(())
}

/// As the gateway tells it.
async fn ingress(gateway: &Gateway) -> Result<Url, Failure> {
    let info: Info = gateway.get("/api/v1/info", &[]).await?;
    Url::parse(&info.ingress)
        .map_err(|_| Failure::Internal(anyhow::anyhow!("the gateway does not say where its ingress is")))
}

/// The header for the token in a file.
fn authorization(file: &Path) -> Result<HeaderValue, Failure> {
    let bytes = read(file)?;
    let token = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    let value = HeaderValue::from_bytes(&[b"Bearer ", token].concat());
    match value {
        Ok(mut value) if !token.is_empty() => {
            value.set_sensitive(true);
            Ok(value)
        }
        _ => Err(Failure::Wrong(format!(
            "the first line of {} is no token",
            file.display()
        ))),
    }
}

/// Headers and body, and the id for the result line.
fn message(args: Send) -> Result<(HeaderMap, Bytes, String), Failure> {
    let invalid = |error: &dyn std::fmt::Display| Failure::Wrong(format!("this is no valid event: {error}"));
    let mut headers = HeaderMap::new();
    if let (true, Some(file)) = (args.structured, &args.file) {
        // Sent as it is; read only to refuse nonsense here and to know the id.
        let document = read(file)?;
        let event = Event::from_json(&document).map_err(|error| invalid(&error))?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json"));
        return Ok((headers, document, event.id().to_owned()));
    }
    let data = match (args.data, args.file) {
        (Some(data), _) if data == "-" => Some(read(Path::new("-"))?),
        (Some(data), _) => Some(Bytes::from(data)),
        (None, Some(file)) => Some(read(&file)?),
        (None, None) => None,
    };
    let id = args.id.unwrap_or_else(|| Uuid::now_v7().to_string());
    let mut event = Event::builder(&id, &args.source, &args.kind).set("time", &jiff::Timestamp::now().to_string());
    if let Some(subject) = &args.subject {
        event = event.set("subject", subject);
    }
    for (name, value) in &args.ext {
        event = event.set(name, value);
    }
    if let Some(data) = data {
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&data).is_ok();
        let guessed = if is_json { "application/json" } else { "text/plain" };
        event = event.data(args.content_type.as_deref().unwrap_or(guessed), data);
    }
    let event = event.finish().map_err(|error| invalid(&error))?;
    let body = http_form::encode_binary(&event, &mut headers);
    Ok((headers, body, id))
}

pub(super) fn read(file: &Path) -> Result<Bytes, Failure> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::Wrong(format!("cannot read {}: {error}", file.display())))?;
    Ok(bytes.into())
}
