//! Which addresses the gateway connects to on behalf of a document (CONTRACT EG-1).
//!
//! The author of a document names the URLs that the gateway calls, from a machine that reaches more than the writer does: the
//! metadata service of a cloud, the admin listener, a database. So each address is checked after its name was resolved, and the
//! connection goes to the address that was checked: a name that resolves differently the next time is checked the next time.
//!
//! | addresses | rule |
//! |--|--|
//! | link-local, and the metadata services of clouds that lie elsewhere | always refused |
//! | loopback, and unspecified, which means this machine, too | refused unless the ingress listens on loopback, or `--egress-allow` has it |
//! | in `--egress-deny` | refused unless `--egress-allow` has it |
//! | all others | permitted |
//!
//! Not checked is what the operator configures: proxies, brokers, the API server, the container engine, other replicas. Behind a
//! proxy names are resolved by the proxy: there only an address that stands in the URL is checked.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
    vec,
};

use hyper_util::client::legacy::connect::dns::Name;
use ipnet::IpNet;
use tower_service::Service;

use crate::Resolver;

/// Metadata services outside the link-local networks: AWS over IPv6, and Alibaba Cloud.
const METADATA: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
];

/// A network in CIDR notation.
pub use ipnet::IpNet as Network;

/// The rules of this process.
static RULES: OnceLock<Egress> = OnceLock::new();

/// The rules for outgoing connections.
#[derive(Clone, Debug)]
pub struct Egress {
    deny: Vec<IpNet>,
    allow: Vec<IpNet>,
    permits_loopback: bool,
}

impl Default for Egress {
    /// Only what is always refused is refused.
    fn default() -> Self {
        Self {
            deny: Vec::new(),
            allow: Vec::new(),
            permits_loopback: true,
        }
    }
}

/// An address that the gateway does not connect to, and the rule that says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} {rule}")]
pub struct EgressRefused {
    /// The refused address.
    pub address: IpAddr,
    /// The rule that refuses it.
    pub rule: Rule,
}

/// Why an address is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// 169.254.0.0/16 or fe80::/10.
    LinkLocal,
    /// The metadata service of a cloud.
    Metadata,
    /// An address of this machine.
    Loopback,
    /// A network of `--egress-deny`.
    Denied(IpNet),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkLocal => f.write_str("is link-local: the gateway never connects to such an address"),
            Self::Metadata => f.write_str("is the metadata service of a cloud: the gateway never connects to it"),
            Self::Loopback => f.write_str(
                "is this machine's own, and the ingress is open to other machines: name the service's address, or start \
                 the gateway with --egress-allow ADDRESS/32",
            ),
            Self::Denied(network) => write!(
                f,
                "is in {network}, which --egress-deny excludes: choose another target, or start the gateway with \
                 --egress-allow for that network"
            ),
        }
    }
}

impl Egress {
    /// `permits_loopback`: whether the ingress listens on loopback, so that only this machine's users reach it.
    pub fn new(deny: Vec<IpNet>, allow: Vec<IpNet>, permits_loopback: bool) -> Self {
        Self {
            deny,
            allow,
            permits_loopback,
        }
    }

    /// Makes these the rules of this process, once, before it connects to anything. Later calls change nothing.
    pub fn enforce(self) {
        RULES.get_or_init(|| self);
    }

    /// The rules of this process.
    pub fn current() -> &'static Self {
        RULES.get_or_init(Self::default)
    }

    /// The flags that give another process of the gateway the same networks.
    pub fn flags(&self) -> Vec<String> {
        let deny = self.deny.iter().map(|network| format!("--egress-deny={network}"));
        let allow = self.allow.iter().map(|network| format!("--egress-allow={network}"));
        deny.chain(allow).collect()
    }

    /// Checks an address, in whatever form it is written.
    ///
    /// # Errors
    /// The address may not be connected to.
    pub fn check(&self, address: IpAddr) -> Result<(), EgressRefused> {
        let refused = |rule| Err(EgressRefused { address, rule });
        let meant = embedded(address);
        let is_link_local = match meant {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        if is_link_local {
            return refused(Rule::LinkLocal);
        }
        if METADATA.contains(&meant) {
            return refused(Rule::Metadata);
        }
        let holds = |networks: &[IpNet]| networks.iter().find(|network| network.contains(&meant)).copied();
        if holds(&self.allow).is_some() {
            return Ok(());
        }
        // Connecting to 0.0.0.0 reaches this machine, as loopback does.
        if !self.permits_loopback && (meant.is_loopback() || meant.is_unspecified()) {
            return refused(Rule::Loopback);
        }
        holds(&self.deny).map_or(Ok(()), |network| refused(Rule::Denied(network)))
    }

    /// Checks the host of a URL where that is an address, or `localhost`. Other names are checked once they are resolved.
    ///
    /// # Errors
    /// The address may not be connected to.
    pub fn check_host(&self, host: &str) -> Result<(), EgressRefused> {
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        if host.eq_ignore_ascii_case("localhost") {
            return self.check(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        host.parse().map_or(Ok(()), |address| self.check(address))
    }
}

/// Checks every address of a host. For clients that resolve the name once more themselves: what they connect to is what the name
/// means to them then.
///
/// # Errors
/// One of the addresses may not be connected to. A name that cannot be resolved is no error here: its client reports it.
pub async fn check_all(host: &str) -> Result<(), EgressRefused> {
    let egress = Egress::current();
    egress.check_host(host)?;
    match Resolver::shared().resolve(host).await {
        Ok(addresses) => addresses.iter().try_for_each(|address| egress.check(*address)),
        Err(_) => Ok(()),
    }
}

/// Returns the IPv4 address that an IPv6 address stands for: mapped or compatible (RFC 4291, 2.5.5), or behind NAT64 (RFC 6052).
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let last = |segments: [u16; 8]| {
        let [.., high, low] = segments;
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        // `::` and `::1` are addresses of IPv6 itself.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        segments @ ([0, 0, 0, 0, 0, 0 | 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _]) => last(segments),
        _ => address,
    }
}

/// Returns the refusal that an error of a connection is about, if it is about one.
pub fn egress_refused<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a EgressRefused> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|cause| cause.downcast_ref())
}

