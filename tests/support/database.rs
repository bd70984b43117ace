//! A database of a test's own on both shared stores.

use std::sync::atomic::{AtomicU32, Ordering};

use super::Stores;

/// Made on both stores; dropped with the value.
pub struct Database {
    /// Its name.
    pub name: String,
    stores: Stores,
}

impl Database {
    pub(super) fn create(stores: &Stores) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let database = Database { name, stores: stores.clone() };
        let sql = format!("CREATE OR REPLACE DATABASE {} CHARACTER SET utf8mb4", database.name);
        database.stores.legacy.sql(&sql);
        database.stores.new.sql(&sql);
        database
    }

    /// Runs one statement on each store itself, past any proxy, with this database as the current one.
    pub fn on_both(&self, sql: &str) {
        self.on_legacy(sql);
        self.on_new(sql);
    }

    /// Runs one statement on the legacy store; its rows as text.
    pub fn on_legacy(&self, sql: &str) -> Vec<Vec<String>> {
        self.stores.legacy.sql_in(&self.name, sql)
    }

    /// Runs one statement on the new store; its rows as text.
    pub fn on_new(&self, sql: &str) -> Vec<Vec<String>> {
        self.stores.new.sql_in(&self.name, sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A session that a failed test left behind must not make the drop wait for its metadata lock.
        let sql = format!("SET STATEMENT lock_wait_timeout = 2 FOR DROP DATABASE IF EXISTS {}", self.name);
        let _ = self.stores.legacy.try_sql(None, &sql);
        let _ = self.stores.new.try_sql(None, &sql);
    }
}
