//! A channel by the name of its Service: what is sent to `http://NAME-channel.NAMESPACE.svc.DOMAIN/` is meant for the channel
//! NAMESPACE/NAME, whichever of its spellings in the cluster's DNS the sender used.

use http::{Request, header::HOST};

const SUFFIX: &str = "-channel";

/// `NAMESPACE/NAME`, where the request's host says so.
pub(super) fn channel<T>(request: &Request<T>) -> Option<String> {
    // HTTP/2 and proxies have it in the URI.
    let host = request
        .uri()
        .host()
        .or_else(|| request.headers().get(HOST)?.to_str().ok())?;
    named(host)
}

fn named(host: &str) -> Option<String> {
    let host = host.rsplit_once(':').map_or(host, |(host, _port)| host);
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let mut labels = host.split('.');
    let name = labels.next()?.strip_suffix(SUFFIX).filter(|name| !name.is_empty())?;
    let namespace = labels.next().filter(|namespace| !namespace.is_empty())?;
    // Anything else behind the two is another domain's.
    matches!(labels.next(), None | Some("svc")).then(|| format!("{namespace}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_known_by_every_spelling_of_its_service() {
        for host in [
            "orders-channel.shop",
            "orders-channel.shop.svc",
            "orders-channel.shop.svc.cluster.local",
            "orders-channel.shop.svc.cluster.local.:8080",
            "Orders-Channel.shop.svc.example.org:80",
        ] {
            assert_eq!(named(host).as_deref(), Some("shop/orders"), "{host}");
        }
        for host in [
            "orders-channel",
            "orders.shop.svc",
            "-channel.shop.svc",
            "orders-channel.shop.example.org",
            "127.0.0.1:8080",
            "[::1]:8080",
            "",
        ] {
            assert_eq!(named(host), None, "{host}");
        }
    }
}
