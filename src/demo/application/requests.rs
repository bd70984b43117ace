//! What one request of the demo's application says to its database.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::ensure;
use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, IsolationLevel, Params, TxOpts, params};

use crate::demo::schema::{DIMENSIONS, GOALS_PER_SITE, SITES};

/// Pageviews that the roller takes at once.
const BATCH: usize = 40;

/// The kinds of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Collect,
    RollUp,
    Dashboard,
    Newcomer,
}

/// Whether COMMIT and the like are under way is the caller's business; this counts what is read and written.
pub(super) struct Session<'a> {
    conn: Conn,
    queries: &'a AtomicU64,
    /// A number of this request's own; where its choices come from.
    turn: u64,
    /// Between BEGIN and its end.
    in_transaction: bool,
}

/// A pageview as the roller reads it: its id, site, hour, and the value of each of [`DIMENSIONS`].
type Pageview = (u64, u64, String, String, String, String, String, String);

impl<'a> Session<'a> {
    pub(super) fn new(conn: Conn, queries: &'a AtomicU64, turn: u64) -> Session<'a> {
        Session { conn, queries, turn, in_transaction: false }
    }

    /// Runs one request, and once more if its transaction was the victim of a deadlock.
    pub(super) async fn serve(&mut self, request: Request) -> anyhow::Result<()> {
        match self.once(request).await {
            Err(error) if self.in_transaction && is_deadlock(&error) => self.once(request).await,
            outcome => outcome,
        }
    }

    async fn once(&mut self, request: Request) -> anyhow::Result<()> {
        self.in_transaction = false;
        match request {
            Request::Collect => self.collect().await,
            Request::RollUp => self.roll_up().await,
            Request::Dashboard => self.dashboard().await,
            Request::Newcomer => self.newcomer().await,
        }
    }

    /// Disconnects as the protocol wants it.
    pub(super) async fn leave(self) -> mysql_async::Result<()> {
        self.conn.disconnect().await
    }

    fn pick(&self, salt: u64, of: u64) -> u64 {
        (self.turn.wrapping_add(salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) % of.max(1)
    }

    fn site(&self) -> u64 {
        1 + self.pick(1, SITES)
    }

    /// One value of each dimension.
    fn visitor(&self) -> Vec<&'static str> {
        let values = (10_u64..).zip(DIMENSIONS).map(|(salt, (_, _, values))| {
            let at = usize::try_from(self.pick(salt, values.len() as u64)).unwrap_or(0);
            values.get(at).copied().unwrap_or_default()
        });
        values.collect()
    }

    async fn text<T: FromRow + Send + 'static>(&mut self, sql: &str) -> mysql_async::Result<Vec<T>> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        self.conn.query(sql).await
    }

