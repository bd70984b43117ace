//! One store as the proxy will meet it: reachable, its version and limits, TLS, and whether the control account sees enough.

use std::time::Duration;

use mysql_async::{Conn, Error, OptsBuilder, SslOpts};

use super::catalog::{Catalog, rows};
use super::{Finding, Level};
use crate::config::Config;
use crate::config::model::{Address, Credentials, PoolMode, Secret, Store, StoreTls, TlsMode};

/// What a store was found to be.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    pub(super) name: String,
    pub(super) lower_case_table_names: Option<String>,
    /// What is on it; none where it could not be asked.
    pub(super) catalog: Option<Catalog>,
    pub(super) findings: Vec<Finding>,
}

impl Probe {
    fn new(store: &Store) -> Probe {
        Probe { name: store.name.clone(), lower_case_table_names: None, catalog: None, findings: Vec::new() }
    }

    /// A store that kept us waiting.
    pub(super) fn late(store: &Store, patience: Duration) -> Probe {
        let mut probe = Probe::new(store);
        let what = format!("did not answer within {} seconds", patience.as_secs());
        probe.bad(Level::Error, what, "is the address right, and does a firewall drop packets?");
        probe
    }

    /// Whether names differ by case only.
    pub(super) fn fold(&self) -> bool {
        self.lower_case_table_names.as_deref().is_some_and(|mode| mode != "0")
    }

    fn ok(&mut self, what: impl Into<String>) {
        self.findings.push(Finding::ok(&self.name, what));
    }

    fn bad(&mut self, level: Level, what: impl Into<String>, mend: impl Into<String>) {
        self.findings.push(Finding::bad(&self.name, level, what, mend));
    }
}

/// Asks a store everything.
pub(super) async fn probe(config: &Config, store: &Store) -> Probe {
    let mut probe = Probe::new(store);
    let Some(control) = &store.control else {
        let mend = format!(
            "CREATE USER {} IDENTIFIED BY '…'; {}\nand in the file: stores.{}.control: {{ user: switchover, password: … }}",
            new_account(store),
            grant(&new_account(store), &VISIBLE),
            store.name
        );
        probe.bad(Level::Warn, "has no control account: probes, account hashes and KILL need one", mend);
        return probe;
    };
    let mut reached = None;
    for address in &store.addresses {
        match connect(config, store, control, address).await {
            Ok(conn) if reached.is_none() => reached = Some((address, conn)),
            Ok(conn) => drop(conn.disconnect().await),
            Err(error) => unreachable_because(&mut probe, config, store, address, &error),
        }
    }
    let Some((address, mut conn)) = reached else { return probe };
    // One address of several is enough to serve; the others are wanted on a bad day.
    probe.findings.iter_mut().for_each(|finding| finding.level = Level::Warn);
    if let Err(error) = interview(&mut probe, config, store, address, &mut conn).await {
        probe.bad(Level::Error, format!("stopped answering: {}", plain(&error)), "look into the store's error log");
    }
    drop(conn.disconnect().await);
    probe
}

/// Only what is on a store, or why that is not known.
pub(super) async fn catalog(config: &Config, store: &Store) -> Result<Probe, String> {
    let unread = |why: &str| format!("what is tied to the group on {} was not read: {why}", store.name);
    let Some(control) = &store.control else { return Err(unread("it has no control account")) };
    let mut last = String::new();
    for address in &store.addresses {
        match connect(config, store, control, address).await {
            Ok(mut conn) => {
                let mut probe = Probe::new(store);
                let read = async {
                    probe.lower_case_table_names = variable(&mut conn, "lower_case_table_names").await?;
                    Catalog::read(&mut conn).await
                };
                let read = read.await;
                drop(conn.disconnect().await);
                probe.catalog = Some(read.map_err(|error| unread(&plain(&error)))?);
                return Ok(probe);
            }
            Err(error) => last = plain(&error),
        }
    }
    Err(unread(&last))
}

