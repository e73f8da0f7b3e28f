//! LSAs as they travel: canonical bytes and their origin's signature, flooded through the area unchanged.
//!
//! The canonical form is a version byte, the origin, the sequence number, the standing (state, power, and the notice for
//! people), a byte that says whether its disk is durable, the versions of the topology in force and kept, the adjacencies sorted by neighbor, the two ledgers (a hub's
//! with the head of its chain and the signature on that), and the outlook; then the signature over all of it. What may be absent stands behind a byte that says whether it is there. A form with another version byte is refused, not guessed at.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use estafet_model::{
    ByteCount, ChainHead, Epoch, LinkCost, LsaVersion, Malformed, NodeId, PublicKey, Reader, SeqRanges, Signature,
    SigningKey, Writer,
};

use crate::lsa::{ADJACENCIES_MAX, Adjacency, Holding, HubLedger, Lsa, OriginLedger, TopologyVersions};
use crate::outlook::Outlook;
use crate::standing::{NodeState, Notice, PowerState, Reason, Standing, Words};

const PURPOSE: &str = "estafet lsa v1";
const VERSION: u8 = 7;

/// The signature on an LSA is not its origin's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the link-state advertisement is not signed by {origin}")]
pub struct ForgedLsa {
    /// Whom it claims to be from.
    pub origin: NodeId,
}

/// An LSA in the form it was signed. Parsed is not yet verified: see [`SignedLsa::verify`]. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedLsa {
    lsa: Arc<Lsa>,
    body: Bytes,
    signature: Signature,
}

impl SignedLsa {
    /// What is wrong with an LSA of a relay of another version.
    pub const OTHER_VERSION: Malformed = Malformed { what: "lsa version" };

    /// Signs what a node says about itself. Sorts the adjacencies; of several with one neighbor the first stays.
    ///
    /// # Panics
    /// If there are more than [`ADJACENCIES_MAX`] adjacencies, a cost is zero or the ledger does not
    /// [fit](OriginLedger::fits): no other node would read it.
    #[must_use]
    pub fn sign(mut lsa: Lsa, key: &SigningKey) -> Self {
        lsa.adjacencies.sort_by(|left, right| left.neighbor.cmp(&right.neighbor));
        lsa.adjacencies.dedup_by(|later, earlier| later.neighbor == earlier.neighbor);
        assert!(lsa.adjacencies.len() <= ADJACENCIES_MAX, "an LSA lists at most {ADJACENCIES_MAX} adjacencies");
        assert!(lsa.adjacencies.iter().all(|adjacency| adjacency.cost.0 > 0), "no link is free");
        assert!(lsa.ledger.as_ref().is_none_or(OriginLedger::fits), "an oversized ledger is left out beforehand");
        let body = body(&lsa);
        let signature = key.sign(PURPOSE, &body);
        Self { lsa: Arc::new(lsa), body, signature }
    }

    /// What it says.
    #[must_use]
    pub fn lsa(&self) -> &Lsa {
        &self.lsa
    }

    /// Which LSA this is.
    #[must_use]
    pub fn version(&self) -> LsaVersion {
        LsaVersion::new(self.lsa.origin.clone(), self.lsa.sequence, &self.body)
    }

    /// Checks the signature against the origin's key by the topology.
    pub fn verify(&self, key: &PublicKey) -> Result<(), ForgedLsa> {
        if key.verifies(PURPOSE, &self.body, &self.signature) {
            Ok(())
        } else {
            Err(ForgedLsa { origin: self.lsa.origin.clone() })
        }
    }

    /// The canonical form: body, signature.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        Writer::new().raw(&self.body).raw(self.signature.as_bytes()).finish()
    }

    /// Reads the canonical form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (body, signature) = bytes.split_last_chunk().ok_or(Malformed { what: "lsa signature" })?;
        let mut reader = Reader::new(body);
        let lsa = read_lsa(&mut reader)?;
        reader.end("lsa")?;
        let signature = Signature::from_bytes(*signature);
        Ok(Self { lsa: Arc::new(lsa), body: Bytes::copy_from_slice(body), signature })
    }

    /// What was signed, to choose between two LSAs with one sequence number.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }
}

