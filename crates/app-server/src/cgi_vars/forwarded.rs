//! Who the client is when there are proxies in between: `X-Forwarded-For` and `X-Forwarded-Proto`,
//! trusted only where the owner says so ([`Settings::trusted_proxies`]).
//!
//! Any client can send these headers, so they count only if a trusted proxy passed them on.
//! `cgi_to_http.rs` and `http.rs` use this and put the result into the request context.
//!
//! [`Settings::trusted_proxies`]: crate::Settings::trusted_proxies

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::{HeaderMap, HeaderValue};

/// How the client reached the web server or the outermost trusted proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    #[default]
    Http,
    /// HTTPS.
    Https,
}

/// A proxy that is trusted to report the client's address and scheme.
///
/// As text: an IP address (`192.0.2.1`), a net (`10.0.0.0/8`, `fd00::/8`), or `unix` for every peer on
/// our unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    /// All addresses whose first `prefix` bits equal those of `address`. For a single address, all bits.
    Net {
        /// An address of the net, in canonical form (IPv4, not IPv4 inside IPv6).
        address: IpAddr,
        /// How many bits of it count: at most 32 for IPv4, 128 for IPv6.
        prefix: u8,
    },
    /// A peer without an address: any that connects to our unix socket.
    UnixSocket,
}

impl FromStr for TrustedProxy {
    type Err = String;

    /// Parses an address, a net or `unix`. The error says what to write.
    fn from_str(text: &str) -> Result<TrustedProxy, String> {
        let text = text.trim();
        if text == "unix" {
            return Ok(TrustedProxy::UnixSocket);
        }
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let wrong = || {
            format!(
                "{text:?} is not a proxy; write an address (192.0.2.1), a net (10.0.0.0/8) or unix"
            )
        };
        let address = address.parse::<IpAddr>().map_err(|_| wrong())?.to_canonical();
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(digits) => {
                digits.parse().ok().filter(|prefix| *prefix <= bits).ok_or_else(wrong)?
            }
        };
        Ok(TrustedProxy::Net { address, prefix })
    }
}

impl fmt::Display for TrustedProxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustedProxy::UnixSocket => formatter.write_str("unix"),
            TrustedProxy::Net { address, prefix } => write!(formatter, "{address}/{prefix}"),
        }
    }
}

/// The direct origin of a request: the connection's peer, or the peer that the web server reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Address(IpAddr),
    UnixSocket,
    /// The web server reports nothing that is an address.
    Unknown,
}

/// What is known about the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visitor {
    pub(crate) address: Option<IpAddr>,
    /// How the client reached the outermost trusted proxy, if that proxy says so.
    pub(crate) scheme: Option<Scheme>,
}

/// Finds the client behind the peer.
///
/// Rule: the addresses in X-Forwarded-For are read from the right, where the nearest proxy appended; each
/// is believed as long as the proxy that wrote it is trusted. The client is the first address that is not
/// a trusted proxy. An entry that is not an address ends the search.
pub(crate) fn visitor(trusted: &[TrustedProxy], peer: Peer, headers: &HeaderMap) -> Visitor {
    let mut visitor = Visitor { address: None, scheme: None };
    if let Peer::Address(address) = peer {
        visitor.address = Some(address.to_canonical());
    }
    if trusted.is_empty() || !is_trusted(trusted, peer) {
        return visitor;
    }
    for claim in from_the_right(headers, "x-forwarded-for") {
        let Some(address) = address_of(claim) else { break };
        visitor.address = Some(address);
        if !is_trusted(trusted, Peer::Address(address)) {
            break;
        }
    }
    visitor.scheme = match from_the_right(headers, "x-forwarded-proto").next() {
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => Some(Scheme::Https),
        Some(scheme) if scheme.eq_ignore_ascii_case("http") => Some(Scheme::Http),
        _ => None,
    };
    visitor
}

fn is_trusted(trusted: &[TrustedProxy], peer: Peer) -> bool {
    trusted.iter().any(|proxy| match (proxy, peer) {
        (TrustedProxy::UnixSocket, Peer::UnixSocket) => true,
        (TrustedProxy::Net { address, prefix }, Peer::Address(peer)) => {
            is_in_net(*address, *prefix, peer.to_canonical())
        }
        _ => false,
    })
}

