//! How another topology takes the place of the one in force while the relay runs.
//!
//! It comes from an operator, or from a neighbor that has a newer one. It is judged by the newest that is kept here, made
//! durable, heeded, and passed on to the other neighbors: in this order, so that after a cut at any moment the node has the
//! old one or the new one, and nobody is told what it might not have. Each neighbor is sent it once, and so is whoever
//! begins a session with an older one.
//!
//! One that takes this node out, or lists another key for it, is never in force here: it is kept beside the one in force,
//! as the proof by which the counter is closed, and later ones are judged by it.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use estafet_audit_log::{Event, Who};
use estafet_model::{NodeId, SealKeyId};
use estafet_quic::{Neighbor, Neighborhood};
use estafet_seal::{BadSealKeys, Sealer};
use estafet_topology::{NoSuccessor, SignedTopology, Succession, TakesEffect, Topology};
use estafet_wire::{Frame, TOPOLOGY_BYTES_MAX};
use tokio::sync::{Mutex, mpsc, watch};
use tracing::{debug, error, info, warn};

use crate::audit_log::{AuditLog, NotLogged};
use crate::config::Config;
use crate::driver::Commands;
use crate::durable_file;
use crate::seal::{SealKeys, SealKeysError};

/// The file's name in the data folder.
const FILE: &str = "city.topology";

/// And of the one that shuts this node out.
const SHUT_OUT_FILE: &str = "shut-out.topology";

/// Offers of neighbors that may wait to be judged. Beyond that they are dropped: whoever has a newer one offers it again
/// with the next session.
const OFFERS_MAX: usize = 4;

/// Where a topology is kept that came over the network: the newest, or the one that shuts this node out.
#[derive(Debug, Clone)]
pub(crate) struct TopologyFile {
    path: PathBuf,
}

impl TopologyFile {
    pub(crate) fn in_folder(data: &Path) -> Self {
        Self { path: data.join(FILE) }
    }

    pub(crate) fn of_shutting_out(data: &Path) -> Self {
        Self { path: data.join(SHUT_OUT_FILE) }
    }

    /// The topology that was kept. One that cannot be read is reported, and is as if it had never come.
    pub(crate) fn load(&self) -> Option<SignedTopology> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                error!(file = %self.path.display(), %error, "cannot read the topology that came over the network");
                return None;
            }
        };
        let kept = SignedTopology::decode_kept(&text);
        kept.inspect_err(|error| {
            error!(file = %self.path.display(), %error, "cannot read the topology that came over the network");
        })
        .ok()
    }

    /// Keeps a topology durably. Blocks for the disk.
    fn store(&self, signed: &SignedTopology) -> io::Result<()> {
        durable_file::replace(&self.path, signed.encode().as_bytes())
    }

    /// Keeps it no longer. Blocks for the disk.
    fn remove(&self) -> io::Result<()> {
        durable_file::remove(&self.path)
    }
}

/// That a topology has no place for this node, and its counter is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShutOut {
    /// By which version.
    pub(crate) version: u64,
    pub(crate) because: &'static str,
}

impl ShutOut {
    /// What a newer topology has against node `me`, where `present` is in force.
    pub(crate) fn by(newer: &Topology, me: &NodeId, present: &Topology) -> Option<Self> {
        match newer.takes_effect(me, present) {
            TakesEffect::Never { because } => Some(Self { version: newer.version, because }),
            TakesEffect::AtOnce | TakesEffect::NextStart { .. } => None,
        }
    }

    /// Says it to whoever reads the log.
    pub(crate) fn report(self) {
        let Self { version, because } = self;
        error!(
            version,
            because,
            "this machine is shut out by the city's topology: nothing more is taken from its counter; what it still holds waits \
             for an operator's decision. Stop it"
        );
    }
}

/// The topologies by which others are judged.
struct Kept {
    /// The newest in which this node has a place.
    signed: Arc<SignedTopology>,
    /// The newest of all, if this node has no place in it.
    shut_out_by: Option<Arc<SignedTopology>>,
}

impl Kept {
    fn newest(&self) -> &SignedTopology {
        self.shut_out_by.as_ref().unwrap_or(&self.signed)
    }
}

/// The newest topology that is durable here, for those who have an older one.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) version: u64,
    /// Nothing if it is too long to flood.
    pub(crate) frame: Option<Frame>,
}

