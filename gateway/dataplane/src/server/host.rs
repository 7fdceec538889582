//! Checks the head of a request: the host that it is for, and how its body is framed.
//!
//! A request whose host or framing two programs may read differently is refused, even if the gateway itself reads it right.
//! `http://NAME-channel.NAMESPACE.svc.DOMAIN/` names the channel NAMESPACE/NAME, whichever of its spellings in the cluster's DNS the
//! sender used.

use http::{
    Request, Version,
    header::{HOST, TRANSFER_ENCODING},
    uri::Authority,
};

const SUFFIX: &str = "-channel";

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// There is no `Host` header.
    #[error("the request has no Host header")]
    NoHost,
    /// There are several `Host` headers.
    #[error("the request has more than one Host header")]
    SeveralHosts,
    /// The `Host` header is no host.
    #[error("the Host header is no host")]
    MalformedHost,
    /// The `Host` header and the request's target name different hosts.
    #[error("the Host header and the :authority of the request name different hosts")]
    DifferentHosts,
    /// The body is framed by an encoding other than `chunked`.
    #[error("the transfer-encoding of a request must be `chunked`, or absent")]
    TransferEncoding,
}

/// The host that a request is for, without its port; `None` where an HTTP/1.0 client named none.
///
/// The host of an absolute-form target goes before the header (RFC 9112, 3.2.2), as `:authority` does.
pub fn requested<T>(request: &Request<T>) -> Result<Option<String>, HeadFault> {
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    let is_chunked = codings
        .next()
        .is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !is_chunked || codings.next().is_some() {
        return Err(HeadFault::TransferEncoding);
    }
    let mut headers = request.headers().get_all(HOST).iter();
    let header = headers.next();
    if headers.next().is_some() {
        return Err(HeadFault::SeveralHosts);
    }
    let header = match header {
        None => None,
        // The header of a target without a host is empty (RFC 9112, 3.2).
        Some(value) if value.is_empty() && request.uri().authority().is_none() => return Ok(Some(String::new())),
        Some(value) => Some(authority(value.as_bytes()).ok_or(HeadFault::MalformedHost)?),
    };
    let target = request.uri().authority();
    match (request.version(), target, header) {
        (Version::HTTP_11, _, None) => Err(HeadFault::NoHost),
        (Version::HTTP_2, Some(target), Some(header)) if !target.as_str().eq_ignore_ascii_case(header.as_str()) => {
            Err(HeadFault::DifferentHosts)
        }
        (_, Some(target), _) if target.as_str().contains('@') => Err(HeadFault::MalformedHost),
        (_, Some(target), _) => Ok(Some(target.host().to_owned())),
        (_, None, header) => Ok(header.map(|header| header.host().to_owned())),
    }
}

fn authority(value: &[u8]) -> Option<Authority> {
    let authority = Authority::try_from(value).ok()?;
    let port = authority.as_str().strip_prefix(authority.host())?;
    let is_port = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    is_port.then_some(authority)
}

/// `NAMESPACE/NAME` of the channel whose Service has this name.
pub(super) fn channel(host: &str) -> Option<String> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let mut labels = host.split('.');
    let name = labels.next()?.strip_suffix(SUFFIX).filter(|name| !name.is_empty())?;
    let namespace = labels.next().filter(|namespace| !namespace.is_empty())?;
    // Anything else behind the two is another domain's.
    matches!(labels.next(), None | Some("svc")).then(|| format!("{namespace}/{name}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_channel_is_known_by_every_spelling_of_its_service() {
        for host in [
            "orders-channel.shop",
            "orders-channel.shop.svc",
            "orders-channel.shop.svc.cluster.local",
            "orders-channel.shop.svc.cluster.local.",
            "Orders-Channel.shop.svc.example.org",
        ] {
            assert_eq!(channel(host).as_deref(), Some("shop/orders"), "{host}");
        }
        for host in [
            "orders-channel",
            "orders.shop.svc",
            "-channel.shop.svc",
            "orders-channel.shop.example.org",
            "127.0.0.1",
            "[::1]",
            "",
        ] {
            assert_eq!(channel(host), None, "{host}");
        }
    }

    fn host(version: Version, target: &str, headers: &[(&str, &str)]) -> Result<Option<String>, HeadFault> {
        let mut request = Request::builder().version(version).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        requested(&request.body(()).unwrap())
    }

    #[test]
    fn the_host_is_the_targets_before_the_headers() {
        for (version, target, headers, expected) in [
            (
                Version::HTTP_11,
                "/",
                &[("host", "a.example:8080")][..],
                Some("a.example"),
            ),
            (Version::HTTP_11, "/", &[("host", "[::1]:8080")], Some("[::1]")),
            (
                Version::HTTP_11,
                "http://evil.example/",
                &[("host", "127.0.0.1")],
                Some("evil.example"),
            ),
            (Version::HTTP_10, "/", &[], None),
            (Version::HTTP_2, "http://a.example:1/", &[], Some("a.example")),
            (
                Version::HTTP_2,
                "http://a.example:1/",
                &[("host", "A.example:1")],
                Some("a.example"),
            ),
            (
                Version::HTTP_11,
                "/",
                &[("host", "a"), ("transfer-encoding", "Chunked")],
                Some("a"),
            ),
        ] {
            assert_eq!(
                host(version, target, headers),
                Ok(expected.map(str::to_owned)),
                "{target} {headers:?}"
            );
        }
    }

    #[test]
    fn heads_that_two_programs_may_read_differently_are_refused() {
        use HeadFault::{DifferentHosts, MalformedHost, NoHost, SeveralHosts, TransferEncoding};
        for (version, target, headers, fault) in [
            (Version::HTTP_11, "/", &[][..], NoHost),
            (Version::HTTP_11, "http://a.example/", &[], NoHost),
            (Version::HTTP_11, "/", &[("host", "a"), ("host", "a")], SeveralHosts),
            (Version::HTTP_10, "/", &[("host", "a"), ("host", "b")], SeveralHosts),
            (Version::HTTP_11, "/", &[("host", "a b")], MalformedHost),
            (
                Version::HTTP_11,
                "/",
                &[("host", "localhost@evil.example")],
                MalformedHost,
            ),
            (Version::HTTP_11, "/", &[("host", "localhost:evil")], MalformedHost),
            (Version::HTTP_11, "/", &[("host", "a/b")], MalformedHost),
            (
                Version::HTTP_2,
                "http://a.example/",
                &[("host", "b.example")],
                DifferentHosts,
            ),
            (
                Version::HTTP_11,
                "/",
                &[("host", "a"), ("transfer-encoding", "gzip, chunked")],
                TransferEncoding,
            ),
            (
                Version::HTTP_11,
                "/",
                &[("host", "a"), ("transfer-encoding", "chunked, chunked")],
                TransferEncoding,
            ),
            (
                Version::HTTP_11,
                "/",
                &[
                    ("host", "a"),
                    ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "chunked"),
                ],
                TransferEncoding,
            ),
        ] {
            assert_eq!(host(version, target, headers), Err(fault), "{target} {headers:?}");
        }
    }
}
