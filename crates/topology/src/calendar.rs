//! When planned outages strike, in Unix seconds. Pure arithmetic: whose clock says what time it is, others decide.
//!
//! A shared risk strikes every node and every link that names it; a node or a link is struck by its name or by its risks,
//! never by those of the other.

use std::time::Duration;

use estafet_model::NodeId;
use toml::value::{Datetime, Offset};

use crate::topology::{Link, Node, Outage, Topology};

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// As many outages are joined to one stretch at most. One that comes again before a node is back would never end.
const JOINED_MAX: usize = 64;

/// A stretch of darkness: from its first second to the first one after it, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Darkness {
    /// When it begins.
    pub start: i64,
    /// When it is over.
    pub end: i64,
}

impl Darkness {
    /// True if it is dark at that second.
    #[must_use]
    pub fn covers(&self, unix_s: i64) -> bool {
        (self.start..self.end).contains(&unix_s)
    }
}

impl Outage {
    /// The stretch that covers `unix_s`, or else the next one. None if all are over, or if the start is no moment, which
    /// cannot be in a topology that was parsed.
    #[must_use]
    pub fn at_or_after(&self, unix_s: i64) -> Option<Darkness> {
        let first = unix_seconds(&self.start)?;
        let lasts = seconds(self.duration);
        let rounds = match self.every.map(seconds) {
            // The last one that has begun, if it is not over; else the one after it.
            Some(every) if every > 0 && unix_s >= first => {
                let begun = (unix_s - first) / every;
                begun + i64::from(unix_s - first - begun * every >= lasts)
            }
            _ => 0,
        };
        let start = first.checked_add(rounds.checked_mul(self.every.map_or(0, seconds))?)?;
        let found = Darkness { start, end: start.checked_add(lasts)? };
        (unix_s < found.end).then_some(found)
    }

    /// The first second after its last time; nothing if it comes again for ever.
    #[must_use]
    pub fn ended(&self) -> Option<i64> {
        let once = self.every.is_none().then(|| unix_seconds(&self.start)).flatten()?;
        once.checked_add(seconds(self.duration))
    }

    /// How long it is over before it comes again; nothing if it comes once.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        Some(self.every?.saturating_sub(self.duration))
    }

    /// True if it darkens this node.
    #[must_use]
    pub fn strikes_node(&self, node: &Node) -> bool {
        self.nodes.contains(&node.id) || self.shares_a_risk(&node.risks)
    }

    /// True if it darkens this link. Its ends may go on.
    #[must_use]
    pub fn strikes_link(&self, link: &Link) -> bool {
        self.names_link(link) || self.shares_a_risk(&link.risks)
    }

    /// True if this link is one that it names.
    #[must_use]
    pub fn names_link(&self, link: &Link) -> bool {
        self.links.iter().any(|name| name.means(link))
    }

    fn shares_a_risk(&self, risks: &[String]) -> bool {
        self.risks.iter().any(|risk| risks.contains(risk))
    }
}

impl Topology {
    /// The outages that darken a node, by name or by a risk of its own.
    pub fn outages_of(&self, id: &NodeId) -> impl Iterator<Item = &Outage> {
        let node = self.node(id);
        self.outages.iter().filter(move |outage| node.is_some_and(|node| outage.strikes_node(node)))
    }

    /// The outages that darken a link, by name or by a risk of its own. Those of its ends are theirs.
    pub fn outages_of_link(&self, link: &Link) -> impl Iterator<Item = &Outage> {
        self.outages.iter().filter(move |outage| outage.strikes_link(link))
    }

    /// The outages that go on at `unix_s`, each with the stretch that covers it.
    pub fn outages_at(&self, unix_s: i64) -> impl Iterator<Item = (Darkness, &Outage)> {
        let not_over = self.outages.iter().filter_map(move |outage| Some((outage.at_or_after(unix_s)?, outage)));
        not_over.filter(move |(darkness, _)| darkness.covers(unix_s))
    }
}

/// The next of these outages that is not over, and when it strikes.
#[must_use]
pub fn next_outage<'a>(outages: impl IntoIterator<Item = &'a Outage>, unix_s: i64) -> Option<(Darkness, &'a Outage)> {
    let upcoming = outages.into_iter().filter_map(|outage| Some((outage.at_or_after(unix_s)?, outage)));
    upcoming.min_by_key(|(darkness, _)| *darkness)
}

