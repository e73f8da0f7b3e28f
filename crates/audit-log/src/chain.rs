//! Why a log is believed: each line is the node's, and names the one before it.

use estafet_model::{NodeId, PublicKey};

use crate::GAVE_UP;
use crate::entry::Entry;
use crate::line::{Head, Line, LineFault, LineHash};

/// What is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A line cannot be read.
    #[error(transparent)]
    Line(#[from] LineFault),
    /// A line is of another node's log.
    #[error("it is of the log of `{found}`, and not of `{expected}`")]
    OtherNode {
        /// Whose log it is.
        expected: NodeId,
        /// Who is named.
        found: NodeId,
    },
    /// A line was changed, or somebody else has written it.
    #[error("its signature is not that of `{0}`: it was changed")]
    NotSigned(NodeId),
    /// A line is not the next one.
    #[error("line {expected} was to come, and this is line {found}: lines were taken out, put in or moved")]
    OtherNumber {
        /// The next number.
        expected: u64,
        /// The line's.
        found: u64,
    },
    /// A line follows another one than it was written after.
    #[error("it was not written after the line before it")]
    OtherPrevious,
    /// The log begins too late.
    #[error("the log begins with line {found}, and the lines from {expected} on were never given up")]
    NoBeginning {
        /// With which it is to begin, at the latest.
        expected: u64,
        /// With which it begins.
        found: u64,
    },
    /// The last line is not whole.
    #[error("it has no end")]
    NoEnd,
    /// There is no line.
    #[error("the log is empty")]
    Empty,
    /// The head that was noted is not in it.
    #[error("the head that was noted is not in it: lines are missing at the end, or it is another log")]
    NoHead,
}

/// The first fault of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {place}: {fault}")]
pub struct BadLine {
    /// The line of the text, from 1; one more than there are if it is the end that is bad.
    pub place: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// A log in which nothing is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The number of its first line.
    pub first: u64,
    /// Its last line.
    pub head: Head,
    /// How many lines it has.
    pub lines: u64,
}

/// Takes a log line by line, each only if it is the next.
#[derive(Debug, Clone)]
pub struct Chain {
    node: NodeId,
    keys: Vec<PublicKey>,
    noted: Option<LineHash>,
    noted_was_seen: bool,
    first: Option<u64>,
    given_up_through: u64,
    head: Option<Head>,
    lines: u64,
}

impl Chain {
    /// The log of `node`, which has, or had, one of `keys`. One signature proves what comes before it as well, but only all
    /// of them tell which line was changed.
    #[must_use]
    pub fn new(node: NodeId, keys: Vec<PublicKey>) -> Self {
        let (first, head, noted) = (None, None, None);
        Self { node, keys, noted, noted_was_seen: false, first, given_up_through: 0, head, lines: 0 }
    }

    /// The same, which is to hold a head that somebody has noted.
    #[must_use]
    pub fn with_head(self, noted: Option<LineHash>) -> Self {
        Self { noted, ..self }
    }

