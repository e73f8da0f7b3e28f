//! What others ask of the driver, and how they reach it.

use std::collections::BTreeMap;

use estafet_model::{ChainHead, Durable, NodeId, Now, RecordId, UnixMillis};
use estafet_node::custody::HeldRecord;
use estafet_node::routing::Standing;
use estafet_node::{Capture, CaptureRefused, Captured, Node};
use estafet_quic::Counts;
use tokio::sync::{mpsc, oneshot, watch};

use crate::carrier::Device;
use crate::clocks::Clocks;
use crate::drain::DrainOrder;
use crate::failovers::Failovers;
use crate::heads::HeadBook;
use crate::ledger::Commit;
use crate::standing::Supply;
use crate::store::Health;
use crate::topologies::Successor;

/// Asks the node something, between two inputs.
pub(crate) type Question = Box<dyn FnOnce(&View<'_>) + Send>;

/// What a question sees.
pub(crate) struct View<'a> {
    pub(crate) node: &'a Node,
    pub(crate) now: Now,
    /// When the newest receipt for each origin came.
    pub(crate) last_receipts: &'a BTreeMap<NodeId, UnixMillis>,
    /// When the newest LSA of each node came.
    pub(crate) last_news: &'a BTreeMap<NodeId, Now>,
    /// Since when records of an origin are missing from the ledger.
    pub(crate) missing_since: &'a BTreeMap<NodeId, UnixMillis>,
    pub(crate) failovers: Failovers,
    pub(crate) clocks: &'a Clocks,
    pub(crate) heads: &'a HeadBook,
    pub(crate) sessions: Counts,
}

/// The answer to a capture.
pub(crate) type CaptureAnswer = Result<Durable<Captured>, CaptureRefused>;

/// A capture that was handed in.
pub(crate) struct PendingCapture(oneshot::Receiver<CaptureAnswer>);

impl PendingCapture {
    /// Waits until it is durable or refused.
    pub(crate) async fn answer(self) -> Result<CaptureAnswer, ShuttingDown> {
        self.0.await.map_err(|_| ShuttingDown)
    }
}

/// What is asked of the driver.
pub(super) enum Command {
    Capture(Box<Capture>, oneshot::Sender<CaptureAnswer>),
    Ask(Question),
    Compared {
        id: RecordId,
        from: NodeId,
        same: bool,
    },
    Retry(Option<RecordId>),
    Unreadable(RecordId),
    CommittedUnreadable(Box<HeldRecord>),
    Found(Vec<Commit>),
    /// An operator drains the node, or ends that.
    Drain(Option<DrainOrder>),
    Supply(Supply),
    /// A network device of this machine has lost its carrier.
    /// Those with these numbers, or one of all.
    CarrierLost(Option<Vec<Device>>),
    /// A newer topology is durable.
    Topology(Box<Successor>),
    /// At a hub: this head was published, and is not on the chain of this archive.
    Unchained(ChainHead),
}

/// How the rest of the process talks to the driver. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Commands {
    sender: mpsc::Sender<Command>,
    health: watch::Receiver<Health>,
    standing: watch::Receiver<Standing>,
}

/// The driver has ended: the process is shutting down.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the relay is shutting down")]
pub(crate) struct ShuttingDown;

impl Commands {
    pub(super) fn new(
        sender: mpsc::Sender<Command>,
        health: watch::Receiver<Health>,
        standing: watch::Receiver<Standing>,
    ) -> Self {
        Self { sender, health, standing }
    }

    /// Hands in a capture. Its token is set by the driver.
    pub(crate) async fn capture(&self, capture: Capture) -> Result<PendingCapture, ShuttingDown> {
        let (sender, answer) = oneshot::channel();
        self.sender.send(Command::Capture(Box::new(capture), sender)).await.map_err(|_| ShuttingDown)?;
        Ok(PendingCapture(answer))
    }

    /// Asks the node something.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&View<'_>) -> T + Send + 'static,
    ) -> Result<T, ShuttingDown> {
        let (sender, answer) = oneshot::channel();
        let question: Question = Box::new(move |view| drop(sender.send(question(view))));
        self.sender.send(Command::Ask(question)).await.map_err(|_| ShuttingDown)?;
        answer.await.map_err(|_| ShuttingDown)
    }

    /// Takes records out of quarantine, all of them or one.
    pub(crate) async fn retry(&self, only: Option<RecordId>) -> Result<(), ShuttingDown> {
        self.sender.send(Command::Retry(only)).await.map_err(|_| ShuttingDown)
    }

    /// A record that is held here was found unreadable.
    pub(crate) async fn unreadable(&self, id: RecordId) -> Result<(), ShuttingDown> {
        self.sender.send(Command::Unreadable(id)).await.map_err(|_| ShuttingDown)
    }

    /// A committed record was found unreadable, and the ledger has put it aside.
    pub(crate) async fn committed_unreadable(&self, record: HeldRecord) -> Result<(), ShuttingDown> {
        let command = Command::CommittedUnreadable(Box::new(record));
        self.sender.send(command).await.map_err(|_| ShuttingDown)
    }

    /// Drains the node by an order that is durable, or ends such an order.
    pub(crate) async fn drain(&self, order: Option<DrainOrder>) -> Result<(), ShuttingDown> {
        self.sender.send(Command::Drain(order)).await.map_err(|_| ShuttingDown)
    }

    /// What the node runs on now.
    pub(crate) async fn set_supply(&self, supply: Supply) -> Result<(), ShuttingDown> {
        self.sender.send(Command::Supply(supply)).await.map_err(|_| ShuttingDown)
    }

    /// Network devices of this machine have lost their carrier; nothing if it is not known which. Waits, so it is not for
    /// tasks.
    pub(crate) fn carrier_lost(&self, devices: Option<Vec<Device>>) -> Result<(), ShuttingDown> {
        self.sender.blocking_send(Command::CarrierLost(devices)).map_err(|_| ShuttingDown)
    }

    /// A newer topology is durable: it is heeded and passed on.
    pub(crate) async fn topology(&self, successor: Successor) -> Result<(), ShuttingDown> {
        self.sender.send(Command::Topology(Box::new(successor))).await.map_err(|_| ShuttingDown)
    }

    /// What the node says about its service.
    pub(crate) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// How the store fares, as of half a second ago at most.
    pub(crate) fn health(&self) -> Health {
        *self.health.borrow()
    }
}
