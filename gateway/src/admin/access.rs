//! Access to the admin API (docs/reference/admin-api.md, API.md 5.3).
//!
//! | listener | read | change |
//! |--|--|--|
//! | loopback | open, or with a token where a read token is configured | open, or with the operate token where one is configured |
//! | elsewhere | with the read or the operate token | with the operate token |
//!
//! A change needs whatever a read needs, too. A web page elsewhere can have its name resolve to this machine (DNS rebinding), so
//! `Host` must be a name that is ours, whatever token is sent.

mod session;

use std::{
    fs::File,
    io::{self, Read},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use log_limit::LogLimit;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use sha2::{Digest, Sha256};
use spec::Reason;
use subtle::ConstantTimeEq;

use super::Refusal;
use crate::args;
pub(crate) use session::SESSION_SECONDS;

/// Longer than any token; a file that is larger is another file.
const TOKEN_MAX_BYTES: u64 = 4096;

/// Every word that can be a `reason` of a refused request.
const REFUSALS: [Reason; 5] = [
    Reason::ForeignForm,
    Reason::Unauthorized,
    Reason::NoAdminToken,
    Reason::ReadOnlyToken,
    Reason::ForeignHost,
];

/// The token that a caller has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Operate,
    Read,
    None,
}

impl Token {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Operate => "operate",
            Self::Read => "read",
            Self::None => "none",
        }
    }
}

/// Whether a request reads or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    Read,
    Change,
}

/// A token as it was configured.
#[derive(Clone)]
pub(crate) enum Secret {
    Text(String),
    /// Read again for each request, so that a change is in force at once.
    File(PathBuf),
}

impl Secret {
    /// A file goes before a text; an empty text is none.
    pub(crate) fn of(text: Option<String>, file: Option<PathBuf>) -> Option<Self> {
        match (text.filter(|text| !text.is_empty()), file) {
            (_, Some(file)) => Some(Self::File(file)),
            (text, None) => text.map(Self::Text),
        }
    }

    /// The token as it is now; an error where it cannot be read, or the file holds none.
    pub(crate) fn read(&self) -> io::Result<String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => token_in(path),
        }
    }
}