impl Told {
    pub(crate) fn new(signed: &SignedTopology) -> Self {
        let version = signed.topology().version;
        let text = signed.encode();
        if text.len() > TOPOLOGY_BYTES_MAX {
            warn!(version, bytes = text.len(), "the topology is too long to flood: bring it to each node as a file");
            return Self { version, frame: None };
        }
        Self { version, frame: Some(Frame::Topology(Bytes::from(text))) }
    }
}

/// A topology that is durable, on its way to the driver.
#[derive(Debug)]
pub(crate) struct Successor {
    /// What is to be in force from now on: all of it but what waits for the next start.
    pub(crate) in_force: Arc<Topology>,
    pub(crate) told: Told,
    /// The neighbor that it came from has it.
    pub(crate) from: Option<NodeId>,
}

/// What became of a topology that was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It is durable, and in force now or at the next start.
    Taken { version: u64, at_once: bool },
    /// It was there.
    Known { version: u64 },
    /// A newer one was there.
    Outdated { version: u64, ours: u64 },
}

/// Why a topology was not taken.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum NotTaken {
    #[error(transparent)]
    #[diagnostic(transparent)]
    NoSuccessor(#[from] NoSuccessor),
    #[error("this node has no place in version {version} and takes nothing more from its counter: {because}")]
    #[diagnostic(help(
        "push it to a node that stays as well; if this one is to stay, add it again under a higher version, and push that here"
    ))]
    ShutOut { version: u64, because: &'static str },
    #[error("records cannot be sealed to its main servers: {0}")]
    #[diagnostic(help(
        "copy what `estafet-relay seal-key new` printed there, whole, and sign it under a higher version"
    ))]
    SealKeys(#[from] BadSealKeys),
    #[error(
        "this main server has no private key for {missing}, so nobody could open what is sealed to it: `estafet-relay seal-key new` makes one here"
    )]
    NoSealKey { missing: SealKeyId },
    #[error("this main server's seal keys cannot be read: {0}")]
    Secrets(#[from] SealKeysError),
    #[error("this node's disk does not keep it: {0}")]
    Disk(#[from] io::Error),
    #[error("it cannot be written into this node's audit log: {0}")]
    NotLogged(#[from] NotLogged),
    #[error("the relay is shutting down")]
    ShuttingDown,
}

/// A topology as a neighbor sent it.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) from: NodeId,
    pub(crate) signed: Bytes,
}

/// Who offers a topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A neighbor that has it.
    Neighbor(NodeId),
    /// Somebody who may administer this node.
    Operator(Who),
}

impl Source {
    fn who(&self) -> Who {
        match self {
            Self::Neighbor(id) => Who::Node(id.to_string()),
            Self::Operator(who) => who.clone(),
        }
    }

    /// What the driver need not tell it, because it came from there.
    fn into_neighbor(self) -> Option<NodeId> {
        match self {
            Self::Neighbor(id) => Some(id),
            Self::Operator(_) => None,
        }
    }
}

/// Judges topologies that are offered, one after the other.
pub(crate) struct Topologies {
    me: NodeId,
    data: PathBuf,
    seal_keys: SealKeys,
    commands: Commands,
    audit_log: AuditLog,
    /// Those that are durable here.
    kept: Mutex<Kept>,
    in_force: watch::Sender<Arc<Topology>>,
    shut_out: watch::Sender<Option<ShutOut>>,
}

impl Topologies {
    /// Where neighbors' offers go.
    pub(crate) fn channel() -> (mpsc::Sender<Offer>, mpsc::Receiver<Offer>) {
        mpsc::channel(OFFERS_MAX)
    }

    pub(crate) fn new(config: &Config, commands: Commands, audit_log: AuditLog) -> Self {
        let (signed, shut_out_by) = (Arc::clone(&config.signed), config.shut_out_by.clone());
        Self {
            me: config.node.id.clone(),
            data: config.data.clone(),
            seal_keys: config.seal_keys.clone(),
            commands,
            audit_log,
            kept: Mutex::new(Kept { signed, shut_out_by }),
            in_force: watch::Sender::new(Arc::clone(&config.topology)),
            shut_out: watch::Sender::new(config.shut_out()),
        }
    }

    /// The topology in force, now and later.
    pub(crate) fn in_force(&self) -> watch::Receiver<Arc<Topology>> {
        self.in_force.subscribe()
    }

