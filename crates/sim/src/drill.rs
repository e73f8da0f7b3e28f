//! Outages that really happened, played twice: on the network as it was, and on the same lines and a few more with
//! Estafet. The same power, the same lines, the same counters; a seed draws them.
//!
//! *With Estafet* is a [`City`](crate::City): real nodes on the real log. *As it was* is a model of a live client that
//! has to reach the main server by the one way there is (`as_it_was.rs`). What both are measured by stands in
//! `measures.rs`, what they are held to in [`Drill::figures`].

mod ambon;
mod as_it_was;
mod bogor;
mod calendar;
mod measures;
mod network_plan;
mod pekanbaru;
mod player;
mod script;

use std::fmt;
use std::str::FromStr;

use estafet_topology::{CityPlan, did_you_mean};

pub use measures::{Figure, Measures, Row};

use as_it_was::AsItWas;
use player::Player;
use script::Script;

/// An outage that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Drill {
    /// Rolling blackouts.
    Pekanbaru2013,
    /// The upstream dark, and the power off and on.
    Bogor2019,
    /// The telephone exchange burned.
    Ambon2019,
}

/// No drill has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no drill `{name}`: {remedy}")]
pub struct UnknownDrill {
    name: String,
    remedy: String,
}

/// How a drill ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which one it was.
    pub drill: Drill,
    /// What decided everything.
    pub seed: u64,
    /// How many days it lasted.
    pub days: u32,
    /// What the old system would have done.
    pub as_it_was: Measures,
    /// What the city did.
    pub with_estafet: Measures,
    /// Why it failed: figures that were missed, or the first promise that was broken.
    pub faults: Vec<String>,
}

/// What a drill plays with.
struct Stage {
    plan: CityPlan,
    /// The same without what Estafet has been given to go around.
    old_plan: CityPlan,
    script: Script,
}

impl Drill {
    /// All of them.
    pub const ALL: [Drill; 3] = [Drill::Pekanbaru2013, Drill::Bogor2019, Drill::Ambon2019];

    /// The name, as commands take it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pekanbaru2013 => "pekanbaru-2013",
            Self::Bogor2019 => "bogor-2019",
            Self::Ambon2019 => "ambon-2019",
        }
    }

    /// What happens in it, in whole sentences.
    #[must_use]
    pub fn story(self) -> &'static str {
        match self {
            Self::Pekanbaru2013 => pekanbaru::STORY,
            Self::Bogor2019 => bogor::STORY,
            Self::Ambon2019 => ambon::STORY,
        }
    }

    /// How many days it lasts.
    #[must_use]
    pub fn days(self) -> u32 {
        match self {
            Self::Pekanbaru2013 => pekanbaru::DAYS,
            Self::Bogor2019 => bogor::DAYS,
            Self::Ambon2019 => ambon::DAYS,
        }
    }

    /// What a city with Estafet is held to.
    #[must_use]
    pub fn figures(self) -> &'static [Figure] {
        match self {
            Self::Pekanbaru2013 => pekanbaru::FIGURES,
            Self::Bogor2019 => bogor::FIGURES,
            Self::Ambon2019 => ambon::FIGURES,
        }
    }

    fn stage(self, seed: u64, days: u32) -> Stage {
        match self {
            Self::Pekanbaru2013 => pekanbaru::stage(seed, days),
            Self::Bogor2019 => bogor::stage(seed, days),
            Self::Ambon2019 => ambon::stage(seed, days),
        }
    }

    /// Plays so many days of it. `progress` hears of each day that is over.
    #[must_use]
    pub fn play(self, seed: u64, days: u32, progress: &mut dyn FnMut(u32)) -> Outcome {
        let Stage { plan, old_plan, script } = self.stage(seed, days);
        let as_it_was = AsItWas::new(&old_plan).play(&script);
        let (with_estafet, broken) = Player::new(plan, seed).play(&script, progress);
        let missed = self.figures().iter().filter_map(|figure| figure.fault(&with_estafet));
        let faults = broken.into_iter().chain(missed).collect();
        Outcome { drill: self, seed, days, as_it_was, with_estafet, faults }
    }
}

