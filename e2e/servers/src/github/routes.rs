//! The REST API: who may ask, how much, and what each path does.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Response, header, request::Parts};
use http_body_util::Full;
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use ring::{
    rsa::KeyPair,
    signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use serde_json::{Value, json};

use super::{
    APP_ID, APP_KEY, INSTALLATION_ID, rules,
    rules::Invalid,
    state::{Hook, LIMIT, State},
};

type Answer = Result<Response<Full<Bytes>>, http::Error>;

/// An answer that is not sent yet.
struct Draft {
    status: u16,
    body: String,
    link: Option<String>,
    retry_after: Option<u64>,
}

impl Draft {
    fn json(status: u16, body: &Value) -> Self {
        Self::text(status, body.to_string())
    }

    fn text(status: u16, body: String) -> Self {
        Self {
            status,
            body,
            link: None,
            retry_after: None,
        }
    }

    fn refusal(status: u16, message: &str) -> Self {
        let about = "https://docs.github.com/rest";
        Self::json(status, &json!({ "message": message, "documentation_url": about }))
    }

    fn invalid(Invalid(errors): &Invalid) -> Self {
        Self::json(422, &json!({ "message": "Validation Failed", "errors": errors }))
    }

    fn not_found() -> Self {
        Self::refusal(404, "Not Found")
    }
}

pub(super) fn route(state: &mut State, head: &Parts, body: &Bytes) -> Answer {
    let (left, reset) = state.spend();
    let mut draft = match left {
        None => Draft::refusal(403, "API rate limit exceeded for user ID 1."),
        Some(_) => permitted(state, head, body),
    };
    if draft.status == 429 {
        draft.retry_after = Some(1);
    }
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&state.now());
    let remaining = left.unwrap_or(0);
    let mut answer = Response::builder()
        .status(draft.status)
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
        .header(header::DATE, date.unwrap_or_default())
        .header("x-ratelimit-limit", LIMIT)
        .header("x-ratelimit-remaining", remaining)
        .header("x-ratelimit-used", LIMIT - remaining.min(LIMIT))
        .header("x-ratelimit-resource", "core")
        .header("x-ratelimit-reset", reset.as_second());
    if let Some(link) = draft.link {
        answer = answer.header(header::LINK, link);
    }
    if let Some(seconds) = draft.retry_after {
        answer = answer.header(header::RETRY_AFTER, seconds);
    }
    answer.body(Full::new(draft.body.into()))
}

fn permitted(state: &mut State, head: &Parts, body: &Bytes) -> Draft {
    if !head.headers.contains_key(header::USER_AGENT) {
        return Draft::refusal(403, "Request forbidden by administrative rules.");
    }
    let path = head.uri.path().trim_start_matches("/api/v3");
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let token = bearer(&head.headers).unwrap_or_default();
    if let ["app", "installations", id, "access_tokens"] = segments[..] {
        return installation(state, head, token, id);
    }
    let known = state.tokens.iter().chain(&state.installation_tokens);
    if !known.into_iter().any(|good| good == token) {
        return Draft::refusal(401, "Bad credentials");
    }
    let (owner, rest) = match &segments[..] {
        ["repos", owner, name, rest @ ..] => (format!("{owner}/{name}"), rest),
        ["orgs", owner, rest @ ..] => ((*owner).to_owned(), rest),
        _ => return Draft::not_found(),
    };
    if state.owner(&owner).is_none() {
        return Draft::not_found();
    }
    let document = match head.method.as_str() {
        "POST" | "PATCH" => match document(&head.headers, body) {
            Ok(document) => document,
            Err(refused) => return refused,
        },
        _ => Value::Null,
    };
    let query = head.uri.query().unwrap_or_default();
    match (head.method.as_str(), rest) {
        ("GET", ["hooks"]) => list_hooks(state, &owner, query),
        ("POST", ["hooks"]) => create(state, &owner, &document),
        (method, ["hooks", id]) => match id.parse() {
            Ok(id) => one_hook(state, &owner, method, id, &document),
            Err(_) => Draft::not_found(),
        },
        ("GET", ["hooks", hook, "deliveries"]) => list_deliveries(state, &owner, hook, query),
        ("GET", ["hooks", hook, "deliveries", id]) => {
            let found = state.attempts(&owner).into_iter();
            let mut found = found.filter(|attempt| attempt.hook.to_string() == *hook);
            match found.find(|attempt| attempt.id.to_string() == *id) {
                Some(attempt) => Draft::text(200, rules::show_delivery(&attempt, path)),
                None => Draft::not_found(),
            }
        }
        _ => Draft::not_found(),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("token "))
}

fn document(headers: &HeaderMap, body: &Bytes) -> Result<Value, Draft> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(|value| value.starts_with("application/json")) {
        return Err(Draft::refusal(415, "Unsupported Media Type"));
    }
    let read: Option<Value> = serde_json::from_slice(body).ok();
    read.filter(Value::is_object)
        .ok_or_else(|| Draft::refusal(400, "Problems parsing JSON"))
}

/// A token for an installation, for one who signs as the App.
fn installation(state: &mut State, head: &Parts, token: &str, id: &str) -> Draft {
    if head.method != "POST" || id != INSTALLATION_ID.to_string() {
        return Draft::not_found();
    }
    if !is_app(token, Timestamp::now()) {
        return Draft::refusal(401, "A JSON web token could not be decoded");
    }
    state.installation_tokens_made += 1;
    let token = format!("ghs_{}", uuid::Uuid::new_v4().simple());
    state.installation_tokens.push(token.clone());
    let until = Timestamp::now() + std::time::Duration::from_secs(3600);
    Draft::json(201, &json!({ "token": token, "expires_at": until.to_string() }))
}

