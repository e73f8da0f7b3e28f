//! What this node says about its service, and what that follows from: an operator's order, the calendar, the power.
//!
//! The calendar is read by this node's own clock, and what follows is told in its LSA: all nodes share one map, whatever
//! their clocks say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use estafet_model::{Bearer, NodeId, Now, UnixMillis};
use estafet_node::routing::{NodeState, Notice, PowerState, Reason, Standing, Words};
use estafet_topology::{Darkness, Outage, Topology, imminent_outage};
use tracing::{info, warn};

use crate::drain::DrainOrder;

/// Minutes left are told in whole steps of this many: LSAs are for the whole area.
const MINUTES_STEP: u16 = 5;

/// Before a stop: others hear that they are to send nothing more, and what is on its way arrives.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What the node runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Supply {
    /// The mains, or nobody knows better.
    #[default]
    Mains,
    /// A battery, which may say how long it lasts.
    Battery { minutes_left: Option<u16> },
    /// A battery that is nearly empty: the machine is about to be shut down.
    Low,
}

/// When the node drains by itself.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// The outages that darken this node.
    pub(crate) outages: Vec<Outage>,
    /// The outages that darken links of this node, of each that has some.
    pub(crate) link_outages: BTreeMap<Bearer, Vec<Outage>>,
    /// How long before one it drains, or leaves such a link.
    pub(crate) outage_lead: Duration,
    /// With less than this left in the battery it drains.
    pub(crate) drain_minutes: u16,
    /// With a low battery it stops after this, whatever is left to hand over.
    pub(crate) stop_max: Duration,
}

impl Rules {
    /// Takes the outages that strike node `me` and its links from a topology.
    pub(crate) fn heed(&mut self, topology: &Topology, me: &NodeId) {
        self.outages = topology.outages_of(me).cloned().collect();
        let links = topology.neighbors(me).map(|(neighbor, link)| {
            let outages: Vec<Outage> = topology.outages_of_link(link).cloned().collect();
            (Bearer::new(neighbor.clone(), link.medium), outages)
        });
        self.link_outages = links.filter(|(_, outages)| !outages.is_empty()).collect();
    }
}

/// Everything from which the standing follows.
#[derive(Debug)]
pub(crate) struct Grounds {
    rules: Rules,
    order: Option<DrainOrder>,
    /// When the order is over, by a clock that nobody sets.
    order_ends: Option<Now>,
    supply: Supply,
    low_since: Option<Now>,
}

impl Grounds {
    /// The grounds at the start, with an order of an earlier life.
    pub(crate) fn new(rules: Rules, order: Option<DrainOrder>, wall: UnixMillis) -> Self {
        let mut grounds = Self { rules, order: None, order_ends: None, supply: Supply::default(), low_since: None };
        grounds.set_order(order, Now::default(), wall);
        grounds
    }

    /// Another topology is in force.
    pub(crate) fn heed(&mut self, topology: &Topology, me: &NodeId) {
        self.rules.heed(topology, me);
    }

    pub(crate) fn set_order(&mut self, order: Option<DrainOrder>, now: Now, wall: UnixMillis) {
        self.order_ends = order.as_ref().and_then(|order| Some(now + order.left(wall)?));
        self.order = order;
        self.end_order(now);
    }

    /// Ends an order whose time is over; true if it did.
    pub(crate) fn end_order(&mut self, now: Now) -> bool {
        let is_over = self.order_ends.is_some_and(|ends| ends <= now);
        if is_over {
            info!("the time of the operator's drain is over");
            (self.order, self.order_ends) = (None, None);
        }
        is_over
    }

    pub(crate) fn set_supply(&mut self, supply: Supply, now: Now) {
        if supply != self.supply {
            match supply {
                Supply::Mains => info!("on mains"),
                Supply::Battery { minutes_left } => warn!(minutes_left, "on battery"),
                Supply::Low => warn!("the battery is nearly empty: this node hands over what it can, and stops"),
            }
        }
        self.supply = supply;
        self.low_since = (supply == Supply::Low).then(|| self.low_since.unwrap_or(now));
    }

