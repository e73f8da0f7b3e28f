//! Suspecting a neighbor: the quick judgement of a silence, while an answer is owed.
//!
//! Data is the probe. Whatever the neighbor was handed, its transport acknowledges within a round trip; what else comes from
//! it shows that it lives, and not that it hears. Halfway through [`SUSPECT_AFTER`] (or four round trips) without an
//! acknowledgement it is asked again, so that a slow disk is not taken for a dead machine; then it is suspect. That costs
//! duplicates and nothing else: nobody is told, the adjacency stays, and one acknowledgement ends it. A suspicion that proves wrong doubles the patience with this neighbor for a while, so
//! that a busy machine or a slow line is not sent everything twice.

use std::time::Duration;

use estafet_model::Now;

/// How long a neighbor that owes an answer may be silent, if its round trip is no longer than a quarter of this. Its
/// transport acknowledges within a round trip and five milliseconds; the rest bridges the pauses of a scheduler.
pub const SUSPECT_AFTER: Duration = Duration::from_millis(40);

/// On a line with longer round trips so many of them: two questions have gone unanswered.
const ROUND_TRIPS: u32 = 4;

/// How often the patience doubles at most: to 640 ms, where death is near anyway.
const DOUBLINGS_MAX: u32 = 4;

/// A suspicion that proved wrong so long ago says nothing about the line any more.
const MEMORY: Duration = Duration::from_secs(30);

/// A judgement that comes more than this late is put off by as much, once in a silence: this node itself has paused, and
/// what came meanwhile may still wait to be read.
const OWN_PAUSE: Duration = Duration::from_millis(10);

/// What was acknowledged before the way was cut may still wait so long to be read.
const READ_LATE: Duration = Duration::from_millis(10);

/// What a silence asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Let the neighbor say something.
    AskAgain,
    /// It is suspect.
    Suspect,
}

/// How far a silence has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Silence {
    #[default]
    Short,
    AskedAgain,
    PutOff {
        until: Now,
    },
    Suspect,
}

/// Why a neighbor is judged sooner than usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hurry {
    /// It may be out of reach: half the patience is enough.
    Doubt,
    /// The way to it is cut: none is needed. What it answers all the same clears it, but for what was on its way before.
    CutOff,
}

/// Judges the silences of one neighbor.
#[derive(Debug, Clone, Default)]
pub(crate) struct Suspicion {
    /// Since when an answer is owed, as far as somebody has looked.
    owed_since: Option<Now>,
    silence: Silence,
    /// The neighbor was asked for a reason: it owes an answer in any case, and less patience is enough.
    hurry: Option<Hurry>,
    round_trip: Duration,
    /// How many suspicions proved wrong lately, and when the last of them did.
    wrong: u32,
    last_wrong: Now,
}

impl Suspicion {
    /// The neighbor was handed something: it owes an answer.
    pub(crate) fn owes_answer(&mut self, now: Now) {
        self.owed_since.get_or_insert(now);
    }

    /// The neighbor is probably out of reach, and is asked now: what was heard before proves nothing.
    pub(crate) fn hurry(&mut self, now: Now, why: Hurry) {
        if self.silence != Silence::Suspect {
            (self.owed_since, self.silence, self.hurry) = (Some(now), Silence::Short, Some(why));
        }
    }

