//! Logs and metrics; imports nothing of the crate and may be imported by all of it.

use std::collections::HashMap;

mod logs;

pub use logs::{Levels, NoFilter, Pace, Said, init, without_values};

/// Sums that the cores keep themselves, for the `metrics` facade.
#[derive(Debug, Clone, Default)]
pub struct Sums {
    /// Logins that succeeded.
    pub logins: u64,
    /// Logins that failed.
    pub login_failures: u64,
    /// Statements that the proxy refused.
    pub refused: u64,
    /// Plan-cache hits.
    pub plan_hits: u64,
    /// Plan-cache misses.
    pub plan_misses: u64,
    /// Sessions now.
    pub sessions: u64,
    /// Flags that moved.
    pub flips: u64,
    /// Epoch of the snapshot in force.
    pub epoch: u64,
    /// By store.
    pub stores: Vec<StoreSums>,
}

/// Sums of one store.
#[derive(Debug, Clone, Default)]
pub struct StoreSums {
    /// Its name.
    pub name: String,
    /// Statements that it answered.
    pub queries: u64,
    /// Of them with an error.
    pub errors: u64,
    /// Their time together, µs.
    pub micros: u64,
    /// Statements by latency: class n took less than 2^n µs, and not less than half of that.
    pub classes: Vec<u64>,
}

/// Hands the sums to whatever recorder is installed; none is, until there is an endpoint.
#[derive(Debug, Default)]
pub struct Publisher {
    /// What histograms have been given, by store and class.
    given: HashMap<String, Vec<u64>>,
}

impl Publisher {
    /// Publishes the sums; latencies go into `switchover_query_seconds` at the middle of their class (±33 %).
    #[expect(clippy::cast_precision_loss, reason = "gauges of sessions and epochs are far below 2^53")]
    pub fn publish(&mut self, sums: &Sums) {
        metrics::counter!("switchover_logins_total").absolute(sums.logins);
        metrics::counter!("switchover_login_failures_total").absolute(sums.login_failures);
        metrics::counter!("switchover_refused_statements_total").absolute(sums.refused);
        metrics::counter!("switchover_plan_cache_hits_total").absolute(sums.plan_hits);
        metrics::counter!("switchover_plan_cache_misses_total").absolute(sums.plan_misses);
        metrics::counter!("switchover_flips_total").absolute(sums.flips);
        metrics::gauge!("switchover_sessions").set(sums.sessions as f64);
        metrics::gauge!("switchover_config_epoch").set(sums.epoch as f64);
        for store in &sums.stores {
            let name = &store.name;
            metrics::counter!("switchover_queries_total", "store" => name.clone()).absolute(store.queries);
            metrics::counter!("switchover_query_errors_total", "store" => name.clone()).absolute(store.errors);
            metrics::counter!("switchover_query_microseconds_total", "store" => name.clone()).absolute(store.micros);
            self.latencies(store);
        }
    }

    fn latencies(&mut self, store: &StoreSums) {
        let histogram = metrics::histogram!("switchover_query_seconds", "store" => store.name.clone());
        let given = self.given.entry(store.name.clone()).or_default();
        given.resize(store.classes.len().max(given.len()), 0);
        let mut middle = 0.75e-6;
        for (given, now) in given.iter_mut().zip(&store.classes) {
            // (fewer than before: a store of the same name in the place of another)
            let new = now.checked_sub(*given).unwrap_or(*now);
            histogram.record_many(middle, usize::try_from(new).unwrap_or(usize::MAX));
            *given = *now;
            middle *= 2.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString,
        Unit,
    };

    use super::*;

    /// What was recorded, by name and store.
    #[derive(Default)]
    struct Book(Arc<Mutex<BTreeMap<String, Vec<f64>>>>);

    struct Page(String, Arc<Mutex<BTreeMap<String, Vec<f64>>>>);

    impl Page {
        fn note(&self, value: f64) {
            self.1.lock().unwrap().entry(self.0.clone()).or_default().push(value);
        }
    }

    impl CounterFn for Page {
        fn increment(&self, value: u64) {
            self.note(value as f64);
        }
        fn absolute(&self, value: u64) {
            self.note(value as f64);
        }
    }

    impl GaugeFn for Page {
        fn increment(&self, value: f64) {
            self.note(value);
        }
        fn decrement(&self, value: f64) {
            self.note(-value);
        }
        fn set(&self, value: f64) {
            self.note(value);
        }
    }

    impl HistogramFn for Page {
        fn record(&self, value: f64) {
            self.note(value);
        }
    }

    impl Book {
        fn page(&self, key: &Key) -> Arc<Page> {
            let labels: String = key.labels().map(|l| format!("/{}", l.value())).collect();
            Arc::new(Page(format!("{}{labels}", key.name()), Arc::clone(&self.0)))
        }
    }

    impl Recorder for Book {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.page(key))
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.page(key))
        }
        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::from_arc(self.page(key))
        }
    }

    #[test]
    fn sums_are_published_and_latencies_only_once() {
        let (book, mut publisher) = (Book::default(), Publisher::default());
        let mut store = StoreSums { name: "new".into(), queries: 3, classes: vec![0, 2, 0, 1], ..StoreSums::default() };
        metrics::with_local_recorder(&book, || {
            publisher.publish(&Sums { stores: vec![store.clone()], flips: 5, ..Sums::default() });
            store.classes[1] += 1;
            publisher.publish(&Sums { stores: vec![store], flips: 6, ..Sums::default() });
        });
        let found = book.0.lock().unwrap();
        assert_eq!(found["switchover_query_seconds/new"], [1.5e-6, 1.5e-6, 6e-6, 1.5e-6]);
        assert_eq!(found["switchover_queries_total/new"], [3.0, 3.0]);
        assert_eq!(found["switchover_flips_total"], [5.0, 6.0]);
    }
}