    /// What the node says.
    pub(crate) fn standing(&self, wall: UnixMillis) -> Standing {
        let power = self.power();
        let outage = self.imminent(&self.rules.outages, wall);
        let by_power = || Notice { reason: Reason::Power, words: Words::default(), back_unix_s: None };
        let notice = if power == PowerState::LowBattery {
            Some(by_power())
        } else if let Some(order) = &self.order {
            let back_unix_s = order.until_unix_s;
            Some(Notice { reason: Reason::Operator, words: Words::shortened(&order.words), back_unix_s })
        } else if let Some((darkness, outage)) = outage {
            let words = Words::shortened(&outage.reason);
            Some(Notice { reason: Reason::PlannedOutage, words, back_unix_s: u64::try_from(darkness.end).ok() })
        } else {
            (power != PowerState::Mains).then(by_power)
        };
        let drains = power == PowerState::LowBattery || self.order.is_some() || outage.is_some();
        Standing { state: if drains { NodeState::Draining } else { NodeState::Serving }, power, notice }
    }

    /// The links of this node that an outage darkens, or is about to.
    pub(crate) fn planned_dark(&self, wall: UnixMillis) -> BTreeSet<Bearer> {
        let links = self.rules.link_outages.iter();
        links.filter(|(_, outages)| self.imminent(outages, wall).is_some()).map(|(link, _)| link.clone()).collect()
    }

    fn imminent<'a>(&self, outages: &'a [Outage], wall: UnixMillis) -> Option<(Darkness, &'a Outage)> {
        imminent_outage(outages, i64::try_from(wall.0 / 1000).unwrap_or(i64::MAX), self.rules.outage_lead)
    }

    fn power(&self) -> PowerState {
        match self.supply {
            Supply::Mains => PowerState::Mains,
            Supply::Low => PowerState::LowBattery,
            Supply::Battery { minutes_left: Some(minutes) } if minutes < self.rules.drain_minutes => {
                PowerState::LowBattery
            }
            Supply::Battery { minutes_left } => {
                PowerState::OnBattery { minutes_left: minutes_left.map(|minutes| minutes - minutes % MINUTES_STEP) }
            }
        }
    }

    /// True if the node is to stop because its battery is nearly empty: all is handed over, or there is no more time.
    pub(crate) fn is_to_stop(&self, now: Now, all_handed_over: impl FnOnce() -> bool) -> bool {
        self.low_since.is_some_and(|since| {
            let waited = now.since(since);
            (waited >= STOP_GRACE && all_handed_over()) || waited >= self.rules.stop_max
        })
    }
}

#[cfg(test)]
mod tests {
    use estafet_model::Medium;

    use super::*;

    const NOON: UnixMillis = UnixMillis(1_375_786_800_000);

    fn at(seconds: u64) -> Now {
        Now(Duration::from_secs(seconds))
    }

    fn wall(minutes: i64) -> UnixMillis {
        UnixMillis(NOON.0.saturating_add_signed(minutes * 60_000))
    }

    fn by_radio() -> Bearer {
        Bearer::new("induk".parse().unwrap(), Medium::Radio)
    }

    fn rules() -> Rules {
        let outage = Outage {
            start: "2013-08-06T18:00:00+07:00".to_owned(),
            nodes: vec![],
            links: vec![],
            risks: vec![],
            duration: Duration::from_secs(3 * 3600),
            every: None,
            reason: "rolling blackout".to_owned(),
        };
        Rules {
            link_outages: BTreeMap::from([(by_radio(), vec![outage.clone()])]),
            outages: vec![outage],
            outage_lead: Duration::from_secs(600),
            drain_minutes: 5,
            stop_max: Duration::from_secs(60),
        }
    }

