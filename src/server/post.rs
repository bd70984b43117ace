//! What only one proxy of a configuration file can hold: its control socket, and the socket on which a successor asks.
//!
//! Both are given up for a successor that is ready, and taken back if that one does not come to serve.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinHandle;

use super::running::Proxy;
use super::takeover::{self, Offer};
use crate::admin::action::Actions;
use crate::admin::control::{ControlError, ControlSocket, Running};
use std::os::fd::OwnedFd;

/// How long a process waits for another's control socket.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The post of the one that serves.
pub(super) struct Post {
    path: PathBuf,
    proxy: Arc<Proxy>,
    control: JoinHandle<std::io::Result<()>>,
    offer: Offer,
}

impl Post {
    /// Answers the control socket, and waits for successors.
    pub(super) fn take(path: &Path, socket: ControlSocket, proxy: &Arc<Proxy>) -> anyhow::Result<Post> {
        let offer = Offer::bind(takeover::path(path)).context("the takeover socket")?;
        let control = tokio::spawn(socket.serve(Actions::new(Arc::clone(proxy) as Arc<dyn Running>)));
        Ok(Post { path: path.to_owned(), proxy: Arc::clone(proxy), control, offer })
    }

    /// Returns when a successor serves; one that fails before changes nothing.
    pub(super) async fn until_taken_over(&mut self, listeners: &[OwnedFd]) -> anyhow::Result<()> {
        loop {
            let failed = match self.offer.successor(listeners).await {
                Ok(mut successor) => {
                    self.leave().await;
                    match successor.yield_to().await {
                        Ok(()) => return Ok(()),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            tracing::warn!(error = %failed, "a takeover failed: this process goes on");
            if self.control.is_finished() && !self.back().await? {
                return Ok(());
            }
        }
    }

    async fn leave(&mut self) {
        self.control.abort();
        let _ = (&mut self.control).await;
    }

    /// Whether the post could be had again; else the successor lives, and has it.
    async fn back(&mut self) -> anyhow::Result<bool> {
        match ControlSocket::bind_after(&self.path, PATIENCE).await {
            Ok(socket) => {
                let post = Post::take(&self.path, socket, &self.proxy)?;
                *self = post;
                Ok(true)
            }
            Err(ControlError::Taken { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.control.abort();
    }
}
