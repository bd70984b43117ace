//! The worker: takes reads from the queue, has both stores answer, and settles what a difference is.
//!
//! Both stores are asked at once. What differs is asked again after 250 ms, 1 s and 3 s; where the shadow store then says what the
//! serving store says, or has said before, it was behind: lag. What never meets is real.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::LocalOptions;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::sleep;

use super::compare::{Difference, Verdict, compare};
use super::report::{Findings, Found, Report, Subject, Took};
use super::run::{Answer, Seats};
use crate::backend::connection::Rows;
use crate::routing::shadow::Read;
use crate::sql::fingerprint::{digest_text, fingerprint};
use crate::sql::repeats::{Form, repeats};
use crate::wire::ErrPacket;

/// Statements that run at once, each on both stores.
pub const AT_ONCE: usize = 4;
/// Reads that wait to be asked again; while there are so many, no more are begun.
const OPEN: usize = 64;
/// Between the attempts.
const AGAIN: [Duration; 3] = [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(3)];
/// Bytes of an answer that is remembered for the next attempt.
const REMEMBERED: usize = 64 << 10;

/// Told of a statement's first real difference: its group, and one line.
pub type Told = Box<dyn Fn(&str, String) + Send>;

/// The running worker; dropping it ends it.
#[derive(Debug)]
pub struct Handle {
    findings: Arc<Findings>,
    end: watch::Sender<bool>,
}

impl Handle {
    /// What it has found, see [`Findings::report`].
    #[must_use]
    pub fn report(&self, group: Option<&str>, limit: u32) -> Report {
        self.findings.report(group, limit)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.end.send(true);
    }
}

/// Starts the worker on a thread of its own.
///
/// # Errors
/// As the system's, where it has no thread.
pub fn start(reads: mpsc::Receiver<Read>, told: Told) -> std::io::Result<Handle> {
    let findings = Arc::new(Findings::default());
    let (end, mut ended) = watch::channel(false);
    let shared = Arc::clone(&findings);
    std::thread::Builder::new().name("shadow".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(async {
                let worker = Rc::new(Worker {
                    findings: shared,
                    told,
                    seats: Seats::default(),
                    running: Semaphore::new(AT_ONCE),
                });
                tokio::select! {
                    () = work(worker, reads) => {}
                    _ = ended.wait_for(|end| *end) => {}
                }
            }),
            Err(error) => tracing::error!(%error, "shadow reads cannot be compared"),
        }
    })?;
    Ok(Handle { findings, end })
}

struct Worker {
    findings: Arc<Findings>,
    told: Told,
    seats: Seats,
    /// Of [`AT_ONCE`].
    running: Semaphore,
}

async fn work(worker: Rc<Worker>, mut reads: mpsc::Receiver<Read>) {
    let open = Arc::new(Semaphore::new(OPEN));
    loop {
        // the queue waits with its bound, and drops, while nothing more is begun
        let Ok(place) = Arc::clone(&open).acquire_owned().await else { return };
        let Ok(turn) = worker.running.acquire().await else { return };
        let Some(read) = reads.recv().await else { return };
        drop(turn);
        let worker = Rc::clone(&worker);
        tokio::task::spawn_local(async move {
            worker.settle(&read).await;
            drop(place);
        });
        // it begins before the next is taken: the turn that was free is its
        tokio::task::yield_now().await;
    }
}

/// Both answers to one attempt.
struct Both {
    serving: Answer,
    shadow: Answer,
}

impl Worker {
    /// Compares a read until it is settled, and notes how that ended.
    async fn settle(&self, read: &Read) {
        let known = read.settings.is_some() && std::str::from_utf8(&read.text).is_ok();
        let form = repeats(&read.text, &read.dialect).filter(|_| known);
        let found = match form {
            Some(form) => self.attempts(read, form).await,
            None => None,
        };
        let Some((found, took)) = found else {
            self.findings.skipped(&read.group);
            return;
        };
        let subject = Subject {
            group: &read.group,
            print: fingerprint(&read.text, &read.dialect),
            database: read.database.as_deref(),
            serving: read.serving.name(),
            shadow: read.shadow.name(),
            examples: read.examples,
        };
        let text = || digest_text(&read.text, &read.dialect);
        if self.findings.note(&subject, &found, took, text)
            && let Found::Real(difference) = &found
        {
            let (serving, shadow) = (read.serving.name(), read.shadow.name());
            let place = &difference.place;
            let text: String = text().chars().take(200).collect();
            tracing::warn!(group = read.group, serving, shadow, place, statement = text, "a shadow read differs");
            (self.told)(&read.group, format!("{shadow} answers otherwise than {serving} ({place}): {text}"));
        }
    }

