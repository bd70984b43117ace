//! Who is a group's authority, as this proxy sees it: what a watcher is told, what it shows, and its start. The watcher itself is
//! [`super::watcher`].

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::LocalOptions;
use tokio::sync::watch;
use tokio::time::timeout;

use super::health::State;
use super::tables::GroupTables;
use super::watcher::Watcher;
use crate::backend::StoreHandle;
use crate::config::model::{Keeping, Seal};
use crate::routing::Gate;

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the process does when the rows say something new.
pub trait Follow: Send + Sync + 'static {
    /// Routes the group to `authority`; done when new statements go there. `by` and `why` are the cutover's.
    fn follow<'a>(&'a self, group: &'a str, authority: &'a str, by: &'a str, why: &'a str) -> BoxFuture<'a, ()>;

    /// A store is down, and another has taken over: nobody waits for it any longer.
    fn give_up(&self, store: &str);
}

/// What a watcher needs to know.
pub struct Settings {
    /// The group's name.
    pub group: String,
    /// Which tables are its.
    pub tables: GroupTables,
    /// Both stores.
    pub stores: [Arc<StoreHandle>; 2],
    /// Where sessions wait.
    pub gate: Arc<Gate>,
    /// This process, unlike any other.
    pub proxy: String,
    /// Times.
    pub keeping: Keeping,
}

/// What others see of a watcher.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The authority, as far as it is known.
    pub authority: String,
    /// Its epoch.
    pub epoch: u64,
    /// The epoch that this proxy routes by.
    pub followed: u64,
    /// What the rows say together, in words.
    pub rows: String,
    /// Whether they are in order.
    pub settled: bool,
    /// A cutover that is under way: its id and its target.
    pub cutover: Option<(String, String)>,
    /// Why a store could not be asked, by its name.
    pub unreachable: Vec<(String, String)>,
    /// How each store is, by its name.
    pub health: Vec<(String, State)>,
    /// What the newest fallback left behind, or why that is not settled yet.
    pub left_behind: Vec<String>,
    /// What somebody has made where tables were that are sealed by `rename`, each with what mends it.
    pub strays: Vec<String>,
}

/// A watcher's settings and view, for whoever conducts.
pub struct Shared {
    /// Its settings.
    pub settings: Settings,
    view: Mutex<View>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// What it sees now.
    #[must_use]
    pub fn view(&self) -> View {
        lock(&self.view).clone()
    }

    /// Changes what is seen.
    pub(super) fn show(&self, change: impl FnOnce(&mut View)) {
        change(&mut lock(&self.view));
    }

    /// It is to look at once.
    pub fn look(&self) {
        self.settings.gate.look();
    }

    /// Waits until this proxy routes by `epoch`, for `limit` at most.
    pub async fn followed(&self, epoch: u64, limit: Duration) -> bool {
        timeout(limit, self.settings.gate.followed().wait_for(|followed| *followed >= epoch)).await.is_ok()
    }
}

/// A running watcher; dropping it ends it.
pub struct Handle {
    /// Its settings and view.
    pub shared: Arc<Shared>,
    end: watch::Sender<bool>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.end.send(true);
    }
}

/// Starts the watcher of a group. `authority` is what this proxy routes by now.
///
/// # Errors
/// As the system's, where it has no thread.
pub fn start(settings: Settings, authority: &str, follow: Arc<dyn Follow>) -> std::io::Result<Handle> {
    if settings.stores.iter().any(|store| store.config.seal == Some(Seal::Rename)) {
        settings.gate.moved().allow();
    }
    let view = View { authority: authority.to_owned(), ..View::default() };
    let shared = Arc::new(Shared { settings, view: Mutex::new(view) });
    let (end, ended) = watch::channel(false);
    let own = Arc::clone(&shared);
    std::thread::Builder::new().name(format!("watch-{}", shared.settings.group)).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(Watcher::new(own, follow).run(ended)),
            Err(e) => tracing::error!(error = %e, "a watcher cannot start"),
        }
    })?;
    Ok(Handle { shared, end })
}
