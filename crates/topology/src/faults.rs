//! What is wrong with a topology file: every fault at once, each with its place and its remedy.
//!
//! A person who edits the file fixes it in one round, so nothing here stops at the first fault. [`Faults`] is a
//! [`miette::Diagnostic`]: a program that prints it with miette's handler shows the lines of the file with the
//! faults marked. [`Fault`] serializes, for programs that want JSON instead.

use std::cell::RefCell;
use std::ops::Range;

use miette::{Diagnostic, NamedSource, SourceSpan};
use serde::Serialize;

/// One thing that is wrong in a topology file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error, Diagnostic)]
#[error("{what}")]
pub struct Fault {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    #[help]
    pub remedy: String,
    #[serde(skip)]
    #[label("here")]
    place: SourceSpan,
    #[serde(skip)]
    #[label("the other one")]
    counterpart: Option<SourceSpan>,
}

/// All that is wrong in a topology file, in the order of its lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Diagnostic)]
#[error("{} is not a valid topology: {}", .document.name(), count(.faults))]
pub struct Faults {
    #[source_code]
    document: NamedSource<String>,
    #[related]
    faults: Vec<Fault>,
}

impl Faults {
    /// The faults, in the order of their lines.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

fn count(faults: &[Fault]) -> String {
    match faults.len() {
        1 => "1 fault".to_owned(),
        many => format!("{many} faults"),
    }
}

/// What is wrong with a value and what to do, before anybody knows where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) what: String,
    pub(crate) remedy: String,
}

impl Problem {
    pub(crate) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

/// Collects the faults of one document. Shared by all that read it, so that each can report and go on.
pub(crate) struct FaultLog<'a> {
    text: &'a str,
    faults: RefCell<Vec<Fault>>,
}

impl<'a> FaultLog<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, faults: RefCell::default() }
    }

    pub(crate) fn report(&self, place: Range<usize>, problem: Problem) {
        self.push(place, None, problem);
    }

    /// Reports a fault that takes two places to see, such as a name given twice.
    pub(crate) fn report_pair(&self, place: Range<usize>, counterpart: Range<usize>, problem: Problem) {
        self.push(place, Some(counterpart), problem);
    }

    /// The line of a byte offset, counted from 1.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        self.position_of(offset).0
    }

    /// Nothing if no fault was reported.
    pub(crate) fn into_faults(self, name: &str) -> Option<Faults> {
        let mut faults = self.faults.into_inner();
        faults
            .sort_by(|left, right| (left.line, left.column, &left.what).cmp(&(right.line, right.column, &right.what)));
        if faults.is_empty() {
            return None;
        }
        Some(Faults { document: NamedSource::new(name, self.text.to_owned()).with_language("TOML"), faults })
    }

    fn push(&self, place: Range<usize>, counterpart: Option<Range<usize>>, problem: Problem) {
        let (line, column) = self.position_of(place.start);
        let Problem { what, remedy } = problem;
        let counterpart = counterpart.map(SourceSpan::from);
        self.faults.borrow_mut().push(Fault { line, column, what, remedy, place: place.into(), counterpart });
    }

    fn position_of(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}
