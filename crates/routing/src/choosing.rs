//! Tests of the bearers of one neighbor: over which of them it is spoken to, and what is said again when one is left.

use std::collections::BTreeMap;
use std::time::Duration;

use estafet_model::{Bearer, LinkCost, Medium, Now};

use crate::adjacency::DownReason;
use crate::area::{LATENCY, config};
use crate::neighbor::{BearerTerms, Choice};
use crate::output::RouterOutput;
use crate::pekanbaru::{id, network_2013};
use crate::quality::LinkSample;
use crate::router::{Router, SHUNNED_COST};
use crate::suspicion::SUSPECT_AFTER;

const FIBER: Medium = Medium::Fiber;
const RADIO: Medium = Medium::Radio;
const CELLULAR: Medium = Medium::Cellular;

fn at(millis: u64) -> Now {
    Now(Duration::from_millis(millis))
}

fn sukajadi(medium: Medium) -> Bearer {
    Bearer::new(id("sukajadi"), medium)
}

/// Rumbai, whose neighbor Sukajadi is up over all of these: what carries each, its cost, and whether it is metered.
struct Rumbai(Router);

impl Rumbai {
    fn new(bearers: &[(Medium, u32, bool)]) -> Self {
        let terms = |(medium, cost, urgent_only): &(_, u32, _)| {
            (*medium, BearerTerms { cost: LinkCost(*cost), urgent_only: *urgent_only })
        };
        let mut config = config(&network_2013(), &id("rumbai"));
        config.neighbors.insert(id("sukajadi"), bearers.iter().map(terms).collect::<BTreeMap<_, _>>());
        let mut rumbai = Self(Router::new(id("rumbai"), config));
        for (medium, ..) in bearers {
            rumbai.0.session_up(at(0), &sukajadi(*medium));
        }
        rumbai.outputs();
        rumbai
    }

    fn outputs(&mut self) -> Vec<RouterOutput> {
        std::iter::from_fn(|| self.0.poll_output()).collect()
    }

    /// An answer is owed over this bearer, and nothing is heard, for as long as it takes to be suspect.
    fn suspect(&mut self, from: u64, medium: Medium) {
        self.0.busy(at(from), &sukajadi(medium));
        for later in [SUSPECT_AFTER / 2, SUSPECT_AFTER] {
            self.0.handle_timeout(at(from) + later, |_| true);
        }
    }

    /// Loses a third of its packets for three seconds.
    fn become_gray(&mut self, medium: Medium) {
        for step in 1..=6 {
            let (packets_sent, packets_lost) = (step * 100, step * 33);
            let sample = LinkSample { round_trip: LATENCY * 2, packets_sent, packets_lost, window_bytes: 1 << 20 };
            self.0.measured(at(step * 500), &sukajadi(medium), sample);
        }
    }

    fn choice(&self) -> Option<Choice> {
        self.0.choice(&id("sukajadi"))
    }

    fn told_cost(&self) -> Option<LinkCost> {
        let own = self.0.lsdb().get(&id("rumbai")).unwrap();
        own.lsa().adjacency(&id("sukajadi")).map(|adjacency| adjacency.cost)
    }
}

/// The bearer for control and urgent records, and that for the rest.
type Expected = Option<(Medium, Option<Medium>)>;

#[derive(Debug, Clone, Copy)]
enum Happens {
    Dies(Medium),
    IsSuspect(Medium),
    IsDoubted(Medium),
    IsGray(Medium),
}
use Happens::{Dies, IsDoubted, IsGray, IsSuspect};

