//! What an authority had alone when it failed, and its standby took over: settled when the authority returns (DESIGN.md 4).
//!
//! ```text
//! the old authority's log, from where the standby was ─► read ─► recorded on the new authority, pending
//!      ─► the old authority takes it back, and follows from where the new one began (rewind)
//!      ─► the new authority applies what fits, and reports the rest (reapply) ─► its own log ─► the old one
//! ```
//!
//! The first thing that it does is to read how far it came, so that it may end at any moment and begin again:
//!
//! | written | holds over a crash |
//! |---|---|
//! | `settlings`, `settling_log` on the new authority | the transactions, whole, before the old one is made to forget them |
//! | `rewound` on the old authority | taken back once: written in the transaction that does it |
//! | `left_behind` on the new authority | applied or reported once: written in the transaction that does it |

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::catalog::{self, Catalog};
use super::left_behind::{self, Settled, Settling, Written};
use super::log;
use super::reapply::{Reapply, reapply};
use super::rewind::{self, Rewind, Rewound};
use super::rounds::{self, Failed};
use super::seal;
use super::tables::GroupTables;
use crate::backend::control::{self, ControlError};
use crate::backend::{Backend, StoreHandle};
use crate::changes::journal::{Ids, Secret, schema};
use crate::changes::{Item, Log, LogError, Source, Tables};
use crate::entry::{Position, Transaction};

const LIMIT: Duration = Duration::from_secs(10);

/// What to settle.
#[derive(Clone)]
pub struct Request {
    /// The group.
    pub group: String,
    /// Its tables.
    pub tables: GroupTables,
    /// The authority that failed: back, and sealed.
    pub old: Arc<StoreHandle>,
    /// The store that took over.
    pub new: Arc<StoreHandle>,
    /// What the old one's seal lets in.
    pub token: String,
    /// The new one had everything of the old one's log before this,
    pub position: Position,
    /// and these transactions behind it.
    pub applied: BTreeSet<String>,
    /// Where the new one's own log was when it was opened.
    pub opened: Position,
}

impl Request {
    /// Which settlement this is: the same over restarts, another for another failure.
    #[must_use]
    pub fn settling(&self) -> Settling {
        let source = self.old.name().to_owned();
        let digest = Sha256::digest(format!("{source} {} {}", self.position, self.opened));
        let id = crate::wire::hex::hex(&digest);
        Settling { group: self.group.clone(), id, source }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The store that failed.
    pub source: String,
    /// Every transaction that was left behind, in order, and what became of it.
    pub transactions: Vec<Settled>,
    /// Why the store that failed is to be loaded again, and how; nothing, where it follows.
    pub reload: Option<(String, String)>,
}

impl Report {
    /// How many were `applied`, or `reported`.
    #[must_use]
    pub fn count(&self, became: &str) -> usize {
        self.transactions.iter().filter(|t| t.became == became).count()
    }

    /// For operators.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        const NAMED: usize = 20;
        let ids = |list: Vec<&Settled>| {
            let more = if list.len() > NAMED { format!(" and {} more", list.len() - NAMED) } else { String::new() };
            let named: Vec<&str> = list.iter().take(NAMED).map(|t| t.id.as_str()).collect();
            format!("{}{more}", named.join(", "))
        };
        let mut lines = Vec::new();
        if self.transactions.is_empty() {
            lines.push(format!("nothing was left behind on {}", self.source));
        } else {
            let all = ids(self.transactions.iter().collect());
            lines.push(format!("behind by {} transactions of {}, ids {all}", self.transactions.len(), self.source));
        }
        for (became, words) in [("applied", "applied"), ("reported", "not applied, see switchover.left_behind")] {
            let list: Vec<&Settled> = self.transactions.iter().filter(|t| t.became == became).collect();
            if !list.is_empty() {
                lines.push(format!("{} {words}: {}", list.len(), ids(list)));
            }
        }
        if let Some((what, remedy)) = &self.reload {
            lines.push(format!("{} cannot follow: {what}", self.source));
            lines.extend(remedy.lines().map(|line| format!("→ {line}")));
        }
        lines
    }
}

