//! Taking in: what neighbors offer and send, and what they are told about it, until it is to be stored.

use std::collections::BTreeMap;
use std::time::Duration;

use estafet_model::{HeaderDigest, NodeId, Now, RecordId, SignedHeader};
use estafet_wire::{Answer, Frame, NeverReason, Offer, Verdict};

use super::{Custody, NO_ROOM_DELAY};
use crate::inbound::{Piece, PieceVerdict};
use crate::output::{CustodyEvent, CustodyOutput};

/// How many times what is left for all others one origin may have of the room for transit.
const SHARE: u64 = 2;

/// How long a neighbor is asked to wait that wants a promise of a node that can give none.
const NO_PROMISE_DELAY: Duration = Duration::from_secs(30);

/// How long a neighbor is asked to wait with a record that is here in another way than it should be.
const ARRIVING_DELAY: Duration = Duration::from_millis(200);

/// What a wait loses on its way, where it is told in whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(1);

impl Custody {
    /// A neighbor would hand over records.
    pub fn offers(&mut self, from: &NodeId, offers: Vec<Offer>, now: Now) {
        let mut answers = Vec::new();
        for mut offer in offers {
            offer.for_hub = offer.for_hub.filter(|hub| self.receipts.other_hubs().any(|other| other == hub));
            // Whoever offers a record again has stopped sending it.
            self.inbound.stopped_sending(&offer.id, from, &mut self.outputs);
            let verdict = match self.consider_offer(now, from, &offer) {
                Known::New if self.inbound.ask(from, offer.clone()) => continue,
                Known::New => Verdict::Full(NO_ROOM_DELAY),
                Known::Answer(verdict) => verdict,
                Known::AnswerLater => continue,
            };
            answers.push(Answer { id: offer.id, verdict });
        }
        self.answer(from, answers);
        self.grant(now);
        // What was held for whichever hub is nearest may be for another one now.
        self.dispatch(now);
    }

    /// A neighbor will not send these records although they are wanted. An offer of one that waits for its turn stays: it may
    /// be a newer one that came by a quicker bearer.
    pub fn withdrawn(&mut self, now: Now, from: &NodeId, ids: &[RecordId]) {
        for id in ids {
            self.inbound.stopped_sending(id, from, &mut self.outputs);
        }
        self.grant(now);
    }

    /// Whether the store takes so much more of this origin. Of the room no origin may have more than twice what is then left
    /// for all others (dynamic thresholds, Choudhury and Hahne 1998): whoever floods a node that is cut off from the main
    /// server leaves a third of it.
    fn has_room_for(&self, origin: &NodeId, bytes: u64) -> bool {
        let Some(left) = self.room.0.checked_sub(bytes) else { return false };
        // A hub holds only what goes to another hub, and has it all the same; and this node's own are no transit.
        let is_unbound = self.receipts.is_hub() || self.outbound.is_me(origin);
        let held = if is_unbound { 0 } else { self.outbound.bytes_of(origin) };
        held == 0 || held + bytes <= left.saturating_mul(SHARE)
    }

    fn consider_offer(&mut self, now: Now, from: &NodeId, offer: &Offer) -> Known {
        if let Some(sender) = self.inbound.arriving_from(&offer.id).filter(|sender| *sender != from).cloned()
            && self.inbound.reserved_for(now, &offer.id).is_none()
        {
            self.inbound.cancel(&offer.id, &sender, &mut self.outputs);
        }
        let known = self.consider(now, from, &offer.id, offer.digest, offer.for_hub.as_ref());
        match (known, self.inbound.arriving_from(&offer.id)) {
            (Known::New, Some(sender)) if sender == from => Known::AnswerLater,
            (Known::New, Some(_)) => {
                let reserved = self.inbound.reserved_for(now, &offer.id).unwrap_or_default();
                Known::Answer(Verdict::Wait(reserved + ROUNDING))
            }
            (Known::New, None) if !self.has_room_for(&offer.id.origin, u64::from(offer.payload_bytes)) => {
                Known::Answer(Verdict::Full(NO_ROOM_DELAY))
            }
            (known, _) => known,
        }
    }

    /// A neighbor sent a piece of a record.
    pub fn piece(&mut self, now: Now, from: &NodeId, piece: Piece) {
        let id = piece.head.id.clone();
        let digest = match &piece.head.signed_header {
            Some(header) => SignedHeader::decode(header).ok().map(|signed| signed.digest()),
            None => self.inbound.arriving_digest(&id, from),
        };
        let known = match digest {
            Some(digest) => {
                let for_hub = self.inbound.arriving_for(&id, from).cloned();
                self.consider(now, from, &id, digest, for_hub.as_ref())
            }
            None => Known::New,
        };
        let bytes = piece.data.len() as u64;
        let has_room = self.has_room_for(&id.origin, bytes);
        if !matches!(known, Known::New) || !has_room {
            self.wasted(from, bytes);
        }
        match known {
            Known::Answer(verdict) => {
                self.inbound.forget(&id, from, &mut self.outputs);
                self.answer(from, vec![Answer { id, verdict }]);
            }
            Known::AnswerLater => self.inbound.forget(&id, from, &mut self.outputs),
            Known::New if !has_room => {
                self.inbound.cancel(&id, from, &mut self.outputs);
                self.answer(from, vec![Answer { id, verdict: Verdict::Full(NO_ROOM_DELAY) }]);
            }
            Known::New => self.take_piece(now, from, id, piece),
        }
        self.grant(now);
    }

