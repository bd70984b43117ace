//! The checked configuration: what every other module may rely on. Raw YAML does not leave `config/`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Index into [`Config::stores`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId(pub u16);

/// Index into [`Config::groups`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u16);

/// A socket that clients or stores are reached on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// `host:port`; resolved at connect time.
    Tcp(String, u16),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// A secret of an account.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The password itself.
    Password(String),
    /// SHA1(SHA1(password)) as `*40HEX`: enough to check a client, not to log in at a store.
    NativeHash([u8; 20]),
    /// SHA1(password) as 40 hex digits: enough to log in with mysql_native_password.
    NativeStage1([u8; 20]),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// An account and its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Account name.
    pub user: String,
    /// Its secret.
    pub secret: Secret,
}

/// Whether a leg to a store is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// Encrypted if the client's own leg is, and the store offers it. The default.
    #[default]
    FollowClient,
    /// Never.
    Off,
    /// If the store offers it.
    Preferred,
    /// Always; a store that does not offer it is not used.
    Required,
}

/// TLS towards a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreTls {
    /// When.
    pub mode: TlsMode,
    /// CA file; with it the certificate and the host name are verified.
    pub ca: Option<PathBuf>,
    /// Client certificate chain.
    pub cert: Option<PathBuf>,
    /// Client key.
    pub key: Option<PathBuf>,
    /// Hash of what the files held when they were read: a renewed certificate is a change. 0 without files.
    pub content: u64,
}

/// A MySQL-speaking server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Its name.
    pub name: String,
    /// Tried in order.
    pub addresses: Vec<Address>,
    /// The control account: probes, account hashes, KILL.
    pub control: Option<Credentials>,
    /// One service account that every session uses on this store instead of its own.
    pub account: Option<Credentials>,
    /// TLS.
    pub tls: StoreTls,
    /// Send a PROXY protocol v2 header with the client's address.
    pub proxy_protocol: bool,
    /// What feeds the standby of a group that it serves.
    pub change_log: ChangeLog,
    /// What makes it refuse writers while it is a standby; where it is not said, what the store can do.
    pub seal: Option<Seal>,
}

/// A table pattern of a group: names as written, `*` is a wildcard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TablePattern {
    /// `db` of `db.table`; `None` means any database (narrowed by [`Group::databases`]).
    pub database: Option<String>,
    /// The table's name or pattern.
    pub name: String,
}

impl std::fmt::Display for TablePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.database {
            Some(database) => write!(f, "{database}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Tables that move together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its tables, views and routines.
    pub tables: Vec<TablePattern>,
    /// THE FLAG: the store that serves it.
    pub connection: StoreId,
    /// Databases in which unqualified patterns apply; empty means all.
    pub databases: Vec<String>,
    /// Tables that live elsewhere and are kept in sync on every store that serves this group: reads may join with them there.
    pub references: Vec<TablePattern>,
    /// Whether a transaction may touch this group's store and another one.
    pub cross_store_transactions: bool,
    /// The other store, kept in step with the one that serves the group.
    pub standby: Option<StoreId>,
    /// How the standby is kept, and how it takes over.
    pub keeping: Keeping,
    /// Reads that also run on the other store, to be compared.
    pub shadow: Option<Shadow>,
}

/// Which of a group's reads also run on the other store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shadow {
    /// So many of a million.
    pub sample: u32,
    /// The other store, where the file names it: [`Config::shadow_of`] says which it is now.
    pub store: Option<StoreId>,
}

