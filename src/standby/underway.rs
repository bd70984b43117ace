//! A round that is being applied: its parts, each a task with a connection of its own.
//!
//! ```text
//! round n     ████ execute ████│commit│
//! round n+1                    │████ execute ████│commit│     (by the other connections, where the log is ahead)
//! ```
//!
//! The next round begins when every part of this one is executed: then this one waits for no row any more, and the two cannot
//! stand in each other's way. It commits when this one has: so what the marks say is true of every moment ([`super::marks`]). Where
//! this one fails, the next is dropped with its connections, and the store rolls it back.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::batch::Ready;
use super::catalog::Catalog;
use super::marks::{self, Resume};
use super::rounds::{Failed, Part, Stamp};
use super::worker::Worker;

/// What became of a part, and its connection.
type Ended = (Worker, Result<u64, Failed>);

/// A round under way. Dropping it gives up what is not committed.
pub(super) struct Underway {
    pub(super) ready: Rc<Ready>,
    /// Where the applier is when this is applied.
    pub(super) behind: Resume,
    /// Which connections it has.
    pub(super) lane: usize,
    parts: JoinSet<Ended>,
    idle: Vec<Worker>,
    executed: mpsc::UnboundedReceiver<bool>,
    gate: watch::Sender<bool>,
}

impl Underway {
    /// Begins to execute a round. There are at least as many workers as it has parts.
    pub(super) fn begin(
        ready: Ready,
        catalog: &Arc<Catalog>,
        stamp: Stamp,
        lane: usize,
        mut workers: Vec<Worker>,
    ) -> Underway {
        let behind = Resume { round: stamp.round, position: stamp.position.clone(), applied: ready.applied.clone() };
        let idle = workers.split_off(ready.parts.len().min(workers.len()));
        let (ready, stamp) = (Rc::new(ready), Rc::new(stamp));
        let (sender, executed) = mpsc::unbounded_channel();
        let gate = watch::Sender::new(false);
        let mut parts = JoinSet::new();
        for (n, mut worker) in workers.into_iter().enumerate() {
            let (ready, stamp, catalog) = (Rc::clone(&ready), Rc::clone(&stamp), Arc::clone(catalog));
            let (sender, mut gate) = (sender.clone(), gate.subscribe());
            parts.spawn_local(async move {
                let executed = execute(&mut worker, n, &ready, &stamp, &catalog).await;
                let _ = sender.send(executed.is_ok());
                let done = match executed {
                    Ok(rows) if gate.wait_for(|open| *open).await.is_ok() => worker.commit().await.map(|()| rows),
                    Ok(_) => Err(Failed::Lost("the round before it was given up".to_owned())),
                    Err(failed) => Err(failed),
                };
                (worker, done)
            });
        }
        Underway { ready, behind, lane, parts, idle, executed, gate }
    }

    /// Everything before it is committed.
    pub(super) fn may_commit(&self) {
        self.gate.send_replace(true);
    }

    /// Waits until all of it is executed; false where a part is not.
    pub(super) async fn executed(&mut self) -> bool {
        for _ in 0..self.ready.parts.len() {
            if self.executed.recv().await != Some(true) {
                return false;
            }
        }
        true
    }

    /// Waits for its end: how many rows it was, and its connections.
    pub(super) async fn end(mut self) -> (Result<u64, Failed>, Vec<Worker>) {
        let (mut rows, mut failed) = (0, None);
        while let Some(ended) = self.parts.join_next().await {
            let (worker, done) = match ended {
                Ok(ended) => ended,
                Err(e) => return (Err(Failed::Lost(format!("a part was not done: {e}"))), self.idle),
            };
            self.idle.push(worker);
            match done {
                Ok(n) => rows += n,
                // the worst of several says what to do: a lost connection leaves more open than a lock wait
                Err(e) => {
                    failed = Some(match failed.take() {
                        Some(Failed::Lost(why)) => Failed::Lost(why),
                        Some(Failed::Deposed) => Failed::Deposed,
                        _ => e,
                    })
                }
            }
        }
        (failed.map_or(Ok(rows), Err), self.idle)
    }
}

async fn execute(
    worker: &mut Worker,
    number: usize,
    ready: &Ready,
    stamp: &Stamp,
    catalog: &Catalog,
) -> Result<u64, Failed> {
    let Some(work) = ready.parts.get(number) else { return Ok(0) };
    let (transactions, plan) = (ready.of(work), work.plan.as_ref().map_err(Clone::clone));
    let ids = &marks::ids_of(ready.parts.len(), &transactions, &ready.applied);
    let part = Part { catalog, transactions: &transactions, plan, stamp, ids, further: None };
    worker.execute(&part).await
}
