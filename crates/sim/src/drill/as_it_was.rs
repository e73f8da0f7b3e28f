//! The old system, under the same power and lines: a client that works live on the main server.
//!
//! Each office has one fixed way. A counter can capture only while its own site, every site on that way and the main
//! server have power, and every line between them is up. What it captures is sent whole, one after the other; when the
//! way breaks, the transfer begins again from nothing as soon as it is back (FTP or an HTTP upload). Nothing is stored
//! in between: if the office's own power goes, what it was sending is lost.
//!
//! It is given what it had not: servers that are there in the moment in which their power is, and clients that try again
//! in the moment in which the way is back.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use estafet_model::NodeId;
use estafet_topology::{CityPlan, Role};

use crate::drill::measures::Measures;
use crate::drill::script::{Attempt, Change, Happening, Script, Weather};
use crate::network::{goodput, wire_share};

/// One way over a line, where the drill does not say it.
const USUAL_LATENCY: Duration = Duration::from_millis(8);

/// One line of a way.
#[derive(Debug, Clone)]
struct Hop {
    ends: [NodeId; 2],
    bits_per_second: u64,
    /// The site at the far end.
    to: NodeId,
}

/// What is being sent, or waits for its turn.
#[derive(Debug)]
struct Upload {
    since: Duration,
    bytes: usize,
    bits_left: f64,
}

/// An office's counter and its way.
#[derive(Debug, Default)]
struct Client {
    way: Vec<Hop>,
    uploads: VecDeque<Upload>,
}

/// All counters of a city.
#[derive(Debug)]
pub(super) struct AsItWas {
    clients: BTreeMap<NodeId, Client>,
    weather: Weather,
    now: Duration,
    measures: Measures,
    wire_bytes: f64,
}

impl AsItWas {
    /// On a network in which there is one way from each office.
    pub(super) fn new(plan: &CityPlan) -> Self {
        let offices = plan.nodes.iter().filter(|node| node.role == Role::Relay);
        let client = |id: &NodeId| Client { way: way(plan, id), uploads: VecDeque::new() };
        Self {
            clients: offices.map(|node| (node.id.clone(), client(&node.id))).collect(),
            weather: Weather::default(),
            now: Duration::ZERO,
            measures: Measures::default(),
            wire_bytes: 0.0,
        }
    }

    /// What comes of a script.
    pub(super) fn play(mut self, script: &Script) -> Measures {
        for (at, happening) in &script.happenings {
            self.pass(*at);
            match happening {
                Happening::Change(change) => self.change(change),
                Happening::Attempt(attempt) => self.attempt(attempt),
            }
        }
        self.pass(script.end);
        self.measures.not_there = self.clients.values().map(|client| client.uploads.len() as u64).sum();
        self.measures.played = script.end;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole bytes, none of them negative"
        )]
        let wire_bytes = self.wire_bytes as u64;
        self.measures.record_wire_bytes = wire_bytes;
        self.measures.in_order()
    }

    /// Everybody sends until `until`, as the weather is.
    fn pass(&mut self, until: Duration) {
        for (office, client) in &mut self.clients {
            let Some(speed) = speed(office, client, &self.weather) else { continue };
            let mut now = self.now;
            while let Some(upload) = client.uploads.front_mut() {
                let bits = upload.bits_left.min(speed.bits_per_second * (until - now).as_secs_f64());
                self.wire_bytes += bits / 8.0 * speed.wire_per_byte;
                upload.bits_left -= bits;
                // Less than a bit is what rounding leaves.
                if upload.bits_left > 0.5 {
                    break;
                }
                now = until.min(now + Duration::from_secs_f64(bits / speed.bits_per_second));
                self.measures.to_hub.push(now - upload.since + speed.latency);
                self.measures.committed_bytes += upload.bytes as u64;
                client.uploads.pop_front();
            }
        }
        self.now = until;
    }

    fn change(&mut self, change: &Change) {
        self.weather.change(change);
        for (office, client) in &mut self.clients {
            if !self.weather.has_power(office) {
                self.measures.refused += client.uploads.len() as u64;
                client.uploads.clear();
            } else if speed(office, client, &self.weather).is_none()
                && let Some(upload) = client.uploads.front_mut()
            {
                upload.bits_left = bits(upload.bytes);
            }
        }
    }

    fn attempt(&mut self, attempt: &Attempt) {
        let Attempt { office, bytes, stands_for } = attempt;
        if !self.weather.has_power(office) {
            return;
        }
        self.measures.attempts += 1;
        let client = self.clients.get_mut(office).expect("offices have counters");
        if speed(office, client, &self.weather).is_none() {
            self.measures.refused += 1;
            self.measures.lost += *stands_for;
        } else {
            client.uploads.push_back(Upload { since: self.now, bytes: *bytes, bits_left: bits(*bytes) });
        }
    }
}

/// How fast an office's way is.
struct Speed {
    bits_per_second: f64,
    /// Over all its lines.
    wire_per_byte: f64,
    latency: Duration,
}

