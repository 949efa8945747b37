//! The client's address behind reverse proxies.
//!
//! A proxy adds the address of its own peer at the right end of a header. A client can write anything to the left of that, so the
//! addresses are read from the right, and the first one that belongs to no trusted proxy is the client. Only one header is read,
//! the one that the proxies write: a client could send the other one.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use poem::http::HeaderMap;

/// The most proxies in a row whose addresses are read.
const MOST_PROXIES: usize = 20;

/// The header in which proxies name the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Forwarding {
    /// `X-Forwarded-For: 192.0.2.1, 10.0.0.1`.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=192.0.2.1, for="[2001:db8::1]:4711"` (RFC 7239).
    Forwarded,
}

/// The trusted reverse proxies.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    trusted: Vec<IpNet>,
    forwarding: Forwarding,
}

impl Proxies {
    /// Trusts the proxies in these networks, which name the client in this header.
    pub fn new(trusted: Vec<IpNet>, forwarding: Forwarding) -> Self {
        Self { trusted, forwarding }
    }

    /// Whether this is the address of a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// The address of the client whose request came from `peer` with these headers.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let (name, read): (_, fn(&str) -> Option<IpAddr>) = match self.forwarding {
            Forwarding::XForwardedFor => ("x-forwarded-for", parse_node),
            Forwarding::Forwarded => ("forwarded", parse_element),
        };
        let lines: Vec<&str> =
            headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
        let nodes = lines.iter().rev().flat_map(|line| parts(line, b',').into_iter().rev());
        for node in nodes.take(MOST_PROXIES) {
            // A proxy that hides its peer is the last one that is known.
            let Some(address) = read(node) else { return client };
            client = address;
            if !self.trusts(client) {
                return client;
            }
        }
        client
    }
}

/// Whether a proxy has passed the request on.
pub fn is_forwarded(headers: &HeaderMap) -> bool {
    ["x-forwarded-for", "forwarded", "via"].iter().any(|name| headers.contains_key(*name))
}

/// A network such as `10.0.0.0/8`, or a single address.
pub fn parse_network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    match text.parse::<IpNet>() {
        Ok(network) => Some(network.trunc()),
        Err(_) => text.parse::<IpAddr>().ok().map(|address| address.to_canonical().into()),
    }
}

/// The parts of a header between these separators. One between quotation marks divides nothing.
fn parts(line: &str, separator: u8) -> Vec<&str> {
    let (mut parts, mut begins) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            byte if byte == separator && !is_quoted => {
                parts.push(line[begins..at].trim());
                begins = at + 1;
            }
            _ => {}
        }
    }
    parts.push(line[begins..].trim());
    parts
}

/// The address in one element of `Forwarded`.
fn parse_element(element: &str) -> Option<IpAddr> {
    let (_, node) = parts(element, b';')
        .into_iter()
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    parse_node(node.trim().trim_matches('"'))
}

/// An address, perhaps with a port and in brackets.
fn parse_node(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(node);
    let address = bare
        .parse::<IpAddr>()
        .or_else(|_| node.parse::<SocketAddr>().map(|address| address.ip()))
        .ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    fn client(forwarding: Forwarding, peer: &str, lines: &[(&'static str, &str)]) -> String {
        let trusted =
            ["10.0.0.0/8", "2001:db8:5::/48"].map(|text| parse_network(text).expect(text));
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).expect("printable"));
        }
        let proxies = Proxies::new(trusted.to_vec(), forwarding);
        proxies.client(peer.parse().expect("an address"), &headers).to_string()
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxys() {
        let x =
            |peer, value| client(Forwarding::XForwardedFor, peer, &[("x-forwarded-for", value)]);
        assert_eq!(x("10.0.0.1", "192.0.2.7"), "192.0.2.7");
        assert_eq!(
            x("10.0.0.1", "198.51.100.1, 192.0.2.7"),
            "192.0.2.7",
            "the client wrote the first"
        );
        assert_eq!(x("10.0.0.1", "192.0.2.7, 10.9.9.9"), "192.0.2.7", "two proxies");
        assert_eq!(
            x("10.0.0.1", "10.0.0.3, 10.9.9.9"),
            "10.0.0.3",
            "a client of the inner network"
        );
        assert_eq!(x("::ffff:10.0.0.1", "192.0.2.7:4711"), "192.0.2.7");
        assert_eq!(x("2001:db8:5::1", "[2001:db8:9::1]:80"), "2001:db8:9::1");
        for hidden in ["unknown", "192.0.2.7, _hidden", "", "192.0.2.7, <script>"] {
            assert_eq!(x("10.0.0.1", hidden), "10.0.0.1", "{hidden}");
        }
        let lines = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-for", "10.9.9.9")];
        assert_eq!(client(Forwarding::XForwardedFor, "10.0.0.1", &lines), "192.0.2.7");
    }

    #[test]
    fn nobody_else_is_believed() {
        let x =
            |peer, value| client(Forwarding::XForwardedFor, peer, &[("x-forwarded-for", value)]);
        assert_eq!(x("192.0.2.1", "198.51.100.1"), "192.0.2.1", "it came past the proxies");
        let both = [("forwarded", "for=198.51.100.1"), ("x-forwarded-for", "192.0.2.7")];
        assert_eq!(client(Forwarding::XForwardedFor, "10.0.0.1", &both), "192.0.2.7");
        assert_eq!(client(Forwarding::Forwarded, "10.0.0.1", &both), "198.51.100.1");
        assert_eq!(client(Forwarding::XForwardedFor, "10.0.0.1", &both[..1]), "10.0.0.1");
    }

    #[test]
    fn the_header_of_rfc_7239_is_read() {
        let f = |value| client(Forwarding::Forwarded, "10.0.0.1", &[("forwarded", value)]);
        assert_eq!(f("for=192.0.2.7;proto=https;by=10.0.0.1"), "192.0.2.7");
        assert_eq!(f("proto=https; For=\"[2001:db8:9::1]:4711\""), "2001:db8:9::1");
        assert_eq!(f("for=198.51.100.1;host=\"a,for=203.0.113.9\", for=10.2.2.2"), "198.51.100.1");
        assert_eq!(f("host=\"a;for=203.0.113.9\";for=198.51.100.1"), "198.51.100.1");
        assert_eq!(f("host=\"\\\";for=203.0.113.9\";for=198.51.100.1"), "198.51.100.1");
        assert_eq!(f("for=unknown"), "10.0.0.1");
        assert_eq!(f("proto=https"), "10.0.0.1");
    }
}
