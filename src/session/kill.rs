//! KILL of a session of this proxy, in `pool: session`: the default store ends it, whose thread id is the session's.

use super::Session;
use super::control_flow::Fatal;
use super::relay;
use crate::wire::packet::HEADER;
use crate::wire::reply::{Expect, Outcome, Reply};

impl Session {
    /// KILL of a proxied session: it reaches its threads on the other stores too. Whoever killed an idle one hears of it when its
    /// client is disconnected, as with the store alone.
    pub(crate) async fn send_kill(
        &mut self,
        framed: &[u8],
        at: usize,
        expect: Expect,
        id: u64,
        query: bool,
    ) -> Result<Outcome, Fatal> {
        let others = self.core.registry.get(id).filter(|victim| !query && victim.id != self.info.id);
        let Some(victim) = others.filter(|_| !self.several_take_part()) else {
            let outcome = self.send_relay(framed, at, expect).await?;
            if outcome.error.is_none() {
                self.kill_elsewhere(id, query);
            }
            return Ok(outcome);
        };
        let Session { client, legs, core, .. } = self;
        let Some(leg) = legs.get_mut(at) else { return Err(Fatal::Quit) };
        leg.busy = true;
        leg.backend.stream.write(framed).await.map_err(|e| leg.lost(e))?;
        relay::fill_watching(client, leg).await?;
        if leg.backend.stream.buffered().get(HEADER) == Some(&0) {
            core.registry.ended(&victim).await;
        }
        let mut reply = Reply::new(expect, leg.backend.capabilities);
        relay::finish(client, leg, &mut reply).await?;
        if reply.outcome().error.is_none() {
            self.kill_elsewhere(id, query);
        }
        Ok(*reply.outcome())
    }

    fn kill_elsewhere(&self, id: u64, query: bool) {
        let limit = self.live.config().limits.connect_timeout;
        for (store, thread) in self.core.registry.others(id) {
            tokio::task::spawn_local(async move {
                crate::backend::control::kill(&store, thread, query, limit).await;
            });
        }
    }
}