    pub(crate) fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
    }

    pub(crate) fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// The neighbor has acknowledged something; true if that ends a suspicion.
    pub(crate) fn answered(&mut self, now: Now) -> bool {
        let is_cut_off = self.hurry == Some(Hurry::CutOff);
        if is_cut_off && self.owed_since.is_some_and(|cut| now.since(cut) < READ_LATE) {
            return false;
        }
        let was_suspect = std::mem::take(&mut self.silence) == Silence::Suspect;
        let hurried = self.hurry.take().is_some();
        // A suspicion in a hurry says nothing about the line.
        if was_suspect && !hurried {
            self.wrong = (self.recently_wrong(now) + 1).min(DOUBLINGS_MAX);
            self.last_wrong = now;
        }
        was_suspect
    }

    /// There is nothing to suspect: the neighbor is gone, or has come anew.
    pub(crate) fn end(&mut self) {
        self.owed_since = None;
        self.silence = Silence::Short;
        self.hurry = None;
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.silence == Silence::Suspect
    }

    /// When to judge a silence that began at `last_answer`.
    pub(crate) fn due(&self, last_answer: Now) -> Option<Now> {
        let since = last_answer.max(self.owed_since?);
        let patience = self.patience(since);
        match self.silence {
            Silence::Short => Some(since + patience / 2),
            Silence::AskedAgain => Some(since + patience),
            Silence::PutOff { until } => Some(until),
            Silence::Suspect => None,
        }
    }

    /// Judges a silence that began at `last_answer`. `owes` says whether an answer is owed now.
    pub(crate) fn judge(&mut self, now: Now, last_answer: Now, owes: impl Fn() -> bool) -> Option<Judgement> {
        let due = self.due(last_answer).filter(|due| *due <= now)?;
        if self.hurry.is_none() && !owes() {
            self.end();
            return None;
        }
        match self.silence {
            Silence::Short => {
                self.silence = Silence::AskedAgain;
                Some(Judgement::AskAgain)
            }
            Silence::AskedAgain if now.since(due) > OWN_PAUSE => {
                self.silence = Silence::PutOff { until: now + OWN_PAUSE };
                None
            }
            Silence::AskedAgain | Silence::PutOff { .. } => {
                self.silence = Silence::Suspect;
                Some(Judgement::Suspect)
            }
            Silence::Suspect => None,
        }
    }

    fn patience(&self, now: Now) -> Duration {
        let patience = SUSPECT_AFTER.max(self.round_trip * ROUND_TRIPS);
        // In a hurry there is a reason to suspect it that no earlier mistake makes weaker.
        match self.hurry {
            None => patience * (1 << self.recently_wrong(now)),
            Some(Hurry::Doubt) => patience / 2,
            Some(Hurry::CutOff) => Duration::ZERO,
        }
    }

    fn recently_wrong(&self, now: Now) -> u32 {
        if now.since(self.last_wrong) < MEMORY { self.wrong } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Now {
        Now(Duration::from_millis(millis))
    }

    /// Judges whenever it is due until `end`, as punctually as can be: the moments of suspicion and of questions.
    fn run(suspicion: &mut Suspicion, last_answer: Now, end: Now) -> Vec<(Now, Judgement)> {
        let mut judgements = Vec::new();
        while let Some(due) = suspicion.due(last_answer).filter(|due| *due <= end) {
            judgements.extend(suspicion.judge(due, last_answer, || true).map(|judgement| (due, judgement)));
        }
        judgements
    }

    fn owing(since: u64) -> Suspicion {
        let mut suspicion = Suspicion::default();
        suspicion.owes_answer(at(since));
        suspicion
    }

    #[test]
    fn who_owes_an_answer_is_asked_again_and_then_suspect() {
        let expected = [(at(1_020), Judgement::AskAgain), (at(1_040), Judgement::Suspect)];
        assert_eq!(run(&mut owing(1_000), at(100), at(9_000)), expected);
        assert_eq!(run(&mut owing(500), at(1_000), at(9_000)), expected, "a silence counts from the last word");
    }

    #[test]
    fn who_owes_nothing_is_not_suspect() {
        assert_eq!(Suspicion::default().due(at(0)), None);
        let mut suspicion = owing(0);
        assert_eq!(suspicion.judge(at(20), at(0), || false), None);
        assert_eq!(suspicion.due(at(0)), None);
    }

    #[test]
    fn in_a_hurry_half_the_patience_is_enough_and_its_errors_do_not_count() {
        let mut suspicion = Suspicion::default();
        for begin in [1_000, 2_000] {
            suspicion.hurry(at(begin), Hurry::Doubt);
            let expected = [(at(begin + 10), Judgement::AskAgain), (at(begin + 20), Judgement::Suspect)];
            assert_eq!(run(&mut suspicion, at(100), at(9_000)), expected);
            assert!(suspicion.answered(at(begin + 30)));
        }
        suspicion.end();
        suspicion.owes_answer(at(3_000));
        assert_eq!(run(&mut suspicion, at(100), at(9_000)).last(), Some(&(at(3_040), Judgement::Suspect)));
    }

    #[test]
    fn whose_way_is_cut_is_suspect_at_once_and_cleared_by_a_word() {
        let mut suspicion = owing(900);
        suspicion.hurry(at(1_000), Hurry::CutOff);
        let expected = [(at(1_000), Judgement::AskAgain), (at(1_000), Judgement::Suspect)];
        assert_eq!(run(&mut suspicion, at(999), at(9_000)), expected);
        assert!(!suspicion.answered(at(1_009)) && suspicion.is_suspect(), "it was on its way before");
        assert!(suspicion.answered(at(1_010)) && !suspicion.is_suspect());
    }

    #[test]
    fn long_round_trips_are_waited_for() {
        let mut suspicion = owing(0);
        suspicion.set_round_trip(Duration::from_millis(80));
        assert_eq!(run(&mut suspicion, at(0), at(9_000)).last(), Some(&(at(320), Judgement::Suspect)));
    }

    #[test]
    fn each_wrong_suspicion_doubles_the_patience_for_a_while() {
        let mut suspicion = owing(0);
        let mut spans = Vec::new();
        let mut now = at(0);
        for _ in 0..6 {
            let suspected = run(&mut suspicion, now, at(99_000)).last().unwrap().0;
            spans.push(suspected.since(now).as_millis());
            now = suspected + Duration::from_millis(1);
            assert!(suspicion.answered(now));
            assert!(!suspicion.answered(now), "only what was suspected is cleared");
        }
        assert_eq!(spans, [40, 80, 160, 320, 640, 640]);
        suspicion.hurry(now, Hurry::Doubt);
        assert_eq!(run(&mut suspicion, now, at(99_000)).last().unwrap().0.since(now).as_millis(), 20, "not in a hurry");
        assert!(suspicion.answered(now));
        now = now + MEMORY;
        assert_eq!(run(&mut suspicion, now, at(99_000)).last().unwrap().0.since(now), SUSPECT_AFTER);
    }

    #[test]
    fn an_own_pause_is_not_held_against_the_neighbor() {
        let mut suspicion = owing(0);
        assert_eq!(suspicion.judge(at(500), at(0), || true), Some(Judgement::AskAgain));
        assert_eq!(suspicion.judge(at(500), at(0), || true), None);
        assert_eq!(suspicion.due(at(0)), Some(at(510)));
        assert_eq!(suspicion.judge(at(550), at(0), || true), Some(Judgement::Suspect), "once in a silence");
    }
}