impl fmt::Debug for SignedLsa {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.lsa, formatter)
    }
}

fn body(lsa: &Lsa) -> Bytes {
    let mut writer = Writer::new();
    writer.u8(VERSION).text(lsa.origin.as_str()).u64(lsa.sequence);
    write_standing(&mut writer, &lsa.standing);
    writer.u8(u8::from(lsa.durable)).u64(lsa.topology.in_force).u64(lsa.topology.kept);
    writer.u16(u16::try_from(lsa.adjacencies.len()).expect("far below 65,536 adjacencies"));
    for adjacency in &lsa.adjacencies {
        writer.text(adjacency.neighbor.as_str()).u32(adjacency.cost.0).u32(adjacency.rtt_micros);
    }
    writer.u8(u8::from(lsa.ledger.is_some()));
    if let Some(ledger) = &lsa.ledger {
        writer.u16(ledger.epoch.get()).u32(ledger.captured);
        ledger.held.write(&mut writer);
        ledger.receipted.write(&mut writer);
        writer.u16(u16::try_from(ledger.former.len()).expect("an oversized ledger is left out beforehand"));
        for (epoch, captured) in &ledger.former {
            writer.u16(epoch.get()).u32(*captured);
        }
        writer.u16(u16::try_from(ledger.holdings.len()).expect("an oversized ledger is left out beforehand"));
        for Holding { origin, epoch, held } in &ledger.holdings {
            writer.text(origin.as_str()).u16(epoch.get());
            held.write(&mut writer);
        }
        writer.u16(u16::try_from(ledger.conflicts.len()).expect("an oversized ledger is left out beforehand"));
        for (epoch, seqs) in &ledger.conflicts {
            writer.u16(epoch.get());
            seqs.write(&mut writer);
        }
        writer.u64(ledger.transit_held);
    }
    writer.u8(u8::from(lsa.hub.is_some()));
    if let Some(hub) = &lsa.hub {
        writer.u64(hub.committed).u64(hub.committed_twice).u8(u8::from(hub.head.is_some()));
        if let Some((head, signature)) = &hub.head {
            head.write(&mut writer);
            writer.raw(signature.as_bytes());
        }
    }
    writer.u8(u8::from(lsa.outlook.is_some()));
    if let Some(outlook) = &lsa.outlook {
        writer.u64(outlook.capture_room.0).u64(outlook.captured_per_hour.0);
    }
    writer.finish()
}

fn read_lsa(reader: &mut Reader<'_>) -> Result<Lsa, Malformed> {
    if reader.u8("lsa version")? != VERSION {
        return Err(SignedLsa::OTHER_VERSION);
    }
    Ok(Lsa {
        origin: reader.parse("origin")?,
        sequence: reader.u64("lsa sequence")?,
        standing: read_standing(reader)?,
        durable: present(reader)?,
        topology: read_topology_versions(reader)?,
        adjacencies: read_adjacencies(reader)?,
        ledger: present(reader)?.then(|| read_ledger(reader)).transpose()?,
        hub: present(reader)?.then(|| read_hub_ledger(reader)).transpose()?,
        outlook: present(reader)?.then(|| read_outlook(reader)).transpose()?,
    })
}

fn read_topology_versions(reader: &mut Reader<'_>) -> Result<TopologyVersions, Malformed> {
    let (in_force, kept) = (reader.u64("topology in force")?, reader.u64("topology kept")?);
    Ok(TopologyVersions { in_force, kept })
}

