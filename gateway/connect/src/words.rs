//! Plain words for errors of TLS, which rustls shows as the names of its own types, and which errors are the gateway's own.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError};

use crate::ResolveError;

/// EMFILE and ENFILE: this process, or the machine, has no free file. The same numbers on Linux and macOS.
const OUT_OF_FILES: [i32; 2] = [24, 23];

/// An error and its causes, with what `io::Error` wraps, which it leaves out of its causes.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// Returns an address as scheme, host and port: without the user name and password that a URL may hold.
pub fn without_user(url: &http::Uri) -> String {
    let (scheme, host) = (url.scheme_str().unwrap_or("https"), url.host().unwrap_or_default());
    match url.port() {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
}

/// Whether the gateway itself lacks what it needs to connect: nothing is known about the other side.
pub fn is_local(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| {
        let is_io = cause.downcast_ref::<io::Error>().is_some_and(is_out_of_files);
        // A cause behind an `Arc` is no `io::Error` by its type.
        let is_lookup = cause.downcast_ref::<ResolveError>().is_some_and(|error| match error {
            ResolveError::NoThread { .. } => true,
            ResolveError::Failed { why, .. } => is_out_of_files(why),
            ResolveError::TimedOut(_) | ResolveError::Busy(_) => false,
        });
        is_io || is_lookup
    })
}

fn is_out_of_files(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| OUT_OF_FILES.contains(&code))
}

/// The error of a process that gets no further file right now; `None`: it gets one. Asked after a failure that may hide it:
/// without a free file the system's resolver says that a name is not known.
pub fn lack_of_files() -> Option<io::Error> {
    std::fs::File::open("/dev/null").err().filter(is_out_of_files)
}

/// Describes a TLS error and what to do about it; `None` for errors of another kind.
pub fn tls_words(error: &(dyn Error + 'static)) -> Option<String> {
    let Some(found) = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) else {
        return alert_of_text(error).map(|alert| format!("the server ended the TLS handshake: {}", alert_words(alert)));
    };
    Some(match found {
        rustls::Error::InvalidCertificate(why) => format!("the server's certificate is refused: {}", certificate(why)),
        rustls::Error::AlertReceived(alert) => format!("the server ended the TLS handshake: {}", alert_words(*alert)),
        rustls::Error::InvalidMessage(_) => {
            "the server does not speak TLS on this port; if it speaks plain HTTP, write http:// in the URL".to_owned()
        }
        rustls::Error::PeerIncompatible(_) => {
            "the server and the gateway have no TLS version or cipher in common; the gateway speaks TLS 1.2 and 1.3"
                .to_owned()
        }
        rustls::Error::NoApplicationProtocol => "the server speaks neither HTTP/1.1 nor HTTP/2".to_owned(),
        rustls::Error::NoCertificatesPresented => "the server shows no certificate".to_owned(),
        rustls::Error::InappropriateMessage { .. }
        | rustls::Error::InappropriateHandshakeMessage { .. }
        | rustls::Error::PeerMisbehaved(_)
        | rustls::Error::PeerSentOversizedRecord
        | rustls::Error::DecryptError => "the server breaks the rules of TLS".to_owned(),
        other => format!("TLS: {other}"),
    })
}

/// Whether the server's certificate was refused because no trusted authority signed it.
pub fn is_issuer_unknown(error: &(dyn Error + 'static)) -> bool {
    let error = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(
        error,
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))
    )
}