/// Settles, from wherever an earlier attempt came to.
///
/// # Errors
/// [`Failed::Lost`] and [`Failed::Busy`]: again, when the store is there; [`Failed::Misfit`]: an operator mends it, then again.
pub async fn settle(request: &Request) -> Result<Report, Failed> {
    let settling = request.settling();
    let rewound = match record(request).await? {
        Some(transactions) => {
            let rewound = rewind(request, &transactions).await?;
            reapplied(request, &transactions).await?;
            Some(rewound)
        }
        // the store may have been loaded again since: it is only asked
        None => rewind::known(&mut connect(&request.old, request).await?, &settling).await?,
    };
    let transactions = left_behind::list(&mut connect(&request.new, request).await?, &settling).await?;
    let reload = match rewound {
        Some(Rewound::Reload { what, remedy }) => Some((what, remedy)),
        Some(Rewound::Done) | None => None,
    };
    Ok(Report { source: settling.source, transactions, reload })
}

/// The third step: what the new authority applies or reports; then all is settled.
///
/// # Errors
/// As [`settle`].
pub async fn reapplied(request: &Request, transactions: &[Transaction]) -> Result<(), Failed> {
    let settling = request.settling();
    let catalog = tables(&request.new, &request.tables).await?;
    let mut new = connect(&request.new, request).await?;
    let settled = left_behind::list(&mut new, &settling).await?;
    let became: HashMap<String, String> = settled.into_iter().map(|t| (t.id, t.became)).collect();
    let journal = signing(request, &mut new).await?;
    let onto = Reapply { settling: &settling, catalog: &catalog, journal: journal.as_ref() };
    reapply(&mut new, onto, transactions, &became).await?;
    left_behind::finish(&mut new, &settling).await
}

/// How entries of the new authority's journal are made, if that is its log.
async fn signing(request: &Request, new: &mut Backend) -> Result<Option<(Secret, Ids)>, Failed> {
    if !matches!(request.opened, Position::Journal { .. }) {
        return Ok(None);
    }
    let signing = schema::signing(new).await.map_err(Failed::of)?;
    let nothing = || Failed::Misfit {
        what: format!("{}: switchover.secrets does not say what entries are signed with", request.new.name()),
        remedy: format!("switchover init {}", request.group),
    };
    signing.ok_or_else(nothing).map(Some)
}

/// The first step: what was left behind, on record on the new authority; nothing, where all is settled already.
///
/// # Errors
/// As [`settle`].
pub async fn record(request: &Request) -> Result<Option<Vec<Transaction>>, Failed> {
    let settling = request.settling();
    if written(request, &settling).await? == Written::Nothing {
        let old = tables(&request.old, &request.tables).await?;
        let Request { tables, position, applied, .. } = request;
        let transactions = read_left_behind(&request.old, (&request.group, tables), position, applied).await?;
        left_behind::record(&mut connect(&request.new, request).await?, &settling, &transactions, &old).await?;
    }
    // what is written, whoever wrote it, is what counts
    match written(request, &settling).await? {
        Written::Open(transactions) => {
            let mut new = connect(&request.new, request).await?;
            left_behind::load(&mut new, &settling, transactions).await.map(Some)
        }
        Written::Done | Written::Nothing => Ok(None),
    }
}

async fn written(request: &Request, settling: &Settling) -> Result<Written, Failed> {
    let mut new = connect(&request.new, request).await?;
    let written = left_behind::look(&mut new, settling).await;
    left_behind::end(&mut new, written).await
}

/// A connection of the applier's kind, which a seal lets in.
async fn connect(store: &Arc<StoreHandle>, request: &Request) -> Result<Backend, Failed> {
    let mut backend = rounds::connect(store, &request.group).await.map_err(lost)?;
    left_behind::run(&mut backend, &seal::show(&request.token)).await?;
    Ok(backend)
}

