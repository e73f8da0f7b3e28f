//! Sets of sequence numbers as sorted, disjoint, non-adjacent ranges. Usually there is one.

use std::fmt;

use crate::canonical::{Malformed, Reader, Writer};
use crate::record::Seq;

/// Numbers from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The smallest number.
    pub first: u32,
    /// The largest number.
    pub last: u32,
}

impl Range {
    fn count(self) -> u64 {
        u64::from(self.last) - u64::from(self.first) + 1
    }
}

/// A set of sequence numbers.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SeqRanges {
    ranges: Vec<Range>,
}

impl SeqRanges {
    /// More ranges than this are refused from outside: a set in this many pieces is damage or an attack.
    pub const PIECES_MAX: usize = 65_536;

    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One number.
    #[must_use]
    pub fn of(seq: Seq) -> Self {
        Self { ranges: vec![Range { first: seq.get(), last: seq.get() }] }
    }

    /// All numbers from 1 to `last`.
    #[must_use]
    pub fn up_to(last: Option<Seq>) -> Self {
        Self { ranges: last.map(|last| Range { first: 1, last: last.get() }).into_iter().collect() }
    }

    /// Adds one number; false if it was there.
    pub fn insert(&mut self, seq: Seq) -> bool {
        let seq = seq.get();
        let after = self.ranges.partition_point(|range| range.first <= seq);
        let joins_before = after > 0 && self.ranges[after - 1].last + 1 >= seq;
        if joins_before && self.ranges[after - 1].last >= seq {
            return false;
        }
        let joins_after = self.ranges.get(after).is_some_and(|range| range.first == seq + 1);
        match (joins_before, joins_after) {
            (true, true) => {
                self.ranges[after - 1].last = self.ranges[after].last;
                self.ranges.remove(after);
            }
            (true, false) => self.ranges[after - 1].last = seq,
            (false, true) => self.ranges[after].first = seq,
            (false, false) => self.ranges.insert(after, Range { first: seq, last: seq }),
        }
        true
    }

    /// True if `seq` is in the set.
    #[must_use]
    pub fn contains(&self, seq: Seq) -> bool {
        let after = self.ranges.partition_point(|range| range.first <= seq.get());
        after > 0 && self.ranges[after - 1].last >= seq.get()
    }

    /// How many numbers there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|range| range.count()).sum()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The largest number.
    #[must_use]
    pub fn last(&self) -> Option<Seq> {
        self.ranges.last().and_then(|range| Seq::new(range.last))
    }

    /// The pieces, in order.
    #[must_use]
    pub fn pieces(&self) -> &[Range] {
        &self.ranges
    }