fn certificate(error: &CertificateError) -> String {
    use CertificateError as E;
    let words = match error {
        E::UnknownIssuer => {
            "no authority that this machine trusts signed it; add its authority (PEM) to the file that SSL_CERT_FILE names"
        }
        E::Expired => "it has expired",
        E::ExpiredContext { time, not_after } => {
            return format!(
                "it expired {} ago",
                span(time.as_secs().saturating_sub(not_after.as_secs()))
            );
        }
        E::NotValidYet => "it is not valid yet; compare the clocks of both machines",
        E::NotValidYetContext { time, not_before } => {
            let ahead = span(not_before.as_secs().saturating_sub(time.as_secs()));
            return format!("it is valid only in {ahead}; compare the clocks of both machines");
        }
        E::NotValidForName => "it is for another name than the URL's host",
        E::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            return if presented.is_empty() {
                format!("it names no host (subjectAltName) and the URL's is {expected}")
            } else {
                format!("it is for {}, and not for the URL's host {expected}", names(presented))
            };
        }
        E::Revoked => "it was revoked",
        E::BadSignature => "its signature is wrong",
        E::BadEncoding => "it is no valid X.509 certificate",
        E::UnhandledCriticalExtension => "it has a critical extension that the gateway does not know",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "it is not for servers (its extendedKeyUsage has no serverAuth)"
        }
        E::UnsupportedSignatureAlgorithmContext { .. } | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed with an algorithm that the gateway does not take (SHA-1, or a rare curve)"
        }
        // rustls keeps the cause of webpki behind its own type, whose text is the name of the cause.
        E::Other(other) => return webpki(&other.to_string()),
        other => return other.to_string(),
    };
    words.to_owned()
}

/// Errors of webpki that rustls passes on as they are, by their names.
fn webpki(name: &str) -> String {
    let words = [
        (
            "CaUsedAsEndEntity",
            "it is an authority's own (CA:TRUE), as `openssl req -x509` makes it; a server needs one with CA:FALSE",
        ),
        (
            "UnsupportedCertVersion",
            "it is of X.509 version 1, without extensions; a server needs version 3 with a subjectAltName",
        ),
        (
            "EndEntityUsedAsCa",
            "it was signed with a certificate that is no authority's (CA:FALSE)",
        ),
        (
            "PathLenConstraintViolated",
            "its chain is longer than one of its authorities allows",
        ),
        ("MaximumPathDepthExceeded", "its chain is too long"),
        (
            "NameConstraintViolation",
            "one of its authorities may not sign for this name",
        ),
        ("MalformedExtensions", "its extensions are malformed"),
        ("ExtensionValueInvalid", "one of its extensions is malformed"),
        ("InvalidSerialNumber", "its serial number is malformed"),
        ("EmptyEkuExtension", "its extendedKeyUsage is empty"),
        ("MalformedDnsIdentifier", "one of its names is malformed"),
    ];
    let known = words.iter().find(|(cause, _)| name.contains(cause));
    known.map_or_else(
        || "it breaks the rules for certificates of servers (RFC 5280)".to_owned(),
        |(_, words)| (*words).to_owned(),
    )
}

/// webpki writes names as it debugs them: `DnsName("a")`, `IpAddress(127.0.0.1)`.
fn names(presented: &[String]) -> String {
    let bare = presented.iter().map(|name| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        inner.unwrap_or(name).trim_matches('"')
    });
    bare.collect::<Vec<_>>().join(", ")
}

