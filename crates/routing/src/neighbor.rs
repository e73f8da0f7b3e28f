//! A neighbor and the bearers to it: how each fares, and over which of them it is spoken to.
//!
//! Two nodes may have several links, one by each medium. Each is heard, measured and damped by itself, and a neighbor is
//! up while any of them is. Control and urgent records go over the best bearer; the rest goes with them, unless that
//! bearer is metered: then over the best that is not, or not at all. To leave a bearer for another is nobody else's
//! business, as long as what sending to the neighbor costs stays the same.

use std::collections::BTreeMap;
use std::time::Duration;

use estafet_model::{Class, LinkCost, Medium, Now};

use crate::adjacency::{Liveness, NeighborState};
use crate::comparison::Comparison;
use crate::damping::Damping;
use crate::quality::{Finding, Gray, LinkQuality, LinkSample};
use crate::router::SHUNNED_COST;
use crate::suspicion::Hurry;

/// What the topology says of a bearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BearerTerms {
    /// What sending over it costs when it behaves well.
    pub cost: LinkCost,
    /// It is metered, and carries urgent records and control only.
    pub urgent_only: bool,
}

/// Over which bearers a neighbor is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Control and urgent records go over this one.
    pub urgent: Medium,
    /// All other records go over this one; nothing if only bearers are left that do not carry them.
    pub rest: Option<Medium>,
}

impl Choice {
    /// The bearer for records of this class.
    #[must_use]
    pub fn of_class(&self, class: Class) -> Option<Medium> {
        if class == Class::Urgent { Some(self.urgent) } else { self.rest }
    }

    /// True if anything goes over this bearer.
    #[must_use]
    pub fn uses(&self, medium: Medium) -> bool {
        self.urgent == medium || self.rest == Some(medium)
    }
}

/// How one bearer fares, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BearerState {
    /// Whether the neighbor is heard over it.
    pub liveness: NeighborState,
    /// An answer is owed suspiciously long over it, here or at the neighbor.
    pub doubtful: bool,
    /// What is wrong with it, if it works badly.
    pub gray: Option<Gray>,
    /// It is gray, or flaps, or a planned outage darkens it now or soon.
    pub shunned: bool,
    /// Something goes over it now.
    pub in_use: bool,
}

/// One bearer to a neighbor.
#[derive(Debug, Clone)]
pub(crate) struct BearerLink {
    terms: BearerTerms,
    pub(crate) liveness: Liveness,
    quality: LinkQuality,
    pub(crate) damping: Damping,
    /// The neighbor has left it because it does not hear this node over it.
    doubted: bool,
    /// Something was said over it that has not been said again since.
    spoken: bool,
    /// A planned outage darkens it now or soon.
    planned_dark: bool,
}

impl BearerLink {
    fn new(terms: BearerTerms) -> Self {
        Self {
            terms,
            liveness: Liveness::default(),
            quality: LinkQuality::default(),
            damping: Damping::default(),
            doubted: false,
            spoken: false,
            planned_dark: false,
        }
    }

    /// It is heard over again.
    pub(crate) fn returned(&mut self, now: Now) {
        self.damping.returned(now);
        self.doubted = false;
    }

    pub(crate) fn session_ended(&mut self, now: Now) {
        self.quality.session_ended(now);
    }

    /// What was measured on it. One whose bytes cost money is given none to carry only to find out what it carries.
    pub(crate) fn measured(&mut self, now: Now, sample: LinkSample) -> Option<Finding> {
        self.liveness.set_round_trip(sample.round_trip);
        let finding = self.quality.measured(now, sample, !self.terms.urgent_only);
        self.watch(now, finding)
    }

    /// It has carried a trial in time, or not.
    pub(crate) fn tried(&mut self, now: Now, carried: bool) -> Option<Finding> {
        let finding = self.quality.tried(now, carried);
        self.watch(now, finding)
    }

    /// While it is gray it is measured although nobody uses it.
    fn watch(&mut self, now: Now, finding: Option<Finding>) -> Option<Finding> {
        match finding {
            Some(Finding::BecameGray(_)) => self.liveness.set_watched(now, true),
            Some(Finding::BecameGood) => self.liveness.set_watched(now, false),
            Some(Finding::TrialDue { .. }) | None => {}
        }
        finding
    }

