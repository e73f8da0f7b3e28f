//! What a machine held that is out of its owner's hands, as far as this node can tell: by its ledger, by what it holds
//! itself, and by what the machine said before. The machine itself is not asked, for nobody knows whose word that would be.
//!
//! Where it cannot be known, a record is told as possible rather than left out. Not told are second copies that went round
//! by more than one relay while a neighbor was suspected, and came to nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use estafet_admin::v1::IncidentFinding;
use estafet_model::{Class, Epoch, NodeId, RecordId, SeqRanges, UnixMillis};
use estafet_node::custody::{RecordState, RecordView};
use estafet_topology::Topology;
use tokio::sync::{mpsc, watch};
use tonic::Status;

use crate::driver::{Commands, View};
use crate::ledger::{Commit, Ledger};

/// Records of custody that are looked at between two inputs of the driver.
const PAGE: usize = 1_000;

/// Runs of numbers in one message: a quarter of a megabyte.
const RUNS_PER_MESSAGE: usize = 25_000;

/// For so long a machine may still have had a copy of what it had captured, after the receipt: the bound by which relays
/// hold them, if their configuration sets no other.
const KEPT_MILLIS: u64 = 30 * 24 * 3600 * 1000;

/// How it is known that the machine held a record; the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Evidence {
    Captured,
    Announced,
    Received,
    Accepted,
    Kept,
    Offered,
    Passed,
}

impl Evidence {
    fn as_str(self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::Announced => "announced",
            Self::Received => "received",
            Self::Accepted => "accepted",
            Self::Kept => "kept",
            Self::Offered => "offered",
            Self::Passed => "passed",
        }
    }
}

/// Records by origin, epoch, class and evidence.
type Findings = BTreeMap<(NodeId, Epoch, Option<Class>, Evidence), SeqRanges>;

/// The question.
pub(crate) struct Incident {
    /// Whose machine.
    pub(crate) node: NodeId,
    pub(crate) since: UnixMillis,
    /// Who answers.
    pub(crate) me: NodeId,
    pub(crate) commands: Commands,
    pub(crate) ledger: Option<Ledger>,
    pub(crate) in_force: watch::Receiver<Arc<Topology>>,
    pub(crate) sender: mpsc::Sender<Result<IncidentFinding, Status>>,
}

impl Incident {
    /// Looks everywhere, then tells.
    pub(crate) async fn run(self) {
        let found = self.look().await;
        let messages: Vec<Result<IncidentFinding, Status>> = match found {
            Ok(found) => found.into_iter().flat_map(|(key, seqs)| messages(&key, &seqs)).map(Ok).collect(),
            Err(status) => vec![Err(status)],
        };
        for message in messages {
            if self.sender.send(message).await.is_err() {
                return;
            }
        }
    }

    async fn look(&self) -> Result<Findings, Status> {
        let mut ways = Ways::new(Arc::clone(&self.in_force.borrow()), self.node.clone(), self.me.clone());
        let mut found = self.own_word().await?;
        self.look_at_custody(&mut found, &mut ways).await?;
        if let Some(ledger) = &self.ledger {
            self.look_at_ledger(ledger, &mut found, &mut ways).await?;
        }
        Ok(found)
    }

    /// What the machine last said that it holds, and the numbers it gave under which nobody has anything.
    async fn own_word(&self) -> Result<Findings, Status> {
        let node = self.node.clone();
        let asked = self.commands.ask(move |view| {
            let mut found = Findings::new();
            let mut note = |origin: &NodeId, epoch: Epoch, seqs: &SeqRanges| {
                let key = (origin.clone(), epoch, None, Evidence::Announced);
                let known = found.entry(key).or_default();
                *known = known.union(seqs);
            };
            if let Some(said) = view.node.last_word(&node) {
                note(&node, said.epoch, &said.held);
                said.holdings.iter().for_each(|holding| note(&holding.origin, holding.epoch, &holding.held));
                said.conflicts.iter().for_each(|(epoch, seqs)| note(&node, *epoch, seqs));
            }
            for origin in view.node.audit().origins.iter().filter(|origin| origin.node == node) {
                origin.missing.numbers().for_each(|(epoch, seqs)| note(&node, epoch, seqs));
            }
            found.retain(|_, seqs| !seqs.is_empty());
            found
        });
        asked.await.map_err(|error| Status::unavailable(error.to_string()))
    }