fn span(seconds: u64) -> String {
    match seconds {
        seconds if seconds < 2 * 3600 => format!("{} minutes", seconds / 60),
        seconds if seconds < 2 * 86_400 => format!("{} hours", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// HTTP/2 keeps of an error of its connection the text alone. A server refuses a client's certificate after the handshake.
fn alert_of_text(error: &(dyn Error + 'static)) -> Option<AlertDescription> {
    use AlertDescription as A;
    const REFUSALS: [A; 9] = [
        A::CertificateRequired,
        A::NoCertificate,
        A::BadCertificate,
        A::UnsupportedCertificate,
        A::CertificateUnknown,
        A::UnknownCA,
        A::CertificateExpired,
        A::CertificateRevoked,
        A::AccessDenied,
    ];
    let texts: Vec<String> = causes(error).map(ToString::to_string).collect();
    let names = |alert: &A| {
        texts
            .iter()
            .any(|text| text.ends_with(&rustls::Error::AlertReceived(*alert).to_string()))
    };
    REFUSALS.into_iter().find(names)
}

fn alert_words(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let words = match alert {
        A::HandshakeFailure | A::InsufficientSecurity => {
            "it takes none of the gateway's ciphers, or wants a certificate of the client"
        }
        A::ProtocolVersion => "it does not speak TLS 1.2 or 1.3",
        A::UnrecognisedName => "it does not serve the URL's host",
        A::CertificateRequired | A::NoCertificate => "it wants a certificate of the client",
        A::BadCertificate | A::UnsupportedCertificate | A::CertificateUnknown | A::UnknownCA => {
            "it does not trust the certificate of the client"
        }
        A::CertificateExpired | A::CertificateRevoked => "the certificate of the client is no longer valid",
        A::AccessDenied => "it does not let the gateway in",
        A::NoApplicationProtocol => "it speaks neither HTTP/1.1 nor HTTP/2",
        A::InternalError => "it has an error of its own",
        A::CloseNotify | A::UserCanceled => "it closed the connection",
        other => return format!("alert {} of RFC 8446", u8::from(other)),
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use rustls::{
        CertificateError, OtherError,
        pki_types::{ServerName, UnixTime},
    };

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Named(&'static str);

    fn refused(why: CertificateError) -> io::Error {
        // As hyper-rustls and tokio-rustls hand it on.
        io::Error::other(io::Error::new(
            io::ErrorKind::InvalidData,
            rustls::Error::InvalidCertificate(why),
        ))
    }

    #[test]
    fn certificates_are_refused_in_plain_words() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let other = |name| CertificateError::Other(OtherError(Arc::new(Named(name))));
        let cases = [
            (CertificateError::UnknownIssuer, "SSL_CERT_FILE"),
            (other("CaUsedAsEndEntity"), "CA:FALSE"),
            (other("UnsupportedCertVersion"), "subjectAltName"),
            (other("SomethingNew { a: 1 }"), "RFC 5280"),
            (
                CertificateError::ExpiredContext {
                    time: at(10 * 86_400),
                    not_after: at(0),
                },
                "expired 10 days ago",
            ),
            (
                CertificateError::NotValidYetContext {
                    time: at(0),
                    not_before: at(7200),
                },
                "in 2 hours",
            ),
            (
                CertificateError::NotValidForNameContext {
                    expected: ServerName::try_from("sink.example").expect("a name"),
                    presented: vec!["DnsName(\"a.example\")".into(), "IpAddress(127.0.0.1)".into()],
                },
                "it is for a.example, 127.0.0.1, and not for the URL's host sink.example",
            ),
        ];
        for (why, part) in cases {
            let name = format!("{why:?}");
            let words = tls_words(&refused(why)).expect("it is TLS");
            assert!(words.contains(part), "{name}: {words}");
            assert!(!words.contains(['{', '}']) && !words.contains("Other"), "{words}");
        }
        assert_eq!(tls_words(&io::Error::other("reset")), None);
        let alert = rustls::Error::AlertReceived(AlertDescription::UnrecognisedName);
        let words = tls_words(&io::Error::other(alert));
        assert!(words.is_some_and(|words| words.contains("does not serve")));
        let text = io::Error::other("connection error: received fatal alert: UnknownCA");
        let words = tls_words(&text);
        assert!(words.is_some_and(|words| words.contains("does not trust the certificate of the client")));
    }

    #[test]
    fn own_want_of_files_is_told_from_what_the_other_side_does() {
        for (code, local) in [(24, true), (23, true), (111, false), (104, false)] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(is_local(&error), local, "{code}");
            let name: Arc<str> = "sink".into();
            let error = ResolveError::Failed {
                name,
                why: Arc::new(error),
            };
            assert_eq!(is_local(&io::Error::other(error)), local, "{code}");
        }
    }
}
