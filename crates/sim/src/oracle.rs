//! Knows what was promised, and holds it against the disks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use estafet_custody::RecordState;
use estafet_model::{Epoch, NodeId, Now, PayloadHash, ReceiptKey, RecordId, SeqRanges, SignedReceipt};
use estafet_node::{AuditReport, CaptureToken, Captured, Node, OriginAudit};
use estafet_wire::{Frame, Verdict};

use crate::city::{City, CounterAnswer, Violation};
use crate::store::NotStarted;

/// What custody may have handed to one neighbor without an answer.
const WINDOW_RECORDS: usize = 4096;
const WINDOW_BYTES: u64 = 16 << 20;

/// What was promised in a city, and the first promise that was broken.
#[derive(Debug, Default)]
pub struct Oracle {
    handed_in: BTreeMap<CaptureToken, PayloadHash>,
    /// Counters that wait for an answer of a process that still runs.
    waiting: BTreeMap<CaptureToken, NodeId>,
    /// What each slip stands for.
    slips: BTreeMap<RecordId, PayloadHash>,
    /// The slips whose records are not committed yet, as far as was looked.
    open: BTreeSet<RecordId>,
    /// The records that were lost with the only disk that held them.
    excused: BTreeSet<RecordId>,
    /// Numbers that may have been given twice, because a spool came back from a backup: per origin and epoch, those
    /// between the newest in the backup and the newest ever given.
    ambiguous: BTreeMap<(NodeId, Epoch), Range<u32>>,
    /// What each main server had committed, and has lost with its disk or a part of it. Only of these may it take back
    /// its word.
    lost_by_hub: BTreeMap<NodeId, BTreeSet<RecordId>>,
    /// The newest receipt that each main server has sent, by what it speaks of, and all numbers in any.
    receipts: BTreeMap<ReceiptKey, SeqRanges>,
    ever_receipted: BTreeMap<ReceiptKey, SeqRanges>,
    violation: Option<Violation>,
}

impl Oracle {
    pub(crate) fn handed_in(&mut self, node: &NodeId, token: CaptureToken, payload: &Bytes) {
        self.handed_in.insert(token, PayloadHash::of(payload));
        self.waiting.insert(token, node.clone());
    }

    /// Who waits for an answer of this node will never have one.
    pub(crate) fn killed(&mut self, node: &NodeId) {
        self.waiting.retain(|_, asked| asked != node);
    }

    /// The spool of a node comes back with what a backup holds of an epoch, of which more was given.
    pub(crate) fn rolled_back(&mut self, node: &NodeId, epoch: Epoch, newest: u32, given: u32) {
        let numbers = self.ambiguous.entry((node.clone(), epoch)).or_insert(newest + 1..given + 1);
        *numbers = numbers.start.min(newest + 1)..numbers.end.max(given + 1);
        let mut open = std::mem::take(&mut self.open);
        open.retain(|id| !self.is_ambiguous(id));
        self.open = open;
    }

    /// Two records may have this id: nothing can be said of it.
    fn is_ambiguous(&self, id: &RecordId) -> bool {
        self.ambiguous.get(&(id.origin.clone(), id.epoch)).is_some_and(|numbers| numbers.contains(&id.seq.get()))
    }

    pub(crate) fn violated(&mut self, at: Now, what: String) {
        self.violation.get_or_insert(Violation { at, what });
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        self.violation.clone()
    }

    /// How many slips were given.
    #[must_use]
    pub fn slip_count(&self) -> usize {
        self.slips.len()
    }

    /// Some main server had the record, and has lost it.
    fn is_lost_by_a_hub(&self, id: &RecordId) -> bool {
        self.lost_by_hub.values().any(|lost| lost.contains(id))
    }

    fn is_lost_by(&self, hub: &NodeId, id: &RecordId) -> bool {
        self.lost_by_hub.get(hub).is_some_and(|lost| lost.contains(id))
    }

    /// The slips whose records were lost with the only disk that held them.
    #[must_use]
    pub fn excused(&self) -> &BTreeSet<RecordId> {
        &self.excused
    }
}

