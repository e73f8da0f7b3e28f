//! Whether one neighbor is alive: a session is open and something was heard lately.
//!
//! A neighbor is up from the start of its session. It is silent after a few missed heartbeats while the session is
//! still open: heartbeats go on, and one frame brings it back. It is down without a session, or after it said goodbye.
//!
//! Heartbeats have two paces, so that a death is noticed quickly where records wait for it, and an idle area costs
//! next to nothing. Whoever has handed a neighbor records is *busy* with it: its heartbeats say so, the neighbor
//! answers at the same pace, and [`DEAD_AFTER`] counts. At the other end three times that counts: so a link on which only
//! one direction fails is given up soon by the end that cannot hear, and the end of the session tells the other. Otherwise the pace is quiet and [`DEAD_AFTER_QUIET`] counts.
//!
//! [`Suspicion`](crate::suspicion), the faster judgement of a neighbor that owes an answer, comes before and tells nobody.

use std::time::Duration;

use estafet_model::Now;

use crate::suspicion::{Hurry, Judgement, Suspicion};

/// How often a neighbor is sent a heartbeat while either end is busy with the other. A frame of about 60 bytes ten
/// times a second is under 5 kbit/s, 5 % of a link of 100 kbit/s.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);

/// How long a neighbor that this node is busy with may be silent: five heartbeats, or five round trips where these are
/// longer. With 5 % loss, five in a row are
/// lost once in three million times; and a scheduler that stalls a process for 400 ms is passed over.
pub const DEAD_AFTER: Duration = Duration::from_millis(500);

/// So many times as long may a neighbor be silent that speaks at the busy pace because it hands records to this node: what
/// it says stands in a queue behind its own payload, which on a line of 128 kbit/s takes half a second for a few datagrams.
const DEAF_FACTOR: u32 = 3;

/// So many questions unanswered are a death.
const DEAD_MISSES: u32 = 5;

/// How often a neighbor is sent a heartbeat when nothing depends on it: with its acknowledgement a datagram a second in
/// each direction.
pub const HEARTBEAT_INTERVAL_QUIET: Duration = Duration::from_secs(2);

/// How often a neighbor is sent a heartbeat over a gray link that nobody uses, so that its loss is measured: 3.2 kbit/s,
/// 5 % of a line of 64 kbit/s.
const HEARTBEAT_INTERVAL_WATCHED: Duration = Duration::from_millis(250);

/// How long a neighbor may be silent when nothing depends on it: three heartbeats. A lost one is sent again by QUIC.
pub const DEAD_AFTER_QUIET: Duration = Duration::from_secs(7);

/// How long the busy pace goes on after its last reason: longer than the pause between two citizens at a counter
/// that is in full use.
pub const BUSY_LINGER: Duration = Duration::from_secs(10);

/// How long a neighbor is answered at the busy pace after it last asked for it: ten of its heartbeats.
const ASKED_LINGER: Duration = Duration::from_secs(1);

/// A deadline handled more than this late was missed because this node itself stood still (a paused machine, a
/// starved process), so the silence proves nothing yet.
const OWN_STALL: Duration = HEARTBEAT_INTERVAL;

/// Whether a neighbor can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NeighborState {
    /// No session, or it said goodbye.
    #[default]
    Down,
    /// The session is open, but nothing is heard.
    Silent {
        /// When it was given up.
        since: Now,
    },
    /// The session is open and the neighbor is heard.
    Up {
        /// When it came up.
        since: Now,
        /// When the last frame of it came.
        last_heard: Now,
    },
}

/// Why a neighbor is no longer up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownReason {
    /// Nothing was heard for too long.
    Silence,
    /// The session ended.
    SessionLost,
    /// It said that it goes.
    Goodbye,
    /// The topology no longer has the link.
    Removed,
}

/// What the time is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdjacencyTimer {
    /// To let the neighbor hear something.
    SendHeartbeat,
    /// To judge a silence in which it owes an answer.
    JudgeSilence,
    /// To give the neighbor up.
    DeclareDead,
}