impl Outcome {
    /// True if every figure was met and every promise kept.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        self.faults.is_empty()
    }
}

impl fmt::Display for Drill {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Drill {
    type Err = UnknownDrill;

    fn from_str(name: &str) -> Result<Self, UnknownDrill> {
        let names = || Self::ALL.into_iter().map(Self::name);
        Self::ALL.into_iter().find(|drill| drill.name() == name).ok_or_else(|| {
            let rest = format!("use one of {}", names().collect::<Vec<_>>().join(", "));
            UnknownDrill { name: name.to_owned(), remedy: did_you_mean(name, names(), rest) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use script::{HOUR, Happening};

    /// Plays a drill from one hour to another, with what had changed before.
    fn played(drill: Drill, seed: u64, from: u32, until: u32) -> (Measures, Measures) {
        let Stage { plan, old_plan, mut script } = drill.stage(seed, 1);
        let (from, until) = (HOUR * from, HOUR * until);
        script.happenings.retain(|(at, happening)| {
            let before = matches!(happening, Happening::Change(_)) && *at < from;
            before || (from..until).contains(at)
        });
        script.happenings.iter_mut().for_each(|(at, _)| *at = at.saturating_sub(from));
        script.end = until - from;
        let as_it_was = AsItWas::new(&old_plan).play(&script);
        let (with_estafet, broken) = Player::new(plan, seed).play(&script, &mut |_| {});
        assert_eq!(broken, None, "{drill}, seed {seed}");
        (as_it_was, with_estafet)
    }

    fn assert_captured_all(drill: Drill, as_it_was: &Measures, with_estafet: &Measures) {
        assert_eq!(with_estafet.refused, 0, "{drill}: {with_estafet:?}");
        assert!(as_it_was.refused > 0 && as_it_was.refused < as_it_was.attempts, "{drill}: {as_it_was:?}");
        assert_eq!(as_it_was.attempts, with_estafet.attempts, "both have the same power");
    }

    #[test]
    fn a_morning_of_rolling_blackouts_stops_no_counter_with_power() {
        let (as_it_was, with_estafet) = played(Drill::Pekanbaru2013, 1, 5, 12);
        assert_captured_all(Drill::Pekanbaru2013, &as_it_was, &with_estafet);
        assert!(with_estafet.played < HOUR * 2, "what is quiet is jumped over: {:?}", with_estafet.played);
        assert!(with_estafet.route_changes > Some(0));
    }

    #[test]
    fn a_dead_upstream_and_a_flapping_power_stop_no_counter_with_power() {
        let (as_it_was, with_estafet) = played(Drill::Bogor2019, 1, 8, 11);
        assert_captured_all(Drill::Bogor2019, &as_it_was, &with_estafet);
        assert_eq!(with_estafet.noticed_after.as_ref().map(Vec::len), Some(3), "three times dark");
        assert_eq!(with_estafet.to_hub.len() as u64 + with_estafet.not_there, with_estafet.attempts);
    }

    #[test]
    fn what_was_captured_while_the_exchange_was_dead_arrives_over_bad_lines() {
        let (as_it_was, with_estafet) = played(Drill::Ambon2019, 1, 14, 16);
        assert_eq!((as_it_was.refused, with_estafet.refused), (as_it_was.attempts, 0));
        assert_eq!(with_estafet.to_hub.len() as u64, with_estafet.attempts, "all of the last hour have arrived");
        assert!(with_estafet.to_hub.last() > Some(&(HOUR * 9 / 10)), "the first waited until the lines came back");
    }

    #[test]
    fn the_same_seed_plays_the_same() {
        let play = || format!("{:?}", played(Drill::Bogor2019, 5, 8, 9));
        assert_eq!(play(), play());
    }

    #[test]
    fn every_drill_is_found_by_its_name_and_held_to_figures() {
        for drill in Drill::ALL {
            assert_eq!(drill.name().parse(), Ok(drill));
            assert!(drill.figures().iter().any(|figure| figure.row == Row::MinutesLost && figure.at_most == 0.0));
        }
        assert!("ambon".parse::<Drill>().unwrap_err().to_string().contains("ambon-2019"));
    }
}
