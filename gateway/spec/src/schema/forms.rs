//! The forms of text: one table for files (a check with a message) and for the CRDs (patterns in CEL, with the same
//! words in the message, or an enum).
//!
//! Every form has a longest text: the API server allows a rule only where it can tell beforehand what it costs at most.

mod headers;

use jiff::Timestamp;
use url::Url;

use crate::{
    duration,
    nearest::suggestion,
    tree::{Node, Value},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Free,
    /// Not empty.
    Filled,
    Duration,
    /// A duration longer than nothing.
    PositiveDuration,
    /// An absolute `http`, `https` or `h2c` URL.
    HttpUrl,
    /// The URL of an API that is given a token: `https`, or `http` to this machine.
    ApiUrl,
    /// The URL of an identity provider: `https`, or `http` to this machine, without a query.
    IssuerUrl,
    OneOf(&'static [&'static str]),
    /// DNS-1123 subdomain: names of objects.
    Name,
    /// DNS-1123 label: namespaces.
    Label,
    /// A label, or nothing.
    LabelOrNone,
    /// A CloudEvents attribute's name.
    Attribute,
    /// `org` or `org/repo`.
    OwnerAndRepository,
    Timestamp,
    /// A key of a Secret, which is a file's name as well.
    SecretKey,
    /// The beginning of a JetStream stream's name.
    StreamPrefix,
    /// A URL of one kind or the other, which depends on what is beside it.
    Url,
    /// A URL, or a path: what stands beside another URL.
    RelativeUrl,
    /// A host with or without a port, or a URL.
    HostOrUrl,
    /// An id of a topic or subscription at Google.
    PubSubId,
    /// The name of a header that a document may set.
    HeaderName,
    /// The value of a header.
    HeaderValue,
    /// The name of the header that has a signature.
    SignatureHeader,
}

impl Form {
    pub(crate) fn check(self, text: &str) -> Result<(), String> {
        if let Some(max) = self.max().filter(|max| text.chars().count() > *max) {
            let start: String = text.chars().take(SHOWN).collect();
            // Addresses may carry credentials.
            let start = if matches!(
                self,
                Self::Url | Self::HttpUrl | Self::ApiUrl | Self::IssuerUrl | Self::RelativeUrl | Self::HostOrUrl
            ) {
                "the text".to_owned()
            } else {
                format!("`{start}...`")
            };
            return Err(format!("{start} is too long: {max} characters at most"));
        }
        match self {
            Self::Free => Ok(()),
            Self::Filled | Self::Url if text.trim().is_empty() => Err(FILLED.to_owned()),
            Self::Filled | Self::Url => Ok(()),
            Self::Duration => duration::parse(text).map(|_| ()),
            Self::PositiveDuration if duration::parse(text)?.is_zero() => Err(LONGER.to_owned()),
            Self::PositiveDuration => Ok(()),
            Self::HttpUrl => http_url(text).map(|_| ()),
            Self::ApiUrl => api_url(text),
            Self::IssuerUrl => issuer_url(text),
            Self::RelativeUrl => relative_url(text),
            Self::HostOrUrl => host_or_url(text).map(|_| ()),
            Self::OneOf(words) if words.contains(&text) => Ok(()),
            Self::OneOf(words) => {
                let meant = suggestion(text, words.iter().copied());
                Err(format!("`{text}` is not one of {}{meant}", words.join(", ")))
            }
            Self::Name => name(text),
            Self::LabelOrNone if text.is_empty() => Ok(()),
            Self::Label | Self::LabelOrNone if text.contains('.') => Err(format!("a namespace has no dots: {NAME}")),
            Self::Label | Self::LabelOrNone => name(text),
            Self::Attribute => attribute(text),
            Self::OwnerAndRepository => owner_and_repository(text),
            Self::Timestamp => timestamp(text).map(|_| ()),
            Self::SecretKey => secret_key(text),
            Self::StreamPrefix => stream_prefix(text),
            Self::PubSubId if text.chars().count() < PUBSUB_ID_MIN => Err(PUBSUB_ID.to_owned()),
            Self::PubSubId => Ok(()),
            Self::HeaderName => headers::name(text),
            Self::HeaderValue => headers::value(text),
            Self::SignatureHeader => header_name(text),
        }
    }