fn is_in_net(net: IpAddr, prefix: u8, address: IpAddr) -> bool {
    let prefix = u32::from(prefix);
    match (net, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            net.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(net), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            net.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

/// The members of a list header, last first. A line that is not text ends it.
fn from_the_right<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter();
    lines
        .rev()
        .map_while(|line: &HeaderValue| line.to_str().ok())
        .flat_map(|line| line.rsplit(','))
        .map(str::trim)
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`: proxies write
/// all of these.
fn address_of(claim: &str) -> Option<IpAddr> {
    let address = match claim.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => match claim.split_once(':') {
            Some((address, port)) if !port.contains(':') => address,
            _ => claim,
        },
    };
    address.parse().ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_parsed_and_displayed() {
        for (text, shown) in [
            ("192.0.2.1", "192.0.2.1/32"),
            (" 10.0.0.0/8 ", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("fd00::/8", "fd00::/8"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("unix", "unix"),
        ] {
            assert_eq!(text.parse::<TrustedProxy>().unwrap().to_string(), shown, "{text:?}");
        }
        for wrong in ["", "localhost", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0/8"] {
            let error = wrong.parse::<TrustedProxy>().unwrap_err();
            assert!(error.contains("is not a proxy; write an address"), "{error}");
        }
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_not_a_trusted_proxy() {
        let trusted = "10.0.0.0/8 2001:db8::/32 unix";
        let trusted: Vec<TrustedProxy> =
            trusted.split(' ').map(|text| text.parse().unwrap()).collect();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let stranger = Peer::Address(ip("192.0.2.66"));
        let proxy = Peer::Address(ip("10.0.0.1"));
        // name, peer, X-Forwarded-For lines, client
        type Case = (&'static str, Peer, &'static [&'static str], Option<&'static str>);
        let cases: &[Case] = &[
            ("no proxy", stranger, &[], Some("192.0.2.66")),
            ("a stranger's claim", stranger, &["198.51.100.1"], Some("192.0.2.66")),
            ("a proxy's word", proxy, &["198.51.100.1"], Some("198.51.100.1")),
            (
                "a claim before a proxy's word",
                proxy,
                &["1.1.1.1, 198.51.100.1"],
                Some("198.51.100.1"),
            ),
            ("through two proxies", proxy, &["198.51.100.1, 10.2.3.4"], Some("198.51.100.1")),
            ("two lines", proxy, &["1.1.1.1, 198.51.100.1", "10.2.3.4"], Some("198.51.100.1")),
            ("only proxies", proxy, &["10.9.9.9, 10.2.3.4"], Some("10.9.9.9")),
            ("no header", proxy, &[], Some("10.0.0.1")),
            ("not an address", proxy, &["198.51.100.1, unknown"], Some("10.0.0.1")),
            ("with port", proxy, &["198.51.100.1:80"], Some("198.51.100.1")),
            ("IPv6", proxy, &["[2001:db9::1]:80, 2001:db8::7"], Some("2001:db9::1")),
            ("IPv4 in IPv6", Peer::Address(ip("::ffff:10.0.0.1")), &["1.1.1.1"], Some("1.1.1.1")),
            ("unix socket", Peer::UnixSocket, &["198.51.100.1"], Some("198.51.100.1")),
            ("unix socket, no header", Peer::UnixSocket, &[], None),
            ("unknown peer", Peer::Unknown, &["198.51.100.1"], None),
        ];
        for (name, peer, lines, expected) in cases {
            let mut headers = HeaderMap::new();
            for line in *lines {
                headers.append("x-forwarded-for", HeaderValue::from_static(line));
            }
            let found = visitor(&trusted, *peer, &headers).address;
            assert_eq!(found, expected.map(ip), "{name}");
            let without_trust = visitor(&[], *peer, &headers).address;
            let own = match peer {
                Peer::Address(address) => Some(address.to_canonical()),
                _ => None,
            };
            assert_eq!(without_trust, own, "{name}, no proxy trusted");
        }
    }

    #[test]
    fn the_scheme_is_believed_only_from_proxies() {
        let trusted = ["10.0.0.1".parse().unwrap()];
        let peer = |text: &str| Peer::Address(text.parse().unwrap());
        for (from, said, expected) in [
            ("10.0.0.1", "https", Some(Scheme::Https)),
            ("10.0.0.1", "HTTPS", Some(Scheme::Https)),
            ("10.0.0.1", "http", Some(Scheme::Http)),
            ("10.0.0.1", "http, https", Some(Scheme::Https)),
            ("10.0.0.1", "gopher", None),
            ("10.0.0.2", "https", None),
        ] {
            let headers = HeaderMap::from_iter([(
                "x-forwarded-proto".parse().unwrap(),
                said.parse().unwrap(),
            )]);
            assert_eq!(visitor(&trusted, peer(from), &headers).scheme, expected, "{from} {said}");
        }
    }
}