/// Resolves names to addresses that may be connected to.
#[derive(Clone)]
pub(crate) struct Checked {
    pub(crate) resolver: Resolver,
    /// `None`: every address may be connected to.
    pub(crate) egress: Option<&'static Egress>,
}

impl Service<Name> for Checked {
    type Response = vec::IntoIter<std::net::SocketAddr>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (resolved, egress) = (self.resolver.call(name), self.egress);
        Box::pin(async move {
            let Some(egress) = egress else {
                return Ok(resolved.await?);
            };
            let mut refused = None;
            let mut permitted = resolved.await?.collect::<Vec<_>>();
            permitted.retain(|address| match egress.check(address.ip()) {
                Ok(()) => true,
                Err(refusal) => {
                    refused = Some(refusal);
                    false
                }
            });
            match refused {
                Some(refusal) if permitted.is_empty() => Err(refusal.into()),
                _ => Ok(permitted.into_iter()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn networks(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|network| network.parse().unwrap()).collect()
    }

    fn rule(egress: &Egress, address: &str) -> Option<Rule> {
        egress.check(address.parse().unwrap()).err().map(|refused| refused.rule)
    }

    /// Proves: EG-1
    #[test]
    fn metadata_and_link_local_addresses_are_refused_in_every_spelling() {
        let everything = Egress::new(vec![], networks(&["0.0.0.0/0", "::/0"]), true);
        for address in [
            "169.254.169.254",
            "169.254.0.1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "fe80::1",
            "febf::1",
        ] {
            assert_eq!(rule(&everything, address), Some(Rule::LinkLocal), "{address}");
        }
        for address in ["fd00:ec2::254", "100.100.100.200", "::ffff:100.100.100.200"] {
            assert_eq!(rule(&everything, address), Some(Rule::Metadata), "{address}");
        }
        for address in ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fd00:ec2::253"] {
            assert_eq!(rule(&everything, address), None, "{address}");
        }
    }

    /// Proves: EG-1
    #[test]
    fn loopback_is_for_gateways_that_only_this_machine_reaches() {
        let public = Egress::new(vec![], vec![], false);
        for address in ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"] {
            assert_eq!(rule(&public, address), Some(Rule::Loopback), "{address}");
            assert_eq!(rule(&Egress::default(), address), None, "{address}");
        }
        let allowing = Egress::new(vec![], networks(&["127.0.0.0/8"]), false);
        assert_eq!(rule(&allowing, "127.0.0.1"), None);
        assert_eq!(rule(&allowing, "::ffff:127.0.0.1"), None);
        assert_eq!(rule(&allowing, "::1"), Some(Rule::Loopback));
    }

    /// Proves: EG-1
    #[test]
    fn a_network_is_denied_but_for_what_is_allowed_in_it() {
        let egress = Egress::new(networks(&["10.0.0.0/8", "fc00::/7"]), networks(&["10.1.0.0/16"]), true);
        let denied = networks(&["10.0.0.0/8", "fc00::/7"]);
        assert_eq!(rule(&egress, "10.2.0.1"), Some(Rule::Denied(denied[0])));
        assert_eq!(rule(&egress, "::ffff:10.2.0.1"), Some(Rule::Denied(denied[0])));
        assert_eq!(rule(&egress, "fd12::1"), Some(Rule::Denied(denied[1])));
        assert_eq!(rule(&egress, "10.1.2.3"), None);
        assert_eq!(rule(&egress, "192.0.2.1"), None);
    }

    /// Proves: EG-1
    #[test]
    fn the_host_of_a_url_is_checked_where_it_is_an_address() {
        let egress = Egress::new(vec![], vec![], false);
        for host in [
            "127.0.0.1",
            "[::1]",
            "localhost",
            "LOCALHOST.",
            "[::ffff:169.254.1.1]",
            "169.254.169.254",
        ] {
            assert!(egress.check_host(host).is_err(), "{host}");
        }
        for host in ["sink.example", "192.0.2.1", "[2001:db8::1]"] {
            assert!(egress.check_host(host).is_ok(), "{host}");
        }
    }

    /// Proves: EG-1
    #[tokio::test]
    async fn a_name_has_the_addresses_that_may_be_connected_to() {
        static EGRESS: OnceLock<Egress> = OnceLock::new();
        let egress = EGRESS.get_or_init(|| Egress::new(networks(&["192.0.2.0/24"]), vec![], true));
        let resolve = |addresses: &'static [&'static str]| async move {
            let lookup = move |_: &str| Ok(addresses.iter().map(|address| address.parse().unwrap()).collect());
            let mut checked = Checked {
                resolver: Resolver::new(lookup),
                egress: Some(egress),
            };
            let found = checked.call("sink.example".parse().unwrap()).await;
            found.map(|found| found.map(|address| address.ip().to_string()).collect::<Vec<_>>())
        };
        let mixed = resolve(&["192.0.2.7", "198.51.100.7", "169.254.169.254"])
            .await
            .unwrap();
        assert_eq!(mixed, ["198.51.100.7"]);
        let none = resolve(&["192.0.2.7"]).await.unwrap_err();
        assert_eq!(
            egress_refused(&*none).unwrap().rule,
            Rule::Denied("192.0.2.0/24".parse().unwrap())
        );
    }
}