    /// The longest text, characters, where there is a limit. API servers count so, too.
    pub(crate) fn max(self) -> Option<usize> {
        match self {
            Self::Free | Self::OneOf(_) | Self::Timestamp | Self::StreamPrefix => None,
            Self::Filled | Self::HostOrUrl => Some(TEXT_MAX),
            Self::Duration | Self::PositiveDuration => Some(DURATION_MAX),
            Self::Url | Self::HttpUrl | Self::ApiUrl | Self::IssuerUrl | Self::RelativeUrl => Some(URL_MAX),
            Self::Name | Self::SecretKey => Some(NAME_MAX),
            Self::Label | Self::LabelOrNone => Some(LABEL_MAX),
            Self::Attribute => Some(ATTRIBUTE_MAX),
            Self::OwnerAndRepository => Some(REPOSITORY_MAX),
            Self::PubSubId => Some(PUBSUB_ID_MAX),
            Self::HeaderName => Some(headers::NAME_MAX),
            Self::HeaderValue => Some(headers::VALUE_MAX),
            Self::SignatureHeader => Some(HEADER_NAME_MAX),
        }
    }

    /// Patterns for the API server (RE2), each with what is told when a text misses it; files are told that, or more.
    pub(crate) fn patterns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Filled | Self::Url => &[(r"\S", FILLED)],
            Self::Duration => &duration::PATTERNS,
            Self::PositiveDuration => {
                const PATTERNS: [(&str, &str); 3] = [duration::PATTERNS[0], duration::PATTERNS[1], ("[1-9]", LONGER)];
                &PATTERNS
            }
            Self::HttpUrl => &[(r"^(?i:https?|h2c)://[^\s/?#:]\S*$", HTTP_URL)],
            Self::ApiUrl => &[(
                r"^(?i:https://[^\s/?#:]\S*|http://(localhost|127\.[0-9.]+|\[::1\])(:[0-9]*)?([/?#]\S*)?)$",
                API_URL,
            )],
            Self::IssuerUrl => &[(
                r"^(?i:https://[^\s/?#:@][^\s?#@]*|http://(localhost|127\.[0-9.]+|\[::1\])(:[0-9]*)?(/[^\s?#@]*)?)$",
                ISSUER_URL,
            )],
            Self::RelativeUrl => &[(r"^((?i:https?|h2c):|[^:/?#]*([/?#]|$))", RELATIVE_URL)],
            Self::HostOrUrl => &[(
                r"^((?i:https?|h2c)://[^\s/?#:]\S*|[^\s/?#@:\[\]]+(:[0-9]*)?|\[[0-9a-fA-F:.]+\](:[0-9]*)?)$",
                HOST_OR_URL,
            )],
            Self::Name => &[(
                r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
                NAME,
            )],
            Self::Label => &[(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", NAME)],
            Self::LabelOrNone => &[(r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$", NAME)],
            Self::Attribute => &[(r"^[a-z0-9]+$", ATTRIBUTE)],
            Self::OwnerAndRepository => &[(r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?$", REPOSITORY)],
            Self::SecretKey => &[(r"^[-._a-zA-Z0-9]+$", SECRET_KEY), (r"^[.]?[^.]", SECRET_KEY)],
            Self::PubSubId => &[(r"^(?s:...)", PUBSUB_ID)],
            Self::HeaderName => &headers::NAMES,
            Self::HeaderValue => &headers::VALUES,
            Self::SignatureHeader => &[(r"^[A-Za-z0-9-]+$", HEADER_NAME)],
            Self::Free | Self::OneOf(_) | Self::Timestamp | Self::StreamPrefix => &[],
        }
    }
}

/// How much of a text that is too long is shown.
pub(super) const SHOWN: usize = 20;

/// Names of images with registry, path and digest, the longest of what is merely to be filled, stay well below.
const TEXT_MAX: usize = 1024;
const FILLED: &str = "must not be empty";

/// `P3650D` is the longest, to the millisecond in two dozen characters.
const DURATION_MAX: usize = 64;
const LONGER: &str = "must be longer than nothing";

/// Servers take request lines of 8 KiB.
const URL_MAX: usize = 8192;
pub(super) const HTTP_URL: &str = "expected an absolute http or https URL, such as http://127.0.0.1:9000/";
const API_URL: &str =
    "expected an https URL, because the token is sent there; http is for this machine alone (127.0.0.1, localhost)";
const ISSUER_URL: &str = "expected an https URL without a query, because the keys of an identity provider are read there; http is for this machine alone (127.0.0.1, localhost)";
pub(super) const RELATIVE_URL: &str = "expected a path or an http or https URL";
const HOST_OR_URL: &str = "expected a host with or without a port, such as orders.example.com:9000, or a whole URL";

const NAME: &str = "small letters, digits and `-`, with a letter or digit at both ends";
const ATTRIBUTE: &str = "CloudEvents has small letters and digits only";
/// CloudEvents asks for 20 at most; some go beyond.
const ATTRIBUTE_MAX: usize = 64;
/// GitHub: 39 for an organisation, 100 for a repository, and the slash.
const REPOSITORY_MAX: usize = 140;
const REPOSITORY: &str = "expected `org/repo`, or `org` for all its repositories";
const SECRET_KEY: &str = "a key of a secret has letters, digits, `-`, `_` and `.`, and is no `.` or `..`";
/// Google refuses shorter and longer ids of topics and subscriptions.
const PUBSUB_ID_MIN: usize = 3;
const PUBSUB_ID_MAX: usize = 255;
const PUBSUB_ID: &str = "Google's ids have 3 characters at least";

/// Header names of signatures have some twenty characters.
const HEADER_NAME_MAX: usize = 64;
const HEADER_NAME: &str = "expected the name of a header: letters, digits and `-`";

/// RFC 1123, section 2.1, as Kubernetes takes it for names.
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

fn name(text: &str) -> Result<(), String> {
    let part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = part.bytes().next().is_some_and(inner) && part.bytes().last().is_some_and(inner);
        ends && part.bytes().all(|byte| inner(byte) || byte == b'-')
    };
    if text.split('.').all(part) {
        return Ok(());
    }
    Err(format!("`{text}` is no name: {NAME}"))
}

/// CloudEvents 1.0, "Naming conventions", and room for the extensions people really use.
fn attribute(text: &str) -> Result<(), String> {
    if !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    {
        return Ok(());
    }
    Err(format!("`{text}` is no attribute name: {ATTRIBUTE}"))
}

/// A name that Kubernetes accepts and that leads out of no folder.
fn secret_key(text: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !text.is_empty() && !text.starts_with("..") && text != "." && text.bytes().all(allowed) {
        return Ok(());
    }
    Err(SECRET_KEY.to_owned())
}

/// Leaves room for the longest namespace and most names in what a server takes (255 bytes).
const STREAM_PREFIX_MAX: usize = 64;

/// No dot: the name is the stream's subject, too, where one would be a level of its own.
fn stream_prefix(text: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if text.len() <= STREAM_PREFIX_MAX && text.bytes().all(allowed) {
        return Ok(());
    }
    Err(format!(
        "a stream's prefix has letters, digits, `-` and `_`, {STREAM_PREFIX_MAX} at most"
    ))
}

fn owner_and_repository(text: &str) -> Result<(), String> {
    let part = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !part.is_empty() && part.bytes().all(allowed)
    };
    let mut parts = text.split('/');
    let (owner, repository, more) = (parts.next(), parts.next(), parts.next());
    if owner.is_some_and(part) && repository.is_none_or(part) && more.is_none() {
        return Ok(());
    }
    Err(REPOSITORY.to_owned())
}

/// Messages leave the text out: it may carry credentials.
pub(crate) fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{HTTP_URL}: {error}"))?;
    // `h2c` is HTTP/2 without TLS (CONTRACT DL-1).
    if !matches!(url.scheme(), "http" | "https" | "h2c") {
        return Err(format!("{HTTP_URL}: the scheme is `{}`", url.scheme()));
    }
    // The parser forgives `http:host`, `http:///host` and spaces; a person who wrote that meant something else.
    if text.contains(char::is_whitespace) {
        return Err(format!("{HTTP_URL}: there is a space in it"));
    }
    if url.host_str().is_none_or(str::is_empty) || !text.contains("://") || text.contains(":///") {
        return Err(format!("{HTTP_URL}: there is no host"));
    }
    Ok(url)
}

/// A token goes there with every request: in the clear it may not leave the machine.
fn api_url(text: &str) -> Result<(), String> {
    private_url(text, API_URL).map(|_| ())
}

/// Keys that came in the clear could be another's.
fn issuer_url(text: &str) -> Result<(), String> {
    let url = private_url(text, ISSUER_URL)?;
    // The issuer is compared as it is written, and user information is no part of it.
    let is_plain = url.query().is_none() && url.fragment().is_none() && !text.contains('@');
    if is_plain { Ok(()) } else { Err(ISSUER_URL.to_owned()) }
}

fn header_name(text: &str) -> Result<(), String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Ok(());
    }
    Err(HEADER_NAME.to_owned())
}