    async fn look_at_custody(&self, found: &mut Findings, ways: &mut Ways) -> Result<(), Status> {
        let mut after: Option<RecordId> = None;
        loop {
            let from = after.take();
            let page = move |view: &View<'_>| -> Vec<RecordView> {
                view.node.custody().records_after(from.as_ref()).take(PAGE).collect()
            };
            let asked = self.commands.ask(page).await;
            let page = asked.map_err(|error| Status::unavailable(error.to_string()))?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id.clone());
            for held in page {
                if let Some(evidence) = self.evidence_of_held(&held, ways) {
                    note(found, held.id, Some(held.class), evidence);
                }
            }
        }
    }

    fn evidence_of_held(&self, held: &RecordView, ways: &mut Ways) -> Option<Evidence> {
        let node = &self.node;
        let handed = match &held.state {
            RecordState::Accepted { by } if by == node => Some(Evidence::Accepted),
            RecordState::Offered { to } if to == node => Some(Evidence::Offered),
            _ => None,
        };
        let came = match &held.received_from {
            _ if held.id.origin == *node => Some(Evidence::Captured),
            Some(from) if from == node => Some(Evidence::Received),
            Some(from) => ways.may_lead_over(&held.id.origin, from).then_some(Evidence::Passed),
            None if held.id.origin == self.me => None,
            // A node that was started since does not know any more from whom it came.
            None => ways.may_lead_over(&held.id.origin, &self.me).then_some(Evidence::Passed),
        };
        handed.into_iter().chain(came).min()
    }

    /// Everything that was committed since, in the order of the ledger: a clock that was put back in between hides nothing.
    async fn look_at_ledger(&self, ledger: &Ledger, found: &mut Findings, ways: &mut Ways) -> Result<(), Status> {
        let fault = |error: crate::ledger::LedgerError| Status::internal(error.to_string());
        let first = ledger.first_since(self.since).await.map_err(fault)?;
        let kept_since = UnixMillis(self.since.0.saturating_sub(KEPT_MILLIS));
        for commit in ledger.captured_between(self.node.clone(), kept_since, first).await.map_err(fault)? {
            note(found, commit.id, Some(commit.class), Evidence::Kept);
        }
        let mut next = first;
        while let Some(from) = next {
            let page = ledger.chained_from(from).await.map_err(fault)?;
            next = page.last().map(|last| last.hub_sequence + 1);
            for commit in page {
                if let Some(evidence) = self.evidence_of_commit(&commit, ways) {
                    note(found, commit.id, Some(commit.class), evidence);
                }
            }
        }
        Ok(())
    }

    fn evidence_of_commit(&self, commit: &Commit, ways: &mut Ways) -> Option<Evidence> {
        match &commit.received_from {
            _ if commit.id.origin == self.node => Some(Evidence::Captured),
            Some(from) if *from == self.node => Some(Evidence::Received),
            Some(from) => ways.may_lead_over(&commit.id.origin, from).then_some(Evidence::Passed),
            None if commit.id.origin == self.me => None,
            // Of an archive that does not say it.
            None => Some(Evidence::Passed),
        }
    }
}

fn note(found: &mut Findings, id: RecordId, class: Option<Class>, evidence: Evidence) {
    found.entry((id.origin, id.epoch, class, evidence)).or_default().insert(id.seq);
}

fn messages(key: &(NodeId, Epoch, Option<Class>, Evidence), seqs: &SeqRanges) -> Vec<IncidentFinding> {
    let (origin, epoch, class, evidence) = key;
    let message = |runs: &[estafet_model::Range]| IncidentFinding {
        origin: origin.to_string(),
        epoch: u32::from(epoch.get()),
        class: class.map(|class| class.to_string()).unwrap_or_default(),
        evidence: evidence.as_str().to_owned(),
        bounds: runs.iter().flat_map(|run| [run.first, run.last]).collect(),
    };
    seqs.pieces().chunks(RUNS_PER_MESSAGE).map(message).collect()
}

