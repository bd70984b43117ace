//! Addresses as people write them: `host:port`, `[::1]:3307`, or the path of a unix socket.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use super::model::Address;

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The longest path that fits a `sockaddr_un`, in bytes.
pub(super) const MAX_SOCKET_PATH: usize = 107;

/// Reads an address; a relative socket path starts at `base`. The error says what is wrong and what to write.
pub(super) fn parse(text: &str, base: &Path) -> Result<Address, String> {
    if text.contains('/') {
        let path = base.join(text);
        return match path.as_os_str().len() {
            0..=MAX_SOCKET_PATH => Ok(Address::Unix(path)),
            length => Err(format!("a socket's path may have {MAX_SOCKET_PATH} bytes, this one has {length}")),
        };
    }
    let (host, port) = split(text)?;
    let port = port.parse::<u16>().map_err(|_| "the port must be a number from 0 to 65535".to_owned())?;
    Ok(Address::Tcp(host.to_owned(), port))
}

fn split(text: &str) -> Result<(&str, &str), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once("]:").ok_or_else(|| "write an IPv6 address as [::1]:3306".to_owned())?;
        let is_v6 = host.split('%').next().is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
        return if is_v6 { Ok((host, port)) } else { Err("what stands in [ ] is not an IPv6 address".to_owned()) };
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() || text.matches(':').count() > 1 {
        return Err("write an IPv6 address as [::1]:3306".to_owned());
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(match text.parse::<u16>() {
            Ok(port) => format!("write host:port, as 127.0.0.1:{port}"),
            Err(_) => format!("write host:port, as {text}:3306, or the path of a unix socket"),
        });
    };
    let well_formed = host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if host.is_empty() || !well_formed {
        return Err("write host:port, as 127.0.0.1:3306, or the path of a unix socket".to_owned());
    }
    Ok((host, port))
}

/// `10.0.0.0/8`, or one address: in its plain form, `address/length`.
pub(super) fn parse_cidr(text: &str) -> Option<String> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address = address.parse::<IpAddr>().ok()?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let length = length.unwrap_or(whole);
    (length <= whole).then(|| format!("{address}/{length}"))
}

/// Whether one socket that listens on `a` takes what `b` wants.
pub(super) fn collide(a: &Address, b: &Address) -> bool {
    match (a, b) {
        (Address::Tcp(_, 0), _) | (_, Address::Tcp(_, 0)) => false,
        (Address::Tcp(a_host, a_port), Address::Tcp(b_host, b_port)) => {
            a_port == b_port && (a_host.eq_ignore_ascii_case(b_host) || is_any(a_host) || is_any(b_host))
        }
        (Address::Unix(a), Address::Unix(b)) => a == b,
        _ => false,
    }
}

/// `0.0.0.0` and `::`.
fn is_any(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
}

/// Whether a connection to `target` made on this machine would arrive at `listen`.
pub(super) fn reaches(target: &Address, listen: &Address) -> bool {
    match (target, listen) {
        (Address::Tcp(host, port), Address::Tcp(listen_host, listen_port)) if *port != 0 && port == listen_port => {
            host.eq_ignore_ascii_case(listen_host)
                || (is_any(listen_host) && is_loopback(host))
                || (is_loopback(host) && is_loopback(listen_host))
        }
        (Address::Unix(target), Address::Unix(listen)) => target == listen,
        _ => false,
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || matches!(host, "127.0.0.1" | "::1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        parse(text, Path::new("/etc/sw")).map(|address| address.to_string())
    }

    #[test]
    fn every_form_reads_and_prints() {
        let cases = [
            ("127.0.0.1:3307", "127.0.0.1:3307"),
            ("db-1.example_x:3306", "db-1.example_x:3306"),
            ("[::1]:3307", "[::1]:3307"),
            ("[fe80::1%eth0]:3307", "[fe80::1%eth0]:3307"),
            ("/run/my.sock", "/run/my.sock"),
            ("./my.sock", "/etc/sw/./my.sock"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn bad_addresses_say_what_to_write() {
        assert_eq!(read("3307").unwrap_err(), "write host:port, as 127.0.0.1:3307");
        assert_eq!(read("db").unwrap_err(), "write host:port, as db:3306, or the path of a unix socket");
        assert!(read("::1:3306").unwrap_err().contains("[::1]:3306"));
        for text in ["", ":3306", "a b:1", "h:70000", "h:", "[::1]", "[x]:1", "user@host:1", "tcp:h:1"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read(&format!("/{}", "x".repeat(107))).is_err());
    }

    #[test]
    fn cidrs() {
        assert_eq!(parse_cidr("10.0.0.0/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(parse_cidr("::1").as_deref(), Some("::1/128"));
        for text in ["10.0.0.0/33", "10.0.0/8", "x", "10.0.0.1/-1", "::/129"] {
            assert_eq!(parse_cidr(text), None, "{text}");
        }
    }

    #[test]
    fn collisions() {
        let tcp = |host: &str, port| Address::Tcp(host.to_owned(), port);
        assert!(collide(&tcp("0.0.0.0", 1), &tcp("127.0.0.1", 1)));
        assert!(!collide(&tcp("127.0.0.1", 0), &tcp("127.0.0.1", 0)));
        assert!(!collide(&tcp("127.0.0.1", 1), &tcp("127.0.0.1", 2)));
        assert!(reaches(&tcp("localhost", 1), &tcp("0.0.0.0", 1)));
        assert!(!reaches(&tcp("db", 1), &tcp("0.0.0.0", 1)));
    }
}