    fn take_piece(&mut self, now: Now, from: &NodeId, id: RecordId, piece: Piece) {
        let Some(keys) = self.origins.get(&id.origin) else {
            return self.reject(from, id, NeverReason::UnknownOrigin);
        };
        let bytes = piece.data.len() as u64;
        match self.inbound.piece(now, from, piece, keys, &mut self.outputs) {
            PieceVerdict::Nothing => {}
            PieceVerdict::Useless => self.wasted(from, bytes),
            PieceVerdict::Whole(record) => self.outputs.push_back(CustodyOutput::Store(record)),
            PieceVerdict::OutOfOrder => {
                self.wasted(from, bytes);
                // What it has offered anew meanwhile is answered when its turn comes.
                if !self.inbound.is_asking(&id, from) {
                    self.answer(from, vec![Answer { id, verdict: Verdict::Wait(ARRIVING_DELAY) }]);
                }
            }
            PieceVerdict::Reject(reason) => {
                self.wasted(from, bytes);
                self.reject(from, id, reason);
            }
        }
    }

    /// Whoever drives this node bounds how much of it a neighbor may send.
    fn wasted(&mut self, from: &NodeId, bytes: u64) {
        self.outputs.push_back(CustodyOutput::Event(CustodyEvent::Wasted { from: from.clone(), bytes }));
    }

    fn reject(&mut self, from: &NodeId, id: RecordId, reason: NeverReason) {
        let event = CustodyEvent::Rejected { from: from.clone(), id: id.clone(), reason };
        self.outputs.push_back(CustodyOutput::Event(event));
        self.answer(from, vec![Answer { id, verdict: Verdict::Never(reason) }]);
    }

    /// What is known of a record that a neighbor has, and would hand over for this hub or for whichever is nearest.
    fn consider(
        &mut self,
        now: Now,
        from: &NodeId,
        id: &RecordId,
        digest: HeaderDigest,
        for_hub: Option<&NodeId>,
    ) -> Known {
        if !self.origins.contains_key(&id.origin) {
            return Known::Answer(Verdict::Never(NeverReason::UnknownOrigin));
        }
        let here = self.outbound.digest(id);
        if here.or_else(|| self.damaged.digest(id)).is_some_and(|known| known != digest) {
            return Known::Answer(Verdict::Never(NeverReason::Conflict));
        }
        if here.is_some() {
            self.outbound.offered_back(now, id, from);
            if let Some(hub) = for_hub.filter(|_| !self.receipts.is_hub())
                && !self.outbound.is_for(now, id, hub)
            {
                return Known::Answer(Verdict::Wait(ARRIVING_DELAY));
            }
            return Known::Answer(if self.promises { Verdict::Have } else { Verdict::Wait(NO_PROMISE_DELAY) });
        }
        if let Some(storing) = self.inbound.storing_digest(id) {
            if storing != digest {
                return Known::Answer(Verdict::Never(NeverReason::Conflict));
            }
            self.inbound.tell_when_stored(id, from);
            return Known::AnswerLater;
        }
        if self.receipts.is_committed(id) {
            self.outputs.push_back(CustodyOutput::Compare { id: id.clone(), digest, from: from.clone() });
            return Known::AnswerLater;
        }
        let is_signed = for_hub.map_or_else(|| self.receipts.is_covered(id), |hub| self.receipts.is_signed_by(hub, id));
        if is_signed && !self.receipts.is_hub() {
            return Known::Answer(Verdict::Have);
        }
        Known::New
    }

    /// The driver compared a committed record with a neighbor's.
    pub fn compared(&mut self, id: RecordId, from: &NodeId, same: bool) {
        if same {
            // It may have been found unreadable meanwhile.
            let verdict = if self.receipts.is_committed(&id) { Verdict::Have } else { Verdict::Wait(ARRIVING_DELAY) };
            self.answer(from, vec![Answer { id, verdict }]);
        } else {
            self.reject(from, id, NeverReason::Conflict);
        }
    }

    /// Answers what was offered or came. Nothing that is answered waits for another answer: its sender has done with that
    /// offer, and would not know what is wanted of it.
    pub(super) fn answer(&mut self, to: &NodeId, answers: Vec<Answer>) {
        for Answer { id, .. } in &answers {
            self.inbound.take_back(id, to);
        }
        if !answers.is_empty() {
            self.outputs.push_back(CustodyOutput::Send { to: to.clone(), frame: Frame::Answers(answers) });
        }
    }

    /// Answers the offers whose turn has come. Each is considered anew: while it waited the record may have come from
    /// another neighbor, or been receipted, and its sender would not send it any more.
    pub(super) fn grant(&mut self, now: Now) {
        let mut answers: BTreeMap<NodeId, Vec<Answer>> = BTreeMap::new();
        while let Some((from, offer)) = self.inbound.next_asking(now) {
            let id = offer.id.clone();
            let verdict = match self.consider_offer(now, &from, &offer) {
                Known::New => Verdict::Want { first_chunk: self.inbound.grant(now, from.clone(), offer) },
                Known::Answer(verdict) => verdict,
                Known::AnswerLater => continue,
            };
            answers.entry(from).or_default().push(Answer { id, verdict });
        }
        for (to, answers) in answers {
            self.answer(&to, answers);
        }
    }
}

/// What is known of a record that a neighbor offers or sends.
#[derive(Debug)]
enum Known {
    /// Nothing: it may come.
    New,
    /// Enough to answer.
    Answer(Verdict),
    /// The answer follows when the store has spoken.
    AnswerLater,
}