impl City {
    /// What was promised so far.
    #[must_use]
    pub fn oracle(&self) -> &Oracle {
        &self.oracle
    }

    /// A counter has its answer. A slip speaks of bytes that are on the origin's disk, and one id never of two records.
    pub(crate) fn answered(&mut self, by: &NodeId, token: CaptureToken, answer: CounterAnswer) {
        if self.oracle.waiting.remove(&token).is_none() {
            self.violated(format!("{token:?} was answered and nobody asked"));
        }
        if let Ok(captured) = &answer {
            self.slip_given(by, token, captured);
            self.digest_of(by, captured.id.to_string().as_bytes());
        }
        self.answers.insert(token, answer);
    }

    fn slip_given(&mut self, by: &NodeId, token: CaptureToken, captured: &Captured) {
        let Captured { id, payload_hash, .. } = captured;
        let handed_in = self.oracle.handed_in[&token];
        if *payload_hash != handed_in {
            self.violated(format!("slip {id} is for other bytes"));
        }
        if !self.has(by, id) {
            self.violated(format!("slip {id} was given and its record is not durable"));
        }
        if self.oracle.is_ambiguous(id) {
            return;
        }
        match self.oracle.slips.insert(id.clone(), handed_in) {
            Some(before) if before != handed_in => self.violated(format!("two records have the slip {id}")),
            Some(_) => {}
            None => drop(self.oracle.open.insert(id.clone())),
        }
    }

    /// The node has the record durably, or had it and the main server has it, or had it.
    fn has(&self, node: &NodeId, id: &RecordId) -> bool {
        self.offices[node].store.holds(id) || self.is_committed(id) || self.oracle.is_lost_by_a_hub(id)
    }

    /// Whoever says that it has a record has it on its disk, or the hub has it; a receipt speaks of what the hub has.
    pub(crate) fn promised(&mut self, from: &NodeId, frame: &Frame) {
        match frame {
            Frame::Acceptances(ids) => {
                if let Some(id) = ids.iter().find(|id| !self.has(from, id)) {
                    self.violated(format!("{from} accepted {id}, which is not durable there"));
                }
            }
            Frame::Answers(answers) => {
                let mut has = answers.iter().filter(|answer| answer.verdict == Verdict::Have);
                if let Some(answer) = has.find(|answer| !self.has(from, &answer.id)) {
                    self.violated(format!("{from} says it has {}, and has it not", answer.id));
                }
            }
            Frame::Holdings(holdings) => {
                let mut ids = holdings.iter().flat_map(|holding| holding.set.ids());
                if let Some(id) = ids.find(|id| !self.has(from, id)) {
                    self.violated(format!("{from} says it holds {id}, and has it not"));
                }
            }
            Frame::Receipts(receipts) => receipts.iter().for_each(|encoded| self.receipt(from, encoded)),
            _ => {}
        }
    }

    /// A hub's receipts only grow, but for what it has lost, and cover what it holds; nobody spreads one that the hub
    /// has not sent.
    fn receipt(&mut self, from: &NodeId, encoded: &Bytes) {
        let Ok(receipt) = SignedReceipt::decode(encoded) else {
            return self.violated(format!("{from} sent a malformed receipt"));
        };
        let (key, committed) = (receipt.key(), receipt.committed());
        let before = self.oracle.receipts.get(key).cloned().unwrap_or_default();
        let new = committed.minus(&before);
        let ever = self.oracle.ever_receipted.entry(key.clone()).or_default();
        if *from != key.hub {
            if !committed.minus(ever).is_empty() {
                self.violated(format!("{from} spreads a receipt for {key:?} that {} did not send", key.hub));
            }
            return;
        }
        *ever = ever.union(committed);
        let id = |seq| RecordId { origin: key.origin.clone(), epoch: key.epoch, seq };
        if !before.minus(committed).iter().map(id).all(|id| self.oracle.is_lost_by(from, &id)) {
            self.violated(format!("a receipt takes back what an earlier one covered: {key:?}"));
        }
        for seq in new.iter() {
            self.receipted(from, &id(seq));
        }
        self.oracle.receipts.insert(key.clone(), committed.clone());
    }