/// How long before a planned outage a node drains, and a link is left, unless a relay is told otherwise: enough to hand a
/// morning's captures over a slow link.
pub const OUTAGE_LEAD: Duration = Duration::from_secs(600);

/// The outage for which a node is to be prepared now: one that goes on, or begins within `lead`. It ends when none goes
/// on or begins so soon again, because in between there is no time to be of use.
#[must_use]
pub fn imminent_outage(outages: &[Outage], unix_s: i64, lead: Duration) -> Option<(Darkness, &Outage)> {
    let lead = seconds(lead);
    let begins_by = |from: i64| {
        let next = next_outage(outages, from)?;
        (next.0.start.saturating_sub(lead) <= from).then_some(next)
    };
    let (mut darkness, first) = begins_by(unix_s)?;
    for _ in 0..JOINED_MAX {
        let Some((next, _)) = begins_by(darkness.end) else { break };
        darkness.end = next.end;
    }
    Some((darkness, first))
}

/// The Unix seconds of an RFC 3339 moment; fractions of a second are left out. None if it is no such moment: date, time
/// and offset from UTC are all needed.
#[must_use]
pub fn unix_seconds(moment: &str) -> Option<i64> {
    let Datetime { date: Some(date), time: Some(time), offset: Some(offset) } = moment.parse().ok()? else {
        return None;
    };
    let offset_minutes = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_since_1970(date.year.into(), date.month.into(), date.day.into());
    let minutes = i64::from(time.hour) * 60 + i64::from(time.minute) - offset_minutes;
    Some(days * DAY_SECONDS + minutes * 60 + i64::from(time.second.unwrap_or(0)))
}