    /// Whether this node is shut out, now and later.
    pub(crate) fn shut_out(&self) -> watch::Receiver<Option<ShutOut>> {
        self.shut_out.subscribe()
    }

    /// Judges what neighbors offer, as long as the driver lives.
    pub(crate) async fn hear(self: Arc<Self>, mut offers: mpsc::Receiver<Offer>) {
        while let Some(Offer { from, signed }) = offers.recv().await {
            match self.offer(&String::from_utf8_lossy(&signed), Source::Neighbor(from.clone())).await {
                Ok(outcome) => debug!(%from, ?outcome, "a neighbor has sent its topology"),
                // Said when it was new.
                Err(NotTaken::ShutOut { version, .. }) => {
                    debug!(%from, version, "a neighbor says that this node is shut out");
                }
                Err(error) => error!(%from, %error, "the topology of a neighbor is not taken"),
            }
        }
    }

    /// Takes a topology, if it is newer than the one here and to be believed.
    pub(crate) async fn offer(&self, text: &str, from: Source) -> Result<Offered, NotTaken> {
        let offered = self.judge(text, &from).await;
        match &offered {
            Ok(Offered::Outdated { version, .. }) if matches!(from, Source::Operator(_)) => {
                let event = Event::refused(from.who(), "topology", "a newer one is in force");
                self.audit_log.refused(event.about("version", version));
            }
            Ok(_) => {}
            Err(error) => {
                self.audit_log.refused(Event::refused(from.who(), "topology", &error.to_string()));
            }
        }
        offered
    }

    /// Writes down that a topology is taken. What an admin has signed and a neighbor passes on is taken in any case: it may
    /// shut out a thief.
    async fn log(&self, signed: &SignedTopology, from: &Source, at_once: bool) -> Result<(), NotLogged> {
        let event = Event::allowed(from.who(), "topology").about("version", signed.topology().version);
        let in_force = if at_once { "now" } else { "at the next start" };
        match self.audit_log.write(event.about("in_force", in_force)).await {
            Err(error) if matches!(from, Source::Neighbor(_)) => {
                error!(%error, "a topology is taken that is not in the audit log");
                Ok(())
            }
            written => written,
        }
    }

    async fn judge(&self, text: &str, from: &Source) -> Result<Offered, NotTaken> {
        let mut kept = self.kept.lock().await;
        let newest = kept.newest().topology().version;
        let signed = match kept.newest().judge(text)? {
            Succession::Newer(signed) => Arc::new(*signed),
            Succession::Same => {
                let shut_out = *self.shut_out.borrow();
                return shut_out.map_or(Ok(Offered::Known { version: newest }), |by| Err(by.into()));
            }
            Succession::Older { version } => return Ok(Offered::Outdated { version, ours: newest }),
        };
        let version = signed.topology().version;
        let present = Arc::clone(&self.in_force.borrow());
        if let Some(by) = ShutOut::by(signed.topology(), &self.me, &present) {
            self.close_counter(&mut kept, signed, by).await?;
            return Err(by.into());
        }
        Sealer::new(signed.topology().seal_keys())?;
        if let Some(missing) = self.seal_keys.missing(signed.topology(), &self.me)? {
            if matches!(from, Source::Operator(_)) {
                return Err(NotTaken::NoSealKey { missing });
            }
            // The others have it, and the key may be found again.
            error!(key = %missing, version, "the private seal key is not here: nothing that is captured from now on can be opened");
        }
        let (in_force, at_once) = match signed.topology().takes_effect(&self.me, &present) {
            TakesEffect::NextStart { because } => {
                warn!(
                    version,
                    because, "a newer topology waits for a restart of this node; whom it shuts out is shut out now"
                );
                (signed.topology().until_next_start(&self.me, &present), false)
            }
            TakesEffect::AtOnce | TakesEffect::Never { .. } => (signed.topology().clone(), true),
        };
        let in_force = Arc::new(in_force);
        self.log(&signed, from, at_once).await?;
        let (file, stored) = (TopologyFile::in_folder(&self.data), Arc::clone(&signed));
        durably(move || file.store(&stored)).await?;
        kept.signed = Arc::clone(&signed);
        if kept.shut_out_by.take().is_some() {
            info!(version, "this machine is no longer shut out, and serves its counter again");
            self.shut_out.send_replace(None);
            let proof = TopologyFile::of_shutting_out(&self.data);
            // Where it stays it is older than the one in force, and nothing at the next start.
            let _older = durably(move || proof.remove()).await;
        }
        let change =
            Successor { in_force: Arc::clone(&in_force), told: Told::new(&signed), from: from.clone().into_neighbor() };
        self.commands.topology(change).await.map_err(|_| NotTaken::ShuttingDown)?;
        if at_once {
            info!(version, "another topology is in force");
        }
        self.in_force.send_replace(in_force);
        Ok(Offered::Taken { version, at_once })
    }

