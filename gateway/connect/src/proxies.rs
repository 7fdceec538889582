//! The proxies that the environment names: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, or the same in lower case.
//!
//! As curl and Go read them, with the parts that hyper-util's matcher lacks: ports and `*.` in `NO_PROXY`. This machine
//! (`localhost`, loopback addresses) is never reached through a proxy. A value that is no proxy's URL is an error for what
//! would go through it, and not a connection around the proxy.

use std::{
    env, fmt,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

/// Any URL of a proxy does where only `NO_PROXY` is asked.
const ANY: &str = "http://proxy";

/// The proxies that the environment names.
#[derive(Default)]
pub struct Proxies {
    http: Variable,
    https: Variable,
    no: Vec<Exemption>,
}

/// One of the variables, as far as it is set.
#[derive(Default)]
enum Variable {
    #[default]
    Unset,
    Proxy(Proxy),
    Invalid(InvalidProxy),
}

/// An HTTP proxy. Without its credentials when it is shown.
#[derive(Clone)]
pub struct Proxy {
    pub(crate) uri: Uri,
    pub(crate) authorization: Option<HeaderValue>,
}

/// Does not show the value: it may hold a password.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the environment variable {name} is no URL of an HTTP proxy (http://HOST:PORT or https://HOST:PORT)")]
pub struct InvalidProxy {
    name: &'static str,
}

/// An entry of `NO_PROXY`.
struct Exemption {
    /// `None` is `*`: hyper-util's matcher takes that for names alone, and not for addresses.
    hosts: Option<Matcher>,
    /// Every port, unless it is given.
    port: Option<u16>,
}

impl Proxies {
    /// Those of the process's environment, read once.
    pub fn of_environment() -> Arc<Self> {
        static PROXIES: OnceLock<Arc<Proxies>> = OnceLock::new();
        let read = || {
            let [http, https, no] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"].map(variable);
            Arc::new(Proxies::new(&http, &https, &no))
        };
        Arc::clone(PROXIES.get_or_init(read))
    }

    /// From the values of the variables; empty ones are not set.
    pub fn new(http: &str, https: &str, no: &str) -> Self {
        let matcher = Matcher::builder().http(http.trim()).https(https.trim()).build();
        let variable = |name, value: &str, to| match matcher.intercept(&Uri::from_static(to)) {
            _ if value.trim().is_empty() => Variable::Unset,
            Some(found) if is_http(&found) => Variable::Proxy(Proxy {
                uri: found.uri().clone(),
                authorization: found.basic_auth().cloned(),
            }),
            _ => Variable::Invalid(InvalidProxy { name }),
        };
        Self {
            http: variable("HTTP_PROXY", http, "http://a"),
            https: variable("HTTPS_PROXY", https, "https://a"),
            no: no.split([',', ' ', '\t']).filter_map(Exemption::new).collect(),
        }
    }

    /// The proxy for what is at `to`, if there is one.
    ///
    /// # Errors
    /// The variable that names it is no proxy's URL.
    pub fn proxy(&self, to: &Uri) -> Result<Option<&Proxy>, InvalidProxy> {
        let (variable, port) = match to.scheme_str() {
            Some("https") => (&self.https, 443),
            _ => (&self.http, 80),
        };
        let host = to.host().unwrap_or_default();
        let port = to.port_u16().unwrap_or(port);
        if is_this_machine(host) || self.no.iter().any(|exemption| exemption.covers(host, port)) {
            return Ok(None);
        }
        match variable {
            Variable::Unset => Ok(None),
            Variable::Proxy(proxy) => Ok(Some(proxy)),
            Variable::Invalid(error) => Err(error.clone()),
        }
    }
}

impl Exemption {
    fn new(entry: &str) -> Option<Self> {
        let entry = entry.trim();
        if entry.is_empty() {
            return None;
        }
        // The part after the last colon of an IPv6 address is no port, unless the address is in brackets.
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => (entry, None),
            },
            _ => (entry, None),
        };
        let host = host.trim_start_matches('[').replace(']', "");
        let matcher = || {
            let host = host.trim_start_matches('*').trim_end_matches('.');
            Matcher::builder().http(ANY).no(host).build()
        };
        let hosts = (host != "*").then(matcher);
        Some(Self { hosts, port })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        if self.port.is_some_and(|only| only != port) {
            return false;
        }
        let Some(hosts) = &self.hosts else { return true };
        let uri = Uri::builder()
            .scheme("http")
            .authority(host.trim_end_matches('.'))
            .path_and_query("/");
        uri.build().is_ok_and(|uri| hosts.intercept(&uri).is_none())
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}", self.uri.scheme_str().unwrap_or("http"))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// The variable, else the one in lower case.
fn variable(name: &str) -> String {
    let lower = name.to_lowercase();
    let mut values = [name, &lower].into_iter().filter_map(|name| env::var(name).ok());
    values.find(|value| !value.trim().is_empty()).unwrap_or_default()
}