/// What an input asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdjacencyAction {
    /// Send a heartbeat.
    SendHeartbeat {
        /// This node is busy with the neighbor.
        busy: bool,
    },
    /// The neighbor is up now.
    CameUp,
    /// It owes an answer suspiciously long: what has another way should take that as well.
    BecameSuspect,
    /// It is suspect no longer.
    Cleared,
    /// The neighbor is not up any more.
    WentDown(DownReason),
}

/// Judges one neighbor. Every input takes the time and says what to do about it, if anything.
#[derive(Debug, Clone, Default)]
pub struct Liveness {
    state: NeighborState,
    heartbeat_due: Now,
    /// This node is busy with the neighbor: since when, and until when at least.
    busy_since: Now,
    busy_until: Now,
    /// The neighbor is busy with this node: it is answered at the quick pace until then.
    asked_until: Now,
    /// It is busy by its last word, and so speaks at the quick pace itself.
    speaks_quickly: bool,
    /// When it last showed that it hears this node.
    last_answer: Now,
    suspicion: Suspicion,
    /// The link is to be measured although nobody uses it.
    watched: bool,
    /// After a stall of this node: silence is judged only from here on. Granted once per silence.
    grace_until: Option<Now>,
}

impl Liveness {
    /// A neighbor without a session.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known.
    #[must_use]
    pub fn state(&self) -> NeighborState {
        self.state
    }

