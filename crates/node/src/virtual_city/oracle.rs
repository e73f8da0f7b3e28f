//! Knows what was promised, and holds it against the disks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use estafet_model::{NodeId, PayloadHash, RecordId, SignedReceipt};
use estafet_wire::{Frame, Verdict};

use super::City;
use super::store::VirtualStore;
use crate::{CaptureToken, Captured};

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    handed_in: BTreeMap<CaptureToken, Bytes>,
    /// Counters that wait for an answer of a process that still runs.
    waiting: BTreeMap<CaptureToken, NodeId>,
    /// What each slip stands for.
    slips: BTreeMap<RecordId, Bytes>,
    /// Receipts that were found good; most are sent many times.
    receipts: BTreeSet<Bytes>,
    pub(super) events_at_once: u64,
}

impl Oracle {
    pub(super) fn handed_in(&mut self, node: &NodeId, token: CaptureToken, payload: Bytes) {
        self.handed_in.insert(token, payload);
        self.waiting.insert(token, node.clone());
    }

    pub(super) fn answered(&mut self, seed: u64, token: CaptureToken) {
        assert!(self.waiting.remove(&token).is_some(), "seed {seed}: {token:?} was answered and nobody asked");
    }

    /// Who waits for an answer of this node will never have one.
    pub(super) fn killed(&mut self, node: &NodeId) {
        self.waiting.retain(|_, asked| asked != node);
    }

    /// A slip speaks of bytes that are on the origin's disk, or by now at the hub; one id never of two records.
    pub(super) fn slip_given(
        &mut self,
        seed: u64,
        token: CaptureToken,
        captured: &Captured,
        own: &VirtualStore,
        hub: &VirtualStore,
    ) {
        let payload = &self.handed_in[&token];
        let id = &captured.id;
        assert_eq!(captured.payload_hash, PayloadHash::of(payload), "seed {seed}: slip {id} is for other bytes");
        let durable = own.record(id).or_else(|| hub.record(id));
        let durable =
            durable.unwrap_or_else(|| panic!("seed {seed}: slip {id} was given before its record was synced"));
        assert_eq!(durable.payload, payload, "seed {seed}: {id} is on the disk with other bytes");
        let before = self.slips.insert(id.clone(), payload.clone());
        assert!(before.is_none_or(|before| before == payload), "seed {seed}: two records have the slip {id}");
    }

    /// Whoever says that it has a record has it on its disk, or the hub has it; a receipt speaks of what the hub has.
    pub(super) fn sent(&mut self, seed: u64, from: &NodeId, frame: &Frame, own: &VirtualStore, hub: &VirtualStore) {
        let has = |id: &RecordId| own.record(id).is_some() || hub.record(id).is_some();
        match frame {
            Frame::Acceptances(ids) => {
                for id in ids {
                    assert!(has(id), "seed {seed}: {from} accepted {id} before it was synced");
                }
            }
            Frame::Answers(answers) => {
                for answer in answers.iter().filter(|answer| answer.verdict == Verdict::Have) {
                    assert!(has(&answer.id), "seed {seed}: {from} says it has {}, and has it not", answer.id);
                }
            }
            Frame::Receipts(receipts) => receipts.iter().for_each(|encoded| self.receipt(seed, hub, encoded)),
            _ => {}
        }
    }

    fn receipt(&mut self, seed: u64, hub: &VirtualStore, encoded: &Bytes) {
        if !self.receipts.insert(encoded.clone()) {
            return;
        }
        let receipt = SignedReceipt::decode(encoded).expect("nodes send good receipts");
        let key = receipt.key();
        for seq in receipt.committed().iter() {
            let id = RecordId { origin: key.origin.clone(), epoch: key.epoch, seq };
            assert!(hub.record(&id).is_some(), "seed {seed}: a receipt covers {id}, and the hub has it not");
        }
    }

    pub(super) fn released(&self, seed: u64, by: &NodeId, ids: &[RecordId], hub: &VirtualStore) {
        for id in ids {
            assert!(hub.record(id).is_some(), "seed {seed}: {by} released {id} before the hub had it");
        }
    }
}

impl City {
    /// Every slip's record is on its origin's disk or on the hub's, byte for byte; the hub has none twice.
    pub(crate) fn check_slips(&self) {
        let hub = self.hub_store();
        for (id, payload) in &self.oracle.slips {
            let found = hub.record(id).or_else(|| self.offices[&id.origin].store.record(id));
            let found = found.unwrap_or_else(|| panic!("seed {}: {id} has a slip and is nowhere", self.seed));
            assert_eq!(found.payload, payload, "seed {}: {id} has other bytes", self.seed);
        }
        assert_eq!(hub.stored_twice(), 0, "seed {}: the hub stored a record twice", self.seed);
    }

    /// Runs until all that was captured is receipted everywhere and nobody holds anything; else says what is stuck.
    pub(crate) fn must_deliver_within(&mut self, span: Duration) {
        let done = self.run_until(span, City::is_delivered);
        self.check_slips();
        assert!(done, "seed {}: not delivered within {span:?}:\n{}", self.seed, self.stuck());
    }

    fn is_delivered(&self) -> bool {
        let answered = self.oracle.waiting.is_empty();
        let committed = self.oracle.slips.keys().all(|id| self.is_committed(id));
        let running = || self.offices.values().filter_map(|office| office.node.as_ref());
        answered
            && committed
            && running().all(|node| node.custody().held_count() == 0)
            && running().all(ledger_is_closed)
    }

    /// For people: why the city is not at rest.
    fn stuck(&self) -> String {
        let mut text = String::new();
        for (token, node) in &self.oracle.waiting {
            let _ = writeln!(text, "{node} has not answered {token:?}");
        }
        for id in self.oracle.slips.keys().filter(|id| !self.is_committed(id)) {
            let _ = writeln!(text, "{id} is not committed");
        }
        for (name, office) in &self.offices {
            let Some(node) = &office.node else {
                let _ = writeln!(text, "{name} is off");
                continue;
            };
            let hops: Vec<_> = node.router().next_hops().into_iter().map(|hop| hop.neighbor).collect();
            let _ = writeln!(text, "{name} holds {}, next hops {hops:?}", node.custody().held_count());
            for view in node.custody().records().take(10) {
                let _ = writeln!(text, "    {} {:?} since {:?}", view.record.id, view.state, view.since.0);
            }
            for origin in node.audit().origins.iter().filter(|origin| origin.captured != origin.receipted) {
                let _ = writeln!(text, "    its ledger: {origin:?}");
            }
        }
        text
    }
}

/// P4, as this node sees it, when nothing is under way.
fn ledger_is_closed(node: &crate::Node) -> bool {
    let audit = node.audit();
    let closed = audit
        .origins
        .iter()
        .all(|origin| origin.captured == origin.receipted && origin.held == 0 && origin.missing.is_empty());
    closed && audit.committed_twice == 0
}