/// Days of the Gregorian calendar from 1970-01-01 on. Years are taken to begin in March, so that a leap day comes last:
/// then the days before a month are a straight line, 153 to five months.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let months_since_march = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    const DAYS_BEFORE_1970: i64 = 719_468;
    year * 365 + leap_days + (153 * months_since_march + 2) / 5 + day - 1 - DAYS_BEFORE_1970
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600;
    /// 2013-08-06T18:00:00+07:00.
    const FIRST: i64 = 1_375_786_800;

    fn outage(start: &str, hours: i64, every_hours: Option<i64>) -> Outage {
        let span = |hours: i64| Duration::from_secs((hours * HOUR).unsigned_abs());
        Outage {
            start: start.to_owned(),
            nodes: vec!["sukajadi".parse().unwrap()],
            links: vec![],
            risks: vec!["pln-sukajadi".to_owned()],
            duration: span(hours),
            every: every_hours.map(span),
            reason: "rolling blackout".to_owned(),
        }
    }

    #[test]
    fn moments_are_counted_from_1970_on() {
        for (moment, unix_s) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T07:00:00+07:00", 0),
            ("1969-12-31T23:59:59Z", -1),
            ("2013-08-06T18:00:00+07:00", FIRST),
            ("2013-08-06T11:00:00.75Z", FIRST),
            ("2013-08-06T05:30:00-05:30", FIRST),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2000-03-01T00:00:00Z", 951_868_800),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(unix_seconds(moment), Some(unix_s), "{moment}");
        }
        for bad in ["2013-08-06", "18:00:00", "2013-08-06T18:00:00", "2013-02-30T00:00:00Z", "soon"] {
            assert_eq!(unix_seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_outage_covers_its_hours_and_comes_again() {
        let once = outage("2013-08-06T18:00:00+07:00", 3, None);
        let daily = outage("2013-08-06T18:00:00+07:00", 3, Some(24));
        // Seconds after the first start; when it begins and ends, in hours after it.
        for (outage, after, expected) in [
            (&once, -HOUR, Some((0, 3))),
            (&once, 0, Some((0, 3))),
            (&once, 3 * HOUR - 1, Some((0, 3))),
            (&once, 3 * HOUR, None),
            (&daily, -1000 * HOUR, Some((0, 3))),
            (&daily, 3 * HOUR - 1, Some((0, 3))),
            (&daily, 3 * HOUR, Some((24, 27))),
            (&daily, 24 * HOUR - 1, Some((24, 27))),
            (&daily, 24 * HOUR, Some((24, 27))),
            (&daily, 240 * HOUR + HOUR, Some((240, 243))),
        ] {
            let found = outage.at_or_after(FIRST + after);
            let hours = found.map(|found| ((found.start - FIRST) / HOUR, (found.end - FIRST) / HOUR));
            assert_eq!(hours, expected, "{after} s after the start");
        }
        let found = daily.at_or_after(FIRST).unwrap();
        assert!(found.covers(FIRST) && !found.covers(FIRST - 1) && !found.covers(FIRST + 3 * HOUR));
    }

    #[test]
    fn a_node_prepares_a_while_before_and_stays_away_between_outages_that_are_too_close() {
        let lead = Duration::from_secs(600);
        let evening = outage("2013-08-06T18:00:00+07:00", 3, Some(24));
        let night = outage("2013-08-06T21:05:00+07:00", 2, None);
        let minutes = |outages: &[Outage], after: i64| {
            let (darkness, _) = imminent_outage(outages, FIRST + after * 60, lead)?;
            Some(((darkness.start - FIRST) / 60, (darkness.end - FIRST) / 60))
        };
        for (after, alone, with_night) in [
            (-11, None, None),
            (-10, Some((0, 180)), Some((0, 305))),
            (179, Some((0, 180)), Some((0, 305))),
            (180, None, Some((185, 305))),
            (305, None, None),
            (24 * 60 - 10, Some((1440, 1620)), Some((1440, 1620))),
        ] {
            assert_eq!(minutes(std::slice::from_ref(&evening), after), alone, "{after} min");
            assert_eq!(minutes(&[night.clone(), evening.clone()], after), with_night, "{after} min, and the night");
        }
        let endless = outage("2013-08-06T18:00:00+07:00", 23, Some(23));
        assert!(imminent_outage(&[endless], FIRST, lead).is_some());
    }

    #[test]
    fn what_goes_on_at_a_moment_is_told_with_the_stretch_it_is_in() {
        let once = outage("2013-08-06T18:00:00+07:00", 3, None);
        let daily = Outage { reason: "evenings".to_owned(), ..outage("2013-08-06T20:00:00+07:00", 2, Some(24)) };
        let topology = Topology { outages: vec![once, daily], ..crate::tests::small() };
        for (after, expected) in [
            (-1, vec![]),
            (0, vec![("rolling blackout", 0, 3)]),
            (2, vec![("rolling blackout", 0, 3), ("evenings", 2, 4)]),
            (3, vec![("evenings", 2, 4)]),
            (4, vec![]),
            (24, vec![]),
            (26, vec![("evenings", 26, 28)]),
        ] {
            let found = topology.outages_at(FIRST + after * HOUR);
            let hours = |at: i64| (at - FIRST) / HOUR;
            let found = found.map(|(dark, outage)| (outage.reason.as_str(), hours(dark.start), hours(dark.end)));
            assert_eq!(found.collect::<Vec<_>>(), expected, "{after} h after the first start");
        }
    }

    #[test]
    fn a_risk_strikes_what_names_it_and_no_node_by_its_links() {
        let mut topology = crate::tests::small();
        topology.links[0].risks = vec!["telkom-sto".to_owned()];
        let by_risk = Outage { nodes: vec![], ..outage("2013-08-06T18:00:00+07:00", 3, None) };
        let by_link = Outage { risks: vec!["telkom-sto".to_owned()], ..by_risk.clone() };
        topology.outages = vec![by_risk.clone(), by_link.clone()];
        let of = |node: &str| topology.outages_of(&node.parse().unwrap()).cloned().collect::<Vec<_>>();
        assert_eq!(of("sukajadi"), std::slice::from_ref(&by_risk));
        assert_eq!(of("induk"), []);
        assert_eq!(of("nobody"), []);
        assert!(by_link.strikes_link(&topology.links[0]) && !by_risk.strikes_link(&topology.links[0]));
        let name = |text: &str| Outage { links: vec![text.parse().unwrap()], risks: vec![], ..by_risk.clone() };
        assert!(name("sukajadi,induk").strikes_link(&topology.links[0]));
        assert!(name("induk,sukajadi:radio").strikes_link(&topology.links[0]));
        assert!(!name("induk,sukajadi:fiber").strikes_link(&topology.links[0]));
        topology.outages = vec![name("induk,sukajadi")];
        assert_eq!(topology.outages_of(&"sukajadi".parse().unwrap()).count(), 0, "its ends go on");
    }
}