    /// True if the neighbor can be sent to.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.state, NeighborState::Up { .. })
    }

    /// True if it is up, and owes an answer suspiciously long.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.is_up() && self.suspicion.is_suspect()
    }

    /// The smoothed round-trip time to the neighbor.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.suspicion.set_round_trip(round_trip);
    }

    /// The link is to be measured, used or not; or that is not needed any more.
    pub fn set_watched(&mut self, now: Now, watched: bool) {
        self.watched = watched;
        self.heartbeat_due = self.heartbeat_due.min(now + self.interval(now));
    }

    /// A session was established. If one was open, the new one takes its place.
    pub fn session_up(&mut self, now: Now) -> Option<AdjacencyAction> {
        match self.state {
            NeighborState::Down => {
                // A session that was just made has much to carry.
                self.busy(now);
                self.heartbeat_due = now + HEARTBEAT_INTERVAL;
                self.come_up(now)
            }
            NeighborState::Silent { .. } | NeighborState::Up { .. } => self.acknowledged(now),
        }
    }

    /// A frame came from the neighbor: it lives, which does not say that it hears this node. After a goodbye, what was
    /// still on its way does not bring it back.
    pub fn heard(&mut self, now: Now) -> Option<AdjacencyAction> {
        match self.state {
            NeighborState::Down => None,
            NeighborState::Silent { .. } => self.come_up(now),
            NeighborState::Up { since, .. } => {
                self.state = NeighborState::Up { since, last_heard: now };
                self.grace_until = None;
                None
            }
        }
    }

    /// The neighbor's transport has acknowledged what this node sent: both directions of the link work.
    pub fn acknowledged(&mut self, now: Now) -> Option<AdjacencyAction> {
        let came_up = self.heard(now);
        self.last_answer = now;
        came_up.or_else(|| self.suspicion.answered(now).then_some(AdjacencyAction::Cleared))
    }

    /// A heartbeat came from the neighbor; `busy` says that it is busy with this node.
    pub fn heartbeat(&mut self, now: Now, busy: bool) -> Option<AdjacencyAction> {
        self.speaks_quickly = busy;
        if busy {
            self.asked_until = now + ASKED_LINGER;
            if self.heartbeat_due > now + HEARTBEAT_INTERVAL {
                self.heartbeat_due = now;
            }
        }
        self.heard(now)
    }

    /// Something was handed to the neighbor, or is still unanswered: from now on its death matters.
    pub fn busy(&mut self, now: Now) {
        if now >= self.busy_until {
            self.busy_since = now;
            self.heartbeat_due = now;
        }
        self.busy_until = now + BUSY_LINGER;
        self.suspicion.owes_answer(now);
    }

    /// The neighbor is probably out of reach: it is asked now, and judged sooner than usual.
    pub(crate) fn ask_at_once(&mut self, now: Now, why: Hurry) {
        if self.is_up() {
            self.busy(now);
            self.heartbeat_due = now;
            self.suspicion.hurry(now, why);
        }
    }

    /// The session ended.
    pub fn session_down(&mut self) -> Option<AdjacencyAction> {
        self.go_down(DownReason::SessionLost)
    }

    /// The neighbor said that it goes.
    pub fn goodbye(&mut self) -> Option<AdjacencyAction> {
        self.go_down(DownReason::Goodbye)
    }

    /// When to call [`Liveness::handle_timeout`] next, and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Now, AdjacencyTimer)> {
        let heartbeat = (self.heartbeat_due, AdjacencyTimer::SendHeartbeat);
        match self.state {
            NeighborState::Down => None,
            NeighborState::Silent { .. } => Some(heartbeat),
            NeighborState::Up { last_heard, .. } => {
                let judged = self.suspicion.due(self.last_answer).map(|due| (due, AdjacencyTimer::JudgeSilence));
                let dead = (self.deadline(last_heard), AdjacencyTimer::DeclareDead);
                [heartbeat, dead].into_iter().chain(judged).min()
            }
        }
    }

    /// Time passed. `owes` says whether the neighbor owes an answer now. To be called until it answers nothing.
    pub fn handle_timeout(&mut self, now: Now, owes: impl Fn() -> bool) -> Option<AdjacencyAction> {
        if let NeighborState::Up { last_heard, .. } = self.state {
            if now >= self.deadline(last_heard) && !self.forgive_own_stall(now, last_heard) {
                self.state = NeighborState::Silent { since: now };
                self.suspicion.end();
                return Some(AdjacencyAction::WentDown(DownReason::Silence));
            }
            match self.suspicion.judge(now, self.last_answer, owes) {
                Some(Judgement::AskAgain) => self.heartbeat_due = now,
                Some(Judgement::Suspect) => return Some(AdjacencyAction::BecameSuspect),
                None => {}
            }
        }
        if self.state != NeighborState::Down && now >= self.heartbeat_due {
            self.heartbeat_due = now + self.interval(now);
            return Some(AdjacencyAction::SendHeartbeat { busy: now < self.busy_until });
        }
        None
    }

    fn interval(&self, now: Now) -> Duration {
        if now < self.busy_until || now < self.asked_until {
            HEARTBEAT_INTERVAL
        } else if self.watched {
            HEARTBEAT_INTERVAL_WATCHED
        } else {
            HEARTBEAT_INTERVAL_QUIET
        }
    }

    fn come_up(&mut self, now: Now) -> Option<AdjacencyAction> {
        self.state = NeighborState::Up { since: now, last_heard: now };
        self.last_answer = now;
        self.grace_until = None;
        self.speaks_quickly = false;
        self.suspicion.end();
        Some(AdjacencyAction::CameUp)
    }

    fn go_down(&mut self, reason: DownReason) -> Option<AdjacencyAction> {
        let was_up = self.is_up();
        self.state = NeighborState::Down;
        self.suspicion.end();
        was_up.then_some(AdjacencyAction::WentDown(reason))
    }

    fn deadline(&self, last_heard: Now) -> Now {
        // What was not asked for in time may be late: the busy pace is judged by what came since it began.
        let dead_after = DEAD_AFTER.max(self.suspicion.round_trip() * DEAD_MISSES).min(DEAD_AFTER_QUIET);
        let busy = last_heard.max(self.busy_since) + dead_after;
        let deadline = if busy <= self.busy_until {
            busy
        } else if self.speaks_quickly {
            last_heard + (dead_after * DEAF_FACTOR).min(DEAD_AFTER_QUIET)
        } else {
            last_heard + DEAD_AFTER_QUIET
        };
        self.grace_until.unwrap_or(deadline)
    }

    /// Grants one more heartbeat interval if this node itself slept past the deadline: what the neighbor sent
    /// meanwhile may still wait to be read.
    fn forgive_own_stall(&mut self, now: Now, last_heard: Now) -> bool {
        let stalled = self.grace_until.is_none() && now.since(self.deadline(last_heard)) > OWN_STALL;
        if stalled {
            self.grace_until = Some(now + HEARTBEAT_INTERVAL);
        }
        stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Now {
        Now(Duration::from_millis(millis))
    }

    fn up_at(millis: u64) -> Liveness {
        let mut liveness = Liveness::new();
        assert_eq!(liveness.session_up(at(millis)), Some(AdjacencyAction::CameUp));
        liveness
    }

    /// Handles every timeout up to `end`, each at its time; counts heartbeats and says when the neighbor was given up.
    fn run(liveness: &mut Liveness, end: Now) -> (u32, Option<Now>) {
        let (mut heartbeats, mut dead_at) = (0, None);
        while let Some((when, _)) = liveness.poll_timeout().filter(|(when, _)| *when <= end) {
            match liveness.handle_timeout(when, || false) {
                Some(AdjacencyAction::SendHeartbeat { .. }) => heartbeats += 1,
                Some(AdjacencyAction::WentDown(DownReason::Silence)) => dead_at = Some(when),
                None => {}
                other => panic!("unexpected {other:?}"),
            }
        }
        (heartbeats, dead_at)
    }

    #[test]
    fn five_missed_heartbeats_end_it_and_four_do_not() {
        let mut liveness = up_at(0);
        assert_eq!(run(&mut liveness, at(499)), (4, None));
        assert_eq!(liveness.heard(at(499)), None);
        assert_eq!(run(&mut liveness, at(998)).1, None);
        assert_eq!(run(&mut liveness, at(2000)).1, Some(at(999)));
    }

    #[test]
    fn a_silent_neighbor_is_still_spoken_to_and_one_frame_brings_it_back() {
        let mut liveness = up_at(0);
        run(&mut liveness, at(600));
        assert_eq!(liveness.state(), NeighborState::Silent { since: at(500) });
        assert_eq!(run(&mut liveness, at(1600)).0, 10);
        assert_eq!(liveness.heard(at(1700)), Some(AdjacencyAction::CameUp));
        assert!(liveness.is_up());
    }

    #[test]
    fn a_goodbye_and_a_lost_session_take_effect_at_once_and_only_once() {
        for reason in [DownReason::Goodbye, DownReason::SessionLost] {
            let mut liveness = up_at(0);
            let end = |liveness: &mut Liveness| match reason {
                DownReason::Goodbye => liveness.goodbye(),
                _ => liveness.session_down(),
            };
            assert_eq!(end(&mut liveness), Some(AdjacencyAction::WentDown(reason)));
            assert_eq!(end(&mut liveness), None);
            assert_eq!(liveness.heard(at(10)), None);
            assert_eq!(liveness.poll_timeout(), None);
            assert_eq!(liveness.session_up(at(20)), Some(AdjacencyAction::CameUp));
        }
    }

    #[test]
    fn a_suspect_is_up_until_it_is_heard_or_dead() {
        let owes = || true;
        for returns in [true, false] {
            let mut liveness = up_at(0);
            liveness.busy(at(0));
            let asked = Some(AdjacencyAction::SendHeartbeat { busy: true });
            assert_eq!((liveness.poll_timeout().unwrap().0, liveness.handle_timeout(at(20), owes)), (at(20), asked));
            assert_eq!(liveness.handle_timeout(at(40), owes), Some(AdjacencyAction::BecameSuspect));
            assert!(liveness.is_up() && liveness.is_suspect());
            if returns {
                assert_eq!(liveness.heartbeat(at(49), false), None, "it may not hear this node");
                assert!(liveness.is_suspect());
                assert_eq!(liveness.acknowledged(at(50)), Some(AdjacencyAction::Cleared));
                assert_eq!(liveness.acknowledged(at(51)), None);
            } else {
                assert_eq!(run(&mut liveness, at(9_000)).1, Some(at(500)));
            }
            assert!(!liveness.is_suspect());
        }
    }

    #[test]
    fn whoever_may_be_out_of_reach_is_asked_at_once_and_suspect_soon() {
        let mut liveness = up_at(0);
        for second in 1..=20 {
            run(&mut liveness, at(second * 1_000 - 1));
            liveness.heartbeat(at(second * 1_000 - 1), false);
        }
        run(&mut liveness, at(20_100));
        liveness.ask_at_once(at(20_100), Hurry::Doubt);
        let asked = Some(AdjacencyAction::SendHeartbeat { busy: true });
        assert_eq!(liveness.handle_timeout(at(20_100), || false), asked);
        assert_eq!(liveness.handle_timeout(at(20_110), || false), asked);
        assert_eq!(liveness.handle_timeout(at(20_120), || false), Some(AdjacencyAction::BecameSuspect));
        assert_eq!(run(&mut liveness, at(90_000)).1, Some(at(20_600)), "its death matters from then on");
    }

    #[test]
    fn on_a_line_with_long_round_trips_death_takes_five_of_them() {
        let mut liveness = up_at(0);
        liveness.set_round_trip(Duration::from_millis(300));
        assert_eq!(run(&mut liveness, at(9_000)).1, Some(at(1_500)));
    }

    #[test]
    fn a_quiet_pace_costs_little_and_a_death_is_noticed_when_it_matters() {
        let mut liveness = up_at(0);
        for seconds in 1..=30 {
            run(&mut liveness, at(seconds * 1_000 - 1));
            liveness.heartbeat(at(seconds * 1_000 - 1), false);
        }
        run(&mut liveness, at(30_000));
        let (heartbeats, dead_at) = run(&mut liveness, at(33_999));
        assert!((1..=2).contains(&heartbeats) && dead_at.is_none(), "{heartbeats} heartbeats in four seconds");
        liveness.busy(at(34_000));
        assert_eq!(liveness.handle_timeout(at(34_000), || false), Some(AdjacencyAction::SendHeartbeat { busy: true }));
        assert_eq!(run(&mut liveness, at(35_000)).1, Some(at(34_500)), "half a second after it began to matter");
    }

    #[test]
    fn a_neighbor_that_is_busy_with_this_node_is_answered_at_its_pace() {
        let mut liveness = up_at(0);
        run(&mut liveness, at(400));
        liveness.heartbeat(at(400), false);
        for second in 1..20 {
            run(&mut liveness, at(second * 1_000));
            liveness.heartbeat(at(second * 1_000), false);
        }
        run(&mut liveness, at(19_100));
        liveness.heartbeat(at(19_100), true);
        assert_eq!(liveness.handle_timeout(at(19_100), || false), Some(AdjacencyAction::SendHeartbeat { busy: false }));
        assert_eq!(run(&mut liveness, at(19_599)).0, 4);
    }

    #[test]
    fn a_neighbor_that_speaks_quickly_and_falls_silent_is_given_up_soon() {
        for (last_word, dead_after) in [(true, DEAD_AFTER * DEAF_FACTOR), (false, DEAD_AFTER_QUIET)] {
            let mut liveness = up_at(0);
            for second in 1..20 {
                run(&mut liveness, at(second * 1_000 - 500));
                liveness.heartbeat(at(second * 1_000 - 500), false);
            }
            run(&mut liveness, at(19_600));
            for busy in [true, true, last_word] {
                liveness.heartbeat(at(19_600), busy);
            }
            assert_eq!(run(&mut liveness, at(90_000)).1, Some(at(19_600) + dead_after), "{last_word}");
        }
    }

    #[test]
    fn a_stall_of_this_node_is_not_held_against_the_neighbor() {
        let mut liveness = up_at(0);
        assert_eq!(liveness.handle_timeout(at(30_000), || false), Some(AdjacencyAction::SendHeartbeat { busy: false }));
        liveness.heard(at(30_050));
        assert_eq!(run(&mut liveness, at(30_500)).1, None);

        let mut liveness = up_at(0);
        liveness.handle_timeout(at(30_000), || false);
        assert_eq!(run(&mut liveness, at(31_000)).1, Some(at(30_100)), "granted once, and it stayed silent");
    }
}
