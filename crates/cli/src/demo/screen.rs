//! The demo's progress on standard error: a live table on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::paper::Stacks;

pub(super) struct Screen {
    began: Instant,
    face: Face,
}

enum Face {
    Table { lines: MultiProgress, offices: BTreeMap<String, ProgressBar> },
    Plain,
}

impl Screen {
    pub(super) fn new(stacks: &Stacks) -> Self {
        let face = if io::stderr().is_terminal() { Face::table(stacks) } else { Face::Plain };
        Self { began: Instant::now(), face }
    }

    /// Since the demo began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Tells of something that happened, with its time.
    pub(super) fn say(&self, happening: impl Display) {
        let line = format!("{:>5.1} s  {happening}", self.began.elapsed().as_secs_f64());
        // Who closed standard error does not want to be told.
        let _ = match &self.face {
            Face::Table { lines, .. } => lines.println(line),
            Face::Plain => writeln!(io::stderr(), "{line}"),
        };
    }

    /// Brings an office's line up to date: its way, its receipts, and what else there is to say.
    pub(super) fn office(&self, office: &str, way: String, receipted: u64, words: String) {
        if let Face::Table { offices, .. } = &self.face
            && let Some(line) = offices.get(office)
        {
            line.set_prefix(way);
            line.set_position(receipted);
            line.set_message(words);
        }
    }

    /// True if there is no table that shows how far the offices are.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.face, Face::Plain)
    }
}

impl Drop for Screen {
    /// The table stays as it is, and what is written next begins below it.
    fn drop(&mut self) {
        if let Face::Table { offices, .. } = &self.face {
            offices.values().for_each(ProgressBar::abandon);
            let _ = writeln!(io::stderr());
        }
    }
}

impl Face {
    fn table(stacks: &Stacks) -> Self {
        let lines = MultiProgress::new();
        let style = ProgressStyle::with_template(OFFICE_LINE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let offices = stacks.offices().map(|(office, papers)| {
            let line = ProgressBar::new(papers.len() as u64).with_style(style.clone()).with_prefix(office.clone());
            (office.clone(), lines.add(line))
        });
        let offices = offices.collect();
        Self::Table { lines, offices }
    }
}

/// Fits into 80 columns with the longest way there usually is.
const OFFICE_LINE: &str = "{prefix:36} {bar:12} {pos:>4}/{len:<4} {wide_msg}";
