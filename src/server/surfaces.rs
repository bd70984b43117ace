//! The operators' surfaces: the SQL console and HTTP, where the configuration in force says. An address that moves is followed
//! without a restart; one that is taken is tried again, so that a successor gets it when its predecessor has left.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::interval;

use super::running::Proxy;
use crate::admin::action::Actions;
use crate::admin::control::Running;
use crate::admin::login::Logins;
use crate::admin::{console, http};

/// How often the configuration is looked at, and a taken address is tried again.
const LOOK: Duration = Duration::from_millis(250);

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Console,
    Http,
}

/// One surface, as it is served now.
struct Served {
    kind: Kind,
    at: Option<(SocketAddr, JoinHandle<()>)>,
    /// What kept it from being served was told already.
    told: Option<SocketAddr>,
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.at {
            task.abort();
        }
    }
}

/// Serves both until the future is dropped.
pub(super) async fn serve(proxy: &Arc<Proxy>) {
    let actions = Actions::new(Arc::clone(proxy) as Arc<dyn Running>);
    let logins: Arc<Logins> = Arc::default();
    let mut surfaces = [Kind::Console, Kind::Http].map(|kind| Served { kind, at: None, told: None });
    let mut looks = interval(LOOK);
    loop {
        looks.tick().await;
        let (sql, http) = {
            let live = proxy.live.load();
            (live.config().admin.sql, live.config().admin.http)
        };
        for (surface, wanted) in surfaces.iter_mut().zip([sql, http]) {
            surface.follow(wanted, &actions, &logins).await;
        }
    }
}

impl Served {
    async fn follow(&mut self, wanted: Option<SocketAddr>, actions: &Actions, logins: &Arc<Logins>) {
        if self.at.as_ref().map(|(address, _)| *address) == wanted {
            return;
        }
        if let Some((address, task)) = self.at.take() {
            task.abort();
            let _ = task.await;
            tracing::info!(%address, surface = ?self.kind, "no longer served");
        }
        let Some(address) = wanted else { return };
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(error) => {
                if self.told.replace(address) != Some(address) {
                    tracing::warn!(%address, surface = ?self.kind, %error, "cannot be served yet");
                }
                return;
            }
        };
        self.told = None;
        tracing::info!(%address, surface = ?self.kind, "served");
        let (kind, actions, logins) = (self.kind, actions.clone(), Arc::clone(logins));
        let task = tokio::task::spawn_local(async move {
            match kind {
                Kind::Console => console::serve(listener, actions, logins).await,
                Kind::Http => {
                    if let Err(error) = http::serve(listener, actions, logins).await {
                        tracing::error!(%address, %error, "HTTP");
                    }
                }
            }
        });
        self.at = Some((address, task));
    }
}