/// The second step: the old authority takes it back.
///
/// # Errors
/// As [`settle`].
pub async fn rewind(request: &Request, transactions: &[Transaction]) -> Result<Rewound, Failed> {
    let settling = request.settling();
    let catalog = tables(&request.old, &request.tables).await?;
    let mut old = connect(&request.old, request).await?;
    if let Some((table, trigger)) =
        catalog.values().find_map(|t| Some((t, t.triggers.iter().find(|t| !seal::is_own(t))?)))
    {
        let name = format!("{}.{}", crate::entry::quoted(&table.name.database), crate::entry::quoted(trigger));
        return Err(Failed::Misfit {
            what: format!(
                "{}: the trigger {trigger} on {} would act when rows are taken back",
                settling.source, table.name
            ),
            remedy: format!(
                "on {}: DROP TRIGGER {name}, and make it again when the store is the authority",
                settling.source
            ),
        });
    }
    let rewind = Rewind {
        settling: &settling,
        authority: request.new.name(),
        start: &request.opened,
        catalog: &catalog,
        transactions,
    };
    rewind::rewind(&mut old, &rewind).await
}

fn lost(error: ControlError) -> Failed {
    Failed::Lost(error.to_string())
}

/// The group's tables as the store has them now.
async fn tables(store: &Arc<StoreHandle>, tables: &GroupTables) -> Result<Catalog, Failed> {
    // a connection with the server's own character set: names are text here
    let mut backend = control::connect(store, LIMIT).await.map_err(lost)?;
    catalog::read(&mut backend, tables).await.map_err(Failed::of)
}

/// What a store's log holds of the group behind `position`, up to its end now, but for what was `applied`.
///
/// # Errors
/// [`Failed::Lost`]; what the log does not hold exactly as a misfit.
pub async fn read_left_behind(
    store: &Arc<StoreHandle>,
    (group_name, group): (&str, &GroupTables),
    position: &Position,
    applied: &BTreeSet<String>,
) -> Result<Vec<Transaction>, Failed> {
    let mut backend = control::connect(store, LIMIT).await.map_err(lost)?;
    let end = log::end(&mut backend, log::kind(position), Some(position)).await.map_err(|e| match e {
        log::EndError::Query(e) => Failed::of(e),
        other => Failed::Lost(other.to_string()),
    })?;
    let reached = |position: &Position| position.behind(&end) == Some(0);
    let databases = tables(store, group).await?.keys().map(|name| name.database.clone()).collect();
    let interest = Box::new(group.clone().in_databases(databases)) as Box<dyn Tables>;
    let mut out = Vec::new();
    let mut at = position.clone();
    if reached(&at) {
        return Ok(out);
    }
    // any number that no server and no applier has will do: it reads for a moment
    let server_id = 0x4000_0000 | (std::process::id() & 0x0FFF_FFFF);
    let unreadable = |error: LogError| match error {
        LogError::Lost(why) => Failed::Lost(format!("{}: {why}", store.name())),
        LogError::Stop(stop) => Failed::Misfit {
            what: format!("{} left behind what cannot be settled: {}", store.name(), stop.what),
            remedy: format!(
                "load {} again from the store that serves the group, then `switchover init --from`",
                store.name()
            ),
        },
    };
    let source = Source { store: Arc::clone(store), group: group_name.to_owned(), server_id };
    let mut log = Log::open(&source, at.clone(), interest).await.map_err(unreadable)?;
    while !reached(&at) {
        match log.next().await.map_err(unreadable)? {
            Item::Transaction(transaction) => {
                at = transaction.after.clone();
                if !applied.contains(&transaction.id) {
                    out.push(transaction);
                }
            }
            Item::Passed(position) | Item::Signal(position) => at = position,
            Item::Alive => {}
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_was_left_behind() {
        let settled = |n: usize, became: &str| Settled { id: format!("0-1-{n}"), became: became.to_owned() };
        let mut report = Report { source: "legacy".into(), transactions: Vec::new(), reload: None };
        assert_eq!(report.lines(), ["nothing was left behind on legacy"]);
        report.transactions = (1..=25).map(|n| settled(n, if n == 7 { "reported" } else { "applied" })).collect();
        let lines = report.lines();
        assert!(
            lines[0].starts_with("behind by 25 transactions of legacy, ids 0-1-1, ")
                && lines[0].ends_with("0-1-20 and 5 more")
        );
        assert_eq!(lines[2], "1 not applied, see switchover.left_behind: 0-1-7");
        assert_eq!((report.count("applied"), report.count("reported")), (24, 1));
        report.reload = Some(("d.t was emptied".into(), "load it".into()));
        assert_eq!(report.lines().last().unwrap(), "→ load it");
    }
}
