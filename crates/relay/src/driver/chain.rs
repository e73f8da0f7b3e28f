//! What the driver does about chains of commits: at a hub it tells how far its own has come, everywhere it remembers what
//! hubs have told.

use estafet_model::ChainHead;
use estafet_node::Input;
use estafet_node::routing::SignedLsa;
use estafet_store::chain_append;
use tracing::{error, warn};

use super::{Command, Driver};
use crate::store::random_chain;

impl Driver {
    /// Tells the node how far the ledger's chain has come, if that has changed.
    pub(super) fn publish_head(&mut self) {
        let head = self.store.ledger.as_ref().and_then(crate::ledger::Ledger::head);
        if let Some(head) = head.filter(|head| self.published != Some(*head)) {
            self.published = Some(head);
            self.feed(Input::ChainHead(head));
        }
    }

    /// Remembers what hubs publish.
    pub(super) fn hear_heads(&mut self) {
        let now = self.now();
        let topology = self.node.topology();
        let keys = topology.hub_ids().filter_map(|hub| Some((hub, topology.node(hub)?.key)));
        let lsdb = self.node.router().lsdb();
        for (hub, key) in keys {
            let Some(head) = lsdb.get(hub).map(SignedLsa::lsa).and_then(estafet_node::routing::Lsa::head) else {
                continue;
            };
            if !self.heads.knows(&head) && head.verify(&key).is_ok() {
                self.heads.hear(now, head);
            }
        }
        self.heads.write_soon(now);
    }

    /// A neighbor has returned what this hub once published. If that is not the history of this archive, it is told as
    /// another chain: nobody is to find two histories of one.
    pub(super) fn look_for_head(&self, head: ChainHead) {
        let Some(ledger) = self.store.ledger.clone() else { return };
        let is_of_this_chain = ledger.head().is_some_and(|ours| ours.chain == head.chain);
        if !is_of_this_chain {
            return;
        }
        let (me, commands) = (self.node.id().clone(), self.commands_sender.clone());
        tokio::spawn(async move {
            match ledger.has_head(me, head).await {
                Ok(true) => {}
                // Nobody is left to tell when the driver has ended.
                Ok(false) => drop(commands.send(Command::Unchained(head)).await),
                Err(error) => warn!(%error, "the ledger does not answer; what was published is looked for again later"),
            }
        });
    }

    /// The archive is not the one whose history was published under this chain.
    pub(super) fn begin_chain(&mut self, published: ChainHead) {
        let Some(ledger) = self.store.ledger.clone() else { return };
        // Several neighbors return the same.
        if self.left_chain.replace(published.chain) == Some(published.chain) {
            return;
        }
        let chain = random_chain();
        error!(
            published = published.sequence, former = %published.chain, %chain,
            "this archive is not the newest that this main server had: its history is told as another chain from now on"
        );
        self.appends.push(chain_append(chain));
        ledger.begin_chain(self.node.id().clone(), chain);
    }
}