    /// The last choice but for those in doubt: it is gray, or flaps, or is about to go dark.
    fn is_shunned(&self) -> bool {
        self.quality.gray().is_some() || self.damping.out_until().is_some() || self.planned_dark
    }

    fn is_doubtful(&self) -> bool {
        self.liveness.is_suspect() || self.doubted
    }

    fn cost(&self) -> LinkCost {
        if self.is_shunned() { self.terms.cost + SHUNNED_COST } else { self.terms.cost }
    }
}

/// A change of the choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    CameUp,
    WentDown,
    Changed(Choice),
    Stayed,
}

/// A neighbor.
#[derive(Debug, Clone, Default)]
pub(crate) struct Neighbor {
    bearers: BTreeMap<Medium, BearerLink>,
    choice: Option<Choice>,
    /// What sending to it costs, as it was told last.
    pub(crate) told: Option<LinkCost>,
    pub(crate) comparison: Comparison,
}

impl Neighbor {
    /// What the topology says now. Bearers that stay keep what is known of them.
    pub(crate) fn configure(&mut self, terms: &BTreeMap<Medium, BearerTerms>) {
        self.bearers.retain(|medium, _| terms.contains_key(medium));
        for (medium, terms) in terms {
            self.bearers.entry(*medium).or_insert_with(|| BearerLink::new(*terms)).terms = *terms;
        }
    }

    pub(crate) fn media(&self) -> impl Iterator<Item = Medium> {
        self.bearers.keys().copied()
    }

    pub(crate) fn bearers(&self) -> impl Iterator<Item = &BearerLink> {
        self.bearers.values()
    }

    /// Every bearer is asked at once whether the neighbor is there.
    pub(crate) fn ask_at_once(&mut self, now: Now) {
        self.bearers.values_mut().for_each(|link| link.liveness.ask_at_once(now, Hurry::Doubt));
    }

    pub(crate) fn bearer(&mut self, medium: Medium) -> Option<&mut BearerLink> {
        self.bearers.get_mut(&medium)
    }

    /// Which bearers a planned outage darkens; true if that is news.
    pub(crate) fn set_planned_dark(&mut self, is_dark: impl Fn(Medium) -> bool) -> bool {
        let news = |(medium, link): (&Medium, &mut BearerLink)| {
            let dark = is_dark(*medium);
            std::mem::replace(&mut link.planned_dark, dark) != dark
        };
        self.bearers.iter_mut().map(news).fold(false, |any, one| any | one)
    }

    pub(crate) fn choice(&self) -> Option<Choice> {
        self.choice
    }

    /// True if something goes over this bearer now.
    pub(crate) fn uses(&self, medium: Medium) -> bool {
        self.choice.is_some_and(|choice| choice.uses(medium))
    }

    pub(crate) fn is_up(&self) -> bool {
        self.choice.is_some()
    }

    /// True if it is up, and every bearer is in doubt.
    pub(crate) fn is_suspect(&self) -> bool {
        self.choice.is_some_and(|choice| self.bearers[&choice.urgent].is_doubtful())
    }

    /// The bearer that speaks for the neighbor: what most records go over, if no silence proves to be a death.
    fn face(&self) -> Option<(Medium, &BearerLink)> {
        let up = self.bearers.iter().filter(|(_, link)| link.liveness.is_up());
        let face = up.min_by_key(|(medium, link)| (link.terms.urgent_only, link.cost(), **medium));
        face.map(|(medium, link)| (*medium, link))
    }

    /// True if the figures of this bearer are those of the neighbor.
    pub(crate) fn is_face(&self, medium: Medium) -> bool {
        self.face().is_some_and(|(face, _)| face == medium)
    }

    /// What sending to it costs, while it is up.
    pub(crate) fn cost(&self) -> Option<LinkCost> {
        self.face().map(|(_, link)| link.cost())
    }

    pub(crate) fn gray(&self) -> Option<Gray> {
        self.face().and_then(|(_, link)| link.quality.gray())
    }

