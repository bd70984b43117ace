//! The demo's application: it speaks MySQL as applications with an ORM do, through the proxy, and knows nothing of it.
//!
//! | worker | does |
//! |---|---|
//! | collector | looks the site up, records pageviews (prepared statements), completes goals in a transaction |
//! | roller | a transaction: locks a batch of pageviews, adds it to the six stats tables, deletes it |
//! | dashboard | GROUP BY and joins among the grouped tables, as text and prepared |
//! | newcomer | connects, asks one thing, leaves |
//!
//! Every statement that is answered by an error counts as a client error, and so does a transaction that does not see
//! its own writes: that is what a flip in its middle would look like. A transaction that its server gave up for another's
//! (1213) is repeated once, as ORMs do, and counts only if it fails again.

mod requests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mysql_async::{Conn, Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::screen::complain;
use super::{ACCOUNT, DATABASE};
use requests::{Request, Session};

/// Errors that are printed; the rest is only counted.
const PRINTED: u64 = 5;

/// What a Laravel application says on every new connection.
const GREETING: &[&str] = &[
    "set names 'utf8mb4' collate 'utf8mb4_unicode_ci'",
    "set session sql_mode='ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO'",
];

/// Workers of each kind and their pause between requests, in ms.
const WORKERS: &[(Request, usize, u64)] =
    &[(Request::Collect, 4, 15), (Request::RollUp, 1, 250), (Request::Dashboard, 4, 20), (Request::Newcomer, 1, 200)];

/// What the application has seen, from its own side of the wire.
#[derive(Debug, Default)]
struct Tally {
    /// Reads and writes sent; not BEGIN, COMMIT, SET.
    queries: AtomicU64,
    errors: AtomicU64,
}

impl Tally {
    fn error(&self, request: Request, error: &dyn std::fmt::Display) {
        if self.errors.fetch_add(1, Ordering::Relaxed) < PRINTED {
            complain(format_args!("the application got an error ({request:?}): {error}"));
        }
    }
}

/// The running application.
pub(super) struct Application {
    tally: Arc<Tally>,
    enough: watch::Sender<bool>,
    workers: std::cell::RefCell<Vec<JoinHandle<()>>>,
    pool: Pool,
}

impl Application {
    /// Starts its workers against a port of 127.0.0.1.
    pub(super) fn start(port: u16) -> Application {
        let tally = Arc::new(Tally::default());
        let (enough, told) = watch::channel(false);
        let pool = Pool::new(options(port));
        let mut workers = Vec::new();
        let mut seed = 0;
        for &(request, count, pause) in WORKERS {
            for _ in 0..count {
                seed += 1;
                let worker =
                    Worker { request, port, pause, seed, pool: pool.clone(), tally: tally.clone(), told: told.clone() };
                workers.push(tokio::spawn(worker.run()));
            }
        }
        Application { tally, enough, workers: workers.into(), pool }
    }

    /// Lets every request under way end, then disconnects.
    pub(super) async fn stop(&self) {
        let _ = self.enough.send(true);
        let workers = std::mem::take(&mut *self.workers.borrow_mut());
        let ended = async {
            for worker in workers {
                let _ = worker.await;
            }
            let _ = self.pool.clone().disconnect().await;
        };
        if tokio::time::timeout(Duration::from_secs(20), ended).await.is_err() {
            self.tally.error(Request::Newcomer, &"a request did not end within 20 s");
        }
    }

    /// Reads and writes sent.
    pub(super) fn queries(&self) -> u64 {
        self.tally.queries.load(Ordering::Relaxed)
    }

    /// Statements that failed, and transactions that did not see their own writes.
    pub(super) fn errors(&self) -> u64 {
        self.tally.errors.load(Ordering::Relaxed)
    }
}

/// How it connects: to the port it is told, never to the unix socket that the server names; and without the driver's own
/// questions about the server's limits, so that each query counted is the application's.
fn options(port: u16) -> Opts {
    // as most ORMs' pools: a connection keeps its state until its next user
    let pool = PoolOpts::default()
        .with_constraints(PoolConstraints::new(2, 8).unwrap_or_default())
        .with_reset_connection(false);
    OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .prefer_socket(false)
        .user(Some(ACCOUNT))
        .pass(Some(ACCOUNT))
        .db_name(Some(DATABASE))
        .max_allowed_packet(Some(16 << 20))
        .wait_timeout(Some(28_800))
        .setup(GREETING.to_vec())
        .pool_opts(pool)
        .into()
}

struct Worker {
    request: Request,
    port: u16,
    pause: u64,
    seed: u64,
    pool: Pool,
    tally: Arc<Tally>,
    told: watch::Receiver<bool>,
}

impl Worker {
    async fn run(mut self) {
        let mut turn = self.seed << 32;
        while !*self.told.borrow() {
            turn += 1;
            if let Err(error) = self.request(turn).await {
                self.tally.error(self.request, &error);
            }
            let pause = Duration::from_millis(self.pause / 2 + turn.wrapping_mul(0x9E37_79B9) % self.pause.max(1));
            let _ = tokio::time::timeout(pause, self.told.wait_for(|&enough| enough)).await;
        }
    }

    async fn request(&self, turn: u64) -> anyhow::Result<()> {
        let newcomer = self.request == Request::Newcomer;
        let conn = if newcomer { Conn::new(options(self.port)).await? } else { self.pool.get_conn().await? };
        let mut session = Session::new(conn, &self.tally.queries, turn);
        let outcome = session.serve(self.request).await;
        if newcomer && outcome.is_ok() {
            session.leave().await?;
        }
        outcome
    }
}
