//! `stores`: who they are, where they are, and how they are spoken to.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::address;
use super::super::model::{Address, ChangeLog, Seal, Store, StoreId, StoreTls, TlsMode};
use super::super::problem::ProblemKind;
use super::super::raw::{Content, Entry, Node};
use super::super::reader::{Fields, Reader};
use super::super::source::Finding;
use super::super::units;
use super::accounts::{Use, credentials};
use super::{StoreNames, check_name, files, listen};

type Listen = [(Address, Range<usize>)];

/// Every store in the order of the file, and their names.
pub(super) fn stores(reader: &mut Reader<'_>, top: &mut Fields<'_>, listen: &Listen) -> (Vec<Store>, StoreNames) {
    let mut stores = Vec::new();
    let mut names = BTreeMap::new();
    let example = "`stores: { legacy: { address: 127.0.0.1:3306 } }`";
    let Some(node) = top.require(reader, "stores", example) else { return (stores, StoreNames(names)) };
    let entries = reader.entries(node, "stores");
    if entries.is_empty() && matches!(&*node.content, Content::Mapping(_)) {
        reader.report(
            Finding::new(ProblemKind::Missing, node.span.clone(), "`stores` has none").help(format!("write {example}")),
        );
    }
    for entry in entries {
        check_name(reader, &entry.key_span, &entry.key, "store");
        let Ok(id) = u16::try_from(stores.len()) else {
            reader.invalid(&entry.key_span, "more than 65535 stores", "remove some");
            break;
        };
        names.insert(entry.key.clone(), StoreId(id));
        stores.push(store(reader, entry, listen));
    }
    (stores, StoreNames(names))
}

fn store(reader: &mut Reader<'_>, entry: &Entry, listen: &Listen) -> Store {
    let path = format!("stores.{}", entry.key);
    let mut store = Store {
        name: entry.key.clone(),
        addresses: Vec::new(),
        control: None,
        account: None,
        tls: StoreTls::default(),
        proxy_protocol: false,
        change_log: ChangeLog::default(),
        seal: None,
    };
    let Some(mut fields) = reader.fields(&entry.value, &path, &entry.key_span) else { return store };
    if let Some(node) = fields.require(reader, "address", "`address: 127.0.0.1:3306`, or the path of a unix socket") {
        store.addresses = addresses(reader, node, &fields.name("address"), listen);
    }
    if let Some(node) = fields.take("control") {
        store.control = credentials(reader, node, &fields.name("control"), None, Use::Control);
    }
    if let Some(node) = fields.take("account") {
        store.account = credentials(reader, node, &fields.name("account"), None, Use::Login);
    }
    store.tls = tls(reader, &mut fields);
    if let Some(node) = fields.take("proxy_protocol") {
        let what = fields.name("proxy_protocol");
        store.proxy_protocol = reader.parsed(node, &what, "true or false", units::switch).unwrap_or_default();
    }
    let logs = [("binlog", ChangeLog::Binlog), ("journal", ChangeLog::Journal)];
    if let Some(node) = fields.take("change_log") {
        let what = fields.name("change_log");
        store.change_log = reader.choice(node, &what, &logs).unwrap_or_default();
    }
    let seals = [Seal::Trigger, Seal::Rename].map(|seal| (seal.word(), seal));
    if let Some(node) = fields.take("seal") {
        let what = fields.name("seal");
        store.seal = reader.choice(node, &what, &seals);
    }
    fields.close(reader);
    store
}

fn addresses(reader: &mut Reader<'_>, node: &Node, what: &str, listen: &Listen) -> Vec<Address> {
    let mut found: Vec<Address> = Vec::new();
    let items = reader.list(node, what, listen::MAX_ADDRESSES);
    if items.is_empty() && matches!(&*node.content, Content::Sequence(_)) {
        reader.invalid(&node.span, format!("`{what}` has no address"), "write host:port, as 127.0.0.1:3306");
    }
    for item in items {
        let Some((address, span)) = listen::address(reader, item, what) else { continue };
        if matches!(address, Address::Tcp(_, 0)) {
            reader.invalid(&span, format!("`{what}` has port 0"), "write the port that the store listens on");
        }
        if let Some((own, _)) = listen.iter().find(|(own, _)| address::reaches(&address, own)) {
            let message = format!("`{what}` is the proxy itself: it listens on {own}");
            reader.invalid(&span, message, "write the store's own address");
        }
        if found.contains(&address) {
            let message = format!("`{what}` has {address} twice");
            reader.report(Finding::new(ProblemKind::Duplicate, span, message).help("remove one of them"));
        }
        found.push(address);
    }
    found
}

/// A mode, or a mapping; a mapping without a mode means what its files ask for: always.
fn tls(reader: &mut Reader<'_>, store: &mut Fields<'_>) -> StoreTls {
    let mut tls = StoreTls::default();
    let Some(node) = store.take("tls") else { return tls };
    let path = store.name("tls");
    if node.scalar().is_some() {
        tls.mode = reader.choice(node, &path, &listen::MODES).unwrap_or_default();
        return tls;
    }
    let Some(mut fields) = reader.fields(node, &path, &node.span) else { return tls };
    tls.mode = match fields.take("mode") {
        Some(mode) => reader.choice(mode, &fields.name("mode"), &listen::MODES).unwrap_or_default(),
        None => TlsMode::Required,
    };
    let files = files::tls(reader, &mut fields);
    (tls.cert, tls.key, tls.ca, tls.content) = (files.cert, files.key, files.ca, files.content);
    fields.close(reader);
    tls
}