    /// The newest line.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// Takes the next line, if it is that, and the node's.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(&mut self, line: &[u8]) -> Result<Entry, Fault> {
        let line = Line::decode(line)?;
        if line.entry.node != self.node {
            return Err(Fault::OtherNode { expected: self.node.clone(), found: line.entry.node });
        }
        if !self.keys.iter().any(|key| line.is_by(key)) {
            return Err(Fault::NotSigned(self.node.clone()));
        }
        self.follow(line)
    }

    /// Takes the next line, if it is that, without a look at its signature: to be followed by one that is looked at.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take_unsigned(&mut self, line: &[u8]) -> Result<Entry, Fault> {
        let line = Line::decode(line)?;
        self.follow(line)
    }

    fn follow(&mut self, line: Line) -> Result<Entry, Fault> {
        let Entry { sequence, previous, .. } = line.entry;
        let expected = self.head.map_or(sequence.max(1), |head| head.sequence.saturating_add(1));
        if sequence != expected {
            return Err(Fault::OtherNumber { expected, found: sequence });
        }
        let is_next = match self.head {
            Some(head) => previous == head.hash,
            None => (sequence == 1) == (previous == LineHash::NONE),
        };
        if !is_next {
            return Err(Fault::OtherPrevious);
        }
        if line.entry.event.what == GAVE_UP
            && let Some(through) = line.entry.event.about.get("through").and_then(|text| text.parse().ok())
        {
            self.given_up_through = through;
        }
        self.first.get_or_insert(sequence);
        self.noted_was_seen |= self.noted == Some(line.hash);
        self.head = Some(line.head());
        self.lines += 1;
        Ok(line.entry)
    }

    /// Takes a whole log. It is to begin with line `from`, or, if that is not said, with the oldest that was not given up.
    ///
    /// # Errors
    /// The first line that is bad.
    pub fn verify(mut self, text: &[u8], from: Option<u64>) -> Result<Verified, BadLine> {
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let place = self.lines + 1;
            let taken = match line.strip_suffix(b"\n") {
                Some(line) => self.take(line).map(drop),
                None => Err(Fault::NoEnd),
            };
            taken.map_err(|fault| BadLine { place, fault })?;
        }
        self.finish(from)
    }

    /// Judges what was taken as a whole. It is to begin with line `from`, or, if that is not said, with the oldest that was
    /// not given up.
    ///
    /// # Errors
    /// If its beginning, or its end, is not what it is to be.
    pub fn finish(&self, from: Option<u64>) -> Result<Verified, BadLine> {
        let end = self.lines + 1;
        let (Some(first), Some(head)) = (self.first, self.head) else {
            return Err(BadLine { place: end, fault: Fault::Empty });
        };
        let oldest = self.given_up_through.saturating_add(1);
        if from.map_or(first > oldest, |from| first != from) {
            let fault = Fault::NoBeginning { expected: from.unwrap_or(oldest), found: first };
            return Err(BadLine { place: 1, fault });
        }
        if self.noted.is_some() && !self.noted_was_seen {
            return Err(BadLine { place: end, fault: Fault::NoHead });
        }
        Ok(Verified { first, head, lines: self.lines })
    }
}

#[cfg(test)]
mod tests {
    use estafet_model::{SigningKey, UnixMillis};

    use super::*;
    use crate::{Event, LINE_BYTES_MAX, Who};

    fn key() -> SigningKey {
        SigningKey::from_seed([7; 32])
    }

    fn node() -> NodeId {
        "rumbai".parse().unwrap()
    }

    /// A log of `count` lines, as one text for each.
    fn log(count: u64) -> Vec<String> {
        let (mut lines, mut previous) = (Vec::new(), LineHash::NONE);
        for sequence in 1..=count {
            let event = Event::allowed(Who::LocalUser(Some(0)), "drain").about("words", format!("roof {sequence}"));
            let entry = Entry::new(node(), 1, UnixMillis(sequence), event, (sequence, previous));
            let line = Line::encode(&entry, &key());
            previous = LineHash::of(line.as_bytes());
            lines.push(line + "\n");
        }
        lines
    }

    fn verify(text: &[u8]) -> Result<Verified, BadLine> {
        Chain::new(node(), vec![key().public()]).verify(text, None)
    }

    #[test]
    fn a_log_as_it_was_written_is_believed() {
        let lines = log(5);
        let verified = verify(lines.concat().as_bytes()).unwrap();
        let head = Head { sequence: 5, hash: LineHash::of(lines[4].trim_end().as_bytes()) };
        assert_eq!(verified, Verified { first: 1, head, lines: 5 });
    }

    #[test]
    fn each_flipped_bit_is_found_in_its_line() {
        let text = log(3).concat().into_bytes();
        let mut place = 1;
        for at in 0..text.len() {
            let mut damaged = text.clone();
            // One bit of each byte, another one from byte to byte.
            damaged[at] ^= 1 << (at % 8);
            let bad = verify(&damaged).expect_err(&format!("byte {at}"));
            assert_eq!(bad.place, place, "byte {at}: {bad}");
            place += u64::from(text[at] == b'\n');
        }
    }