    async fn prepared<T: FromRow + Send + 'static>(
        &mut self,
        sql: &str,
        params: impl Into<Params> + Send,
    ) -> mysql_async::Result<Vec<T>> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        self.conn.exec(sql, params.into()).await
    }

    async fn write(&mut self, sql: &str, params: impl Into<Params> + Send) -> mysql_async::Result<u64> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        self.conn.exec_drop(sql, params.into()).await?;
        Ok(self.conn.affected_rows())
    }

    /// A visitor's page: the site is looked up, the view recorded; now and then a goal is reached.
    async fn collect(&mut self) -> anyhow::Result<()> {
        let site = self.site();
        let found: Vec<(u64, String)> =
            self.prepared("select `id`, `name` from `sites` where `id` = ? limit 1", (site,)).await?;
        ensure!(found.len() == 1, "site {site} is gone");
        match self.pick(2, 8) {
            0 => self.goal(site).await,
            1 => self.goal_with_view(site).await,
            2 => self.views_at_once(site).await,
            _ => self.view(site).await,
        }
    }

    async fn view(&mut self, site: u64) -> anyhow::Result<()> {
        let sql = "insert into `pageviews` (`site_id`, `visit`, `pathname`, `referrer`, `browser`, `country_code`, \
             `device_type`, `is_new`, `duration`, `ts`) values (?, ?, ?, ?, ?, ?, ?, ?, ?, now())";
        let visit = format!("{:032x}", self.turn);
        let mut values: Vec<mysql_async::Value> = vec![site.into(), visit.into()];
        values.extend(self.visitor().into_iter().map(Into::into));
        values.extend([self.pick(3, 2).into(), mysql_async::Value::NULL]);
        let inserted = self.write(sql, values).await?;
        ensure!(inserted == 1, "a pageview was not recorded");
        Ok(())
    }

    /// Several views in one text statement, as bulk inserts of ORMs are.
    async fn views_at_once(&mut self, site: u64) -> anyhow::Result<()> {
        let row = format!("({site}, '{:032x}', '{}', 0, 12, now())", self.turn, self.visitor().join("', '"));
        let sql = format!(
            "insert into `pageviews` (`site_id`, `visit`, `pathname`, `referrer`, `browser`, `country_code`, \
             `device_type`, `is_new`, `duration`, `ts`) values {row}, {row}, {row}"
        );
        self.text::<u64>(&sql).await?;
        ensure!(self.conn.affected_rows() == 3, "pageviews were not recorded");
        Ok(())
    }

    /// A transaction on ungrouped tables.
    async fn goal(&mut self, site: u64) -> anyhow::Result<()> {
        self.begin(TxOpts::default()).await?;
        let conversions = self.convert(site).await?;
        self.end(conversions > 0, "a conversion is not seen by its own transaction").await
    }

    /// A transaction over a grouped table and ungrouped ones.
    async fn goal_with_view(&mut self, site: u64) -> anyhow::Result<()> {
        self.begin(TxOpts::default()).await?;
        self.view(site).await?;
        let conversions = self.convert(site).await?;
        let visit = format!("{:032x}", self.turn);
        let seen: Vec<u64> = self
            .prepared("select count(*) from `pageviews` where `site_id` = ? and `visit` = ?", (site, visit))
            .await?;
        let whole = conversions > 0 && seen == [1];
        self.end(whole, "a pageview is not seen by its own transaction").await
    }

    async fn convert(&mut self, site: u64) -> anyhow::Result<u64> {
        let goal = (site - 1) * GOALS_PER_SITE + 1 + self.pick(4, GOALS_PER_SITE);
        let upsert = "insert into `goal_stats` (`site_id`, `goal_id`, `ts`, `conversions`, `value`) \
             values (?, ?, date_format(now(), '%Y-%m-%d %H:00:00'), 1, 9.90) \
             on duplicate key update `conversions` = `conversions` + values(`conversions`), `value` = `value` + values(`value`)";
        self.write(upsert, (site, goal)).await?;
        let read =
            "select coalesce(sum(`conversions`), 0) from `goal_stats` where `site_id` = :site and `goal_id` = :goal";
        let sums: Vec<u64> = self.prepared(read, params! { "site" => site, "goal" => goal }).await?;
        Ok(sums.first().copied().unwrap_or(0))
    }

    /// Moves a batch of pageviews into the stats tables.
    async fn roll_up(&mut self) -> anyhow::Result<()> {
        let mut options = TxOpts::default();
        options.with_isolation_level(IsolationLevel::ReadCommitted);
        self.begin(options).await?;
        let sql = format!(
            "select `id`, `site_id`, date_format(`ts`, '%Y-%m-%d %H:00:00'), `pathname`, `referrer`, `browser`, \
             `country_code`, `device_type` from `pageviews` order by `id` limit {BATCH} for update skip locked"
        );
        let batch: Vec<Pageview> = self.text(&sql).await?;
        for (_, site, ts, path, referrer, browser, country, device) in &batch {
            let upsert = "insert into `site_stats` (`site_id`, `ts`, `pageviews`, `visits`) values (?, ?, 1, 1) \
                 on duplicate key update `pageviews` = `pageviews` + 1, `visits` = `visits` + 1";
            self.write(upsert, (site, ts)).await?;
            for ((table, column, _), value) in DIMENSIONS.iter().zip([path, referrer, browser, country, device]) {
                let upsert = format!(
                    "insert into `{table}` (`site_id`, `ts`, `{column}`, `pageviews`) values (?, ?, ?, 1) \
                     on duplicate key update `pageviews` = `pageviews` + values(`pageviews`)"
                );
                self.write(&upsert, (site, ts, value)).await?;
            }
        }
        let mut deleted = 0;
        if !batch.is_empty() {
            let marks = vec!["?"; batch.len()].join(", ");
            let ids: Vec<mysql_async::Value> = batch.iter().map(|(id, ..)| (*id).into()).collect();
            deleted = self.write(&format!("delete from `pageviews` where `id` in ({marks})"), ids).await?;
        }
        let whole = deleted == batch.len() as u64;
        self.end(whole, "locked pageviews were gone before their own transaction deleted them").await
    }

    /// What a page of the dashboard asks for.
    async fn dashboard(&mut self) -> anyhow::Result<()> {
        let site = self.site();
        let totals: Vec<(u64, u64)> = self
            .prepared(
                "select coalesce(sum(`pageviews`), 0), coalesce(sum(`visits`), 0) from `site_stats` \
                 where `site_id` = ? and `ts` >= now() - interval 2 day",
                (site,),
            )
            .await?;
        ensure!(totals.first().is_some_and(|(views, _)| *views > 0), "site {site} has no statistics");
        let at = usize::try_from(self.pick(5, DIMENSIONS.len() as u64)).unwrap_or(0);
        let Some((table, column, _)) = DIMENSIONS.get(at) else { return Ok(()) };
        let top = format!(
            "SELECT `{column}`, SUM(`pageviews`) AS `views` FROM `{table}` WHERE `site_id` = {site} \
             GROUP BY `{column}` ORDER BY `views` DESC LIMIT 10"
        );
        let rows: Vec<(String, u64)> = self.text(&top).await?;
        ensure!(!rows.is_empty(), "{table} is empty for site {site}");
        let joined = format!(
            "SELECT s.`ts`, s.`pageviews`, d.`{column}` FROM `site_stats` s INNER JOIN `{table}` d \
             ON d.`site_id` = s.`site_id` AND d.`ts` = s.`ts` WHERE s.`site_id` = {site} ORDER BY s.`ts` DESC LIMIT 24"
        );
        let rows: Vec<mysql_async::Row> = self.text(&joined).await?;
        ensure!(!rows.is_empty(), "{table} does not join with site_stats for site {site}");
        let goals: Vec<(u64, String)> =
            self.prepared("select `id`, `name` from `goals` where `site_id` = ? order by `id`", (site,)).await?;
        ensure!(goals.len() as u64 == GOALS_PER_SITE, "site {site} lost its goals");
        Ok(())
    }

    /// The one question of somebody who has just connected.
    async fn newcomer(&mut self) -> anyhow::Result<()> {
        let sql = "SELECT COUNT(*) FROM pageviews WHERE ts > NOW() - INTERVAL 5 MINUTE";
        let answer: Vec<u64> = self.text(sql).await?;
        ensure!(answer.len() == 1, "a count has one row");
        self.text::<String>("SELECT name FROM sites ORDER BY name LIMIT 5").await?;
        Ok(())
    }

    async fn begin(&mut self, options: TxOpts) -> mysql_async::Result<()> {
        if let Some(level) = options.isolation_level() {
            self.conn.query_drop(format!("SET TRANSACTION ISOLATION LEVEL {level}")).await?;
        }
        self.conn.query_drop("START TRANSACTION").await?;
        self.in_transaction = true;
        Ok(())
    }

    /// Commits a transaction that saw its own writes; rolls back one that did not.
    async fn end(&mut self, whole: bool, complaint: &'static str) -> anyhow::Result<()> {
        self.conn.query_drop(if whole { "COMMIT" } else { "ROLLBACK" }).await?;
        self.in_transaction = false;
        ensure!(whole, complaint);
        Ok(())
    }
}

/// ER_LOCK_DEADLOCK: the server has rolled the transaction back, and a repetition mends it.
fn is_deadlock(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(mysql_async::Error::Server(e)) if e.code == 1213)
}