fn read_adjacencies(reader: &mut Reader<'_>) -> Result<Vec<Adjacency>, Malformed> {
    let fault = Malformed { what: "adjacencies" };
    let count = usize::from(reader.u16("adjacency count")?);
    if count > ADJACENCIES_MAX {
        return Err(fault);
    }
    let mut adjacencies: Vec<Adjacency> = Vec::new();
    for _ in 0..count {
        let adjacency = Adjacency {
            neighbor: reader.parse("neighbor")?,
            cost: LinkCost(reader.u32("link cost")?),
            rtt_micros: reader.u32("round-trip time")?,
        };
        let in_order = adjacencies.last().is_none_or(|before| before.neighbor < adjacency.neighbor);
        if !in_order || adjacency.cost == LinkCost(0) {
            return Err(fault);
        }
        adjacencies.push(adjacency);
    }
    Ok(adjacencies)
}

fn read_ledger(reader: &mut Reader<'_>) -> Result<OriginLedger, Malformed> {
    let ledger = OriginLedger {
        epoch: read_epoch(reader)?,
        captured: reader.u32("head sequence number")?,
        held: SeqRanges::read(reader)?,
        receipted: SeqRanges::read(reader)?,
        former: read_list(reader, |reader| Ok((read_epoch(reader)?, reader.u32("head sequence number")?)))?,
        holdings: read_list(reader, read_holding)?,
        conflicts: read_list(reader, |reader| Ok((read_epoch(reader)?, SeqRanges::read(reader)?)))?,
        transit_held: reader.u64("transit count")?,
    };
    if ledger.fits() { Ok(ledger) } else { Err(Malformed { what: "ledger" }) }
}

fn read_epoch(reader: &mut Reader<'_>) -> Result<Epoch, Malformed> {
    Epoch::new(reader.u16("epoch")?).ok_or(Malformed { what: "epoch" })
}

fn read_holding(reader: &mut Reader<'_>) -> Result<Holding, Malformed> {
    Ok(Holding { origin: reader.parse("origin")?, epoch: read_epoch(reader)?, held: SeqRanges::read(reader)? })
}

/// A list of few things, its length in front. Memory grows with what is there, not with what the length claims.
fn read_list<T>(
    reader: &mut Reader<'_>,
    read: impl Fn(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let count = reader.u16("length of a list")?;
    (0..count).map(|_| read(reader)).collect()
}

fn read_hub_ledger(reader: &mut Reader<'_>) -> Result<HubLedger, Malformed> {
    Ok(HubLedger {
        committed: reader.u64("committed")?,
        committed_twice: reader.u64("committed twice")?,
        head: present(reader)?.then(|| read_head(reader)).transpose()?,
    })
}

fn read_head(reader: &mut Reader<'_>) -> Result<(ChainHead, Signature), Malformed> {
    Ok((ChainHead::read(reader)?, Signature::from_bytes(reader.array("signature of the head")?)))
}

fn read_outlook(reader: &mut Reader<'_>) -> Result<Outlook, Malformed> {
    Ok(Outlook {
        capture_room: ByteCount(reader.u64("room for captures")?),
        captured_per_hour: ByteCount(reader.u64("pace of captures")?),
    })
}

fn present(reader: &mut Reader<'_>) -> Result<bool, Malformed> {
    match reader.u8("presence")? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed { what: "presence" }),
    }
}

fn write_standing(writer: &mut Writer, standing: &Standing) {
    writer.u8(match standing.state {
        NodeState::Serving => 0,
        NodeState::Draining => 1,
    });
    match standing.power {
        PowerState::Mains => writer.u8(0),
        PowerState::OnBattery { minutes_left: None } => writer.u8(1),
        PowerState::OnBattery { minutes_left: Some(minutes) } => writer.u8(2).u16(minutes),
        PowerState::LowBattery => writer.u8(3),
    };
    writer.u8(u8::from(standing.notice.is_some()));
    if let Some(notice) = &standing.notice {
        writer.u8(match notice.reason {
            Reason::Operator => 0,
            Reason::PlannedOutage => 1,
            Reason::Power => 2,
        });
        writer.text(notice.words.as_str()).u8(u8::from(notice.back_unix_s.is_some()));
        if let Some(back) = notice.back_unix_s {
            writer.u64(back);
        }
    }
}

