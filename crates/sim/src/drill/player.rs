//! Plays a script on a city of real nodes, and measures.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use estafet_custody::{CustodyEvent, RecordState, RecordView};
use estafet_model::{Class, NodeId, Now, RecordId};
use estafet_node::routing::NeighborState;
use estafet_node::{CaptureToken, Node, NodeEvent};
use estafet_topology::CityPlan;

use crate::city::{City, Violation};
use crate::drill::measures::Measures;
use crate::drill::script::{Attempt, Change, DAY, Happening, Jumps, Line, Script, Weather};
use crate::network::{Condition, Traffic};
use crate::run::words_of;

/// A counter without a slip by then has been refused.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked what has come of captures; the times themselves are those of the events.
const STEP: Duration = Duration::from_secs(1);

/// How often it is looked whether a dark site has been noticed.
const ALARM_STEP: Duration = Duration::from_millis(100);

/// How long nothing must have gone on before a stretch is jumped over: longer than any hold of routing after a change,
/// so that all that could follow from the last event has followed.
const QUIET_FOR: Duration = Duration::from_secs(25);

/// What is worth a jump.
const JUMP_MIN: Duration = Duration::from_secs(5);

/// What is played before somebody comes to a counter after a jump.
const PLAYED_BEFORE: Duration = Duration::from_secs(300);

/// How long a healed city has to bring home the rest, when the drill is over: as in other runs, and for what the slowest
/// line holds.
const SETTLING: Duration = Duration::from_secs(600);

/// A capture without an answer yet.
#[derive(Debug)]
struct Pending {
    office: NodeId,
    /// By the script's time.
    since: Duration,
    bytes: usize,
    stands_for: Duration,
}

/// A record on its way.
#[derive(Debug)]
struct Open {
    since: Duration,
    bytes: usize,
}

/// Plays one script.
#[derive(Debug)]
pub(super) struct Player {
    city: City,
    /// What has been left out of the script's time.
    jumped: Duration,
    quiet_since: Now,
    pending: BTreeMap<CaptureToken, Pending>,
    open: BTreeMap<RecordId, Open>,
    first_hops: BTreeMap<NodeId, Option<NodeId>>,
    /// Sites that are dark and still on the main server's map.
    unnoticed: BTreeMap<NodeId, Duration>,
    measures: Measures,
    route_changes: u64,
    noticed_after: Vec<Duration>,
    held_records_max: u64,
    held_bytes_max: u64,
}

impl Player {
    pub(super) fn new(plan: CityPlan, seed: u64) -> Self {
        Self {
            city: City::of_plan(plan, seed),
            jumped: Duration::ZERO,
            quiet_since: Now::default(),
            pending: BTreeMap::new(),
            open: BTreeMap::new(),
            first_hops: BTreeMap::new(),
            unnoticed: BTreeMap::new(),
            measures: Measures::default(),
            route_changes: 0,
            noticed_after: Vec::new(),
            held_records_max: 0,
            held_bytes_max: 0,
        }
    }

