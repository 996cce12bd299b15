//! The way from this process to another host.

use std::fmt;
use std::sync::Arc;

use super::secret::Secret;

/// How a host is reached. Connections of one way are never used for another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Way {
    #[default]
    Direct,
    Proxy(Arc<Proxy>),
    /// The platform's own credential service: it lives at a link-local address, where nothing else may be.
    Platform,
}

/// An outbound proxy. The names of hosts behind it are looked up by it, not here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proxy {
    pub protocol: ProxyProtocol,
    /// Lower-case name or IP address; IPv6 without brackets.
    pub host: String,
    pub port: u16,
    pub login: Option<Login>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// `CONNECT`, for upstreams with and without TLS.
    Http,
    /// RFC 1928.
    Socks5,
}

/// User and password for a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Login {
    pub user: String,
    pub password: Secret,
}

/// Without its login.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            ProxyProtocol::Http => "http",
            ProxyProtocol::Socks5 => "socks5",
        };
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "{scheme}://[{host}]:{port}") } else { write!(f, "{scheme}://{host}:{port}") }
    }
}