    /// How it ended; nothing where one of them does not know the session's settings.
    async fn attempts(&self, read: &Read, form: Form) -> Option<(Found, Took)> {
        let first = self.both(read).await;
        if [&first.serving, &first.shadow].iter().any(|a| matches!(a, Answer::OtherSettings)) {
            return None;
        }
        let took = [&first.serving, &first.shadow].map(micros);
        let mut found = judged(read, &first, form);
        if !matches!(found, Found::Real(_)) {
            return Some((found, took));
        }
        let mut before: Vec<Rows> = remembered(first).into_iter().collect();
        for pause in AGAIN {
            sleep(pause).await;
            let both = self.both(read).await;
            let behind = |rows: &Rows| before.iter().any(|b| is_same(b, rows, form));
            match judged(read, &both, form) {
                Found::Equal => return Some((Found::Lag, took)),
                Found::Real(difference) => {
                    if matches!(&both.shadow, Answer::Rows(rows, _) if behind(rows)) {
                        return Some((Found::Lag, took));
                    }
                    found = Found::Real(difference);
                }
                settled @ (Found::Order(_) | Found::Type(_) | Found::Lag) => return Some((settled, took)),
                // a store that went away between two attempts leaves it open what the difference was
                open @ (Found::Failed(_) | Found::TooLarge | Found::Unreachable(_)) => return Some((open, took)),
            }
            before.extend(remembered(both));
        }
        Some((found, took))
    }

    async fn both(&self, read: &Read) -> Both {
        let _turn = self.running.acquire().await;
        let set = match self.seats.set(read).await {
            Ok(set) => set,
            Err(text) => return Both { serving: Answer::Unreachable(text.clone()), shadow: Answer::Unreachable(text) },
        };
        let (serving, shadow) =
            tokio::join!(self.seats.ask(&read.serving, read, &set), self.seats.ask(&read.shadow, read, &set));
        Both { serving, shadow }
    }
}

fn micros(answer: &Answer) -> Option<u64> {
    match answer {
        Answer::Rows(_, micros) => Some(*micros),
        _ => None,
    }
}

/// What the serving store said, where that is small.
fn remembered(both: Both) -> Option<Rows> {
    let Answer::Rows(rows, _) = both.serving else { return None };
    let bytes: usize = rows.rows.iter().flatten().map(|v| v.as_ref().map_or(0, Vec::len) + size_of::<Vec<u8>>()).sum();
    (bytes <= REMEMBERED).then_some(rows)
}

fn is_same(serving: &Rows, shadow: &Rows, form: Form) -> bool {
    matches!(compare(serving, shadow, form), Verdict::Equal)
}

/// What one attempt says.
fn judged(read: &Read, both: &Both, form: Form) -> Found {
    // the client was answered: where the serving store does not answer now, nothing is said of the other
    for (store, answer) in [(&read.serving, &both.serving), (&read.shadow, &both.shadow)] {
        match answer {
            Answer::Rows(..) => {}
            Answer::Unreachable(text) => return Found::Unreachable(text.clone()),
            Answer::TooLarge => return Found::TooLarge,
            Answer::OtherSettings => return Found::Unreachable(format!("{} has other settings", store.name())),
            Answer::Late => return Found::Failed(format!("{} does not answer within 5 s", store.name())),
            Answer::Refused(error) => {
                return Found::Failed(format!("{}: {}", store.name(), told(error, read.examples)));
            }
        }
    }
    let (Answer::Rows(serving, _), Answer::Rows(shadow, _)) = (&both.serving, &both.shadow) else {
        return Found::Real(Difference::default());
    };
    match compare(serving, shadow, form) {
        Verdict::Equal => Found::Equal,
        Verdict::Order(d) => Found::Order(d),
        Verdict::Type(d) => Found::Type(d),
        Verdict::Different(d) => Found::Real(d),
    }
}

/// Errors whose text names what the schema has, and no data.
const OF_SCHEMA: [u16; 12] = [1044, 1049, 1052, 1054, 1055, 1102, 1140, 1142, 1143, 1146, 1305, 1356];

/// An error with its text, where that holds no data or data may be shown.
fn told(error: &ErrPacket, examples: bool) -> String {
    if examples || OF_SCHEMA.contains(&error.code) { error.to_string() } else { format!("error {}", error.code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_data_to_themselves() {
        let of = |code, text: &str, examples| told(&ErrPacket::new(code, b"42000", text), examples);
        assert!(of(1054, "Unknown column 'a' in 'field list'", false).contains("Unknown column 'a'"));
        assert_eq!(of(1064, "near 'secret'", false), "error 1064");
        assert!(of(1064, "near 'secret'", true).contains("secret"));
    }
}
