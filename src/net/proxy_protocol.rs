//! The PROXY protocol: versions 1 and 2 read from load balancers, version 2 written to stores.
//!
//! A header is read only from addresses that the configuration trusts (`proxy_protocol: {from: […]}`); they may come without one, as
//! with MariaDB's `proxy-protocol-networks`. Source: HAProxy,
//! "The PROXY protocol", versions 1 and 2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\x00\r\nQUIT\n";
/// The longest version 1 line, bytes.
const V1_MAX: usize = 107;
/// The longest version 2 header that is read, bytes.
const V2_MAX: usize = 16 + 4096;

/// What stands at the start of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Partial,
    /// A header of this many bytes; the client's address unless it is local or unknown.
    Header {
        /// Bytes to drop.
        length: usize,
        /// The client.
        source: Option<SocketAddr>,
    },
    /// No PROXY protocol, or a broken one.
    Invalid,
}

/// Looks for a header at the start of `bytes`.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    if bytes.is_empty() {
        return Parsed::Partial;
    }
    let n = bytes.len().min(SIGNATURE.len());
    if bytes.get(..n) == SIGNATURE.get(..n) {
        return parse_v2(bytes);
    }
    let n = bytes.len().min(6);
    if bytes.get(..n) == b"PROXY ".get(..n) {
        return parse_v1(bytes);
    }
    Parsed::Invalid
}

/// Whether a client's first bytes (four at least) are those of a header, be it whole or broken: no login begins with them, its
/// length and its sequence number would be they.
#[must_use]
pub fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PROX") || SIGNATURE.first_chunk::<4>().is_some_and(|s| bytes.starts_with(s))
}

fn parse_v1(bytes: &[u8]) -> Parsed {
    let window = bytes.get(..bytes.len().min(V1_MAX)).unwrap_or_default();
    let Some(end) = window.windows(2).position(|w| w == b"\r\n") else {
        return if bytes.len() < V1_MAX { Parsed::Partial } else { Parsed::Invalid };
    };
    let Some(line) = window.get(..end).and_then(|l| std::str::from_utf8(l).ok()) else {
        return Parsed::Invalid;
    };
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Parsed::Header { length: end + 2, source: None };
    }
    if !matches!(family, Some("TCP4" | "TCP6")) {
        return Parsed::Invalid;
    }
    let ip = words.next().and_then(|w| w.parse::<IpAddr>().ok());
    let port = words.nth(1).and_then(|w| w.parse::<u16>().ok());
    match (ip, port) {
        (Some(ip), Some(port)) => Parsed::Header { length: end + 2, source: Some(SocketAddr::new(ip, port)) },
        _ => Parsed::Invalid,
    }
}

fn parse_v2(bytes: &[u8]) -> Parsed {
    let Some((head, rest)) = bytes.split_first_chunk::<16>() else {
        return Parsed::Partial;
    };
    let [.., version, family, l0, l1] = *head;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if version >> 4 != 2 || 16 + length > V2_MAX {
        return Parsed::Invalid;
    }
    let Some(addresses) = rest.get(..length) else {
        return Parsed::Partial;
    };
    let length = 16 + length;
    let source = match (version & 0xF, family >> 4) {
        (1, 1) => addresses.first_chunk::<12>().map(|[a, b, c, d, _, _, _, _, p0, p1, _, _]| {
            SocketAddr::new(Ipv4Addr::new(*a, *b, *c, *d).into(), u16::from_be_bytes([*p0, *p1]))
        }),
        (1, 2) => addresses.first_chunk::<16>().zip(addresses.get(32..34)).map(|(ip, port)| {
            let port = u16::from_be_bytes([port.first().copied().unwrap_or(0), port.last().copied().unwrap_or(0)]);
            SocketAddr::new(Ipv6Addr::from(*ip).into(), port)
        }),
        (0 | 1, _) => None,
        _ => return Parsed::Invalid,
    };
    // a connection by TCP has an address
    if version & 0xF == 1 && matches!(family >> 4, 1 | 2) && source.is_none() {
        return Parsed::Invalid;
    }
    Parsed::Header { length, source }
}

