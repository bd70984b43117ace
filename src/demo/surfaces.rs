//! Where the demo's proxy is looked at and steered: the dashboard and the SQL console, at their usual ports if those are free.

use std::net::SocketAddr;

use super::free_port;

/// Where the SQL console usually is.
const SQL: u16 = 6032;
/// Where the dashboard usually is.
const HTTP: u16 = 6080;
/// The account of the demo's operator.
pub(super) const OPERATOR: &str = "ops";

/// Both of them, and the operator's password: a new one each time, for there are no default ones.
#[derive(Debug, Clone)]
pub(super) struct Surfaces {
    pub(super) sql: u16,
    pub(super) http: u16,
    pub(super) password: String,
}

/// Nine letters that are not taken for others.
fn password() -> String {
    let letters = b"abcdefghijkmnpqrstuvwxyz23456789";
    let bytes = crate::auth::random::random::<9>();
    bytes.iter().filter_map(|b| letters.get(usize::from(*b) % letters.len())).map(|b| char::from(*b)).collect()
}

impl Surfaces {
    /// Free ports, the usual ones first.
    pub(super) fn new() -> std::io::Result<Surfaces> {
        let port = |usual| free_port(usual).or_else(|_| free_port(0));
        Ok(Surfaces { sql: port(SQL)?, http: port(HTTP)?, password: password() })
    }

    /// Their part of `routing.yaml`.
    pub(super) fn yaml(&self) -> String {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        format!(
            "\nadmin:\n  http: {}\n  sql: {}\n  users: {{ {OPERATOR}: {{ password: {} }} }}\n",
            at(self.http),
            at(self.sql),
            self.password
        )
    }

    /// How they are reached.
    pub(super) fn introduction(&self) -> String {
        format!(
            "  dashboard       http://127.0.0.1:{}  as {OPERATOR} with the password {}\n  SQL console     mariadb -h 127.0.0.1 -P {} \
             -u {OPERATOR} -p{}",
            self.http, self.password, self.sql, self.password
        )
    }
}
