//! Who is the authority, for a proxy that starts: what is routed follows the rows from the first statement on.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::record::{self, Verdict, verdict};
use crate::backend::{StoreHandle, control};

/// Asks both stores once: the authority that their rows name, for a proxy that starts. A store that does not answer in time says
/// nothing; where the rows leave it open, nobody is named.
pub async fn authority_at_start(group: &str, stores: [&Arc<StoreHandle>; 2], limit: Duration) -> Option<(String, u64)> {
    let ask = |store: Arc<StoreHandle>| async move {
        let asked = async {
            let mut backend = control::connect(&store, limit).await.ok()?;
            record::read(&mut backend, group).await.ok()?.record
        };
        timeout(limit, asked).await.ok().flatten()
    };
    let [a, b] = stores;
    let (ra, rb) = tokio::join!(ask(Arc::clone(a)), ask(Arc::clone(b)));
    let both = verdict((a.name(), ra.as_ref()), (b.name(), rb.as_ref()));
    if let Some((authority, epoch)) = both.authority() {
        return Some((authority.to_owned(), epoch));
    }
    if let Verdict::Undecided { from, epoch, .. } = both {
        return Some((from, epoch));
    }
    // one row alone: a store that says of itself that it does not serve names who does
    let alone = |name: &str, record: &record::Record| match record.standing {
        record::Standing::Standby => Some((record.authority.clone(), record.epoch)),
        record::Standing::Open => Some((name.to_owned(), record.epoch)),
        record::Standing::Sealed => None,
    };
    match (&ra, &rb) {
        (Some(record), None) => alone(a.name(), record),
        (None, Some(record)) => alone(b.name(), record),
        _ => None,
    }
}
