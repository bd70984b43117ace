//! Capability and status flags of MySQL and MariaDB.
//!
//! Source: MySQL "Capabilities Flags", MariaDB "Connection phase"; MariaDB's extended capabilities are the upper 32 bits.

bitflags::bitflags! {
    /// What a client and a server agree on at login.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Capabilities: u64 {
        /// CLIENT_LONG_PASSWORD; a MariaDB server or client clears it (CLIENT_MYSQL) to announce extended capabilities.
        const LONG_PASSWORD = 1;
        /// Affected rows are matched rows.
        const FOUND_ROWS = 1 << 1;
        /// Long column flags.
        const LONG_FLAG = 1 << 2;
        /// The login names a database.
        const CONNECT_WITH_DB = 1 << 3;
        /// `db.table.column` is not allowed.
        const NO_SCHEMA = 1 << 4;
        /// zlib compression.
        const COMPRESS = 1 << 5;
        /// ODBC client.
        const ODBC = 1 << 6;
        /// LOAD DATA LOCAL.
        const LOCAL_FILES = 1 << 7;
        /// IGNORE_SPACE for the parser.
        const IGNORE_SPACE = 1 << 8;
        /// The 4.1 protocol.
        const PROTOCOL_41 = 1 << 9;
        /// interactive_timeout instead of wait_timeout.
        const INTERACTIVE = 1 << 10;
        /// TLS.
        const SSL = 1 << 11;
        /// Ignore SIGPIPE (client side only).
        const IGNORE_SIGPIPE = 1 << 12;
        /// Status flags know transactions.
        const TRANSACTIONS = 1 << 13;
        /// Unused.
        const RESERVED = 1 << 14;
        /// 4.1 authentication.
        const SECURE_CONNECTION = 1 << 15;
        /// Several statements in one COM_QUERY.
        const MULTI_STATEMENTS = 1 << 16;
        /// Several results for COM_QUERY.
        const MULTI_RESULTS = 1 << 17;
        /// Several results for COM_STMT_EXECUTE.
        const PS_MULTI_RESULTS = 1 << 18;
        /// Authentication plugins.
        const PLUGIN_AUTH = 1 << 19;
        /// Connection attributes.
        const CONNECT_ATTRS = 1 << 20;
        /// Length-encoded authentication data.
        const PLUGIN_AUTH_LENENC_DATA = 1 << 21;
        /// Expired passwords are handled.
        const CAN_HANDLE_EXPIRED_PASSWORDS = 1 << 22;
        /// Session state in OK packets.
        const SESSION_TRACK = 1 << 23;
        /// No EOF packets between columns and rows.
        const DEPRECATE_EOF = 1 << 24;
        /// resultset_metadata is optional.
        const OPTIONAL_RESULTSET_METADATA = 1 << 25;
        /// zstd compression.
        const ZSTD_COMPRESSION = 1 << 26;
        /// Query attributes.
        const QUERY_ATTRIBUTES = 1 << 27;
        /// Several authentication factors.
        const MULTI_FACTOR = 1 << 28;
        /// MySQL's capability extension bit.
        const CAPABILITY_EXTENSION = 1 << 29;
        /// Client checks the server's certificate (client side only).
        const SSL_VERIFY_SERVER_CERT = 1 << 30;
        /// Client keeps options after a failed connect (client side only).
        const REMEMBER_OPTIONS = 1 << 31;
        /// MariaDB: progress reports.
        const MARIADB_PROGRESS = 1 << 32;
        /// MariaDB: COM_MULTI (withdrawn).
        const MARIADB_COM_MULTI = 1 << 33;
        /// MariaDB: COM_STMT_BULK_EXECUTE.
        const MARIADB_STMT_BULK_OPERATIONS = 1 << 34;
        /// MariaDB: extended type information in column definitions.
        const MARIADB_EXTENDED_TYPE_INFO = 1 << 35;
        /// MariaDB: prepared statements' metadata is sent once.
        const MARIADB_CACHE_METADATA = 1 << 36;
        /// MariaDB: a result per row of a bulk execute.
        const MARIADB_BULK_UNIT_RESULTS = 1 << 37;
    }
}

impl Capabilities {
    /// What the proxy cannot relay: compression (below the packets: a leg's own affair), query attributes (they would stand before the
    /// statement), optional metadata, multi-factor exchanges.
    pub const NEVER_RELAYED: Capabilities = Capabilities::COMPRESS
        .union(Capabilities::ZSTD_COMPRESSION)
        .union(Capabilities::QUERY_ATTRIBUTES)
        .union(Capabilities::OPTIONAL_RESULTSET_METADATA)
        .union(Capabilities::CAPABILITY_EXTENSION)
        .union(Capabilities::MULTI_FACTOR)
        .union(Capabilities::MARIADB_COM_MULTI);

    /// Client-side markers that a server neither offers nor minds: they are relayed whatever the greeting said.
    pub const CLIENT_ONLY: Capabilities = Capabilities::IGNORE_SIGPIPE
        .union(Capabilities::SSL_VERIFY_SERVER_CERT)
        .union(Capabilities::REMEMBER_OPTIONS)
        .union(Capabilities::LONG_PASSWORD)
        .union(Capabilities::CONNECT_WITH_DB);

    /// The low 32 bits as they stand in the protocol.
    #[must_use]
    pub fn low(self) -> u32 {
        u32::try_from(self.bits() & 0xFFFF_FFFF).unwrap_or(0)
    }

    /// MariaDB's extended 32 bits.
    #[must_use]
    pub fn high(self) -> u32 {
        u32::try_from(self.bits() >> 32).unwrap_or(0)
    }
}

bitflags::bitflags! {
    /// Server status flags of OK and EOF packets.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Status: u16 {
        /// A transaction is open.
        const IN_TRANS = 1;
        /// autocommit is on.
        const AUTOCOMMIT = 1 << 1;
        /// Another result follows.
        const MORE_RESULTS = 1 << 3;
        /// No good index was used.
        const NO_GOOD_INDEX_USED = 1 << 4;
        /// No index was used.
        const NO_INDEX_USED = 1 << 5;
        /// A cursor is open.
        const CURSOR_EXISTS = 1 << 6;
        /// The last row of a cursor was sent.
        const LAST_ROW_SENT = 1 << 7;
        /// A database was dropped.
        const DB_DROPPED = 1 << 8;
        /// NO_BACKSLASH_ESCAPES is in sql_mode.
        const NO_BACKSLASH_ESCAPES = 1 << 9;
        /// Metadata changed since prepare.
        const METADATA_CHANGED = 1 << 10;
        /// The query was slow.
        const QUERY_WAS_SLOW = 1 << 11;
        /// OUT parameters follow.
        const PS_OUT_PARAMS = 1 << 12;
        /// The open transaction is READ ONLY.
        const IN_TRANS_READONLY = 1 << 13;
        /// Session state information follows.
        const SESSION_STATE_CHANGED = 1 << 14;
        /// ANSI_QUOTES is in sql_mode (MariaDB).
        const ANSI_QUOTES = 1 << 15;
    }
}

impl Status {
    /// Flags that say how the session is, not what its last statement was like.
    pub const LASTING: Status = Status::IN_TRANS
        .union(Status::AUTOCOMMIT)
        .union(Status::NO_BACKSLASH_ESCAPES)
        .union(Status::IN_TRANS_READONLY)
        .union(Status::ANSI_QUOTES);
}