/// A URL whose requests cannot be read on the way: `https`, or one of this machine.
fn private_url(text: &str, expected: &str) -> Result<Url, String> {
    let url = http_url(text).map_err(|error| format!("{expected}: {error}"))?;
    let is_local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_local => Ok(url),
        _ => Err(expected.to_owned()),
    }
}

fn relative_url(text: &str) -> Result<(), String> {
    // Any base does: what is asked is whether the text can stand beside one.
    let joined = http_url("http://base.invalid/").and_then(|base| base.join(text).map_err(|error| error.to_string()));
    match joined {
        Ok(url) if matches!(url.scheme(), "http" | "https" | "h2c") => Ok(()),
        Ok(url) => Err(format!("{RELATIVE_URL}: the scheme is `{}`", url.scheme())),
        Err(error) => Err(format!("{RELATIVE_URL}: {error}")),
    }
}

/// `http://HOST[:PORT]/` is meant, or the URL that it is (API.md 2.1).
pub(crate) fn host_or_url(text: &str) -> Result<Url, String> {
    if text.contains("://") {
        return http_url(text).map_err(|error| format!("{HOST_OR_URL}: {error}"));
    }
    if text.contains(['/', '?', '#', '@', ' ']) {
        return Err(HOST_OR_URL.to_owned());
    }
    http_url(&format!("http://{text}/")).map_err(|_| HOST_OR_URL.to_owned())
}