    pub(crate) fn record_time(&self) -> Option<Duration> {
        self.face().and_then(|(_, link)| link.quality.usual_time())
    }

    /// The last choice: gray, or flapping, or about to go dark, or not up.
    pub(crate) fn is_shunned(&self) -> bool {
        self.face().is_none_or(|(_, link)| link.is_shunned())
    }

    /// Whether it is heard over any bearer.
    pub(crate) fn state(&self) -> NeighborState {
        let up = self.choice.map(|choice| self.bearers[&choice.urgent].liveness.state());
        let silent = || self.bearers().map(|link| link.liveness.state()).find(|state| *state != NeighborState::Down);
        up.or_else(silent).unwrap_or_default()
    }

    pub(crate) fn bearer_states(&self) -> impl Iterator<Item = (Medium, BearerState)> {
        self.bearers.iter().map(|(medium, link)| {
            let state = BearerState {
                liveness: link.liveness.state(),
                doubtful: link.liveness.is_up() && link.is_doubtful(),
                gray: link.quality.gray(),
                shunned: link.is_shunned(),
                in_use: self.uses(*medium),
            };
            (*medium, state)
        })
    }

    /// The neighbor has left a bearer, or (false) speaks over it again. True if that is news.
    pub(crate) fn set_doubted(&mut self, medium: Medium, doubted: bool) -> bool {
        let Some(link) = self.bearers.get_mut(&medium) else { return false };
        // Who says that it has left is not told so.
        link.spoken &= !doubted;
        std::mem::replace(&mut link.doubted, doubted) != doubted
    }

    /// Chooses anew.
    pub(crate) fn review(&mut self) -> Turn {
        let chosen = self.choose();
        let before = std::mem::replace(&mut self.choice, chosen);
        match (before, self.choice) {
            (None, None) => Turn::Stayed,
            (None, Some(_)) => Turn::CameUp,
            (Some(_), None) => {
                self.bearers.values_mut().for_each(|link| link.spoken = false);
                Turn::WentDown
            }
            (Some(before), Some(after)) if before == after => Turn::Stayed,
            (Some(before), Some(_)) => Turn::Changed(before),
        }
    }

    /// The bearer that is up, in no doubt, not shunned, cheapest; in this order.
    fn choose(&self) -> Option<Choice> {
        let up = || self.bearers.iter().filter(|(_, link)| link.liveness.is_up());
        let rank = |medium, link: &BearerLink| (link.is_doubtful(), link.is_shunned(), link.terms.cost, medium);
        let (best, link) = up().min_by_key(|(medium, link)| rank(**medium, link))?;
        // Where all are in doubt, none is better than the one in use.
        let stay = self.choice.map(|choice| choice.urgent).filter(|_| link.is_doubtful());
        let urgent = stay.filter(|medium| up().any(|(up, _)| up == medium)).unwrap_or(*best);
        if !self.bearers[&urgent].terms.urgent_only {
            return Some(Choice { urgent, rest: Some(urgent) });
        }
        let unmetered = up().filter(|(_, link)| !link.terms.urgent_only && !link.is_doubtful());
        let rest = unmetered.min_by_key(|(medium, link)| rank(**medium, link)).map(|(medium, _)| *medium);
        Some(Choice { urgent, rest })
    }

    /// The bearers that are not used any more and over which something may have been said in vain. `left` are those that
    /// were used until now. True with those that the neighbor does not know of: it is to be told.
    pub(crate) fn said_in_vain(&mut self, left: Option<Choice>) -> Vec<(Medium, bool)> {
        let Some(choice) = self.choice else { return Vec::new() };
        let mut in_vain = Vec::new();
        for (medium, link) in &mut self.bearers {
            if choice.uses(*medium) {
                link.spoken = true;
                continue;
            }
            let is_lost = !link.liveness.is_up() || link.is_doubtful();
            // What goes badly is said again and may arrive all the same.
            let goes_badly = left.is_some_and(|left| left.uses(*medium)) && link.quality.gray().is_some();
            if link.spoken && (is_lost || goes_badly) {
                in_vain.push((*medium, is_lost && !link.doubted));
                link.spoken = !is_lost;
            }
        }
        in_vain
    }
}