    /// The hub's archive has what it gives a receipt for, byte for byte.
    fn receipted(&mut self, hub: &NodeId, id: &RecordId) {
        let archive = &self.offices[hub].store;
        if archive.is_rotten(id) {
            return;
        }
        if !archive.holds(id) {
            return self.violated(format!("a receipt covers {id}, and {hub} has it not"));
        }
        self.check_bytes(hub, id);
        self.oracle.open.remove(id);
        if let Some(lost) = self.oracle.lost_by_hub.get_mut(hub) {
            lost.remove(id);
        }
    }

    fn check_bytes(&mut self, hub: &NodeId, id: &RecordId) {
        let found = self.offices[hub].store.payload_hash(id);
        let promised = self.oracle.slips.get(id).filter(|_| !self.oracle.is_ambiguous(id));
        if found.is_none() || promised.is_some_and(|promised| found != Some(*promised)) {
            self.violated(format!("{hub} does not have {id} as it was handed in"));
        }
    }

    /// An origin lets a record go when as many main servers as the topology demands had it, anybody else when one had.
    pub(crate) fn released(&mut self, by: &NodeId, ids: &[RecordId]) {
        let had = |id: &RecordId| {
            let had = self.archives().filter(|(hub, archive)| archive.holds(id) || self.oracle.is_lost_by(hub, id));
            had.count() >= if id.origin == *by { self.topology.copies } else { 1 }
        };
        if let Some(id) = ids.iter().find(|id| !had(id)) {
            self.violated(format!("{by} released {id} before enough main servers had it"));
        }
    }

    /// Every slip's record is committed or on its origin's disk; after the loss of that disk, on any other.
    pub(crate) fn check_nothing_missing(&mut self) {
        self.notice_commits();
        self.excuse_what_was_given_back();
        if let Some(id) = self.oracle.open.iter().find(|id| !self.is_held(id)) {
            let what = format!("{id} has a slip and is nowhere");
            self.violated(what);
        }
    }

    /// The main server has lost these: where a slip was given for one, it is to be committed once more.
    pub(crate) fn lost_by_hub(&mut self, hub: &NodeId, ids: BTreeSet<RecordId>) {
        let slips = ids.iter().filter(|id| self.oracle.slips.contains_key(id) && !self.oracle.is_ambiguous(id));
        let slips: Vec<RecordId> = slips.filter(|id| !self.oracle.excused.contains(id)).cloned().collect();
        self.oracle.open.extend(slips);
        self.oracle.lost_by_hub.entry(hub.clone()).or_default().extend(ids);
        self.excuse_what_was_given_back();
    }

    /// What the main server has lost after its origin had given it back is in nobody's hands; the ledger is to name it.
    fn excuse_what_was_given_back(&mut self) {
        let lost = self.oracle.open.iter().filter(|id| self.is_given_back(id));
        for id in lost.cloned().collect::<Vec<_>>() {
            self.oracle.open.remove(&id);
            self.oracle.excused.insert(id);
        }
    }

    fn is_given_back(&self, id: &RecordId) -> bool {
        self.oracle.is_lost_by_a_hub(id) && !self.is_held(id)
    }

    /// What is not at the main server yet, at most.
    pub(crate) fn uncommitted_bytes(&self) -> u64 {
        let running = self.offices.values().filter_map(|office| office.node.as_ref());
        running.flat_map(|node| node.custody().records()).map(|view| u64::from(view.payload_bytes)).sum()
    }

    /// Each archive, as a power cut would leave it, opens and holds all that was ever told to be in it.
    pub(crate) fn check_archives(&mut self) -> Result<(), Violation> {
        for mut image in self.archives().map(|(_, archive)| archive.backup()).collect::<Vec<_>>() {
            let opened = image.start(|| unreachable!("an archive that was begun has its epoch"));
            if let Err(NotStarted::Broken(what)) = opened {
                self.violated(format!("the archive opens: {what}"));
            }
        }
        self.oracle.violation().map_or(Ok(()), Err)
    }

