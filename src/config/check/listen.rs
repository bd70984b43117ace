//! Where clients and operators come in: `listen`, `tls`, `proxy_protocol`, `admin`.

use std::net::SocketAddr;
use std::ops::Range;

use super::super::address;
use super::super::model::{Address, Admin, ListenTls, TlsMode};
use super::super::problem::ProblemKind;
use super::super::raw::{Content, Node};
use super::super::reader::{Fields, Reader, shown};
use super::super::source::Finding;
use super::{accounts, files};

/// Addresses of one list.
pub(super) const MAX_ADDRESSES: usize = 256;

/// The modes of a leg, as they are written.
pub(super) const MODES: [(&str, TlsMode); 3] =
    [("off", TlsMode::Off), ("preferred", TlsMode::Preferred), ("required", TlsMode::Required)];

/// One address of `what`; reports what is wrong with it.
pub(super) fn address(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<(Address, Range<usize>)> {
    let text = reader.text(node, what)?;
    if text.value.contains('@') {
        reader.source.mask(node.written.clone());
        reader.invalid(
            &text.span,
            format!("`{what}` is no address"),
            "accounts go to `control:`, `account:` and `users:`, not into the address",
        );
        return None;
    }
    match address::parse(&text.value, reader.base()) {
        Ok(address) => Some((address, text.span)),
        Err(help) => {
            reader.invalid(&text.span, format!("`{what}` cannot be {}", shown(&text.value)), help);
            None
        }
    }
}

/// `listen`, each with its place.
pub(super) fn addresses(reader: &mut Reader<'_>, top: &mut Fields<'_>) -> Vec<(Address, Range<usize>)> {
    let Some(node) = top.require(reader, "listen", "`listen: 127.0.0.1:3307`, where clients connect") else {
        return Vec::new();
    };
    let mut found: Vec<(Address, Range<usize>)> = Vec::new();
    let items = reader.list(node, "listen", MAX_ADDRESSES);
    if items.is_empty() && matches!(&*node.content, Content::Sequence(_)) {
        reader.invalid(&node.span, "`listen` has no address", "write `listen: 127.0.0.1:3307`");
    }
    for item in items {
        let Some((address, span)) = address(reader, item, "listen") else { continue };
        if let Some((other, _)) = found.iter().find(|(other, _)| address::collide(other, &address)) {
            let message = format!("`listen` has {address} twice: {other} takes it already");
            reader.report(Finding::new(ProblemKind::Duplicate, span.clone(), message).help("remove one of them"));
        }
        found.push((address, span));
    }
    found
}

/// `tls` towards clients: a mode, or a mapping.
pub(super) fn tls(reader: &mut Reader<'_>, top: &mut Fields<'_>) -> ListenTls {
    let mut tls = ListenTls::default();
    let Some(node) = top.take("tls") else { return tls };
    if node.scalar().is_some() {
        tls.mode = reader.choice(node, "tls", &MODES).unwrap_or_default();
        return tls;
    }
    let Some(mut fields) = reader.fields(node, "tls", &node.span) else { return tls };
    if let Some(mode) = fields.take("mode") {
        tls.mode = reader.choice(mode, "tls.mode", &MODES).unwrap_or_default();
    }
    let files = files::tls(reader, &mut fields);
    (tls.cert, tls.key, tls.ca, tls.content) = (files.cert, files.key, files.ca, files.content);
    fields.close(reader);
    tls
}

/// `proxy_protocol: {from: [cidr, …]}`.
pub(super) fn proxy_protocol(reader: &mut Reader<'_>, top: &mut Fields<'_>) -> Vec<String> {
    let Some(node) = top.take("proxy_protocol") else { return Vec::new() };
    let Some(mut fields) = reader.fields(node, "proxy_protocol", &node.span) else { return Vec::new() };
    let from = fields.require(reader, "from", "`from: [10.0.0.0/8]`, the addresses of your load balancers");
    fields.close(reader);
    let Some(from) = from else { return Vec::new() };
    let items = reader.list(from, "proxy_protocol.from", 10_000);
    let expected = "an address or a network, as 10.0.0.5 or 10.0.0.0/8";
    items
        .into_iter()
        .filter_map(|item| reader.parsed(item, "proxy_protocol.from", expected, address::parse_cidr))
        .collect()
}

/// `admin: {sql, http, users, audit}`.
pub(super) fn admin(reader: &mut Reader<'_>, top: &mut Fields<'_>, listen: &[(Address, Range<usize>)]) -> Admin {
    let mut admin = Admin::default();
    let Some(node) = top.take("admin") else { return admin };
    let Some(mut fields) = reader.fields(node, "admin", &node.span) else { return admin };
    admin.sql = surface(reader, &mut fields, "sql", listen);
    admin.http = surface(reader, &mut fields, "http", listen);
    if let (Some(sql), Some(http)) = (admin.sql, admin.http)
        && sql == http
    {
        let message = format!("`admin.sql` and `admin.http` are both {sql}");
        reader
            .report(Finding::new(ProblemKind::Duplicate, fields.span.clone(), message).help("give each its own port"));
    }
    match fields.take("users") {
        Some(users) => admin.users = accounts::admin_users(reader, users),
        None if admin.sql.is_some() || admin.http.is_some() => reader.report(
            Finding::new(ProblemKind::Missing, fields.span.clone(), "`admin` has no `users`: nobody could log in")
                .help("write `users: { ops: { password: \"${SWITCHOVER_OPS_PASSWORD}\" } }`"),
        ),
        None => {}
    }
    if let Some(text) = fields.take("audit").and_then(|audit| reader.text(audit, "admin.audit")) {
        admin.audit = Some(reader.base().join(text.value));
    }
    fields.close(reader);
    admin
}

fn surface(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    key: &'static str,
    listen: &[(Address, Range<usize>)],
) -> Option<SocketAddr> {
    let node = fields.take(key)?;
    let what = fields.name(key);
    let expected = "an IP address and a port, as 127.0.0.1:6032";
    let found: SocketAddr = reader.parsed(node, &what, expected, |text| text.parse().ok())?;
    let as_address = Address::Tcp(found.ip().to_string(), found.port());
    if let Some((other, _)) = listen.iter().find(|(other, _)| address::collide(other, &as_address)) {
        let message = format!("`{what}` is {found}, and `listen` takes {other} already");
        reader.report(Finding::new(ProblemKind::Duplicate, node.span.clone(), message).help("give each its own port"));
    }
    Some(found)
}