fn is_http(found: &Intercept) -> bool {
    matches!(found.uri().scheme_str(), Some("http" | "https"))
}

/// Whether a host of a URL, with or without brackets, is this machine: such a server is never reached through a proxy.
pub fn is_this_machine(host: &str) -> bool {
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .trim_end_matches('.')
        .to_ascii_lowercase();
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn through(proxies: &Proxies, to: &str) -> String {
        match proxies.proxy(&to.parse().unwrap()) {
            Ok(None) => "direct".into(),
            Ok(Some(proxy)) => proxy.to_string(),
            Err(invalid) => invalid.to_string(),
        }
    }

    #[test]
    fn each_scheme_has_its_proxy_and_this_machine_has_none() {
        let proxies = Proxies::new("plain:3128", "https://secure:3129", "");
        assert_eq!(through(&proxies, "http://sink.example/"), "http://plain:3128");
        assert_eq!(through(&proxies, "https://sink.example/"), "https://secure:3129");
        for here in [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert_eq!(through(&proxies, &format!("http://{here}/")), "direct", "{here}");
        }
        let only = Proxies::new("", "http://secure:1", "");
        assert_eq!(through(&only, "http://sink.example/"), "direct");
    }

    #[test]
    fn exemptions_are_names_suffixes_addresses_networks_and_ports() {
        let cases = [
            ("example.com", "example.com", true),
            ("example.com", "EXAMPLE.com", true),
            ("example.com", "a.example.com", true),
            ("example.com", "notexample.com", false),
            (".example.com", "a.example.com", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.other.com", false),
            ("example.com", "example.com.", true),
            ("other, example.com", "example.com", true),
            ("other example.com", "example.com", true),
            ("*", "anything", true),
            ("*", "10.0.0.1", true),
            ("*:80", "10.0.0.1:81", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.1.2.3", "10.1.2.3:8080", true),
            ("fd00::/8", "[fd00::1]", true),
            ("fd00::1", "[fd00::1]:80", true),
            ("[fd00::1]", "[fd00::1]", true),
            ("[fd00::1]:81", "[fd00::1]", false),
            ("example.com:8080", "example.com:8080", true),
            ("example.com:8080", "example.com", false),
            ("example.com:80", "example.com", true),
            (".svc,.cluster.local", "sink.shop.svc", true),
            (".svc,.cluster.local", "sink.shop.svc.cluster.local:8080", true),
            ("svc", "sink.shop", false),
            (",, ,", "example.com", false),
        ];
        for (no, host, direct) in cases {
            let proxies = Proxies::new("http://proxy:1", "", no);
            assert_eq!(
                through(&proxies, &format!("http://{host}/")) == "direct",
                direct,
                "NO_PROXY={no} {host}"
            );
        }
    }

    #[test]
    fn credentials_are_sent_and_never_shown() {
        let proxies = Proxies::new("http://us%40er:hunter2@proxy:1", "", "");
        let proxy = proxies.proxy(&Uri::from_static("http://a/")).unwrap().unwrap();
        assert_eq!(proxy.authorization.as_ref().unwrap(), "Basic dXNAZXI6aHVudGVyMg==");
        assert!(proxy.authorization.as_ref().unwrap().is_sensitive());
        assert_eq!(format!("{proxy} {proxy:?}"), "http://proxy:1 Proxy(http://proxy:1)");
    }

    #[test]
    fn what_is_no_proxy_is_an_error_and_not_a_way_around_it() {
        for value in [
            "socks5://hunter2@proxy:1",
            "http://",
            "::hunter2::",
            "http://user:hunter2@",
        ] {
            let proxies = Proxies::new(value, "", "exempt.example");
            let said = through(&proxies, "http://sink.example/");
            assert!(
                said.contains("HTTP_PROXY") && !said.contains("hunter2"),
                "{value}: {said}"
            );
            for direct in ["https://sink.example/", "http://exempt.example/", "http://127.0.0.1/"] {
                assert_eq!(through(&proxies, direct), "direct");
            }
        }
    }
}