    /// In a city without liars nobody refuses a record for good.
    pub(crate) fn check_nobody_refused(&mut self) -> Result<(), Violation> {
        let mut refusals = self.refusals.iter().filter(|(_, _, answer)| !self.oracle.is_ambiguous(&answer.id));
        if let Some((by, to, answer)) = refusals.next() {
            let what = format!("{by} refused {answer:?} of {to} for good");
            self.violated(what);
        }
        self.oracle.violation().map_or(Ok(()), Err)
    }

    fn notice_commits(&mut self) {
        let mut open = std::mem::take(&mut self.oracle.open);
        open.retain(|id| !self.is_committed(id));
        self.oracle.open = open;
    }

    /// Somebody has the record durably, or the main server has lost it and its origin has not given its bytes back.
    fn is_held(&self, id: &RecordId) -> bool {
        let origin = &self.offices[&id.origin].store;
        let recalls = || self.oracle.is_lost_by_a_hub(id) && !self.is_hub(&id.origin) && origin.may_recall(id);
        origin.holds(id) || self.offices.values().any(|office| office.store.holds(id)) || recalls()
    }

    /// A disk is gone that held these records: what nobody else holds is lost, and that is nobody's fault. Some may have
    /// been durable without a slip, because the power went before the answer.
    pub(crate) fn excuse_what_is_lost(&mut self, held: Vec<RecordId>) {
        self.notice_commits();
        let lost = self.oracle.open.iter().cloned().chain(held).filter(|id| !self.is_held(id));
        let lost: Vec<RecordId> = lost.collect();
        for id in lost {
            self.oracle.open.remove(&id);
            self.oracle.excused.insert(id);
        }
    }

    /// What custody has handed to each neighbor without an answer stays within its window.
    pub(crate) fn check_windows(&mut self, id: &NodeId) {
        let Some(node) = &self.offices[id].node else { return };
        let mut windows: BTreeMap<NodeId, (usize, u64)> = BTreeMap::new();
        for view in node.custody().records() {
            if let RecordState::Offered { to } = view.state {
                let (records, bytes) = windows.entry(to).or_default();
                *records += 1;
                *bytes += u64::from(view.payload_bytes);
            }
        }
        let over = |&(records, bytes): &(usize, u64)| records > 1 && (records > WINDOW_RECORDS || bytes > WINDOW_BYTES);
        let what = windows.into_iter().find(|(_, window)| over(window));
        let what = what.map(|(to, window)| format!("{id} has handed {to} more than its window: {window:?}"));
        if let Some(what) = what {
            self.violated(what);
        }
    }

    /// Every slip's record is on its origin's disk or on the hub's.
    ///
    /// # Panics
    /// If not, or if a promise was broken before.
    pub fn check_slips(&mut self) {
        self.check_nothing_missing();
        if let Some(violation) = self.oracle.violation() {
            panic!("seed {}: {violation}", self.seed);
        }
    }

    /// Runs until all that was captured is receipted everywhere and nobody holds anything, and reads it all at the
    /// main server.
    ///
    /// # Panics
    /// If that is not so within `span`: it says what is stuck.
    pub fn must_deliver_within(&mut self, span: Duration) {
        if let Err(violation) = self.deliver_within(span) {
            panic!("seed {}: {violation}", self.seed);
        }
    }

    /// Runs until all that was captured is receipted everywhere and nobody holds anything, and reads it all at the
    /// main server. If that is not so within `span`, says what is stuck.
    pub fn deliver_within(&mut self, span: Duration) -> Result<(), Violation> {
        let done = self.advance_until(span, City::is_delivered)?;
        self.check_nothing_missing();
        if done {
            for hub in self.hubs.clone() {
                let archive = &self.offices[&hub].store;
                let slips = self.oracle.slips.keys().filter(|id| archive.holds(id));
                slips.cloned().collect::<Vec<_>>().iter().for_each(|id| self.check_bytes(&hub, id));
            }
        } else {
            self.violated(format!("not delivered within {span:?}:\n{}", self.stuck()));
        }
        self.oracle.violation().map_or(Ok(()), Err)
    }