impl Shadow {
    /// The share, as the file has it.
    #[must_use]
    pub fn share(&self) -> String {
        let digits = format!("{}.{:06}", self.sample / 1_000_000, self.sample % 1_000_000);
        digits.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

impl Config {
    /// The store that a group's shadow reads go to: the one that the file names, else its standby, else the only other store; never
    /// the one that serves the group, as the named one may after a flip.
    #[must_use]
    pub fn shadow_of(&self, group: &Group) -> Option<StoreId> {
        let shadow = group.shadow?;
        let other = |id: &StoreId| *id != group.connection;
        let named = shadow.store.filter(other).or(group.standby.filter(other));
        let mut others = (0..self.stores.len()).filter_map(|n| u16::try_from(n).ok().map(StoreId)).filter(other);
        named.or_else(|| others.next().filter(|_| others.next().is_none()))
    }
}

/// How a group's standby is kept, and how it takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// How long a statement waits at most while the group changes its authority. Default 10 s.
    pub hold_max: Duration,
    /// How long a cutover waits for transactions that are open, for the seal, and for the standby to catch up, each. Default 5 s.
    pub drain_timeout: Duration,
    /// When a write is acknowledged. Default: when the authority has committed it.
    pub ack: Ack,
    /// How long an acknowledgement waits for the standby. Default 1 s.
    pub ack_timeout: Duration,
    /// Whether an authority that is down is given up without an operator. Default: not.
    pub fallback: Fallback,
    /// How long the authority must be down before that. Default 3 s.
    pub fallback_after: Duration,
}

/// When a client is told that its write is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ack {
    /// When the authority has committed it.
    #[default]
    Authority,
    /// When the standby has it too.
    Standby,
}

/// Who gives up an authority that is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fallback {
    /// An operator.
    #[default]
    Manual,
    /// The proxies.
    Auto,
}

/// The record of a store's committed transactions that feeds a standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChangeLog {
    /// The store's own. The default.
    #[default]
    Binlog,
    /// A table on the store, in which the proxy records each write of the group.
    Journal,
}

/// What makes a store refuse every writer of a group but the applier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// Triggers on the group's tables.
    Trigger,
    /// The tables move to a schema that only the control account may use.
    Rename,
}

impl Seal {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Seal::Trigger => "trigger",
            Seal::Rename => "rename",
        }
    }
}

impl Default for Keeping {
    fn default() -> Self {
        Keeping {
            hold_max: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(5),
            ack: Ack::Authority,
            ack_timeout: Duration::from_secs(1),
            fallback: Fallback::Manual,
            fallback_after: Duration::from_secs(3),
        }
    }
}

/// What sockets are read and written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Io {
    /// `io_uring` on cores where many connections are at work, if the kernel has it and lets us; else epoll.
    #[default]
    Auto,
    /// `io_uring` for every connection, or no start.
    IoUring,
    /// epoll.
    Epoll,
}

impl std::fmt::Display for Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Io::Auto => "auto",
            Io::IoUring => "io_uring",
            Io::Epoll => "epoll",
        })
    }
}

/// How sessions use backend connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PoolMode {
    /// One backend per store and client, until the client leaves.
    #[default]
    Session,
    /// Returned to a pool when nothing pins.
    Transaction,
}

/// Bounds of the pool of `pool: transaction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pooling {
    /// Connections to each store, over all cores. Default 100.
    pub max_per_store: u32,
    /// A connection that nobody used for so long is closed. Default 60 s.
    pub idle_timeout: Duration,
    /// How long a statement waits for a connection of a full pool (1040 after it). Default 10 s.
    pub wait_timeout: Duration,
}

impl Default for Pooling {
    fn default() -> Self {
        Pooling { max_per_store: 100, idle_timeout: Duration::from_secs(60), wait_timeout: Duration::from_secs(10) }
    }
}

/// Limits, all with defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Client connections (1040 above it). Default 10,000.
    pub max_connections: u32,
    /// Bytes of one client command (1153 above it). Default 1 GiB: the store's own limit decides first.
    pub max_allowed_packet: u64,
    /// For the whole login of a client, and for connecting to a store. Default 10 s.
    pub connect_timeout: Duration,
    /// A client that sends nothing for so long is closed; `None` leaves it to the store's wait_timeout. Default none.
    pub idle_timeout: Option<Duration>,
    /// Logins under way at once from one client address. Default 1,000.
    pub max_pending_logins: u32,
    /// Prepared statements of one session (1461 above it). Default 16,382.
    pub max_prepared_statements: u32,
    /// How long SIGTERM waits for transactions and statements to end. Default 30 s.
    pub drain_timeout: Duration,
    /// Bytes of the plan cache of each core. Default 16 MiB.
    pub plan_cache: u64,
    /// Failed logins from one address, within a minute, before its further logins are delayed. Default 10.
    pub login_attempts: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: 10_000,
            max_allowed_packet: 1 << 30,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: None,
            max_pending_logins: 1_000,
            max_prepared_statements: 16_382,
            drain_timeout: Duration::from_secs(30),
            plan_cache: 16 << 20,
            login_attempts: 10,
        }
    }
}

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Shape.
    pub format: LogFormat,
    /// error | warn | info | debug | trace. Default info.
    pub level: String,
    /// Statements at least this slow are logged; `None` logs none.
    pub slow_query: Option<Duration>,
    /// Whether slow-query lines carry the literals of the statement. Default false.
    pub literals: bool,
}