    /// What came of it, and which promise was broken, if one was. A panic of the code under test is a failure too.
    pub(super) fn play(mut self, script: &Script, progress: &mut dyn FnMut(u32)) -> (Measures, Option<String>) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.play_all(script, progress)));
        let broken = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(violation)) => Some(violation.to_string()),
            Err(panic) => Some(format!("at {:?}: {}", self.city.now.0, words_of(&*panic))),
        };
        (self.into_measures(), broken)
    }

    fn play_all(&mut self, script: &Script, progress: &mut dyn FnMut(u32)) -> Result<(), Violation> {
        let mut days = 0;
        let (mut left_out, mut left_out_until) = (Weather::default(), Duration::ZERO);
        for (index, (at, happening)) in script.happenings.iter().enumerate() {
            if *at < left_out_until
                && let Happening::Change(change) = happening
            {
                left_out.change(change);
                continue;
            }
            for (ends, line) in left_out.take_lines() {
                self.change(&Change::Line(ends, line));
            }
            self.go_to(*at, script.jumps)?;
            if script.jumps == Jumps::WhereNobodyComes && self.is_idle() {
                left_out_until = self.jump_to_next_attempt(&script.happenings[index..]);
            }
            while DAY * (days + 1) <= *at {
                days += 1;
                progress(days);
            }
            if script.jumps == Jumps::WhereNothingHappens {
                self.quiet_since = self.city.now;
            }
            match happening {
                Happening::Change(change) => self.change(change),
                Happening::Attempt(attempt) => self.attempt(attempt),
            }
        }
        self.go_to(script.end, script.jumps)?;
        self.measures.not_there = self.open.len() as u64;
        self.count_traffic();
        self.bring_home()
    }

    /// The script's time.
    fn now(&self) -> Duration {
        self.city.now.0 + self.jumped
    }

    /// Lets time pass until `at`, or leaves it out where nothing goes on.
    fn go_to(&mut self, at: Duration, jumps: Jumps) -> Result<(), Violation> {
        while self.now() < at {
            let left = at - self.now();
            if jumps == Jumps::WhereNothingHappens && left >= JUMP_MIN && self.is_quiet() {
                self.jumped += left;
                return Ok(());
            }
            let step = if self.unnoticed.is_empty() { STEP } else { ALARM_STEP };
            self.city.advance(step.min(left))?;
            self.look();
        }
        Ok(())
    }

    /// Leaves out the time until shortly before somebody comes to a counter. Returns when that is, by the script.
    fn jump_to_next_attempt(&mut self, happenings: &[(Duration, Happening)]) -> Duration {
        let next = happenings.iter().find(|(_, happening)| matches!(happening, Happening::Attempt(_)));
        let until = next.map_or(Duration::ZERO, |(at, _)| at.saturating_sub(PLAYED_BEFORE));
        self.jumped += until.saturating_sub(self.now());
        until
    }

    /// Nothing is held by a node that runs, and nobody waits at a counter.
    fn is_idle(&self) -> bool {
        let mut nodes = self.city.offices.values().filter_map(|office| office.node.as_ref());
        self.pending.is_empty() && nodes.all(|node| node.custody().held_count() == 0)
    }

    /// Every record that a running node holds waits for a way and for nothing else, every link is as its ends and its line
    /// are, and it has been so for a while: nothing comes of it but heartbeats.
    fn is_quiet(&mut self) -> bool {
        if !self.is_at_rest() || !(0..self.city.link_count()).all(|link| self.is_as_it_should_be(link)) {
            self.quiet_since = self.city.now;
        }
        self.city.now.since(self.quiet_since) >= QUIET_FOR
    }

    /// Nobody waits at a counter, and no record that a running node holds is on its way or has a timer.
    fn is_at_rest(&self) -> bool {
        let mut nodes = self.city.offices.values().filter_map(|office| office.node.as_ref());
        self.pending.is_empty() && nodes.all(holds_only_what_has_no_way)
    }

    fn is_as_it_should_be(&self, link: usize) -> bool {
        let wire = &self.city.wires[link];
        let [one, other] = wire.ends.each_ref().map(|end| self.city.offices[end].node.as_ref());
        let carries = one.is_some() && other.is_some() && wire.condition.silent == [false; 2];
        let is_up = |state| matches!(state, Some(NeighborState::Up { .. }));
        let [left, right] = &wire.ends;
        one.is_none_or(|node| is_up(node.router().neighbor_state(right)) == carries)
            && other.is_none_or(|node| is_up(node.router().neighbor_state(left)) == carries)
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Dark(site) => {
                self.city.kill(site);
                // Who stood at that counter has no light either.
                self.pending.retain(|_, pending| pending.office != *site);
                if *site == self.city.hubs[0] {
                    self.unnoticed.clear();
                } else if self.city.is_running(&self.city.hubs[0]) {
                    self.unnoticed.insert(site.clone(), self.now());
                }
            }
            Change::Lit(site) => {
                self.city.restart(site);
                self.unnoticed.remove(site);
            }
            Change::Line(ends, line) => {
                let link = self.city.link(ends[0].as_str(), ends[1].as_str());
                self.city.set_condition(link, condition(line));
            }
        }
    }

    fn attempt(&mut self, attempt: &Attempt) {
        let Attempt { office, bytes, stands_for } = attempt;
        if !self.city.is_running(office) {
            return;
        }
        self.measures.attempts += 1;
        let token = self.city.capture(office.as_str(), Class::Normal, *bytes);
        let pending = Pending { office: office.clone(), since: self.now(), bytes: *bytes, stands_for: *stands_for };
        self.pending.insert(token, pending);
    }

    /// Sees what has happened since the last look.
    fn look(&mut self) {
        self.hear_answers();
        self.hear_events();
        self.see_what_is_held();
        self.see_what_is_noticed();
        self.city.sightings.clear();
    }

    fn hear_answers(&mut self) {
        let now = self.now();
        let mut answers = std::mem::take(&mut self.city.answers);
        let (measures, open) = (&mut self.measures, &mut self.open);
        self.pending.retain(|token, pending| {
            let answer = answers.remove(token);
            if let Some(Ok(captured)) = answer {
                open.insert(captured.id, Open { since: pending.since, bytes: pending.bytes });
                return false;
            }
            let refused = answer.is_some() || now - pending.since > ANSWER_WITHIN;
            if refused {
                measures.refused += 1;
                measures.lost += pending.stands_for;
            }
            !refused
        });
    }

    fn hear_events(&mut self) {
        for (at, node, event) in std::mem::take(&mut self.city.events) {
            match event {
                NodeEvent::Custody(CustodyEvent::Committed(id)) if node == self.city.hubs[0] => {
                    if let Some(Open { since, bytes }) = self.open.remove(&id) {
                        self.measures.to_hub.push((at.0 + self.jumped).saturating_sub(since));
                        self.measures.committed_bytes += bytes as u64;
                    }
                }
                NodeEvent::NextHops(hops) if node != self.city.hubs[0] => {
                    let first = hops.into_iter().next();
                    let before = self.first_hops.insert(node, first.clone());
                    self.route_changes += u64::from(before.is_some_and(|before| before != first));
                }
                _ => {}
            }
        }
    }

    fn see_what_is_held(&mut self) {
        for node in self.city.offices.values().filter_map(|office| office.node.as_ref()) {
            let count = node.custody().held_count();
            if count > 0 {
                self.held_records_max = self.held_records_max.max(count);
                let bytes = node.custody().records().map(|view| u64::from(view.payload_bytes)).sum();
                self.held_bytes_max = self.held_bytes_max.max(bytes);
            }
        }
    }

    fn see_what_is_noticed(&mut self) {
        let now = self.now();
        let Some(hub) = &self.city.offices[&self.city.hubs[0]].node else { return };
        let noticed = &mut self.noticed_after;
        self.unnoticed.retain(|site, since| {
            let on_map = hub.router().reachable(site);
            if !on_map {
                noticed.push(now - *since);
            }
            on_map
        });
    }

    fn count_traffic(&mut self) {
        let Traffic { records_bytes, routing_bytes } = self.city.traffic;
        let directions = (self.city.link_count() * 2) as f64;
        self.measures.record_wire_bytes = records_bytes;
        self.measures.routing_bytes_per_second =
            Some(routing_bytes as f64 / directions / self.city.now.0.as_secs_f64().max(1.0));
        self.measures.played = self.city.now.0;
    }

    /// The drill is over: everything is healed, and what is left must arrive, each record once, byte for byte.
    fn bring_home(&mut self) -> Result<(), Violation> {
        self.city.heal_all();
        self.city.deliver_within(SETTLING)?;
        self.city.check_archives()?;
        self.city.check_nobody_refused()
    }

    fn into_measures(self) -> Measures {
        let measures = Measures {
            route_changes: Some(self.route_changes),
            held_records_max: Some(self.held_records_max),
            held_bytes_max: Some(self.held_bytes_max),
            noticed_after: Some(self.noticed_after),
            ..self.measures
        };
        measures.in_order()
    }
}

/// Without a next hop and without a timer, a record waits until a way is found.
fn holds_only_what_has_no_way(node: &Node) -> bool {
    let waits = |view: RecordView| matches!(view.state, RecordState::Waiting { until: None, .. });
    node.custody().held_count() == 0 || (node.router().next_hops().is_empty() && node.custody().records().all(waits))
}

fn condition(line: &Line) -> Condition {
    Condition {
        silent: [!line.up; 2],
        losses_per_mille: line.losses_per_mille,
        bits_per_second: line.bits_per_second,
        latency: line.latency,
        ..Condition::default()
    }
}
