//! The answer of `decide`: a store with the reason, or a refusal with the remedy.

use crate::config::{GroupId, StoreId};

/// Why a statement goes where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It names no table: the default store.
    NoTables,
    /// None of its tables is in a group: the default store.
    Default,
    /// The table at this index of the facts is in this group; its flag names the store.
    Group {
        /// The group.
        group: GroupId,
        /// Index into `Facts::tables`.
        table: u16,
    },
    /// Several stores, but this one has copies (references) of the others' tables.
    Reference {
        /// The group whose store it is.
        group: GroupId,
        /// Index into `Facts::tables` of the reference table.
        table: u16,
    },
    /// `/* switchover:store=NAME */`.
    Hint,
    /// The table at this index is a temporary table of this session.
    TemporaryTable {
        /// Index into `Facts::tables`.
        table: u16,
    },
}

/// A statement that is not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// MySQL error code.
    pub code: u16,
    /// SQLSTATE.
    pub sqlstate: [u8; 5],
    /// Text that begins with `switchover:`, names tables, stores and the way out.
    pub message: String,
}

/// Where a statement runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// On this store.
    Store {
        /// The store.
        store: StoreId,
        /// Why.
        reason: Reason,
    },
    /// Nowhere.
    Refuse(Refusal),
}