fn token_in(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    // A pipe or a device might be read for ever.
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    file.take(TOKEN_MAX_BYTES + 1).read_to_string(&mut text)?;
    let token = text.trim();
    match () {
        () if text.len() as u64 > TOKEN_MAX_BYTES => Err(io::Error::other("it is too large for a token")),
        () if token.is_empty() => Err(io::Error::other("it is empty")),
        () => Ok(token.to_owned()),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: Reason,
}

/// The rules of one listener.
#[derive(Clone)]
pub(crate) struct Access(Arc<Rules>);

struct Rules {
    is_loopback: bool,
    operate: Option<Secret>,
    read: Option<Secret>,
    /// Names by which the listener is reached, in lower case.
    hosts: Vec<String>,
    refused: Family<ByReason, Counter>,
    tokens_refused: LogLimit,
    files_unreadable: LogLimit,
    /// Seals the forms of pages where there is no token.
    form_key: uuid::Uuid,
}

impl Access {
    /// `service` is the gateway's own Service, as NAME.NAMESPACE.svc.DOMAIN.
    pub(crate) fn new(
        address: SocketAddr,
        operate: Option<Secret>,
        read: &args::Access,
        service: Option<&str>,
        registry: &mut Registry,
    ) -> Self {
        let refused = Family::<ByReason, Counter>::default();
        for reason in REFUSALS {
            drop(refused.get_or_create(&ByReason { reason }));
        }
        registry.register(
            "headgate_admin_requests_refused",
            "Requests to the admin API that were not allowed",
            refused.clone(),
        );
        let named = read.admin_host.iter().map(String::as_str).chain(service);
        let access = Self(Arc::new(Rules {
            is_loopback: address.ip().is_loopback(),
            operate,
            read: Secret::of(read.admin_read_token.clone(), read.admin_read_token_file.clone()),
            hosts: named.flat_map(spellings).collect(),
            refused,
            tokens_refused: LogLimit::default(),
            files_unreadable: LogLimit::default(),
            form_key: session::form_key(),
        }));
        for (flag, secret) in [
            ("--admin-token-file", &access.0.operate),
            ("--admin-read-token-file", &access.0.read),
        ] {
            // It may come later, as a secret of a cluster does.
            if let Some(Secret::File(path)) = secret
                && let Err(error) = token_in(path)
            {
                tracing::warn!(flag, path = %path.display(), %error, "no token can be read, so nobody has it");
            }
        }
        access
    }

    /// Whether the request is for a name of this listener.
    pub(crate) fn check_host<T>(&self, request: &Request<T>) -> Result<(), Refusal> {
        let host =
            dataplane::server::requested_host(request).map_err(|fault| Refusal::bad_request(fault.to_string()))?;
        let host = host.unwrap_or_default();
        if self.0.is_ours(&host) {
            return Ok(());
        }
        let message = format!(
            "the admin API is not at the host {host:?}: use localhost or an IP address, or start the gateway with --admin-host"
        );
        Err(self.refuse(StatusCode::MISDIRECTED_REQUEST, Reason::ForeignHost, message))
    }

    /// Whether the caller may do this, and which token it has sent.
    pub(super) fn check(&self, intent: Intent, headers: &HeaderMap, remote: SocketAddr) -> Result<Token, Refusal> {
        let token = self.0.token(headers);
        self.permit(intent, token).inspect_err(|refusal| {
            if refusal.reason == Reason::Unauthorized && headers.contains_key(header::AUTHORIZATION) {
                self.0.warn_of_token(remote);
            }
        })?;
        Ok(token)
    }

    /// Whether a caller with this token would be permitted; nothing is counted.
    pub(crate) fn allows(&self, intent: Intent, token: Token) -> bool {
        let rules = &*self.0;
        let may_read = match token {
            Token::Operate | Token::Read => true,
            Token::None => rules.is_loopback && rules.read.is_none(),
        };
        let may_change = may_read
            && match token {
                Token::Operate => true,
                Token::Read | Token::None => rules.is_loopback && rules.operate.is_none(),
            };
        match intent {
            Intent::Read => may_read,
            Intent::Change => may_change,
        }
    }

    /// Whether a caller with this token may do this.
    pub(crate) fn permit(&self, intent: Intent, token: Token) -> Result<(), Refusal> {
        if self.allows(intent, token) {
            return Ok(());
        }
        let rules = &*self.0;
        let is_impossible = match intent {
            Intent::Read => rules.operate.is_none() && rules.read.is_none(),
            Intent::Change => rules.operate.is_none() && !rules.is_loopback,
        };
        Err(if is_impossible {
            let message = "the admin listener is not on loopback: start the gateway with --admin-token-file, and for reading alone \
                           with --admin-read-token-file, to allow this with a token";
            self.refuse(StatusCode::FORBIDDEN, Reason::NoAdminToken, message)
        } else if token == Token::Read {
            let message =
                "this changes state, for which the read token is not enough: send the operate token (--admin-token)";
            self.refuse(StatusCode::FORBIDDEN, Reason::ReadOnlyToken, message)
        } else {
            let message = match intent {
                Intent::Read => "send `Authorization: Bearer TOKEN` with the read or the operate token (--admin-token)",
                Intent::Change => {
                    "this changes state: send `Authorization: Bearer TOKEN` with the operate token (--admin-token)"
                }
            };
            self.refuse(StatusCode::UNAUTHORIZED, Reason::Unauthorized, message)
        })
    }

    /// Counts a refusal.
    pub(crate) fn refuse(&self, status: StatusCode, reason: Reason, message: impl Into<String>) -> Refusal {
        self.0.refused.get_or_create(&ByReason { reason }).inc();
        Refusal::new(status, reason, message)
    }
}

impl Rules {
    fn is_ours(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let literal = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(&host);
        literal.parse::<IpAddr>().is_ok() || host == "localhost" || self.hosts.contains(&host)
    }

    fn token(&self, headers: &HeaderMap) -> Token {
        headers
            .get(header::AUTHORIZATION)
            .and_then(bearer)
            .map_or(Token::None, |sent| self.token_of(sent))
    }

    fn token_of(&self, sent: &[u8]) -> Token {
        let is = |secret: &Option<Secret>| match secret.as_ref().map(Secret::read) {
            None => false,
            Some(Ok(token)) => is_same(sent, token.as_bytes()),
            Some(Err(error)) => {
                self.warn_of_file(secret.as_ref(), &error);
                false
            }
        };
        // Both are compared in any case, so that the time tells nothing.
        match (is(&self.operate), is(&self.read)) {
            (true, _) => Token::Operate,
            (false, true) => Token::Read,
            (false, false) => Token::None,
        }
    }

    fn warn_of_token(&self, remote: SocketAddr) {
        let summary = |unlogged| tracing::warn!(unlogged, "more wrong tokens were sent to the admin API");
        if self.tokens_refused.admits(summary) {
            tracing::warn!(
                %remote,
                "a wrong token was sent to the admin API; further ones are counted and not logged for a minute"
            );
        }
    }

    fn warn_of_file(&self, secret: Option<&Secret>, error: &io::Error) {
        let Some(Secret::File(path)) = secret else { return };
        let summary = |unlogged| tracing::warn!(unlogged, "token files of the admin API could still not be read");
        if self.files_unreadable.admits(summary) {
            tracing::warn!(path = %path.display(), %error, "a token file of the admin API cannot be read, so nobody has that token");
        }
    }
}

/// Compares digests: neither content nor length shows in the time it takes.
fn is_same(sent: &[u8], token: &[u8]) -> bool {
    Sha256::digest(sent).ct_eq(&Sha256::digest(token)).into()
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let value = value.as_bytes();
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

/// A name, and the shorter forms of a Service's that are good within its cluster.
fn spellings(name: &str) -> Vec<String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let name = name.rsplit_once(':').map_or(&*name, |(name, _port)| name);
    let labels: Vec<&str> = name.split('.').collect();
    let Some(svc) = labels.iter().position(|label| *label == "svc").filter(|svc| *svc >= 2) else {
        return vec![name.to_owned()];
    };
    // NAME, NAME.NAMESPACE, NAME.NAMESPACE.svc and all of it; a pod's name has its Service's in it.
    let mut all: Vec<String> = (svc - 1..=svc + 1).map(|end| labels[..end].join(".")).collect();
    if all.last().is_none_or(|last| last != name) {
        all.push(name.to_owned());
    }
    all
}

#[cfg(test)]
mod tests;