/// By which ways a record may have come here, on the map of the topology in force.
struct Ways {
    topology: Arc<Topology>,
    node: NodeId,
    me: NodeId,
    /// By origin and the neighbor that brought it.
    known: BTreeMap<(NodeId, NodeId), bool>,
}

impl Ways {
    fn new(topology: Arc<Topology>, node: NodeId, me: NodeId) -> Self {
        Self { topology, node, me, known: BTreeMap::new() }
    }

    /// True if a record of `origin` that `from` had last may have been at the machine. It may, if a way leads from the
    /// origin over the machine to `from` (or the machine is gone from the map); or if the two are neighbors: a second copy
    /// may have gone there.
    fn may_lead_over(&mut self, origin: &NodeId, from: &NodeId) -> bool {
        let pair = (origin.clone(), from.clone());
        if let Some(known) = self.known.get(&pair) {
            return *known;
        }
        let may = self.judge(origin, from);
        self.known.insert(pair, may);
        may
    }

    fn judge(&self, origin: &NodeId, from: &NodeId) -> bool {
        let is_there = self.topology.node(&self.node).is_some();
        if !is_there {
            return origin != from;
        }
        if self.topology.bearers(origin, &self.node).next().is_some() {
            return true;
        }
        origin != from
            && self.leads(origin, &self.node, &[&self.me, from])
            && self.leads(&self.node, from, &[&self.me, origin])
    }

    /// True if a way leads from one to the other around these.
    fn leads(&self, from: &NodeId, to: &NodeId, around: &[&NodeId]) -> bool {
        let mut seen: BTreeSet<&NodeId> = around.iter().copied().filter(|node| *node != to).collect();
        let mut next = vec![from];
        while let Some(node) = next.pop() {
            if node == to {
                return true;
            }
            let neighbors = self.topology.neighbors(node).map(|(neighbor, _)| neighbor);
            next.extend(neighbors.filter(|neighbor| seen.insert(neighbor)));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topologies::tests::signed;

    #[test]
    fn a_record_may_have_been_where_a_way_leads() {
        let id = |name: &str| name.parse::<NodeId>().unwrap();
        let topology = Arc::new(signed().topology().clone());
        for (machine, origin, from, may) in [
            // Neighbors: the way leads over it, or a second copy went there.
            ("rumbai", "rumbai-pesisir", "sukajadi", true),
            ("tampan", "payung-sekaki", "payung-sekaki", true),
            // A way over it leads to who brought it, and not over the main server.
            ("senapelan", "rumbai-pesisir", "sukajadi", true),
            ("senapelan", "rumbai-pesisir", "lima-puluh", false),
            ("tampan", "rumbai-pesisir", "sukajadi", false),
            ("sail", "rumbai", "sukajadi", false),
            // Not on the map any more: it may have been anywhere on the way.
            ("gone", "rumbai", "sukajadi", true),
            ("gone", "rumbai", "rumbai", false),
        ] {
            let mut ways = Ways::new(Arc::clone(&topology), id(machine), id("induk"));
            for _ in 0..2 {
                assert_eq!(ways.may_lead_over(&id(origin), &id(from)), may, "{machine}: {origin} by {from}");
            }
        }
    }

    #[test]
    fn a_finding_is_told_in_messages_of_bounded_length() {
        let seqs: SeqRanges = (1..=60_000).map(|number| number * 2).filter_map(estafet_model::Seq::new).collect();
        let key = ("sail".parse().unwrap(), Epoch::FIRST, Some(Class::Urgent), Evidence::Received);
        let told = messages(&key, &seqs);
        assert_eq!(told.iter().map(|message| message.bounds.len()).collect::<Vec<_>>(), [50_000, 50_000, 20_000]);
        assert_eq!(
            (told[0].class.as_str(), told[0].evidence.as_str(), &told[0].bounds[..4]),
            ("urgent", "received", &[2, 2, 4, 4][..])
        );
    }
}