    /// Closes the counter, at once and after each start. If the disk does not keep it, it is closed until then.
    async fn close_counter(&self, kept: &mut Kept, signed: Arc<SignedTopology>, by: ShutOut) -> Result<(), NotTaken> {
        by.report();
        self.shut_out.send_replace(Some(by));
        kept.shut_out_by = Some(Arc::clone(&signed));
        let file = TopologyFile::of_shutting_out(&self.data);
        durably(move || file.store(&signed)).await
    }
}

impl From<ShutOut> for NotTaken {
    fn from(ShutOut { version, because }: ShutOut) -> Self {
        Self::ShutOut { version, because }
    }
}

/// Does to the disk what blocks for it.
async fn durably(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), NotTaken> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(|_| NotTaken::ShuttingDown)??)
}

/// What a topology says of a node's neighbors; `version` is the newest that the node has.
pub(crate) fn neighborhood(topology: &Topology, me: &NodeId, version: u64) -> Neighborhood {
    let mut neighbors: BTreeMap<NodeId, Neighbor> = BTreeMap::new();
    for (id, link) in topology.neighbors(me) {
        let Some(node) = topology.node(id) else { continue };
        let neighbor = Neighbor { key: node.key, bearers: BTreeMap::new() };
        let addresses = topology.addresses_over(link, id).to_vec();
        neighbors.entry(id.clone()).or_insert(neighbor).bearers.insert(link.medium, addresses);
    }
    Neighborhood { topology_version: version, neighbors }
}

#[cfg(test)]
pub(crate) mod tests {
    use estafet_model::{SealKey, SigningKey};
    use estafet_topology::{NodeSetup, Operator, OperatorRole, Template};

    use super::*;

    pub(crate) fn signed() -> SignedTopology {
        let key = |number: u8| SigningKey::from_seed([number; 32]);
        let operator = Operator { id: "kepala".to_owned(), key: key(100).public(), role: OperatorRole::Admin };
        let mut number = 0;
        let setup = |_: &NodeId| {
            number += 1;
            let address = |port| ([10, 77, 0, number], port).into();
            NodeSetup { key: key(number).public(), addresses: vec![address(4460)], admin: address(4461) }
        };
        let seal_key = |_: &NodeId| SealKey::from_bytes([1; SealKey::BYTES]);
        let topology = Template::Pekanbaru.plan().into_topology(operator, setup, seal_key);
        SignedTopology::sign(topology, "kepala", &key(100)).unwrap()
    }

    #[test]
    fn what_was_kept_is_found_again_and_what_is_damaged_is_as_if_it_never_came() {
        let folder = tempfile::tempdir().unwrap();
        let file = TopologyFile::in_folder(folder.path());
        assert_eq!(file.load(), None);
        let signed = signed();
        file.store(&signed).unwrap();
        assert_eq!(file.load().unwrap(), signed);
        let text = std::fs::read_to_string(&file.path).unwrap();
        for damaged in [&text[..text.len() / 2], &text.replace("Sukajadi", "Sukajaya"), ""] {
            std::fs::write(&file.path, damaged).unwrap();
            assert_eq!(file.load(), None);
        }
    }

    #[test]
    fn each_bearer_of_a_neighbor_is_in_the_neighborhood_with_its_addresses() {
        let signed = signed();
        let rumbai = "rumbai".parse().unwrap();
        let found = neighborhood(signed.topology(), &rumbai, 7);
        let linked: Vec<&str> = found.neighbors.keys().map(NodeId::as_str).collect();
        assert_eq!((found.topology_version, linked), (7, vec!["rumbai-pesisir", "senapelan", "sukajadi"]));
        for (id, neighbor) in &found.neighbors {
            let node = signed.topology().node(id).unwrap();
            assert_eq!(neighbor.key, node.key);
            assert!(neighbor.bearers.values().all(|addresses| *addresses == node.addresses), "{id}");
        }
    }
}
