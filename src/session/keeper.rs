//! Closes idle connections of one core's pool: when they idled for `pool.idle_timeout`, when their store is another now, and
//! when a session waits for one, on this core or another. The state of a session that left it on one is saved first.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use crate::wire::command::COM_QUIT;

/// How often idle connections are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Runs as long as its core.
pub async fn keep(core: Rc<Core>) {
    loop {
        let _ = tokio::time::timeout(LOOK, core.pool.shed.notified()).await;
        let live = core.live.load_full();
        let limit = live.config().pooling.idle_timeout;
        let known = |store: &Arc<crate::backend::StoreHandle>| live.fleet.iter().any(|s| Arc::ptr_eq(s, store));
        for (mut backend, tenant) in core.pool.expired(limit, known) {
            if let Some(tenant) = tenant {
                tenant.leave(&mut backend, &core.shelf).await;
            }
            let _ = backend.send(COM_QUIT, &[]).await;
        }
    }
}
