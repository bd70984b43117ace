//! The other store of a group, kept in step with the authority (layer L3).
//!
//! ```text
//! authority's log ─► reader (a thread) ─► batch ─► partition ─┬─► part 0: merge ─► statements + mark ─► commit
//!                                                             ├─► part 1: …
//!                                                             └─► part n
//! ```
//!
//! Each round takes what the log has ready, whole transactions only, and splits them into parts that share no key
//! ([`partition`]). A part is one transaction on the standby: the net effect of its transactions ([`merge`]), deletes before
//! inserts, so that no order of unique keys can be in the way; and its mark ([`marks`]), by compare-and-set with the term of
//! the lease. So a crash of anything, at any moment, leaves each part either whole with its mark, or not there. The start
//! after a crash is the ordinary start: read the marks, go on from there. Where the log is ahead, the next round is executed while one is
//! committed ([`underway`]).
//!
//! | invariant | held by | broken at by |
//! |---|---|---|
//! | a transaction is applied exactly once, whole | mark and rows in one transaction | `simulation` (a crash at every step), `tests/it/standby/deaths.rs` |
//! | conflicting ones in commit order | [`partition`]: what shares a key is one part, in order | `partition` (property), `tests/it/standby/workload.rs` |
//! | two appliers never both write (RULES.md 33) | the term in each mark | `simulation`, `tests/it/standby/lease.rs` |
//! | one store takes writes, never two; an authority that was left has no write behind what was moved | [`record`]: compare-and-set; [`pair`]: a seal is changed under its store's lock | `cutover_model` (a crash, a suspension at every step), `tests/it/standby/cutover_deaths.rs` |
//! | nothing is changed in silence | counts of rows and warnings of each statement | `tests/it/standby/stops.rs` |
//! | a value stays the same bytes | [`crate::entry`] | `tests/it/standby/types.rs` |
//!
//! What does not fit stops the group: [`applier`] goes back to one transaction at a time, so that the one that does not fit is
//! named, and waits for `switchover standby retry` or `skip`.

mod acks;
pub mod applier;
mod aside;
pub mod at_start;
mod batch;
mod beat;
pub mod catalog;
pub mod check;
pub mod cutover;
pub mod events;
pub mod fallback;
pub mod health;
pub mod images;
pub mod init;
pub mod journal_start;
pub mod lease;
pub mod left_behind;
pub mod log;
pub mod marks;
pub mod merge;
pub mod pair;
pub mod partition;
mod placeholder;
pub mod reader;
pub mod reapply;
pub mod record;
pub mod rewind;
pub mod rounds;
pub mod schema;
pub mod seal;
mod seal_lock;
mod seal_rename;
pub mod settle;
mod snapshot;
pub mod state;
pub mod statements;
mod strays;
pub mod tables;
mod tenure;
mod underway;
pub mod watch;
mod watcher;
mod worker;

#[cfg(test)]
mod cutover_model;
#[cfg(test)]
mod simulation;

pub use applier::{Command, Settings, start};
pub use state::State;
pub use tables::GroupTables;
