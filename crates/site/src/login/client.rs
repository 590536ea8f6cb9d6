//! Whose attempts at a password are counted together.

use std::net::IpAddr;

/// Who tries a password: attempts are counted per client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// A browser in which the owner has logged in before, by its number. Other clients' attempts do not delay it.
    Known(String),
    /// Any other, by its address; `None` if it is unknown.
    Unknown(Option<IpAddr>),
}

impl Client {
    pub(super) fn name(&self) -> String {
        match self {
            Client::Known(number) => format!("known {number}"),
            Client::Unknown(None) => "no address".to_owned(),
            Client::Unknown(Some(IpAddr::V4(address))) => address.to_string(),
            // One customer gets a /64.
            Client::Unknown(Some(IpAddr::V6(address))) => match address.to_ipv4_mapped() {
                Some(address) => address.to_string(),
                None => {
                    let [a, b, c, d, ..] = address.segments();
                    format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
                }
            },
        }
    }

    /// Returns its network, as large as one customer may get: a /24 for IPv4, a /48 for IPv6.
    pub(super) fn network(&self) -> String {
        let Client::Unknown(Some(address)) = self else { return self.name() };
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                format!("{a}.{b}.{c}.0/24")
            }
            IpAddr::V6(address) => {
                let [a, b, c, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}::/48")
            }
        }
    }
}
