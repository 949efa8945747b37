//! The origin of a request: the part of its IP address that identifies one customer of a network provider.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The part of an IP address that belongs to one customer of a network provider: a whole IPv4 address, or
/// the first 64 bits of an IPv6 address.
///
/// An IPv6 network has 2^64 addresses, so counting single addresses would stop nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin(IpAddr);

impl Origin {
    /// The origin that this address belongs to.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let prefix = address.to_bits() & !u128::from(u64::MAX);
                Self(IpAddr::V6(Ipv6Addr::from_bits(prefix)))
            }
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

/// The network of an address, by which its owner recognises it: the first 24 bits of an IPv4 address (`192.0.2.0/24`), the first 48 of an IPv6 one.
pub fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & !(u128::MAX >> 48);
            format!("{}/48", Ipv6Addr::from_bits(prefix))
        }
        IpAddr::V4(address) => {
            let prefix = address.to_bits() & !0xff;
            format!("{}/24", Ipv4Addr::from_bits(prefix))
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_ipv6_network_are_one_origin() {
        let origin = |text: &str| Origin::of(text.parse().expect("an address"));
        assert_eq!(origin("2001:db8:1:2::1"), origin("2001:db8:1:2:ffff::9"));
        assert_ne!(origin("2001:db8:1:2::1"), origin("2001:db8:1:3::1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
        assert_eq!(origin("192.0.2.1"), origin("::ffff:192.0.2.1"));
    }

    #[test]
    fn a_network_is_shown_without_its_last_bits() {
        let network = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(network("192.0.2.17"), "192.0.2.0/24");
        assert_eq!(network("::ffff:192.0.2.17"), "192.0.2.0/24");
        assert_eq!(network("2001:db8:1:2::9"), "2001:db8:1::/48");
    }
}