impl Default for Log {
    fn default() -> Self {
        Log { format: LogFormat::Text, level: "info".to_owned(), slow_query: None, literals: false }
    }
}

/// What is kept of the statements that were seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insight {
    /// Statements that each core keeps figures of; 0 keeps none. Default 2,000.
    pub statements: u32,
    /// Whether the first text of each is kept too, with its literals. Default false.
    pub examples: bool,
}

impl Default for Insight {
    fn default() -> Self {
        Insight { statements: 2_000, examples: false }
    }
}

/// TLS towards clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    /// `Off` offers none; `Preferred` (default) offers it; `Required` refuses clients without.
    pub mode: TlsMode,
    /// Certificate chain (PEM); with `key` absent too, a self-signed pair is made at start.
    pub cert: Option<PathBuf>,
    /// Key (PEM).
    pub key: Option<PathBuf>,
    /// CA that client certificates are verified against when clients send one.
    pub ca: Option<PathBuf>,
    /// Hash of what the files held when they were read: a renewed certificate is a change. 0 without files.
    pub content: u64,
}

impl Default for ListenTls {
    fn default() -> Self {
        ListenTls { mode: TlsMode::Preferred, cert: None, key: None, ca: None, content: 0 }
    }
}

/// What an operator's account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// See and change. The default.
    #[default]
    Operator,
    /// See.
    Reader,
}

/// An account of the operators' surfaces.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminUser {
    /// Its password; never empty.
    pub password: String,
    /// What it may do.
    pub role: Role,
}

/// Operators' surfaces.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Admin {
    /// SQL console.
    pub sql: Option<SocketAddr>,
    /// HTTP API and dashboard.
    pub http: Option<SocketAddr>,
    /// Admin users.
    pub users: BTreeMap<String, AdminUser>,
    /// The log of changes; none is `<config>.audit` beside the config file.
    pub audit: Option<PathBuf>,
}

impl std::fmt::Debug for AdminUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminUser").field("role", &self.role).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let users: Vec<&String> = self.users.keys().collect();
        let mut shown = f.debug_struct("Admin");
        shown.field("sql", &self.sql).field("http", &self.http).field("users", &users).field("audit", &self.audit);
        shown.finish()
    }
}

/// The whole checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where clients connect.
    pub listen: Vec<Address>,
    /// Client addresses (CIDR) from which a PROXY protocol header is expected.
    pub proxy_protocol_from: Vec<String>,
    /// TLS towards clients.
    pub tls: ListenTls,
    /// The log of changes: `admin.audit`, else `<config>.audit` beside the config file.
    pub audit: PathBuf,
    /// The control socket of the CLI: `control_socket:`, else `<config>.sock` beside the config file.
    pub control_socket: PathBuf,
    /// Operators' surfaces.
    pub admin: Admin,
    /// Every store; [`StoreId`] is the index.
    pub stores: Vec<Store>,
    /// The store of every table that no group names.
    pub default: StoreId,
    /// Every group; [`GroupId`] is the index.
    pub groups: Vec<Group>,
    /// Secrets of client accounts per store: `users: {app: {new: {password: …}}}`; the inner key is the store's index.
    pub users: BTreeMap<String, BTreeMap<StoreId, Credentials>>,
    /// How sessions use backends.
    pub pool: PoolMode,
    /// Bounds of `pool: transaction`.
    pub pooling: Pooling,
    /// Whether `/* switchover:store=NAME */` in a statement is obeyed. Default true.
    pub hints: bool,
    /// Limits.
    pub limits: Limits,
    /// Logging.
    pub log: Log,
    /// What is kept of statements.
    pub insight: Insight,
    /// Worker threads; 0 means one per core.
    pub workers: usize,
    /// What they wait for sockets with.
    pub io: Io,
}
