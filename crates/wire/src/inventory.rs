//! Sets of records, for two neighbors that compare what they hold.

use bytes::Bytes;
use estafet_model::{Epoch, NodeId, RecordId, Seq, SeqRanges, SetDigest};

use crate::control::{BadFrame, epoch, node_id};
use crate::proto;

/// Sets in one frame.
pub(crate) const SETS_PER_FRAME: usize = 64;

/// Some records of one origin's epoch, by number: at most [`RecordSet::RECORDS_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSet {
    number: u32,
    origin: NodeId,
    epoch: Epoch,
    seqs: SeqRanges,
}

impl RecordSet {
    /// With one digest for so many, what is equal costs next to nothing, and one record that differs has no more than so
    /// many offered one by one.
    pub const RECORDS_MAX: u32 = 256;

    /// A set, if it is not too large. `number` is for who asks, to know the answer.
    #[must_use]
    pub fn new(number: u32, origin: NodeId, epoch: Epoch, seqs: SeqRanges) -> Option<Self> {
        (seqs.count() <= Self::RECORDS_MAX.into()).then_some(Self { number, origin, epoch, seqs })
    }

    /// The number it was asked about by.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Who captured the records.
    #[must_use]
    pub fn origin(&self) -> &NodeId {
        &self.origin
    }

    /// In which of its epochs.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Their numbers.
    #[must_use]
    pub fn seqs(&self) -> &SeqRanges {
        &self.seqs
    }

    /// The records' ids.
    pub fn ids(&self) -> impl Iterator<Item = RecordId> {
        self.seqs.iter().map(|seq| RecordId { origin: self.origin.clone(), epoch: self.epoch, seq })
    }

    /// Those of the set that are meant.
    #[must_use]
    pub fn of_which(&self, mut is_meant: impl FnMut(Seq) -> bool) -> Self {
        Self { seqs: self.seqs.iter().filter(|seq| is_meant(*seq)).collect(), ..self.clone() }
    }

    pub(crate) fn read(raw: &proto::RecordSet) -> Result<Self, BadFrame> {
        let seqs = read_runs(&raw.runs).ok_or(BadFrame::Field("set of records"))?;
        Ok(Self { number: raw.number, origin: node_id(&raw.origin)?, epoch: epoch(raw.epoch)?, seqs })
    }

    pub(crate) fn to_raw(&self) -> proto::RecordSet {
        let mut runs = Vec::with_capacity(2 * self.seqs.pieces().len());
        let mut next = 1;
        for piece in self.seqs.pieces() {
            runs.extend([piece.first - next, piece.last - piece.first + 1]);
            next = piece.last + 1;
        }
        proto::RecordSet { number: self.number, origin: self.origin.to_string(), epoch: self.epoch.get().into(), runs }
    }
}

/// Nothing if there are too many numbers, or if they could have been said otherwise.
fn read_runs(runs: &[u32]) -> Option<SeqRanges> {
    let (pairs, []) = runs.as_chunks::<2>() else { return None };
    let mut seqs = SeqRanges::new();
    let mut next = 1u32;
    for &[left_out, meant] in pairs {
        let touches = left_out == 0 && next > 1;
        if touches || meant == 0 || seqs.count() + u64::from(meant) > RecordSet::RECORDS_MAX.into() {
            return None;
        }
        let first = next.checked_add(left_out)?;
        next = first.checked_add(meant)?;
        for seq in first..next {
            seqs.insert(Seq::new(seq)?);
        }
    }
    Some(seqs)
}

/// What a node holds of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Those of the set that are durable with it.
    pub set: RecordSet,
    /// Their digest.
    pub digest: SetDigest,
}

impl Holding {
    pub(crate) fn read(raw: &proto::Holding) -> Result<Self, BadFrame> {
        let set = RecordSet::read(raw.set.as_ref().ok_or(BadFrame::Field("set of records"))?)?;
        let digest = <[u8; 32]>::try_from(raw.digest.as_ref()).map_err(|_| BadFrame::Field("digest of a set"))?;
        Ok(Self { set, digest: SetDigest(digest) })
    }

    pub(crate) fn to_raw(&self) -> proto::Holding {
        proto::Holding { set: Some(self.set.to_raw()), digest: Bytes::copy_from_slice(&self.digest.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_say_which_numbers_are_meant_in_one_way() {
        let rows: &[(&[u32], Option<&str>)] = &[
            (&[], Some("")),
            (&[0, 1], Some("1")),
            (&[4, 3, 2, 1], Some("5-7,10")),
            (&[0, 256], Some("1-256")),
            (&[33_554_430, 1], Some("33554431")),
            (&[0], None),
            (&[0, 0], None),
            (&[3, 1, 0, 1], None),
            (&[0, 257], None),
            (&[0, 200, 1, 57], None),
            (&[0, u32::MAX], None),
            (&[u32::MAX, 1], None),
            (&[5, u32::MAX], None),
            (&[33_554_431, 1], None),
        ];
        for (runs, expected) in rows {
            let read = read_runs(runs);
            assert_eq!(read.as_ref().map(|seqs| format!("{seqs:?}")).as_deref(), *expected, "{runs:?}");
            if let Some(seqs) = read {
                let set = RecordSet::new(1, "sail".parse().unwrap(), Epoch::FIRST, seqs).unwrap();
                assert_eq!(set.to_raw().runs, *runs);
            }
        }
    }

    #[test]
    fn a_frame_of_many_sets_is_refused_and_the_largest_fits() {
        use crate::{CONTROL_FRAME_BYTES_MAX, Frame};
        let origin: NodeId = "a".repeat(NodeId::LENGTH_MAX).parse().unwrap();
        let seqs = (0..256).filter_map(|index| Seq::new(1 + index * 130_000)).collect();
        let set = RecordSet::new(u32::MAX, origin, Epoch::FIRST, seqs).unwrap();
        let frame = |sets: usize| {
            let holding = Holding { set: set.clone(), digest: SetDigest([9; 32]) };
            Frame::Holdings(vec![holding; sets])
        };
        let largest = frame(SETS_PER_FRAME).encode();
        assert!(largest.len() < CONTROL_FRAME_BYTES_MAX / 4, "{}", largest.len());
        assert!(Frame::decode(largest.slice(4..)).is_ok());
        let more = frame(SETS_PER_FRAME + 1).encode();
        assert_eq!(Frame::decode(more.slice(4..)), Err(BadFrame::Field("number of sets")));
    }
}
