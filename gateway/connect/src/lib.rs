//! Connections to HTTP servers: how names are resolved, which addresses are refused, which proxy a connection goes through, whom
//! TLS trusts, and words for what goes wrong.
//!
//! Subscribers and the APIs that sources call are reached alike, so that a user configures the way out of the gateway once.
//! Other replicas of the gateway and servers on this machine are never reached through a proxy.

#![warn(missing_docs)]

mod authorities;
mod connector;
mod egress;
mod in_process;
mod own_tls;
mod proxies;
mod replicas;
mod resolver;
mod words;

pub use authorities::authorities;
pub use connector::{Connector, Dialed, Dialer, connector, tls};
pub use egress::{Egress, EgressRefused, Network, Rule, check_all, egress_refused};
pub use in_process::{Connect, replace_network};
pub use own_tls::{OwnTls, own_connector};
pub use proxies::{InvalidProxy, Proxies, Proxy, is_this_machine};
pub use replicas::{replica_connector, trust_replicas, trust_replicas_of};
pub use resolver::{ResolveError, Resolver};
pub use words::{is_issuer_unknown, is_local, lack_of_files, tls_words, without_user};
