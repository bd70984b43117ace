//! A configuration for the tests of this layer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::snapshot::Snapshot;
use crate::config::model::{
    Address, Admin, Config, Group, Insight, Io, Limits, ListenTls, Log, PoolMode, Pooling, Store, StoreId, StoreTls,
    TablePattern,
};

pub(crate) fn pattern(text: &str) -> TablePattern {
    match text.split_once('.') {
        Some((db, name)) => TablePattern { database: Some(db.into()), name: name.into() },
        None => TablePattern { database: None, name: text.into() },
    }
}

/// `name`, tables, store, references.
pub(crate) fn group(name: &str, tables: &[&str], store: u16, references: &[&str]) -> Group {
    Group {
        name: name.into(),
        tables: tables.iter().map(|t| pattern(t)).collect(),
        connection: StoreId(store),
        databases: Vec::new(),
        references: references.iter().map(|t| pattern(t)).collect(),
        cross_store_transactions: true,
        standby: None,
        keeping: crate::config::model::Keeping::default(),
        shadow: None,
    }
}

/// Stores legacy (the default), new and third.
pub(crate) fn config(groups: Vec<Group>) -> Config {
    let store = |name: &str| Store {
        name: name.into(),
        addresses: vec![Address::Tcp("127.0.0.1".into(), 3306)],
        control: None,
        account: None,
        tls: StoreTls::default(),
        proxy_protocol: false,
        change_log: crate::config::model::ChangeLog::default(),
        seal: None,
    };
    Config {
        listen: Vec::new(),
        proxy_protocol_from: Vec::new(),
        tls: ListenTls::default(),
        control_socket: PathBuf::new(),
        audit: PathBuf::new(),
        admin: Admin::default(),
        stores: vec![store("legacy"), store("new"), store("third")],
        default: StoreId(0),
        groups,
        users: BTreeMap::new(),
        pool: PoolMode::Session,
        pooling: Pooling::default(),
        hints: true,
        limits: Limits::default(),
        log: Log::default(),
        insight: Insight::default(),
        workers: 0,
        io: Io::default(),
    }
}

pub(crate) fn snapshot(groups: Vec<Group>) -> Snapshot {
    Snapshot::compile(Arc::new(config(groups)), 7, 0)
}