#[test]
fn the_best_bearer_is_chosen_and_its_cost_is_told() {
    let three = &[(FIBER, 10, false), (RADIO, 20, false), (CELLULAR, 40, true)][..];
    let backup = &[(FIBER, 10, false), (CELLULAR, 40, true)][..];
    let both = |medium| Some((medium, Some(medium)));
    let shunned = |cost| (LinkCost(cost) + SHUNNED_COST).0;
    let rows: [(&[_], &[Happens], Expected, Option<u32>); 15] = [
        (three, &[], both(FIBER), Some(10)),
        (three, &[Dies(RADIO)], both(FIBER), Some(10)),
        (three, &[Dies(FIBER)], both(RADIO), Some(20)),
        (three, &[IsSuspect(FIBER)], both(RADIO), Some(10)),
        (three, &[IsDoubted(FIBER)], both(RADIO), Some(10)),
        (three, &[IsGray(FIBER)], both(RADIO), Some(20)),
        (three, &[Dies(FIBER), Dies(RADIO)], Some((CELLULAR, None)), Some(40)),
        (three, &[Dies(FIBER), IsDoubted(RADIO), IsDoubted(CELLULAR)], Some((CELLULAR, None)), Some(20)),
        (three, &[Dies(FIBER), Dies(RADIO), Dies(CELLULAR)], None, None),
        (backup, &[], both(FIBER), Some(10)),
        (backup, &[IsSuspect(FIBER)], Some((CELLULAR, None)), Some(10)),
        (backup, &[IsGray(FIBER)], Some((CELLULAR, Some(FIBER))), Some(shunned(10))),
        (backup, &[Dies(FIBER)], Some((CELLULAR, None)), Some(40)),
        (&[(FIBER, 10, false), (RADIO, 10, false)], &[], both(FIBER), Some(10)),
        (&[(FIBER, 20, false), (CELLULAR, 10, true)], &[], Some((CELLULAR, Some(FIBER))), Some(20)),
    ];
    for (bearers, happenings, expected, cost) in rows {
        let mut rumbai = Rumbai::new(bearers);
        for happening in happenings {
            match *happening {
                Dies(medium) => rumbai.0.session_down(at(10), &sukajadi(medium)),
                IsSuspect(medium) => rumbai.suspect(10, medium),
                IsDoubted(medium) => rumbai.0.doubted(at(10), &sukajadi(medium)),
                IsGray(medium) => rumbai.become_gray(medium),
            }
        }
        let expected = expected.map(|(urgent, rest)| Choice { urgent, rest });
        assert_eq!(rumbai.choice(), expected, "{bearers:?} {happenings:?}");
        assert_eq!(rumbai.told_cost(), cost.map(LinkCost), "{bearers:?} {happenings:?}");
    }
}

#[test]
fn a_silent_bearer_is_left_at_once_and_nobody_else_is_told() {
    let mut rumbai = Rumbai::new(&[(FIBER, 10, false), (RADIO, 20, false)]);
    rumbai.suspect(10, FIBER);
    let out = rumbai.outputs();
    let choice = Choice { urgent: RADIO, rest: Some(RADIO) };
    let to = id("sukajadi");
    for expected in [
        RouterOutput::Suspected(sukajadi(FIBER)),
        RouterOutput::BearerChanged { neighbor: to.clone(), choice },
        RouterOutput::SendSummary { to: to.clone() },
        RouterOutput::SayAgain { to: to.clone(), doubt: Some(FIBER) },
    ] {
        assert!(out.contains(&expected), "{expected:?} is not in {out:?}");
    }
    assert!(!out.iter().any(|output| matches!(output, RouterOutput::SendLsas { .. })), "{out:?}");
    assert!(!rumbai.0.is_suspect(&to), "the neighbor is none as long as a bearer is in no doubt");
    rumbai.0.acknowledged(at(60), &sukajadi(FIBER));
    assert_eq!(rumbai.choice(), Some(Choice { urgent: FIBER, rest: Some(FIBER) }));
    assert!(!rumbai.outputs().iter().any(|output| matches!(output, RouterOutput::SayAgain { .. })), "nothing is lost");
}

#[test]
fn what_went_by_a_bearer_that_dies_after_it_was_left_is_said_again_once() {
    let say_again = |out: Vec<RouterOutput>| out.iter().filter(|o| matches!(o, RouterOutput::SayAgain { .. })).count();
    let mut rumbai = Rumbai::new(&[(FIBER, 10, false), (RADIO, 20, false)]);
    rumbai.suspect(10, FIBER);
    assert_eq!(say_again(rumbai.outputs()), 1);
    rumbai.0.session_down(at(600), &sukajadi(FIBER));
    assert_eq!(say_again(rumbai.outputs()), 0, "nothing was said over it since");
    rumbai.0.session_up(at(9_000), &sukajadi(FIBER));
    rumbai.0.session_down(at(9_100), &sukajadi(RADIO));
    assert_eq!(say_again(rumbai.outputs()), 1);
}

