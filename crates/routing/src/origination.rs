//! What this node says about itself, and when it says it anew.

use std::collections::BTreeMap;
use std::time::Duration;

use estafet_model::{LinkCost, NodeId, Now, SigningKey};

use crate::lsa::{ADJACENCIES_MAX, Adjacency, HubLedger, Lsa, OriginLedger, TopologyVersions};
use crate::outlook::Outlook;
use crate::router::RouterConfig;
use crate::signed_lsa::SignedLsa;
use crate::standing::Standing;

/// The least time between two LSAs that differ only in ledgers and outlook, after a rest. An office captures a record a
/// minute, and people see counts move.
pub const LEDGER_INTERVAL: Duration = Duration::from_millis(500);

/// While they change on and on, the time doubles up to this for each node of the area: all of them together then tell four
/// times a second at most, which is a kilobyte or so over every link, the weakest as well.
const LEDGER_PAUSE_PER_NODE: Duration = Duration::from_millis(250);

/// The content and the sequence number of this node's own LSA.
#[derive(Debug, Clone)]
pub(crate) struct Origination {
    me: NodeId,
    signing_key: SigningKey,
    next_sequence: u64,
    last_originated: Now,
    /// A ledger or the outlook is another than was told.
    ledger_changed: bool,
    ledger_interval: Duration,
    ledger_interval_max: Duration,
    standing: Standing,
    durable: bool,
    topology: TopologyVersions,
    ledger: Option<OriginLedger>,
    hub: Option<HubLedger>,
    outlook: Option<Outlook>,
    rtts: BTreeMap<NodeId, u32>,
}

impl Origination {
    pub(crate) fn new(me: NodeId, config: &RouterConfig) -> Self {
        let version = config.topology_version;
        Self {
            me,
            signing_key: config.signing_key.clone(),
            next_sequence: config.first_sequence,
            last_originated: Now::default(),
            ledger_changed: false,
            ledger_interval: LEDGER_INTERVAL,
            ledger_interval_max: ledger_interval_max(config),
            standing: Standing::default(),
            durable: config.durable,
            topology: TopologyVersions { in_force: version, kept: version },
            ledger: None,
            hub: None,
            outlook: None,
            rtts: BTreeMap::new(),
        }
    }

    /// A new LSA with everything as it is now.
    ///
    /// Of more than [`ADJACENCIES_MAX`] neighbors only the first by id are listed; no topology has that many. A
    /// ledger in too many pieces is left out, so that the area's count shows it as unknown rather than wrong.
    pub(crate) fn originate<'a>(&mut self, now: Now, up: impl Iterator<Item = (&'a NodeId, LinkCost)>) -> SignedLsa {
        let adjacencies = up.take(ADJACENCIES_MAX).map(|(neighbor, cost)| Adjacency {
            neighbor: neighbor.clone(),
            cost: cost.max(LinkCost(1)),
            rtt_micros: self.rtts.get(neighbor).copied().unwrap_or_default(),
        });
        let lsa = Lsa {
            origin: self.me.clone(),
            sequence: self.next_sequence,
            adjacencies: adjacencies.collect(),
            standing: self.standing.clone(),
            durable: self.durable,
            topology: self.topology,
            ledger: self.ledger.clone().filter(OriginLedger::fits),
            hub: self.hub,
            outlook: self.outlook,
        };
        self.next_sequence = self.next_sequence.saturating_add(1);
        if now.since(self.last_originated) > self.ledger_interval_max * 2 {
            self.ledger_interval = LEDGER_INTERVAL;
        } else if self.ledger_changed {
            self.ledger_interval = (self.ledger_interval * 2).min(self.ledger_interval_max);
        }
        self.last_originated = now;
        self.ledger_changed = false;
        SignedLsa::sign(lsa, &self.signing_key)
    }

    /// The next LSA will be newer than `sequence`.
    pub(crate) fn jump_above(&mut self, sequence: u64) {
        self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
    }

    /// True if the standing is another now.
    pub(crate) fn set_standing(&mut self, standing: Standing) -> bool {
        let changed = self.standing != standing;
        self.standing = standing;
        changed
    }

    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    pub(crate) fn set_ledger(&mut self, ledger: OriginLedger) {
        self.ledger_changed |= self.ledger.as_ref() != Some(&ledger);
        self.ledger = Some(ledger);
    }

    pub(crate) fn set_hub_ledger(&mut self, ledger: HubLedger) {
        self.ledger_changed |= self.hub != Some(ledger);
        self.hub = Some(ledger);
    }

    pub(crate) fn set_outlook(&mut self, outlook: Outlook) {
        self.ledger_changed |= self.outlook != Some(outlook);
        self.outlook = Some(outlook);
    }

    pub(crate) fn set_rtt(&mut self, neighbor: NodeId, rtt: Duration) {
        self.rtts.insert(neighbor, u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX));
    }

    /// True if a newer topology is on the disk now than before.
    pub(crate) fn set_topology_kept(&mut self, version: u64) -> bool {
        let is_newer = version > self.topology.kept;
        self.topology.kept = self.topology.kept.max(version);
        is_newer
    }

    /// Another version, another key or other neighbors by a new topology.
    pub(crate) fn reconfigure(&mut self, config: &RouterConfig) {
        self.signing_key = config.signing_key.clone();
        self.ledger_interval_max = ledger_interval_max(config);
        self.topology.in_force = config.topology_version;
        self.set_topology_kept(config.topology_version);
        self.rtts.retain(|neighbor, _| config.neighbors.contains_key(neighbor));
    }

    /// When a changed ledger may be told.
    pub(crate) fn ledger_due(&self) -> Option<Now> {
        self.ledger_changed.then(|| self.last_originated + self.ledger_interval)
    }
}

fn ledger_interval_max(config: &RouterConfig) -> Duration {
    let nodes = u32::try_from(config.keys.len()).unwrap_or(u32::MAX);
    LEDGER_PAUSE_PER_NODE.saturating_mul(nodes).max(LEDGER_INTERVAL)
}