    #[test]
    fn lines_that_are_missing_moved_or_put_in_are_found() {
        let lines = log(5);
        let stranger = {
            let entry: Entry = Line::decode(lines[2].trim_end().as_bytes()).unwrap().entry;
            Line::encode(&entry, &SigningKey::from_seed([8; 32])) + "\n"
        };
        let with = |order: &[usize]| order.iter().map(|index| lines[*index].as_str()).collect::<String>();
        let rows: [(&str, String, Option<u64>); 9] = [
            ("as written", with(&[0, 1, 2, 3, 4]), None),
            ("the second left out", with(&[0, 2, 3, 4]), Some(2)),
            ("two swapped", with(&[0, 2, 1, 3, 4]), Some(2)),
            ("one twice", with(&[0, 1, 1, 2, 3, 4]), Some(3)),
            ("the first left out", with(&[1, 2, 3, 4]), Some(1)),
            ("another's line", lines[..2].concat() + &stranger, Some(3)),
            ("half a line at the end", with(&[0, 1]) + &lines[2][..40], Some(3)),
            ("nothing", String::new(), Some(1)),
            ("an empty line", with(&[0]) + "\n" + &with(&[1]), Some(2)),
        ];
        for (what, text, place) in rows {
            assert_eq!(verify(text.as_bytes()).err().map(|bad| bad.place), place, "{what}");
        }
    }

    /// A line of this node's, as if it were written after another one.
    fn line_after(sequence: u64, previous: LineHash, words: &str) -> String {
        let event = Event::allowed(Who::LocalUser(Some(0)), "drain").about("words", words);
        Line::encode(&Entry::new(node(), 1, UnixMillis(9), event, (sequence, previous)), &key()) + "\n"
    }

    #[test]
    fn the_node_s_own_line_is_taken_at_its_own_place_only() {
        let lines = log(3);
        let last = LineHash::of(lines[2].trim_end().as_bytes());
        for (what, line, fault) in [
            ("the next", line_after(4, last, "x"), None),
            (
                "with the right number, of another log",
                line_after(4, LineHash::of(b"x"), "x"),
                Some(Fault::OtherPrevious),
            ),
            ("a number too far", line_after(5, last, "x"), Some(Fault::OtherNumber { expected: 4, found: 5 })),
        ] {
            let verdict = verify((lines.concat() + &line).as_bytes());
            assert_eq!(verdict.err().map(|bad| bad.fault), fault, "{what}");
        }
        // And so is the first.
        let first = line_after(1, last, "x");
        assert_eq!(verify(first.as_bytes()).unwrap_err().fault, Fault::OtherPrevious);
    }

    #[test]
    fn a_tail_that_was_cut_off_is_found_by_whoever_noted_a_head() {
        let lines = log(5);
        let noted = LineHash::of(lines[3].trim_end().as_bytes());
        for (kept, found) in [(5, false), (4, false), (3, true), (1, true)] {
            let chain = Chain::new(node(), vec![key().public()]).with_head(Some(noted));
            let verdict = chain.verify(lines[..kept].concat().as_bytes(), None);
            assert_eq!(verdict.err().map(|bad| bad.fault), found.then_some(Fault::NoHead), "{kept} lines");
        }
    }

    #[test]
    fn a_part_begins_where_it_is_said_to_begin() {
        let lines = log(5);
        let part = lines[2..].concat();
        let chain = || Chain::new(node(), vec![key().public()]);
        assert!(chain().verify(part.as_bytes(), Some(3)).is_ok());
        for from in [None, Some(1), Some(2), Some(4)] {
            let bad = chain().verify(part.as_bytes(), from).unwrap_err();
            assert!(matches!(bad.fault, Fault::NoBeginning { found: 3, .. }), "{from:?}: {bad}");
        }
    }

    #[test]
    fn lines_that_were_given_up_are_missed_by_nobody() {
        let mut lines = log(3);
        let last = Line::decode(lines[2].trim_end().as_bytes()).unwrap();
        let event = Event::noted(Who::ThisNode, GAVE_UP).about("through", 2);
        let entry = Entry::new(node(), 1, UnixMillis(9), event, (4, last.hash));
        lines.push(Line::encode(&entry, &key()) + "\n");
        assert!(verify(lines[2..].concat().as_bytes()).is_ok());
        assert!(verify(lines[3..].concat().as_bytes()).is_err(), "line 3 was not given up");
    }

    #[test]
    fn long_texts_are_cut_and_lines_stay_short() {
        let long = "…\"\u{1}".repeat(5_000);
        let event = Event::refused(Who::Others, &long, &long).about("call", &long);
        let entry = Entry::new(node(), u64::MAX, UnixMillis(u64::MAX), event, (u64::MAX, LineHash::NONE));
        let line = Line::encode(&entry, &key());
        assert!(line.len() < LINE_BYTES_MAX / 2, "{}", line.len());
        assert!(!line.contains('\n'));
        assert_eq!(Line::decode(line.as_bytes()).unwrap().entry, entry);
    }
}