    fn said(grounds: &Grounds, wall: UnixMillis) -> String {
        let Standing { state, power, notice } = grounds.standing(wall);
        let notice = notice.map(|Notice { reason, words, back_unix_s }| {
            let back = back_unix_s.map(|back| (i64::try_from(back).unwrap() - NOON.0.cast_signed() / 1000) / 60);
            format!(" {} `{words}` {back:?}", reason.as_str())
        });
        format!("{state:?} {power:?}{}", notice.unwrap_or_default())
    }

    #[test]
    fn the_calendar_drains_and_leaves_links_a_while_before_and_until_the_end() {
        let grounds = Grounds::new(rules(), None, wall(-60));
        let drains = "Draining Mains planned-outage `rolling blackout` Some(180)";
        for (minutes, expected) in
            [(-11, "Serving Mains"), (-10, drains), (0, drains), (179, drains), (180, "Serving Mains")]
        {
            assert_eq!(said(&grounds, wall(minutes)), expected, "{minutes} min");
            let dark = if expected == drains { BTreeSet::from([by_radio()]) } else { BTreeSet::new() };
            assert_eq!(grounds.planned_dark(wall(minutes)), dark, "{minutes} min");
        }
    }

    #[test]
    fn power_is_told_in_steps_and_a_low_battery_drains() {
        let mut grounds = Grounds::new(rules(), None, wall(-60));
        for (supply, expected) in [
            (Supply::Battery { minutes_left: None }, "Serving OnBattery { minutes_left: None } power `` None"),
            (Supply::Battery { minutes_left: Some(29) }, "Serving OnBattery { minutes_left: Some(25) } power `` None"),
            (Supply::Battery { minutes_left: Some(5) }, "Serving OnBattery { minutes_left: Some(5) } power `` None"),
            (Supply::Battery { minutes_left: Some(4) }, "Draining LowBattery power `` None"),
            (Supply::Low, "Draining LowBattery power `` None"),
            (Supply::Mains, "Serving Mains"),
        ] {
            grounds.set_supply(supply, at(1));
            assert_eq!(said(&grounds, wall(-60)), expected, "{supply:?}");
        }
    }

    #[test]
    fn an_order_ends_when_its_time_is_over_and_no_clock_that_was_set_back_makes_it_longer() {
        let order = DrainOrder::new("moving the rack", Some(Duration::from_secs(1800)), wall(-60));
        let mut grounds = Grounds::new(rules(), Some(order.clone()), wall(-50));
        assert_eq!(said(&grounds, wall(-50)), "Draining Mains operator `moving the rack` Some(-30)");
        assert!(!grounds.end_order(at(1199)));
        assert!(grounds.end_order(at(1200)));
        assert_eq!(said(&grounds, wall(-29)), "Serving Mains");
        let mut in_1970 = Grounds::new(rules(), Some(order.clone()), UnixMillis(0));
        assert!(!in_1970.end_order(at(1799)) && in_1970.end_order(at(1800)));
        let late = Grounds::new(rules(), Some(order), wall(-20));
        assert_eq!(said(&late, wall(-20)), "Serving Mains");
    }

    #[test]
    fn a_node_stops_when_all_is_handed_over_or_there_is_no_more_time_and_not_if_power_returns() {
        let mut grounds = Grounds::new(rules(), None, wall(-60));
        assert!(!grounds.is_to_stop(at(100), || true));
        grounds.set_supply(Supply::Low, at(10));
        grounds.set_supply(Supply::Low, at(11));
        for (second, all, expected) in [(11, true, false), (12, true, true), (69, false, false), (70, false, true)] {
            assert_eq!(grounds.is_to_stop(at(second), || all), expected, "{second} s");
        }
        grounds.set_supply(Supply::Mains, at(20));
        assert!(!grounds.is_to_stop(at(100), || true));
    }
}