/// A version 2 header for a connection of `client` that is proxied to `store`; LOCAL where one of them has no address.
#[must_use]
pub fn header(client: Option<SocketAddr>, store: Option<SocketAddr>) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    match (client, store) {
        (Some(SocketAddr::V4(c)), Some(SocketAddr::V4(s))) => {
            out.extend([0x21, 0x11, 0, 12]);
            out.extend(c.ip().octets());
            out.extend(s.ip().octets());
            out.extend(c.port().to_be_bytes());
            out.extend(s.port().to_be_bytes());
        }
        (Some(c), Some(s)) => {
            out.extend([0x21, 0x21, 0, 36]);
            out.extend(v6(c.ip()).octets());
            out.extend(v6(s.ip()).octets());
            out.extend(c.port().to_be_bytes());
            out.extend(s.port().to_be_bytes());
        }
        _ => out.extend([0x20, 0x00, 0, 0]),
    }
    out
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// Whether `ip` lies in one of the CIDR ranges.
#[must_use]
pub fn trusted(ip: IpAddr, ranges: &[String]) -> bool {
    ranges.iter().any(|range| in_range(ip, range))
}

fn in_range(ip: IpAddr, range: &str) -> bool {
    let (base, bits) = range.split_once('/').unwrap_or((range, ""));
    let Ok(base) = base.trim().parse::<IpAddr>() else {
        return false;
    };
    let (width, offset) = if base.is_ipv4() { (32, 96) } else { (128, 0) };
    let Ok(bits) = (if bits.is_empty() { Ok(width) } else { bits.trim().parse::<u32>() }) else {
        return false;
    };
    let keep = bits.min(width) + offset;
    let mask = if keep == 0 { 0 } else { u128::MAX << (128 - keep) };
    u128::from(v6(ip)) & mask == u128::from(v6(base)) & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_lines() {
        let line = b"PROXY TCP4 192.0.2.7 127.0.0.1 5555 3306\r\nrest";
        let source = Some("192.0.2.7:5555".parse().unwrap());
        assert_eq!(parse(line), Parsed::Header { length: line.len() - 4, source });
        for cut in 0..line.len() - 5 {
            assert_eq!(parse(&line[..cut]), Parsed::Partial, "{cut}");
        }
        assert_eq!(parse(b"PROXY UNKNOWN\r\n"), Parsed::Header { length: 15, source: None });
        assert_eq!(parse(b"PROXY TCP4 x y 1 2\r\n"), Parsed::Invalid);
        assert_eq!(parse(&[b"PROXY TCP4 ".as_slice(), &[b'1'; 120]].concat()), Parsed::Invalid);
        assert_eq!(parse(b"\x20\0\0\x01"), Parsed::Invalid);
    }

    #[test]
    fn version_2_headers_round_trip() {
        for (c, s) in [("192.0.2.7:5555", "127.0.0.1:3306"), ("[2001:db8::7]:5555", "[::1]:3306")] {
            let (c, s): (SocketAddr, SocketAddr) = (c.parse().unwrap(), s.parse().unwrap());
            let h = header(Some(c), Some(s));
            assert_eq!(parse(&h), Parsed::Header { length: h.len(), source: Some(c) });
            for cut in 0..h.len() {
                assert_eq!(parse(&h[..cut]), Parsed::Partial, "{cut}");
            }
        }
        let local = header(None, None);
        assert_eq!(parse(&local), Parsed::Header { length: 16, source: None });
        // TCP, and no room for an address
        assert_eq!(parse(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\0"), Parsed::Invalid);
    }

    #[test]
    fn ranges() {
        let ranges = ["10.0.0.0/8".to_owned(), "::1".to_owned()];
        assert!(trusted("10.1.2.3".parse().unwrap(), &ranges));
        assert!(!trusted("11.1.2.3".parse().unwrap(), &ranges));
        assert!(trusted("::1".parse().unwrap(), &ranges));
        assert!(!trusted("127.0.0.1".parse().unwrap(), &["nonsense".to_owned()]));
    }
}
