//! What several nodes know of what one machine held, each record counted once.

use std::collections::{BTreeMap, BTreeSet};

use estafet_admin::v1::IncidentFinding;
use estafet_model::{Epoch, NodeId, RecordId, SeqRanges};

/// How it is known; the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Evidence {
    Captured,
    Received,
    Accepted,
    Announced,
    Kept,
    Offered,
    Passed,
}

impl Evidence {
    pub(super) const CERTAIN: &'static str = "certain";
    pub(super) const POSSIBLE: &'static str = "possible";
    const ALL: [Self; 7] =
        [Self::Captured, Self::Received, Self::Accepted, Self::Announced, Self::Kept, Self::Offered, Self::Passed];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::Received => "received",
            Self::Accepted => "accepted",
            Self::Announced => "announced",
            Self::Kept => "kept",
            Self::Offered => "offered",
            Self::Passed => "passed",
        }
    }

    /// Whether it proves that the machine held the record.
    pub(super) fn held(self) -> &'static str {
        match self {
            Self::Captured | Self::Received | Self::Accepted | Self::Announced => Self::CERTAIN,
            Self::Kept | Self::Offered | Self::Passed => Self::POSSIBLE,
        }
    }
}

/// Records of one origin's epoch that are alike in all that is told of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) origin: NodeId,
    pub(super) epoch: Epoch,
    /// None if nobody knows it.
    pub(super) class: Option<String>,
    pub(super) evidence: Evidence,
    pub(super) seqs: SeqRanges,
}

impl Row {
    pub(super) fn ids(&self) -> impl Iterator<Item = RecordId> + '_ {
        let id = |seq| RecordId { origin: self.origin.clone(), epoch: self.epoch, seq };
        self.seqs.iter().map(id)
    }
}

type Origin = (NodeId, Epoch);

/// All that was told.
#[derive(Debug, Default)]
pub(super) struct Findings {
    by_evidence: BTreeMap<(Origin, Evidence), SeqRanges>,
    by_class: BTreeMap<Origin, BTreeMap<String, SeqRanges>>,
}

impl Findings {
    /// One more; an error if it cannot be what it says.
    pub(super) fn add(&mut self, told: &IncidentFinding) -> Result<(), &'static str> {
        let origin: NodeId = told.origin.parse().map_err(|_| "an origin that is no node")?;
        let epoch = u16::try_from(told.epoch).ok().and_then(Epoch::new).ok_or("an epoch that cannot be")?;
        let seqs = SeqRanges::from_bounds(&told.bounds).ok_or("numbers that cannot be")?;
        // What a newer node calls by another word is not left out.
        let evidence = Evidence::ALL.into_iter().find(|evidence| evidence.as_str() == told.evidence);
        let evidence = evidence.unwrap_or(Evidence::Passed);
        let origin = (origin, epoch);
        if !told.class.is_empty() {
            let known = self.by_class.entry(origin.clone()).or_default().entry(told.class.clone()).or_default();
            *known = known.union(&seqs);
        }
        let known = self.by_evidence.entry((origin, evidence)).or_default();
        *known = known.union(&seqs);
        Ok(())
    }

    /// Each record once, by the strongest that is known of it.
    pub(super) fn settle(self) -> Vec<Row> {
        let origins: BTreeSet<Origin> = self.by_evidence.keys().map(|(origin, _)| origin.clone()).collect();
        let mut rows = Vec::new();
        for origin in origins {
            let mut counted = SeqRanges::new();
            for evidence in Evidence::ALL {
                let Some(told) = self.by_evidence.get(&(origin.clone(), evidence)) else { continue };
                let mut left = told.minus(&counted);
                counted = counted.union(told);
                let classes = self.by_class.get(&origin).into_iter().flatten();
                let mut row = |class: Option<&String>, seqs: SeqRanges| {
                    if !seqs.is_empty() {
                        let (origin, epoch) = origin.clone();
                        rows.push(Row { origin, epoch, class: class.cloned(), evidence, seqs });
                    }
                };
                for (class, of_class) in classes {
                    row(Some(class), left.intersection(of_class));
                    left = left.minus(of_class);
                }
                row(None, left);
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(evidence: &str, class: &str, bounds: &[u32]) -> IncidentFinding {
        let (evidence, class) = (evidence.to_owned(), class.to_owned());
        IncidentFinding { origin: "sail".to_owned(), epoch: 3, class, evidence, bounds: bounds.to_vec() }
    }

    #[test]
    fn each_record_counts_once_by_the_strongest_that_is_known_of_it() {
        let mut findings = Findings::default();
        for finding in [
            told("passed", "normal", &[1, 10]),
            told("received", "normal", &[1, 3]),
            told("announced", "", &[3, 4, 20, 21]),
            told("captured", "urgent", &[20, 20]),
            told("unheard-of", "", &[30, 30]),
        ] {
            findings.add(&finding).unwrap();
        }
        let rows = findings.settle().into_iter().map(|row| {
            (row.evidence.as_str(), row.class.unwrap_or_default(), format!("{:?}", row.seqs), row.evidence.held())
        });
        let rows: Vec<_> = rows.collect();
        let row = |evidence, class: &str, seqs: &str, held| (evidence, class.to_owned(), seqs.to_owned(), held);
        assert_eq!(
            rows,
            [
                row("captured", "urgent", "20", "certain"),
                row("received", "normal", "1-3", "certain"),
                row("announced", "normal", "4", "certain"),
                row("announced", "", "21", "certain"),
                row("passed", "normal", "5-10", "possible"),
                row("passed", "", "30", "possible"),
            ]
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for bad in [
            IncidentFinding { origin: "No".to_owned(), ..told("captured", "", &[1, 1]) },
            IncidentFinding { epoch: 0, ..told("captured", "", &[1, 1]) },
            IncidentFinding { epoch: 70_000, ..told("captured", "", &[1, 1]) },
            told("captured", "", &[2, 1]),
            told("captured", "", &[1]),
        ] {
            assert!(Findings::default().add(&bad).is_err(), "{bad:?}");
        }
    }
}