    fn is_delivered(&self) -> bool {
        let running = || self.offices.values().filter_map(|office| office.node.as_ref());
        self.oracle.waiting.is_empty()
            && !self.archives().any(|(_, archive)| archive.has_rotten())
            && running().all(|node| self.holds_nothing(node))
            && self.oracle.open.iter().all(|id| self.is_committed(id) || self.is_given_back(id))
            && running().all(|node| self.ledger_is_closed(&node.audit()))
            && self.archives_agree()
    }

    /// Every main server has what any of them has.
    fn archives_agree(&self) -> bool {
        let mut archives = self.archives().map(|(_, archive)| archive);
        let first = archives.next();
        archives.all(|archive| first.is_some_and(|first| first.ids().eq(archive.ids())))
    }

    /// But records whose id another has: they stay in quarantine.
    fn holds_nothing(&self, node: &Node) -> bool {
        let held = node.custody().held_count() + node.custody().copies_count();
        held == 0 || node.custody().records().all(|view| self.oracle.is_ambiguous(&view.id))
    }

    /// P4, as one node sees it, when nothing is under way: only what was lost with a disk may be missing.
    fn ledger_is_closed(&self, audit: &AuditReport) -> bool {
        audit.origins.iter().all(|origin| self.is_closed(origin)) && audit.committed_twice == 0
    }

    fn is_closed(&self, origin: &OriginAudit) -> bool {
        let may_miss =
            |id: &RecordId| self.oracle.excused.contains(id) || self.oracle.is_ambiguous(id) || self.is_given_back(id);
        let rolled_back = self.oracle.ambiguous.keys().any(|(node, _)| *node == origin.node);
        (origin.held == 0 || rolled_back)
            && origin.captured == origin.receipted + origin.held + origin.missing.count()
            && origin.missing.iter().all(|id| may_miss(&id))
    }

    /// For people: why the city is not at rest, and where each copy is of what has not arrived.
    fn stuck(&self) -> String {
        let mut text = String::new();
        for (hub, archive) in self.archives() {
            let _ = writeln!(
                text,
                "{hub} has committed {}, rotten and unnoticed: {}",
                archive.record_count(),
                archive.has_rotten()
            );
        }
        for (token, node) in &self.oracle.waiting {
            let _ = writeln!(text, "{node} has not answered {token:?}");
        }
        for id in self.oracle.open.iter().filter(|id| !self.is_committed(id)).take(10) {
            let _ = writeln!(text, "{id} is not committed:");
            for (name, office) in &self.offices {
                let on_disk = office.store.holds(id);
                let view = office.node.as_ref().and_then(|node| node.custody().record(id));
                if on_disk || view.is_some() {
                    let state = view.map(|view| format!("{:?} since {:?}", view.state, view.since.0));
                    let _ = writeln!(text, "    {name}: on its disk: {on_disk}, in custody: {state:?}");
                }
            }
        }
        for (name, office) in &self.offices {
            match &office.node {
                Some(node) => self.describe(&mut text, name, node),
                None => drop(writeln!(text, "{name} is off")),
            }
        }
        text
    }

    fn describe(&self, text: &mut String, name: &NodeId, node: &Node) {
        let hops: Vec<_> = node.router().next_hops().into_iter().map(|hop| hop.neighbor).collect();
        let timeout = node.poll_timeout();
        let room = self.offices[name].store.room();
        let held = node.custody().held_count();
        let _ = writeln!(text, "{name} holds {held}, room {}, next hops {hops:?}, wakes {timeout:?}", room.0);
        for view in node.custody().records().take(5) {
            let _ = writeln!(text, "    {} {:?} since {:?}", view.id, view.state, view.since.0);
        }
        let audit = node.audit();
        for origin in audit.origins.iter().filter(|origin| !self.is_closed(origin)) {
            let _ = writeln!(text, "    its ledger: {origin:?}");
        }
        if audit.committed_twice > 0 {
            let _ = writeln!(text, "    its ledger: {} committed twice", audit.committed_twice);
        }
    }
}
