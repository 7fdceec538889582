//! The values of flags, from text.

use std::{
    net::{Ipv4Addr, SocketAddr, ToSocketAddrs},
    time::Duration,
};

use crate::api::{Position, Word};

/// Where to listen: `127.0.0.1:9000`, `[::1]:9000`, `localhost:9000`, or a port of the loopback address, `9000` or `:9000`.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let example =
        "expected an address such as 127.0.0.1:9000, localhost:9000, 0.0.0.0:9000 for all networks, or a port";
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let named = text
        .rsplit_once(':')
        .and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)));
    let (name, port) = named.filter(|(name, _)| !name.contains(':')).ok_or(example)?;
    let addresses: Vec<SocketAddr> = (name, port)
        .to_socket_addrs()
        .map_err(|error| format!("{name:?} is no name of this machine: {error}; {example}"))?
        .collect();
    // A name of both kinds is most often reached by the older one.
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    v4.or(addresses.first())
        .copied()
        .ok_or_else(|| format!("{name:?} has no address; {example}"))
}

/// A kind of source as documents have it, in any case, or its plural.
pub(super) fn source_kind(text: &str) -> Result<spec::Kind, String> {
    let word = text.to_lowercase();
    let kinds = spec::Kind::ALL.into_iter().filter(|kind| kind.is_source());
    let mut found = kinds.filter(|kind| kind.as_str().to_lowercase() == word || kind.plural() == word);
    found
        .next()
        .ok_or_else(|| "expected GitHubSource, KubernetesEventSource, GcpPubSubSource or ContainerSource".to_owned())
}

/// A kind of document, in any case, or its plural or short name.
pub(super) fn document_kind(text: &str) -> Result<spec::Kind, String> {
    let word = text.to_lowercase();
    let is_named = |kind: &spec::Kind| {
        kind.as_str().to_lowercase() == word || kind.plural() == word || kind.short() == Some(&word)
    };
    spec::Kind::ALL.into_iter().find(is_named).ok_or_else(|| {
        let known = spec::Kind::ALL.map(spec::Kind::as_str).join(", ");
        format!("there is no such kind; known kinds are {known}")
    })
}

/// `NAMESPACE/NAME`.
pub(super) fn in_namespace(text: &str) -> Result<spec::ObjectName, String> {
    let parts = text
        .split_once('/')
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
    let (namespace, name) = parts.ok_or("expected NAMESPACE/NAME")?;
    Ok(spec::ObjectName::new(namespace, name))
}

/// `500ms`, `30s`, `5m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("expected a number with ms, s, m or h, such as 30s".into()),
    };
    let seconds = number
        .parse::<f64>()
        .map_err(|_| "expected a number with ms, s, m or h, such as 30s".to_owned())?;
    Duration::try_from_secs_f64(seconds * scale).map_err(|e| e.to_string())
}

/// Where a replay begins; as the admin API takes it.
pub(super) fn start(text: &str) -> Result<Position, String> {
    match text {
        "earliest" => Ok(Position::Word(Word::Earliest)),
        _ => position(text).map_err(|error| format!("{error}, or earliest")),
    }
}

/// A place, a time, or how long ago that was; as the admin API takes it.
pub(super) fn position(text: &str) -> Result<Position, String> {
    if let Ok(position) = text.parse::<u64>() {
        return Ok(Position::Offset(position));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Position::Time(time));
    }
    let ago = duration(text)
        .ok()
        .and_then(|ago| jiff::SignedDuration::try_from(ago).ok())
        .and_then(|ago| jiff::Timestamp::now().checked_sub(ago).ok());
    ago.map(Position::Time).ok_or_else(|| {
        "expected how long ago such as 1h or 30m, a time such as 2026-11-24T18:00:00Z, or a place such as 0 or 1200"
            .to_owned()
    })
}

/// More than none.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok();
    rate.filter(|rate| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| "expected a number above 0".to_owned())
}

/// `NAME=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Bytes of `--memory-budget`.
pub(super) fn memory_budget(text: &str) -> Result<usize, String> {
    let least = channel_memory::Budget::MIN_BYTES;
    let bytes: usize = text
        .parse()
        .map_err(|_| "a whole number of bytes is needed".to_owned())?;
    if bytes < least {
        return Err(format!(
            "at least {least} bytes are needed: half of it must take the largest event"
        ));
    }
    Ok(bytes)
}

/// A network, or a single address.
pub(super) fn network(text: &str) -> Result<connect::Network, String> {
    let address = text.parse::<std::net::IpAddr>().map(connect::Network::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| "a network is needed, such as 10.0.0.0/8 or fd00::/8, or an address".to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn addresses_are_ports_names_and_addresses() {
        for (text, expected) in [
            ("9000", "127.0.0.1:9000"),
            (":9000", "127.0.0.1:9000"),
            ("0", "127.0.0.1:0"),
            ("localhost:9000", "127.0.0.1:9000"),
            ("0.0.0.0:9000", "0.0.0.0:9000"),
            ("[::1]:9000", "[::1]:9000"),
        ] {
            assert_eq!(address(text), Ok(expected.parse().unwrap()), "{text}");
        }
        for bad in [
            "",
            ":",
            "localhost",
            "localhost:",
            "127.0.0.1:99999",
            "99999",
            "::1:9000",
            "http://localhost:9000",
            "no such:80",
        ] {
            let error = address(bad).unwrap_err();
            assert!(error.contains("127.0.0.1:9000"), "{bad}: {error}");
        }
    }

    #[test]
    fn durations_are_numbers_with_a_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["30", "s", "", "-1s", "1d", "1e400s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for bad in ["yesterday", "-1", "2026-11-24", ""] {
            assert!(position(bad).is_err(), "{bad}");
        }
        let ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
        let Position::Time(hour) = start("1h").unwrap() else {
            panic!("an hour ago is a time")
        };
        assert!(hour >= ago && hour < ago + jiff::SignedDuration::from_mins(1), "{hour}");
        assert!(start("earliest").is_ok() && position("earliest").is_err() && start("latest").is_err());
        assert_eq!(position("12").unwrap(), Position::Offset(12));
        assert_eq!(
            position("2026-11-24T19:00:00+01:00").unwrap(),
            Position::Time("2026-11-24T18:00:00Z".parse().unwrap())
        );
        assert!(rate("0").is_err() && rate("NaN").is_err() && rate("0.5").is_ok());
        assert_eq!(pair("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
    }
}