fn read_standing(reader: &mut Reader<'_>) -> Result<Standing, Malformed> {
    Ok(Standing {
        state: match reader.u8("node state")? {
            0 => NodeState::Serving,
            1 => NodeState::Draining,
            _ => return Err(Malformed { what: "node state" }),
        },
        power: match reader.u8("power state")? {
            0 => PowerState::Mains,
            1 => PowerState::OnBattery { minutes_left: None },
            2 => PowerState::OnBattery { minutes_left: Some(reader.u16("minutes left")?) },
            3 => PowerState::LowBattery,
            _ => return Err(Malformed { what: "power state" }),
        },
        notice: present(reader)?.then(|| read_notice(reader)).transpose()?,
    })
}

fn read_notice(reader: &mut Reader<'_>) -> Result<Notice, Malformed> {
    Ok(Notice {
        reason: match reader.u8("reason")? {
            0 => Reason::Operator,
            1 => Reason::PlannedOutage,
            2 => Reason::Power,
            _ => return Err(Malformed { what: "reason" }),
        },
        words: reader.parse::<Words>("words")?,
        back_unix_s: present(reader)?.then(|| reader.u64("back")).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lsa::tests::{adjacency, full};

    #[test]
    fn reads_back_what_was_signed_in_canonical_order() {
        let key = SigningKey::from_seed([1; 32]);
        let silent = Lsa { ledger: None, hub: None, outlook: None, ..full() };
        let headless = Lsa { hub: full().hub.map(|hub| HubLedger { head: None, ..hub }), ..full() };
        assert_eq!(full().head().unwrap().verify(&key.public()), Ok(()));
        let bare = Lsa { adjacencies: vec![], standing: Standing::default(), ..silent };
        let with_power = |power| Lsa { standing: Standing { power, notice: None, ..full().standing }, ..full() };
        let unknown = with_power(PowerState::OnBattery { minutes_left: None });
        for lsa in [full(), bare, headless, unknown, with_power(PowerState::LowBattery)] {
            let signed = SignedLsa::sign(lsa, &key);
            let read = SignedLsa::decode(&signed.encode()).unwrap();
            assert_eq!(read, signed);
            assert_eq!(read.verify(&key.public()), Ok(()));
            assert!(read.verify(&SigningKey::from_seed([2; 32]).public()).is_err());
        }
        let sorted = SignedLsa::sign(full(), &key).lsa().adjacencies.clone();
        assert_eq!(sorted, [adjacency("senapelan", 15), adjacency("sukajadi", 10)]);
    }

    #[test]
    fn a_flipped_bit_anywhere_never_verifies() {
        let key = SigningKey::from_seed([1; 32]);
        let good = SignedLsa::sign(full(), &key).encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let verdict = SignedLsa::decode(&bad).map(|lsa| lsa.verify(&key.public()).is_ok());
            assert!(!matches!(verdict, Ok(true)), "bit {bit}");
        }
    }

    #[test]
    fn what_is_not_canonical_is_refused_even_when_it_is_signed() {
        let unsorted = full();
        let free = Lsa { adjacencies: vec![adjacency("sukajadi", 0)], ..full() };
        let twice = Lsa { adjacencies: vec![adjacency("sail", 1), adjacency("sail", 1)], ..full() };
        for (lsa, why) in [(unsorted, "unsorted"), (free, "free"), (twice, "twice")] {
            let bytes = [body(&lsa).as_ref(), &[0; 64]].concat();
            assert_eq!(SignedLsa::decode(&bytes), Err(Malformed { what: "adjacencies" }), "{why}");
        }
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_an_error_or_another_canonical_lsa(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in 0usize..3,
        ) {
            let mut bytes = SignedLsa::sign(full(), &SigningKey::from_seed([1; 32])).encode().to_vec();
            for (place, value) in edits {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            bytes.truncate(bytes.len() - cut);
            if let Ok(read) = SignedLsa::decode(&bytes) {
                prop_assert_eq!(read.encode(), bytes);
            }
        }
    }
}