#[test]
fn a_bearer_that_the_neighbor_has_left_is_used_again_when_the_neighbor_speaks_over_it() {
    let mut rumbai = Rumbai::new(&[(FIBER, 10, false), (RADIO, 20, false)]);
    rumbai.0.doubted(at(10), &sukajadi(FIBER));
    assert!(rumbai.outputs().contains(&RouterOutput::SayAgain { to: id("sukajadi"), doubt: None }));
    rumbai.0.heartbeat(at(20), &sukajadi(FIBER), true, None);
    assert_eq!(rumbai.choice().unwrap().urgent, RADIO, "it may still not hear what is said here");
    rumbai.0.spoken_to(at(30), &sukajadi(FIBER));
    assert_eq!(rumbai.choice().unwrap().urgent, FIBER);
}

#[test]
fn a_bearer_that_both_have_left_is_used_again_when_the_neighbor_acknowledges_something_over_it() {
    let mut rumbai = Rumbai::new(&[(FIBER, 10, false), (CELLULAR, 30, true)]);
    rumbai.suspect(10, FIBER);
    rumbai.0.doubted(at(200), &sukajadi(FIBER));
    assert_eq!(rumbai.choice(), Some(Choice { urgent: CELLULAR, rest: None }));
    rumbai.0.acknowledged(at(210), &sukajadi(FIBER));
    assert_eq!(
        rumbai.choice(),
        Some(Choice { urgent: FIBER, rest: Some(FIBER) }),
        "neither would be the first to speak"
    );
}

#[test]
fn the_neighbor_is_down_with_its_last_bearer() {
    let mut rumbai = Rumbai::new(&[(FIBER, 10, false), (RADIO, 20, false)]);
    let down = |reason| RouterOutput::AdjacencyDown { neighbor: id("sukajadi"), reason };
    rumbai.0.session_down(at(10), &sukajadi(FIBER));
    assert!(!rumbai.outputs().contains(&down(DownReason::SessionLost)));
    rumbai.0.goodbye(at(20), &sukajadi(RADIO));
    assert!(rumbai.outputs().contains(&down(DownReason::Goodbye)));
    rumbai.0.session_up(at(30), &sukajadi(RADIO));
    assert!(rumbai.outputs().contains(&RouterOutput::AdjacencyUp(id("sukajadi"))));
}

/// A round trip over a bearer takes this long, from one second to another. What is asked to be tried then.
fn trials(rumbai: &mut Rumbai, medium: Medium, seconds: std::ops::Range<u64>, round_trip_ms: u64) -> Vec<RouterOutput> {
    for step in seconds.start * 2..seconds.end * 2 {
        let round_trip = Duration::from_millis(round_trip_ms);
        let sample = LinkSample { round_trip, packets_sent: step * 10, packets_lost: 0, window_bytes: 1 << 20 };
        rumbai.0.measured(at(step * 500), &sukajadi(medium), sample);
    }
    rumbai.outputs().into_iter().filter(|output| matches!(output, RouterOutput::Try { .. })).collect()
}

#[test]
fn a_bearer_that_was_slow_is_used_again_when_it_has_carried_a_trial_and_one_that_costs_money_needs_none() {
    for (metered, carried) in [(false, true), (false, false), (true, false)] {
        let mut rumbai = Rumbai::new(&[(FIBER, 10, metered), (RADIO, 20, false)]);
        trials(&mut rumbai, FIBER, 0..5, 10);
        assert_eq!(trials(&mut rumbai, FIBER, 5..10, 800), []);
        assert_eq!(rumbai.choice().unwrap().urgent, RADIO);
        let tried = trials(&mut rumbai, FIBER, 10..22, 10);
        let within = Duration::from_millis(510);
        let asked = RouterOutput::Try { over: sukajadi(FIBER), bytes: 64 << 10, within };
        assert_eq!(tried, if metered { vec![] } else { vec![asked] });
        rumbai.0.tried(at(22_000), &sukajadi(FIBER), carried);
        assert_eq!(rumbai.outputs().contains(&RouterOutput::LinkGood(sukajadi(FIBER))), carried);
        assert_eq!(rumbai.choice().unwrap().urgent, if carried || metered { FIBER } else { RADIO });
    }
}