    /// Each number, in order.
    pub fn iter(&self) -> impl Iterator<Item = Seq> + '_ {
        self.ranges.iter().flat_map(|range| (range.first..=range.last).filter_map(Seq::new))
    }

    /// Everything in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all: Vec<Range> = self.ranges.iter().chain(&other.ranges).copied().collect();
        all.sort_by_key(|range| range.first);
        let mut joined: Vec<Range> = Vec::with_capacity(all.len());
        for range in all {
            match joined.last_mut() {
                Some(last) if u64::from(last.last) + 1 >= u64::from(range.first) => {
                    last.last = last.last.max(range.last);
                }
                _ => joined.push(range),
            }
        }
        Self { ranges: joined }
    }

    /// What is here and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut holes = other.ranges.iter().peekable();
        for range in &self.ranges {
            let mut first = range.first;
            while holes.next_if(|hole| hole.last < first).is_some() {}
            while let Some(hole) = holes.peek().filter(|hole| hole.first <= range.last) {
                if hole.first > first {
                    left.push(Range { first, last: hole.first - 1 });
                }
                first = hole.last + 1;
                if hole.last > range.last {
                    break;
                }
                holes.next();
            }
            if first <= range.last {
                left.push(Range { first, last: range.last });
            }
        }
        Self { ranges: left }
    }

    /// The set with these pieces, first and last of each; nothing if they are not as [`SeqRanges::pieces`] would list them.
    #[must_use]
    pub fn from_bounds(bounds: &[u32]) -> Option<Self> {
        let (pieces, rest) = bounds.as_chunks::<2>();
        let mut writer = Writer::new();
        writer.u32(u32::try_from(pieces.len()).ok()?);
        for [first, last] in pieces {
            writer.u32(*first).u32(*last);
        }
        Self::read(&mut Reader::new(&writer.finish())).ok().filter(|_| rest.is_empty())
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.minus(&self.minus(other))
    }

    /// Appends the canonical form: the number of pieces, then first and last of each.
    pub fn write(&self, writer: &mut Writer) {
        writer.u32(u32::try_from(self.ranges.len()).expect("at most 2^24 pieces exist"));
        for range in &self.ranges {
            writer.u32(range.first).u32(range.last);
        }
    }

    /// Reads the canonical form; pieces out of order, touching or outside the sequence space are malformed.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let fault = Malformed { what: "sequence ranges" };
        let count = reader.u32("sequence ranges")? as usize;
        if count > Self::PIECES_MAX {
            return Err(fault);
        }
        let mut ranges: Vec<Range> = Vec::new();
        for _ in 0..count {
            let range = Range { first: reader.u32("range")?, last: reader.u32("range")? };
            let in_order = ranges.last().is_none_or(|before| u64::from(before.last) + 1 < u64::from(range.first));
            let in_space = range.first >= 1 && range.first <= range.last && range.last <= Seq::MAX.get();
            if !in_order || !in_space {
                return Err(fault);
            }
            ranges.push(range);
        }
        Ok(Self { ranges })
    }
}

impl FromIterator<Seq> for SeqRanges {
    fn from_iter<I: IntoIterator<Item = Seq>>(numbers: I) -> Self {
        let mut set = Self::new();
        for seq in numbers {
            set.insert(seq);
        }
        set
    }
}

impl fmt::Debug for SeqRanges {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            if range.first == range.last {
                write!(formatter, "{comma}{}", range.first)?;
            } else {
                write!(formatter, "{comma}{}-{}", range.first, range.last)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(numbers: &BTreeSet<u32>) -> SeqRanges {
        numbers.iter().filter_map(|&number| Seq::new(number)).collect()
    }

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(left in prop::collection::btree_set(1u32..40, 0..30),
                                    right in prop::collection::btree_set(1u32..40, 0..30)) {
            let (a, b) = (set(&left), set(&right));
            prop_assert_eq!(a.count(), left.len() as u64);
            prop_assert_eq!(a.union(&b), set(&left.union(&right).copied().collect()));
            prop_assert_eq!(a.intersection(&b), set(&left.intersection(&right).copied().collect()));
            let bounds: Vec<u32> = a.pieces().iter().flat_map(|piece| [piece.first, piece.last]).collect();
            prop_assert_eq!(SeqRanges::from_bounds(&bounds), Some(a.clone()));
            prop_assert_eq!(a.minus(&b), set(&left.difference(&right).copied().collect()));
            for number in 1..40 {
                prop_assert_eq!(a.contains(Seq::new(number).unwrap()), left.contains(&number));
            }
            let mut writer = Writer::new();
            a.write(&mut writer);
            let bytes = writer.finish();
            prop_assert_eq!(SeqRanges::read(&mut Reader::new(&bytes)).unwrap(), a);
        }
    }

    #[test]
    fn bounds_that_are_no_set_are_refused() {
        for bad in [&[1][..], &[2, 1], &[0, 1], &[1, 2, 3, 4], &[4, 5, 1, 2], &[1, u32::MAX]] {
            assert_eq!(SeqRanges::from_bounds(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn insertion_in_any_order_joins_pieces() {
        let mut ranges = SeqRanges::new();
        for number in [5, 1, 3, 2, 4, 7] {
            assert!(ranges.insert(Seq::new(number).unwrap()));
        }
        assert!(!ranges.insert(Seq::new(3).unwrap()));
        assert_eq!(format!("{ranges:?}"), "1-5,7");
    }
}
