//! The ledger at the end, for people and for programs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// The one object of `--json`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary {
    pub(super) nodes: usize,
    pub(super) captured: u64,
    pub(super) receipted: u64,
    pub(super) held: u64,
    pub(super) missing: u64,
    pub(super) committed_twice: u64,
    pub(super) bytes: u64,
    pub(super) elapsed_s: f64,
    /// For each office that lost its way by the cut; null if it captured nothing afterwards.
    pub(super) failover_ms: BTreeMap<String, Option<u64>>,
    pub(super) ok: bool,
    /// Records fetched back from the main server, which opened them, and found to be as they were sent, byte for byte.
    pub(super) opened_same: usize,
    /// What is wrong, in words.
    pub(super) faults: Vec<String>,
    #[serde(skip)]
    pub(super) offices: Vec<OfficeRow>,
}

/// An office's line of the ledger.
#[derive(Debug, Clone)]
pub(super) struct OfficeRow {
    pub(super) office: String,
    pub(super) captured: u64,
    pub(super) receipted: u64,
    pub(super) held: u64,
    pub(super) missing: u64,
}

impl Summary {
    pub(super) fn answer(&self, output: &mut Output<'_>) -> Result<Outcome, Failure> {
        output.answer(self, Self::print)?;
        Ok(if self.ok { Outcome::Good } else { Outcome::Bad })
    }

    fn print(&self, output: &mut Output<'_>) -> Result<(), Failure> {
        let rows = self.offices.iter().map(|row| {
            let failover = match self.failover_ms.get(&row.office) {
                Some(Some(failover_ms)) => format!("{failover_ms} ms"),
                Some(None) => "nothing captured after the cut".to_owned(),
                None => "-".to_owned(),
            };
            let [captured, receipted, held, missing] =
                [row.captured, row.receipted, row.held, row.missing].map(|count| count.to_string());
            [row.office.clone(), captured, receipted, held, missing, failover]
        });
        output.table(
            ["office", "captured", "receipted", "held", "missing", "failover"],
            rows.collect(),
            "No offices.",
        )?;
        let mib = format!("{:.1}", self.bytes as f64 / f64::from(1 << 20));
        let Self { captured, receipted, held, missing, committed_twice, elapsed_s, .. } = self;
        output.line(format_args!(
            "\ncaptured {captured}, receipted {receipted}, held {held}, missing {missing}, committed twice \
             {committed_twice}; {mib} MiB in {elapsed_s} s"
        ))?;
        if self.opened_same > 0 {
            let same = self.opened_same;
            output.line(format_args!("{same} records opened at the main server: byte for byte as they were sent"))?;
        }
        for fault in self.faults.iter().take(FAULTS_SHOWN) {
            output.line(format_args!("wrong: {fault}"))?;
        }
        if self.faults.len() > FAULTS_SHOWN {
            output.line(format_args!("… and {} more", self.faults.len() - FAULTS_SHOWN))?;
        }
        let verdict = if self.ok { "Nothing is missing." } else { "This is not as it should be." };
        output.line(verdict)
    }
}

const FAULTS_SHOWN: usize = 20;
