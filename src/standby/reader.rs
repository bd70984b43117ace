//! Reads the authority's log on a thread of its own, ahead of what is applied, within bounds.

use std::sync::Arc;

use tokio::runtime::LocalOptions;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::changes::{Item, Log, LogError, Source, Tables};
use crate::entry::Position;

/// KiB of the log that may be read and not applied; a larger transaction goes alone.
const AHEAD: u32 = 64 << 10;
/// Items that may wait.
const ITEMS: usize = 4_096;

/// What the reader says.
#[derive(Debug)]
pub enum Read {
    /// An item, and the room that it takes.
    Item(Item, OwnedSemaphorePermit),
    /// It ended, for this reason.
    Ended(LogError),
}

/// A running reader; dropping it ends it.
pub struct Reader {
    items: mpsc::Receiver<Read>,
    _end: oneshot::Sender<()>,
}

impl Reader {
    /// Starts to read behind `from`.
    ///
    /// # Errors
    /// As the system's, where it has no thread.
    pub fn start(source: Source, from: Position, tables: Box<dyn Tables>) -> std::io::Result<Reader> {
        let (sender, items) = mpsc::channel(ITEMS);
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("changes".to_owned()).spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                tokio::select! {
                    _ = ended => {}
                    error = read(&source, from, tables, &sender) => {
                        let _ = sender.send(Read::Ended(error)).await;
                    }
                }
            });
        })?;
        Ok(Reader { items, _end: end })
    }

    /// The next item; waits for it.
    pub async fn next(&mut self) -> Read {
        let ended = || Read::Ended(LogError::Lost("the reader ended".to_owned()));
        self.items.recv().await.unwrap_or_else(ended)
    }

    /// The next item, where one is ready.
    pub fn ready(&mut self) -> Option<Read> {
        self.items.try_recv().ok()
    }
}

async fn read(source: &Source, from: Position, tables: Box<dyn Tables>, sender: &mpsc::Sender<Read>) -> LogError {
    let room = Arc::new(Semaphore::new(AHEAD as usize));
    let mut log = match Log::open(source, from, tables).await {
        Ok(log) => log,
        Err(error) => return error,
    };
    loop {
        let item = match log.next().await {
            Ok(item) => item,
            Err(error) => return error,
        };
        let kib = match &item {
            Item::Transaction(t) => u32::try_from(t.bytes / 1_024).unwrap_or(AHEAD).clamp(1, AHEAD),
            _ => 0,
        };
        let gone = || LogError::Lost("nobody reads".to_owned());
        let Ok(permit) = Arc::clone(&room).acquire_many_owned(kib).await else { return gone() };
        if sender.send(Read::Item(item, permit)).await.is_err() {
            return gone();
        }
    }
}