/// RS256, by our App's key, for ten minutes at most.
fn is_app(token: &str, now: Timestamp) -> bool {
    let Some((message, signature)) = token.rsplit_once('.') else {
        return false;
    };
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
    let json = |text: Option<&str>| -> Option<Value> { serde_json::from_slice(&part(text?)?).ok() };
    let mut parts = message.split('.');
    let (Some(head), Some(claims), Some(signature)) = (json(parts.next()), json(parts.next()), part(signature)) else {
        return false;
    };
    let base64: String = APP_KEY.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::prelude::BASE64_STANDARD.decode(base64).expect("PEM");
    let key = KeyPair::from_der(&der).expect("a key");
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public().as_ref());
    let (issued, until) = (
        claims["iat"].as_i64().unwrap_or(i64::MAX),
        claims["exp"].as_i64().unwrap_or(0),
    );
    head["alg"] == "RS256"
        && claims["iss"] == APP_ID
        && issued <= now.as_second()
        && (now.as_second()..=now.as_second() + 600).contains(&until)
        && public.verify(message.as_bytes(), &signature).is_ok()
}

fn list_hooks(state: &mut State, owner: &str, query: &str) -> Draft {
    let size = per_page(query);
    let page = parameter(query, "page")
        .and_then(|page| page.parse().ok())
        .unwrap_or(1)
        .max(1);
    let hooks = state.hooks(owner);
    let last = hooks.len().div_ceil(size).max(1);
    let shown: Vec<Value> = hooks
        .iter()
        .skip((page - 1) * size)
        .take(size)
        .map(rules::show_hook)
        .collect();
    let mut draft = Draft::json(200, &shown.into());
    // GitHub's links name a repository by its number.
    let link = |page: usize, rel: &str| {
        let address = state.address;
        format!("<http://{address}/repositories/1/hooks?per_page={size}&page={page}>; rel=\"{rel}\"")
    };
    let mut links = Vec::new();
    if page > 1 {
        links.push(link(page - 1, "prev"));
    }
    if page < last {
        links.push(link(page + 1, "next"));
        links.push(link(last, "last"));
    }
    draft.link = (!links.is_empty()).then(|| links.join(", "));
    draft
}

fn create(state: &mut State, owner: &str, document: &Value) -> Draft {
    if document.get("name").is_some_and(|name| name != "web") || document.get("config").is_none() {
        return Draft::invalid(&Invalid(
            json!([{ "resource": "Hook", "field": "config", "code": "missing_field" }]),
        ));
    }
    let mut hook = Hook {
        id: state.new_id(),
        active: true,
        events: vec!["push".into()],
        url: String::new(),
        content_type: String::new(),
        insecure_ssl: String::new(),
        secret: None,
        updates: 0,
    };
    let made = rules::change(&mut hook, document).and_then(|()| rules::fits(&hook, state.hooks(owner), owner));
    if let Err(invalid) = made {
        return Draft::invalid(&invalid);
    }
    let shown = rules::show_hook(&hook);
    if let Some(owner) = state.owner(owner) {
        owner.hooks.push(hook);
    }
    Draft::json(201, &shown)
}

fn one_hook(state: &mut State, owner: &str, method: &str, id: u64, document: &Value) -> Draft {
    let Some(mut hook) = state.hook_mut(owner, id).cloned() else {
        return Draft::not_found();
    };
    match method {
        "GET" => Draft::json(200, &rules::show_hook(&hook)),
        "DELETE" => {
            state.remove_hook(owner, id);
            Draft::text(204, String::new())
        }
        "PATCH" => {
            let changed =
                rules::change(&mut hook, document).and_then(|()| rules::fits(&hook, state.hooks(owner), owner));
            if let Err(invalid) = changed {
                return Draft::invalid(&invalid);
            }
            hook.updates += 1;
            let shown = rules::show_hook(&hook);
            if let Some(known) = state.hook_mut(owner, id) {
                *known = hook;
            }
            Draft::json(200, &shown)
        }
        _ => Draft::not_found(),
    }
}

/// Newest first, paged by a cursor.
fn list_deliveries(state: &mut State, owner: &str, hook: &str, query: &str) -> Draft {
    if !state.hooks(owner).iter().any(|known| known.id.to_string() == hook) {
        return Draft::not_found();
    }
    let size = per_page(query);
    let before: u64 = match parameter(query, "cursor") {
        None => u64::MAX,
        Some(cursor) => match cursor.strip_prefix("v1_").and_then(|id| id.parse().ok()) {
            Some(id) => id,
            None => return Draft::refusal(422, "Invalid cursor"),
        },
    };
    let mut attempts = state.attempts(owner);
    attempts.retain(|attempt| attempt.hook.to_string() == hook && attempt.id < before);
    attempts.sort_by_key(|attempt| std::cmp::Reverse(attempt.id));
    let shown: Vec<Value> = attempts.iter().take(size).map(rules::show_attempt).collect();
    let mut draft = Draft::json(200, &shown.into());
    if attempts.len() > size {
        let (address, cursor) = (state.address, attempts[size - 1].id);
        draft.link = Some(format!(
            "<http://{address}/repositories/1/hooks/{hook}/deliveries?per_page={size}&cursor=v1_{cursor}>; rel=\"next\""
        ));
    }
    draft
}

/// Thirty where nothing is said, a hundred at most.
fn per_page(query: &str) -> usize {
    let asked = parameter(query, "per_page").and_then(|size| size.parse().ok());
    asked.unwrap_or(30).clamp(1, 100)
}

fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
}
