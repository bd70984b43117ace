//! What does not say the same twice: for whoever repeats a statement, or asks two stores. MariaDB 10.11 and MySQL 8.0 manual.

/// Words that are the moment, or the session, without a parenthesis.
pub(super) const MOMENT: &[&str] = &[
    "CURRENT_TIMESTAMP",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "UTC_DATE",
    "UTC_TIME",
    "UTC_TIMESTAMP",
    "CURRENT_USER",
    "CURRENT_ROLE",
];
/// Functions that come to something else each time, or do something each time.
pub(super) const NEVER_TWICE: &[&str] = &[
    "RAND",
    "UUID",
    "UUID_SHORT",
    "UUID_V4",
    "UUID_V7",
    "SYS_GUID",
    "RANDOM_BYTES",
    "SLEEP",
    "BENCHMARK",
    "GET_LOCK",
    "RELEASE_LOCK",
    "RELEASE_ALL_LOCKS",
    "NEXTVAL",
    "LASTVAL",
    "SETVAL",
    "MASTER_POS_WAIT",
    "MASTER_GTID_WAIT",
    "LOAD_FILE",
];
