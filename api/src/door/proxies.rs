//! The client's address behind reverse proxies.
//!
//! A proxy adds the address of its own peer at the right end of a header. A client can write anything to the left of that, so the
//! addresses are read from the right, and the first one that belongs to no trusted proxy is the client. Only one header is read,
//! the one that the proxies write: a client could send the other one. A part that cannot be read ends the reading: nothing to the left of
//! it is believed.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use poem::http::{HeaderMap, HeaderValue};

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
        let peer = peer.to_canonical();
        let lines = |name| headers.get_all::<&str>(name).iter().rev();
        match self.forwarding {
            Forwarding::XForwardedFor => {
                self.walk(peer, lines("x-forwarded-for").flat_map(read_list))
            }
            Forwarding::Forwarded => self.walk(peer, lines("forwarded").flat_map(read_elements)),
        }
    }

    /// The first of these addresses that belongs to no trusted proxy, beginning with `client`. A proxy whose peer is hidden or cannot be
    /// read (`None`) is the last one that is known.
    fn walk(&self, mut client: IpAddr, peers: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut peers = peers.take(MOST_PROXIES);
        while self.trusts(client) {
            let Some(Some(peer)) = peers.next() else { break };
            client = peer;
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

/// The addresses in one line of `X-Forwarded-For`, from the right. This header knows no quotation marks.
fn read_list(line: &HeaderValue) -> impl Iterator<Item = Option<IpAddr>> {
    line.as_bytes()
        .rsplit(|byte| *byte == b',')
        .map(|node| std::str::from_utf8(node).ok().and_then(|node| parse_node(node.trim())))
}

/// The addresses in one line of `Forwarded`, from the right. A single `None` if the line cannot be read.
fn read_elements(line: &HeaderValue) -> Vec<Option<IpAddr>> {
    match line.to_str().ok().and_then(|line| parts(line, b',')) {
        Some(elements) => elements.into_iter().rev().map(parse_element).collect(),
        None => vec![None],
    }
}

/// The parts of a line of `Forwarded` between these separators, `,` or `;`. One between quotation marks divides nothing.
///
/// `None` if a quotation does not end, or does not fill the whole value of a pair, or if a backslash is outside of quotations. A client
/// can open a quotation to the left of the text that a proxy adds: that turns the quotations of the proxy inside out, and the line is
/// then always one of these.
fn parts(line: &str, separator: u8) -> Option<Vec<&str>> {
    let (mut parts, mut begins, mut before) = (Vec::new(), 0, separator);
    let (mut is_quoted, mut is_escaped, mut was_quoted) = (false, false, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' if is_quoted => (is_quoted, was_quoted) = (false, true),
            _ if is_quoted => {}
            b'"' if before == b'=' => is_quoted = true,
            b'"' | b'\\' => return None,
            b',' | b';' => {
                was_quoted = false;
                if byte == separator {
                    parts.push(line[begins..at].trim());
                    begins = at + 1;
                }
            }
            b' ' | b'\t' => {}
            _ if was_quoted => return None,
            _ => {}
        }
        before = byte;
    }
    parts.push(line[begins..].trim());
    (!is_quoted).then_some(parts)
}

/// The address in one element of `Forwarded`.
fn parse_element(element: &str) -> Option<IpAddr> {
    let (_, node) = parts(element, b';')?
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
    use super::*;

    fn client(forwarding: Forwarding, peer: &str, lines: &[(&'static str, &str)]) -> String {
        let lines: Vec<_> = lines.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        client_in_bytes(forwarding, peer, &lines)
    }

    fn client_in_bytes(
        forwarding: Forwarding,
        peer: &str,
        lines: &[(&'static str, &[u8])],
    ) -> String {
        let trusted =
            ["10.0.0.0/8", "2001:db8:5::/48"].map(|text| parse_network(text).expect(text));
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value).expect("no control bytes"));
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

    #[test]
    fn a_quotation_of_the_client_cannot_swallow_the_text_of_a_proxy() {
        let f = |value| client(Forwarding::Forwarded, "10.0.0.1", &[("forwarded", value)]);
        for forged in [
            r#"for=6.6.6.6;x=", for=192.0.2.7"#,
            r#"for=6.6.6.6;x="\, for=192.0.2.7"#,
            r#"for=6.6.6.6;x=", for="[2001:db8:9::1]:4711""#,
            r#"for=6.6.6.6;x=", for="[2001:db8:9::1]";by="[2001:db8:5::1]""#,
            r#"for=6.6.6.6;x=", for=192.0.2.7;host="a\"b""#,
            r#"for=6.6.6.6;x=", for=192.0.2.7;host="""#,
            r#"for=6.6.6.6;x=", for=192.0.2.7;host=",y=\"z\"""#,
            r#"for=6.6.6.6;x=y", for=192.0.2.7;host="z""#,
            r#"for=6.6.6.6", for="192.0.2.7""#,
        ] {
            assert_eq!(f(forged), "10.0.0.1", "{forged}");
        }
        assert_eq!(f(r#"for=6.6.6.6;x="y", for=192.0.2.7"#), "192.0.2.7");
        assert_eq!(f(r#"for="6.6.6.6" , for="192.0.2.7" ; proto=https"#), "192.0.2.7");
        let two_proxies = r#"for=6.6.6.6;x=", for=192.0.2.7, for=10.9.9.9"#;
        assert_eq!(f(two_proxies), "10.0.0.1", "the whole line is not believed");
    }

    #[test]
    fn a_line_that_cannot_be_read_ends_the_walk() {
        let f = |lines: &[&'static [u8]]| {
            let lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
            client_in_bytes(Forwarding::Forwarded, "10.0.0.1", &lines)
        };
        assert_eq!(f(&[b"for=6.6.6.6;x=\"", b"for=192.0.2.7"]), "192.0.2.7", "a line of its own");
        assert_eq!(f(&[b"for=6.6.6.6", b"x=\"", b"for=10.9.9.9"]), "10.9.9.9");
        assert_eq!(f(&[b"for=6.6.6.6", b"for=192.0.2.7;x=\xff"]), "10.0.0.1");
        assert_eq!(f(&[b"for=6.6.6.6", b"\xff", b"for=10.9.9.9"]), "10.9.9.9");
        assert_eq!(f(&[b"for=6.6.6.6, for=192.0.2.7", b"for=10.9.9.9"]), "192.0.2.7");
    }

    #[test]
    fn x_forwarded_for_has_no_quotations_and_a_node_that_cannot_be_read_ends_the_walk() {
        let x = |lines: &[&'static [u8]]| {
            let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            client_in_bytes(Forwarding::XForwardedFor, "10.0.0.1", &lines)
        };
        assert_eq!(x(&[b"6.6.6.6, \"x, 192.0.2.7"]), "192.0.2.7");
        assert_eq!(x(&[b"6.6.6.6, \xff, 192.0.2.7"]), "192.0.2.7");
        assert_eq!(x(&[b"6.6.6.6, \", 192.0.2.7, 10.9.9.9"]), "192.0.2.7", "two proxies");
        assert_eq!(x(&[b"6.6.6.6, \"192.0.2.7\""]), "10.0.0.1");
        assert_eq!(x(&[b"6.6.6.6, 192.0.2.7\xff, 10.9.9.9"]), "10.9.9.9");
        assert_eq!(x(&[b"6.6.6.6", b"\xff", b"10.9.9.9"]), "10.9.9.9", "no line is skipped");
        assert_eq!(x(&[b"6.6.6.6", b"\"", b"10.9.9.9"]), "10.9.9.9");
        assert_eq!(x(&[b"6.6.6.6", b"", b"10.9.9.9"]), "10.9.9.9");
        assert_eq!(x(&[b"6.6.6.6\"", b"192.0.2.7", b"10.9.9.9"]), "192.0.2.7");
    }
}
