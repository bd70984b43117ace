//! The ground of what is tested about one transaction over two stores.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::{Database, Proxy, stores};

/// `orders` on legacy, `hits` (grouped) on new: two rows each, with `n` = 0.
pub fn ground() -> (Database, Proxy) {
    let database = stores().database();
    for table in ["orders", "hits"] {
        database.on_both(&format!("CREATE TABLE {table} (id INT PRIMARY KEY, n INT) ENGINE=InnoDB"));
        database.on_both(&format!("INSERT INTO {table} VALUES (1, 0), (2, 0)"));
    }
    let proxy = Proxy::pair(&["hits"]);
    proxy.flag("analytics", "new");
    (database, proxy)
}

/// Runs statements that must succeed.
pub async fn run(conn: &mut Conn, statements: &[&str]) {
    for sql in statements {
        conn.query_drop(*sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
}

/// The sum of `n` in `orders`, and in `hits`, where they are.
pub fn values(database: &Database) -> (String, String) {
    let one = |rows: Vec<Vec<String>>| rows[0][0].clone();
    (one(database.on_legacy("SELECT SUM(n) FROM orders")), one(database.on_new("SELECT SUM(n) FROM hits")))
}