/// None if something on the way is dark or down.
fn speed(office: &NodeId, client: &Client, weather: &Weather) -> Option<Speed> {
    let stands = weather.has_power(office) && client.way.iter().all(|hop| weather.has_power(&hop.to));
    let mut speed = Speed { bits_per_second: f64::INFINITY, wire_per_byte: 0.0, latency: Duration::ZERO };
    for hop in client.way.iter().filter(|_| stands) {
        let line = weather.line(&hop.ends);
        if !line.up {
            return None;
        }
        let latency = line.latency.unwrap_or(USUAL_LATENCY);
        let bits_per_second = line.bits_per_second.unwrap_or(hop.bits_per_second);
        let carried = goodput(bits_per_second, line.losses_per_mille, latency * 2);
        speed.bits_per_second = speed.bits_per_second.min(carried as f64);
        speed.wire_per_byte += wire_share(line.losses_per_mille);
        speed.latency += latency;
    }
    stands.then_some(speed)
}

fn bits(bytes: usize) -> f64 {
    (bytes * 8) as f64
}

/// The lines from an office to the main server, by fewest lines.
fn way(plan: &CityPlan, office: &NodeId) -> Vec<Hop> {
    let hub = plan.nodes.iter().find(|node| node.role == Role::Hub).expect("the city has a main server");
    let mut ways: VecDeque<(NodeId, Vec<Hop>)> = VecDeque::from([(office.clone(), Vec::new())]);
    let mut seen = vec![office.clone()];
    while let Some((at, way)) = ways.pop_front() {
        if at == hub.id {
            return way;
        }
        for link in &plan.links {
            let Some(end) = link.ends.iter().position(|end| *end == at) else { continue };
            let to = link.ends[1 - end].clone();
            if !seen.contains(&to) {
                seen.push(to.clone());
                let bits_per_second = link.capacity_bits_per_second.expect("the plans state it");
                let hop = Hop { ends: link.ends.clone(), bits_per_second, to: to.clone() };
                ways.push_back((to, [way.clone(), vec![hop]].concat()));
            }
        }
    }
    panic!("{office} has a way in the old network");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::city::id;
    use crate::drill::script::Line;
    use estafet_topology::Template;

    const SECOND: Duration = Duration::from_secs(1);

    /// What comes of these happenings in the Pekanbaru of 2013, at seconds.
    fn played(happenings: &[(u64, Happening)]) -> Measures {
        let happenings =
            happenings.iter().map(|(at, happening)| (SECOND * u32::try_from(*at).unwrap(), happening.clone()));
        let script = Script { happenings: happenings.collect(), end: SECOND * 10_000, ..Script::default() };
        AsItWas::new(&Template::Pekanbaru2013.plan()).play(&script)
    }

    fn dark(site: &str) -> Happening {
        Happening::Change(Change::Dark(id(site)))
    }

    fn lit(site: &str) -> Happening {
        Happening::Change(Change::Lit(id(site)))
    }

    fn attempt(office: &str, bytes: usize) -> Happening {
        Happening::Attempt(Attempt { office: id(office), bytes, stands_for: SECOND * 60 })
    }

    #[test]
    fn a_counter_needs_its_own_power_its_branch_the_main_server_and_the_line() {
        let line = Happening::Change(Change::Line([id("sukajadi"), id("rumbai")], Line::DEAD));
        for (changes, refused) in [
            (vec![], 0),
            (vec![(0, dark("sail"))], 0),
            (vec![(0, dark("sukajadi"))], 1),
            (vec![(0, dark("induk"))], 1),
            (vec![(0, line)], 1),
            (vec![(0, dark("induk")), (5, lit("induk"))], 0),
        ] {
            let measures = played(&[changes.clone(), vec![(10, attempt("rumbai", 1000))]].concat());
            assert_eq!((measures.attempts, measures.refused), (1, refused), "{changes:?}");
            assert_eq!(measures.lost, SECOND * 60 * u32::try_from(refused).unwrap());
            assert_eq!(measures.to_hub.len() as u64, 1 - refused);
        }
        let measures = played(&[(0, dark("rumbai")), (10, attempt("rumbai", 1000))]);
        assert_eq!((measures.attempts, measures.refused), (0, 0), "who has no power himself does not try");
    }

    #[test]
    fn a_transfer_begins_again_from_nothing_when_the_way_breaks() {
        // Two lines of 4 and 20 Mbit/s: a megabyte takes two seconds.
        let whole = played(&[(10, attempt("rumbai", 1_000_000))]);
        assert_eq!(whole.to_hub, [SECOND * 2 + USUAL_LATENCY * 2]);
        let cut = played(&[(10, attempt("rumbai", 1_000_000)), (11, dark("sukajadi")), (20, lit("sukajadi"))]);
        assert_eq!((cut.refused, cut.to_hub), (0, vec![SECOND * 12 + USUAL_LATENCY * 2]));
        let again = cut.record_wire_bytes as f64 / whole.record_wire_bytes as f64;
        assert!((again - 1.5).abs() < 0.01, "half of it was sent twice: {again}");
    }

    #[test]
    fn what_an_office_was_sending_is_lost_with_its_power_and_what_waits_is_not_there() {
        let lost = played(&[(10, attempt("rumbai", 1_000_000)), (11, dark("rumbai")), (20, lit("rumbai"))]);
        assert_eq!((lost.attempts, lost.refused, lost.to_hub.len(), lost.not_there), (1, 1, 0, 0));
        let waits = played(&[(10, attempt("rumbai", 1_000_000)), (11, dark("induk"))]);
        assert_eq!((waits.refused, waits.to_hub.len(), waits.not_there), (0, 0, 1));
    }
}