async fn connect(config: &Config, store: &Store, control: &Credentials, address: &Address) -> Result<Conn, Error> {
    let wanted = match store.tls.mode {
        TlsMode::Off | TlsMode::FollowClient => vec![false],
        TlsMode::Preferred => vec![true, false],
        TlsMode::Required => vec![true],
    };
    let mut last = None;
    for tls in wanted {
        let options = options(&store.tls, control, address, tls);
        match tokio::time::timeout(config.limits.connect_timeout, Conn::new(options)).await {
            Ok(Ok(conn)) => return Ok(conn),
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(Error::from(std::io::Error::from(std::io::ErrorKind::TimedOut))),
        }
    }
    Err(last.unwrap_or_else(|| Error::from(std::io::Error::other("not tried"))))
}

fn options(tls: &StoreTls, control: &Credentials, address: &Address, encrypted: bool) -> OptsBuilder {
    let password = match &control.secret {
        Secret::Password(password) => Some(password.clone()),
        Secret::NativeHash(_) | Secret::NativeStage1(_) => None,
    };
    let options =
        OptsBuilder::default().user(Some(&control.user)).pass(password).prefer_socket(false).stmt_cache_size(0);
    let options = match address {
        Address::Tcp(host, port) => options.ip_or_hostname(host).tcp_port(*port),
        Address::Unix(path) => options.socket(Some(path.to_string_lossy())),
    };
    if encrypted { options.ssl_opts(ssl(tls)) } else { options }
}

fn ssl(tls: &StoreTls) -> SslOpts {
    let identity = tls.cert.as_ref().zip(tls.key.as_ref());
    let identity =
        identity.map(|(cert, key)| mysql_async::ClientIdentity::new(cert.clone().into(), key.clone().into()));
    let options = SslOpts::default().with_client_identity(identity);
    match &tls.ca {
        Some(ca) => options.with_root_certs(vec![ca.clone().into()]).with_disable_built_in_roots(true),
        None => options.with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true),
    }
}