pub(crate) fn timestamp(text: &str) -> Result<Timestamp, String> {
    let form = || "expected an RFC 3339 time, such as 2026-01-31T12:00:00Z".to_owned();
    // Forms beyond RFC 3339 (a zone in brackets, a space for the T) are left to people, not to documents.
    if text.contains(['[', ' ']) || !text.contains(['T', 't']) {
        return Err(form());
    }
    text.parse().map_err(|_| form())
}

/// A number of bytes, as it stands in a document.
pub(crate) fn quantity_of(node: &Node) -> Result<u64, String> {
    match &node.value {
        Value::Integer(value) => u64::try_from(*value).map_err(|_| format!("{value} is no size")),
        Value::Text(text) => quantity(text),
        _ => Err("expected a number of bytes".to_owned()),
    }
}

/// `1073741824`, `512Mi`, `1G`: whole Kubernetes quantities.
pub(crate) fn quantity(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 8] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    let found = UNITS
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|digits| (digits, *factor)));
    let (digits, factor) = found.unwrap_or((text, 1));
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let value = if plain {
        digits.parse::<u64>().ok().and_then(|value| value.checked_mul(factor))
    } else {
        None
    };
    value.ok_or_else(|| format!("`{text}` is no size: expected bytes, such as 1073741824, 512Mi or 1Gi"))
}

#[cfg(test)]
mod tests;