/// The innermost error says it; the layers around it only repeat themselves.
fn plain(error: &Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn unreachable_because(probe: &mut Probe, config: &Config, store: &Store, address: &Address, error: &Error) {
    let (what, mend) = match error {
        Error::Server(error) if matches!(error.code, 1044 | 1045 | 1698) => {
            let grant = format!(
                "CREATE USER {} IDENTIFIED BY '…'; {}",
                new_account(store),
                grant(&new_account(store), &VISIBLE)
            );
            (
                format!("refuses the control account: {}", error.message),
                format!("{grant}\nor mend stores.{}.control", probe.name),
            )
        }
        Error::Server(error) if error.code == 1129 => {
            (error.message.clone(), "on the store: FLUSH HOSTS; SET GLOBAL max_connect_errors = 1000000;".to_owned())
        }
        Error::Server(error) if error.code == 1040 => {
            let wanted = config.limits.max_connections;
            ("has no free connection".to_owned(), format!("on the store: SET GLOBAL max_connections = {wanted};"))
        }
        Error::Server(error) => {
            (format!("answers {} ({})", error.message, error.code), "look into the store's error log".to_owned())
        }
        other => (
            format!("cannot be reached: {}", plain(other)),
            format!("does it run there? mariadb-admin {} ping", ping(address)),
        ),
    };
    probe.bad(Level::Error, format!("{address} {what}"), mend);
}

fn ping(address: &Address) -> String {
    match address {
        Address::Tcp(host, port) => format!("-h {host} -P {port}"),
        Address::Unix(path) => format!("-S {}", path.display()),
    }
}

/// Every question to a store that answers.
async fn interview(
    probe: &mut Probe,
    config: &Config,
    store: &Store,
    address: &Address,
    conn: &mut Conn,
) -> Result<(), Error> {
    let account = own_account(store, conn).await?;
    let version = variable(conn, "version").await?.unwrap_or_default();
    let comment = variable(conn, "version_comment").await?.unwrap_or_default();
    let maria = version.to_lowercase().contains("mariadb");
    probe.ok(format!("{version} ({comment}) at {address}"));
    encryption(probe, store, conn).await?;
    connections(probe, config, conn).await?;
    names(probe, conn).await?;
    probe.lower_case_table_names = variable(conn, "lower_case_table_names").await?;
    if config.store_name(config.default) == store.name {
        accounts(probe, &account, conn, maria).await?;
    }
    let sees_all = privileges(probe, &account, conn, maria).await?;
    match Catalog::read(conn).await {
        Ok(catalog) => {
            if catalog.unreadable > 0 && sees_all {
                let what = format!(
                    "{} views, routines or events do not show their text: they may hide grouped tables",
                    catalog.unreadable
                );
                probe.bad(Level::Warn, what, "look at them by hand, as root: SHOW CREATE VIEW …");
            }
            if !catalog.absent.is_empty() {
                let views = catalog.absent.join(", ");
                let what = format!("it has no information_schema.{views}: what hides tables there is not looked for");
                probe.bad(
                    Level::Warn,
                    what,
                    "name the views and routines that use grouped tables in the group's `tables:`",
                );
            }
            probe.catalog = Some(catalog);
        }
        Err(Error::Server(error)) => {
            let mend = grant(&account, &VISIBLE);
            probe.bad(Level::Warn, format!("its tables cannot be listed: {}", error.message), mend);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// What the control account needs to see all that may hide a table.
const VISIBLE: [&str; 5] = ["SELECT", "PROCESS", "SHOW VIEW", "TRIGGER", "EVENT"];

fn grant(account: &str, privileges: &[&str]) -> String {
    format!("GRANT {} ON *.* TO {account};", privileges.join(", "))
}

/// Whether the control account sees everything; what it lacks is reported. Roles are taken on trust.
async fn privileges(probe: &mut Probe, account: &str, conn: &mut Conn, maria: bool) -> Result<bool, Error> {
    let grants = match rows(conn, "SHOW GRANTS").await {
        Ok(rows) => rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect::<Vec<String>>(),
        Err(Error::Server(_)) => return Ok(true),
        Err(error) => return Err(error),
    };
    let missing = missing(&grants);
    if !missing.is_empty() {
        let what =
            format!("the control account lacks {}: what hides grouped tables may stay unseen", missing.join(", "));
        probe.bad(Level::Warn, what, grant(account, &missing));
    }
    let kill = ["SUPER", "CONNECTION ADMIN", "CONNECTION_ADMIN"];
    if kill.iter().all(|privilege| !holds(&grants, privilege)) {
        let privilege = if maria { "CONNECTION ADMIN" } else { "CONNECTION_ADMIN" };
        let what = "the control account may not KILL: reads of clients that went away run to their end";
        probe.bad(Level::Warn, what, grant(account, &[privilege]));
    }
    Ok(missing.is_empty())
}

fn missing(grants: &[String]) -> Vec<&'static str> {
    VISIBLE.into_iter().filter(|privilege| !holds(grants, privilege)).collect()
}

/// Whether one of the account's grants on everything has the privilege, or a role may.
fn holds(grants: &[String], privilege: &str) -> bool {
    grants.iter().any(|grant| match grant.strip_prefix("GRANT ").and_then(|rest| rest.split_once(" ON ")) {
        Some((list, target)) => {
            target.starts_with("*.*") && list.split(", ").any(|held| held == privilege || held == "ALL PRIVILEGES")
        }
        None => true,
    })
}

/// An account to make, as GRANT wants it.
fn new_account(store: &Store) -> String {
    store.control.as_ref().map_or_else(|| "switchover@'%'".to_owned(), |control| format!("{}@'%'", control.user))
}

/// The account that this connection was given, as GRANT wants it.
async fn own_account(store: &Store, conn: &mut Conn) -> Result<String, Error> {
    let current = rows(conn, "SELECT CURRENT_USER()").await?.into_iter().next().and_then(|row| row.into_iter().next());
    let current = current.flatten().unwrap_or_default();
    Ok(current.rsplit_once('@').map_or_else(|| new_account(store), |(user, host)| format!("'{user}'@'{host}'")))
}

async fn variable(conn: &mut Conn, name: &str) -> Result<Option<String>, Error> {
    show(conn, &format!("SHOW GLOBAL VARIABLES LIKE '{name}'")).await
}

/// The second column of the first row.
async fn show(conn: &mut Conn, sql: &str) -> Result<Option<String>, Error> {
    let rows = rows(conn, sql).await?;
    Ok(rows.into_iter().next().and_then(|row| row.into_iter().nth(1)).flatten())
}

async fn encryption(probe: &mut Probe, store: &Store, conn: &mut Conn) -> Result<(), Error> {
    let version = show(conn, "SHOW STATUS LIKE 'Ssl_version'").await?.unwrap_or_default();
    let offered = variable(conn, "have_ssl").await?;
    if !version.is_empty() {
        probe.ok(format!("TLS: {version}"));
    } else if store.tls.mode == TlsMode::Preferred {
        let mend = format!("give the store a certificate, or say stores.{}.tls: off", store.name);
        probe.bad(Level::Warn, "TLS is preferred, and the connection is not encrypted", mend);
    } else if offered.is_some_and(|offered| offered != "YES") && store.tls.mode == TlsMode::FollowClient {
        probe.ok("TLS: not offered; clients with TLS end it at the proxy");
    }
    Ok(())
}

async fn connections(probe: &mut Probe, config: &Config, conn: &mut Conn) -> Result<(), Error> {
    let Some(most) = variable(conn, "max_connections").await?.and_then(|most| most.parse::<u64>().ok()) else {
        return Ok(());
    };
    if config.pool == PoolMode::Transaction {
        let wanted = u64::from(config.pooling.max_per_store);
        if most <= wanted {
            let what = format!("max_connections is {most}, and the pool may want {wanted}");
            let mend = format!("pool: {{ mode: transaction, max_per_store: {} }}, or more on the store", most / 2);
            probe.bad(Level::Warn, what, mend);
            return Ok(());
        }
    }
    let wanted = u64::from(config.limits.max_connections);
    if config.pool == PoolMode::Session && most < wanted {
        let what =
            format!("max_connections is {most}: of the {wanted} clients that the proxy takes, the rest would get 1040");
        let mend = format!(
            "on the store: SET GLOBAL max_connections = {wanted};\nor in the file: limits: {{ max_connections: {most} }}"
        );
        probe.bad(Level::Warn, what, mend);
    } else {
        probe.ok(format!("max_connections {most}"));
    }
    Ok(())
}

/// RULES 2: connections that never log in make a store block the proxy's address, unless it never looks at names.
async fn names(probe: &mut Probe, conn: &mut Conn) -> Result<(), Error> {
    match variable(conn, "skip_name_resolve").await?.as_deref() {
        Some("ON" | "1") | None => probe.ok("skip_name_resolve is on"),
        Some(_) => {
            let what = "skip_name_resolve is off: connections that never log in can make it block the proxy (1129)";
            let mend = "in the store's my.cnf: skip-name-resolve\nor at once, for longer: SET GLOBAL max_connect_errors = 1000000;";
            probe.bad(Level::Warn, what, mend);
        }
    }
    Ok(())
}

async fn accounts(probe: &mut Probe, account: &str, conn: &mut Conn, maria: bool) -> Result<(), Error> {
    let table = if maria { "mysql.global_priv" } else { "mysql.user" };
    match rows(conn, &format!("SELECT COUNT(*) FROM {table}")).await {
        Ok(_) => probe.ok("account hashes are readable"),
        Err(Error::Server(error)) => {
            let what = format!(
                "account hashes are not readable: secrets for other stores cannot be recovered at login ({})",
                error.message
            );
            let mend = format!("GRANT SELECT ON {table} TO {account};\nor name the accounts in `users:`");
            probe.bad(Level::Warn, what, mend);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read() {
        let grants = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let all = grants("GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION");
        assert!(missing(&all).is_empty() && holds(&all, "SUPER"));
        let some = grants("GRANT SELECT, PROCESS ON *.* TO `s`@`%`\nGRANT TRIGGER, EVENT ON `app`.* TO `s`@`%`");
        assert_eq!(missing(&some), ["SHOW VIEW", "TRIGGER", "EVENT"]);
        assert!(!holds(&some, "SUPER"));
        assert!(missing(&grants("GRANT `ops`@`%` TO `s`@`%`")).is_empty());
    }
}
