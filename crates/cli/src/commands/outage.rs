//! `topology outage`: the calendar of what goes dark.

use estafet_model::NodeId;
use estafet_routing::impact;
use estafet_topology::{Darkness, LinkName, OUTAGE_LEAD, Outage, Topology, unix_seconds};
use serde::Serialize;

use super::calendar_edit::{self, link_name};
use super::impact::{loss_by, named_link};
use crate::amendment::Amendment;
use crate::arguments::{NewOutage, Options, WhichOutage};
use crate::city::{CityFolder, TOPOLOGY_SIGNED, TOPOLOGY_SOURCE};
use crate::failure::{Failure, Outcome};
use crate::moment::{Moment, Timestamp, typed};
use crate::output::{Output, or_dash};
use crate::plan;

/// The city whose calendar is meant.
pub fn city(options: &Options) -> Result<CityFolder, Failure> {
    CityFolder::open(options.city.as_deref().ok_or(Failure::NoCity)?)
}

/// Writes an outage into the city's topology, and signs it.
pub fn add(city: &CityFolder, outage: &NewOutage, output: &mut Output<'_>) -> Result<(), Failure> {
    let now = Moment::Now.unix_s();
    let mut amendment = Amendment::begin(city)?;
    let added = calendar_edit::add(&mut amendment, outage)?;
    if amendment.topology().outages.contains(&added) {
        return Err(Failure::OutageUnclear { what: "the calendar has exactly this outage already".to_owned() });
    }
    if added.at_or_after(now).is_none() {
        let ended = Timestamp::of_seconds(added.ended().unwrap_or_default());
        return Err(Failure::OutageIsOver { ended: ended.to_string() });
    }
    let changed = amendment.changed()?;
    amendment.finish(output)?;
    if let Some(place) = changed.outages.iter().position(|outage| *outage == added) {
        output.note(format_args!("outage {}: {}", number(place, &added), struck_words(&added)));
    }
    if let Some(warning) = warning(&changed, &added) {
        output.note(format_args!("warning: {warning}"));
    }
    if let Some(pause) = added.pause().filter(|pause| *pause <= OUTAGE_LEAD) {
        let [pause, lead] = [pause, OUTAGE_LEAD].map(|span| typed(span.as_secs()));
        output.note(format_args!(
            "warning: between two of these outages there are only {pause}, and {lead} before each nodes drain themselves \
             and links are left: what it strikes carries nothing for others any more."
        ));
    }
    Ok(())
}

/// Whom an outage by itself leaves without a way to a main server, if anybody.
fn warning(topology: &Topology, outage: &Outage) -> Option<String> {
    let hubs = plan::hubs(topology);
    let found = impact(&plan::graph(topology), &hubs, &loss_by(topology, outage));
    if hubs.iter().all(|hub| found.failed.contains(hub)) {
        return Some(
            "no main server serves while it lasts: counters go on, and all records wait where they are. If the area has \
             another one that can serve, make it known first (deploy/README.md)"
                .to_owned(),
        );
    }
    let isolated: Vec<&str> =
        found.cut_off.iter().filter(|node| !found.failed.contains(node)).map(NodeId::as_str).collect();
    (!isolated.is_empty()).then(|| {
        format!(
            "while it lasts no way leads to a main server from {}: their counters go on, and their records wait there. \
             `topology advise` says which links would help",
            isolated.join(", ")
        )
    })
}

/// Takes an outage out of the city's topology, and signs it.
pub fn remove(city: &CityFolder, which: &WhichOutage, output: &mut Output<'_>) -> Result<(), Failure> {
    let outage = meant(city.topology(), which)?;
    let mut amendment = Amendment::begin(city)?;
    if !calendar_edit::take_out(&mut amendment, outage)? {
        let source = city.dir().join(TOPOLOGY_SOURCE);
        let what = format!("{} does not have the outage that {TOPOLOGY_SIGNED} has", source.display());
        return Err(Failure::OutageUnclear { what });
    }
    amendment.finish(output)?;
    output.note(format_args!("taken out: {} ({})", struck_words(outage), outage.reason));
    Ok(())
}

/// The one outage that is named, and no other.
fn meant<'a>(topology: &'a Topology, which: &WhichOutage) -> Result<&'a Outage, Failure> {
    let unclear = |what: String| Failure::OutageUnclear { what };
    let numbered = || topology.outages.iter().enumerate().map(|(place, outage)| (number(place, outage), outage));
    if let Some(named) = &which.number {
        let (place, _) = named.split_once('-').ok_or_else(|| {
            unclear(format!("`{named}` is a number without its check, which says that the right one is meant"))
        })?;
        let found = numbered().find(|(number, _)| number == named).map(|(_, outage)| outage);
        return found.ok_or_else(|| unclear(format!("outage {place} is not, or not any more, what `{named}` was")));
    }
    let links = which.links.iter().map(|text| Ok(link_name(text, &named_link(topology, text)?)));
    let mut links = links.collect::<Result<Vec<LinkName>, Failure>>()?;
    let (mut nodes, mut risks) = (which.nodes.clone(), which.risks.clone());
    links.sort();
    nodes.sort();
    risks.sort();
    let start = which.start.map(Moment::unix_s);
    let begins_then = |outage: &Outage| unix_seconds(&outage.start) == start;
    let then: Vec<_> = numbered().filter(|(_, outage)| begins_then(outage)).collect();
    let same = |outage: &Outage| outage.nodes == nodes && outage.links == links && outage.risks == risks;
    match then.iter().filter(|(_, outage)| same(outage)).collect::<Vec<_>>().as_slice() {
        [(_, outage)] => Ok(outage),
        [] if then.is_empty() => Err(unclear("no outage begins then".to_owned())),
        [] => {
            let then = then.iter().map(|(number, outage)| format!("{number} strikes {}", struck_words(outage)));
            Err(unclear(format!(
                "no outage that begins then strikes just that: {}",
                then.collect::<Vec<_>>().join("; ")
            )))
        }
        several => {
            let numbers: Vec<&str> = several.iter().map(|(number, _)| number.as_str()).collect();
            Err(unclear(format!("several outages are meant: name one by its number, {}", numbers.join(" or "))))
        }
    }
}

/// An outage's place in the list, from 1, and a check of what it says: `3-7f2a`.
fn number(place: usize, outage: &Outage) -> String {
    let check = blake3::hash(format!("{outage:?}").as_bytes()).to_hex();
    format!("{}-{}", place + 1, &check[..4])
}

/// What an outage strikes, by the names that it has them.
fn struck_words(outage: &Outage) -> String {
    let nodes = outage.nodes.iter().map(ToString::to_string);
    let links = outage.links.iter().map(|link| format!("link {link}"));
    let risks = outage.risks.iter().map(|risk| format!("risk {risk}"));
    nodes.chain(links).chain(risks).collect::<Vec<_>>().join(", ")
}

#[derive(Serialize)]
struct Listed<'a> {
    /// What `outage remove` asks for.
    number: String,
    nodes: Vec<&'a str>,
    /// The links that go dark by name.
    links: Vec<String>,
    risks: &'a [String],
    /// The nodes that go dark, by name or by risk.
    strikes: Vec<&'a str>,
    start: &'a str,
    duration_s: u64,
    every_s: Option<u64>,
    reason: &'a str,
    /// It goes on now, by the clock of this machine.
    active: bool,
    next_start: Option<Timestamp>,
    next_end: Option<Timestamp>,
}

/// Lists the outages of the signed topology.
pub fn list(city: &CityFolder, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let listed = listed(city.topology(), Moment::Now.unix_s());
    if output.is_json() {
        output.object(&listed)?;
        return Ok(Outcome::Good);
    }
    let rows = listed.iter().map(|outage| {
        let next = match (&outage.next_start, &outage.next_end) {
            (Some(_), Some(end)) if outage.active => format!("now, until {end}"),
            (Some(start), Some(end)) => format!("{start} to {end}"),
            _ => "over".to_owned(),
        };
        [
            outage.number.clone(),
            or_dash(&outage.strikes.join(", ")),
            or_dash(&outage.links.join(", ")),
            or_dash(&outage.risks.join(", ")),
            next,
            typed(outage.duration_s),
            or_dash(&outage.every_s.map(typed).unwrap_or_default()),
            outage.reason.to_owned(),
        ]
    });
    output.table(
        ["number", "nodes", "links", "risks", "next", "lasts", "every", "reason"],
        rows.collect(),
        "No outage is planned.",
    )?;
    Ok(Outcome::Good)
}

fn listed(topology: &Topology, now: i64) -> Vec<Listed<'_>> {
    let listed = topology.outages.iter().enumerate().map(|(place, outage)| {
        let next: Option<Darkness> = outage.at_or_after(now);
        let struck = topology.nodes.values().filter(|node| outage.strikes_node(node));
        Listed {
            number: number(place, outage),
            links: outage.links.iter().map(ToString::to_string).collect(),
            nodes: outage.nodes.iter().map(NodeId::as_str).collect(),
            risks: &outage.risks,
            strikes: struck.map(|node| node.id.as_str()).collect(),
            start: &outage.start,
            duration_s: outage.duration.as_secs(),
            every_s: outage.every.map(|every| every.as_secs()),
            reason: &outage.reason,
            active: next.is_some_and(|next| next.covers(now)),
            next_start: next.map(|next| Timestamp::of_seconds(next.start)),
            next_end: next.map(|next| Timestamp::of_seconds(next.end)),
        }
    });
    listed.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use estafet_topology::Template;

    use super::*;
    use crate::init::init;

    fn outage(start: &str) -> NewOutage {
        NewOutage {
            nodes: vec!["sukajadi".parse().unwrap()],
            links: vec![],
            risks: vec![],
            start: start.to_owned(),
            lasts: "3h".to_owned(),
            every: Some("1d".to_owned()),
            reason: "rolling blackout".to_owned(),
        }
    }

    #[test]
    fn whom_an_outage_leaves_without_a_way_is_warned_of() {
        let mut calendar = Calendar::new();
        for (nodes, warned) in [
            (&["sukajadi"][..], None),
            (&["induk"], None),
            (&["induk", "cadangan"], Some("no main server serves while it lasts")),
            (&["sukajadi", "senapelan", "lima-puluh"], Some("from rumbai, rumbai-pesisir:")),
        ] {
            let nodes = nodes.iter().map(|node| node.parse().unwrap()).collect();
            calendar.add(&NewOutage { nodes, ..outage("2113-08-06T18:00:00+07:00") }).unwrap();
            let said = calendar.said();
            let city = calendar.city();
            let numbers: Vec<String> = listed(city.topology(), 0).into_iter().map(|row| row.number).collect();
            assert!(numbers.iter().any(|number| said.contains(number)), "{numbers:?}: {said}");
            assert_eq!(said.contains("warning"), warned.is_some(), "{said}");
            assert!(warned.is_none_or(|warned| said.contains(warned)), "{said}");
        }
    }

    /// A city, what commands write about it, and its calendar as numbers and names.
    struct Calendar {
        folder: tempfile::TempDir,
        notes: Vec<u8>,
    }

    impl Calendar {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            init(Template::PekanbaruCadangan, &folder.path().join("city")).unwrap();
            Self { folder, notes: Vec::new() }
        }

        fn city(&self) -> CityFolder {
            CityFolder::open(&self.folder.path().join("city")).unwrap()
        }

        fn add(&mut self, outage: &NewOutage) -> Result<(), Failure> {
            self.notes.clear();
            add(&self.city(), outage, &mut Output::new(&mut Vec::new(), &mut self.notes, true))
        }

        fn remove(&mut self, arguments: &[&str]) -> Result<(), Failure> {
            #[derive(clap::Parser)]
            struct Line {
                #[command(flatten)]
                which: WhichOutage,
            }
            let line = <Line as clap::Parser>::try_parse_from(["remove"].iter().chain(arguments)).unwrap();
            remove(&self.city(), &line.which, &mut Output::new(&mut Vec::new(), &mut self.notes, true))
        }

        /// What the last command said beside its answer.
        fn said(&self) -> String {
            String::from_utf8(self.notes.clone()).unwrap()
        }

        fn struck(&self) -> Vec<String> {
            self.city().topology().outages.iter().map(struck_words).collect()
        }
    }

    #[test]
    fn what_is_over_is_refused_and_what_leaves_no_time_is_warned_of() {
        let mut calendar = Calendar::new();
        let once = |start: &str, lasts: &str| NewOutage { every: None, lasts: lasts.to_owned(), ..outage(start) };
        let past = calendar.add(&once("2013-08-06T18:00:00+07:00", "3h")).unwrap_err();
        let ended_at = Timestamp::of_seconds(1_375_797_600).to_string();
        assert!(matches!(&past, Failure::OutageIsOver { ended } if *ended == ended_at), "{past}");
        let misspelled = NewOutage { nodes: vec!["sukajado".parse().unwrap()], ..once("now", "3h") };
        let unknown = calendar.add(&misspelled).unwrap_err();
        assert!(matches!(&unknown, Failure::NodeUnknown { remedy, .. } if remedy.contains("sukajadi")), "{unknown}");
        assert!(calendar.struck().is_empty());
        calendar.add(&once("now", "3h")).unwrap();
        assert!(calendar.city().topology().outages[0].at_or_after(Moment::Now.unix_s()).is_some());
        for (every, warned) in [("1d", false), ("191m", false), ("190m", true), ("185m", true)] {
            let outage = NewOutage { every: Some(every.to_owned()), ..outage("2013-08-06T18:00:00+07:00") };
            calendar.add(&outage).unwrap();
            let said = calendar.said();
            assert_eq!(said.contains("carries nothing for others"), warned, "{every}: {said}");
        }
        let again = NewOutage { every: Some("1d".to_owned()), ..outage("2013-08-06T18:00:00+07:00") };
        assert!(matches!(calendar.add(&again), Err(Failure::OutageUnclear { .. })), "it is there already");
    }

    #[test]
    fn an_outage_of_links_is_named_by_their_ends() {
        let mut calendar = Calendar::new();
        for (link, name) in [
            ("rumbai-sukajadi", Some("rumbai,sukajadi")),
            ("sukajadi,rumbai:radio", Some("rumbai,sukajadi:radio")),
            ("rumbai-sukajadi:fiber", None),
            ("rumbai-sukajado", None),
        ] {
            let outage = NewOutage { nodes: vec![], links: vec![link.to_owned()], ..outage("now") };
            let added = calendar.add(&outage);
            assert_eq!(added.is_ok(), name.is_some(), "{link}: {added:?}");
            if let Some(name) = name {
                assert!(calendar.struck().contains(&format!("link {name}")), "{:?}", calendar.struck());
            }
        }
    }

    #[test]
    fn only_the_outage_that_is_meant_is_taken_out() {
        let mut calendar = Calendar::new();
        let (first, later) = ("2013-08-06T18:00:00+07:00", "2013-08-07T18:00:00+07:00");
        calendar.add(&outage(first)).unwrap();
        let two = NewOutage { nodes: vec!["sail".parse().unwrap(), "tampan".parse().unwrap()], ..outage(first) };
        calendar.add(&two).unwrap();
        calendar.add(&NewOutage { nodes: vec![], links: vec!["induk-sail".to_owned()], ..outage(later) }).unwrap();
        let numbers: Vec<String> = listed(calendar.city().topology(), 0).into_iter().map(|row| row.number).collect();
        let of = |number: &str| numbers.iter().find(|row| row.starts_with(number)).unwrap().clone();
        let version = calendar.city().topology().version;
        let other_check = format!("1{}", &of("2")[1..]);
        for unclear in [
            &["1"][..],
            &[&other_check],
            &["4-0000"],
            &["--node", "sail", "--start", first],
            &["--node", "sukajadi", "--start", later],
            &["--node", "sukajadi", "--link", "induk-sail", "--start", first],
        ] {
            let refused = calendar.remove(unclear);
            assert!(matches!(refused, Err(Failure::OutageUnclear { .. })), "{unclear:?}: {refused:?}");
        }
        assert_eq!((calendar.struck().len(), calendar.city().topology().version), (3, version));
        // However the moment is written.
        calendar.remove(&["--node", "sukajadi", "--start", "2013-08-06T11:00:00Z"]).unwrap();
        assert_eq!(calendar.struck(), ["sail, tampan", "link induk,sail"]);
        assert!(calendar.remove(&[&of("3")]).is_err(), "the list has changed");
        calendar.remove(&["--link", "sail-induk", "--start", later]).unwrap();
        let last = listed(calendar.city().topology(), 0)[0].number.clone();
        calendar.remove(&[&last]).unwrap();
        assert_eq!((calendar.struck().len(), calendar.city().topology().version), (0, version + 3));
        let source = fs::read_to_string(calendar.city().dir().join(TOPOLOGY_SOURCE)).unwrap();
        assert!(!source.contains("outage"), "{source}");
    }

    #[test]
    fn an_outage_is_added_and_what_people_wrote_stays() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("city");
        init(Template::Pekanbaru, &dir).unwrap();
        let source = dir.join(TOPOLOGY_SOURCE);
        let text = fs::read_to_string(&source).unwrap().replace("version = 1\n", "# Ask Budi.\nversion = 1 # first\n");
        fs::write(&source, &text).unwrap();
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let mut output = Output::new(&mut out, &mut notes, true);
        for start in ["2013-08-06T18:00:00+07:00", "2013-08-06T22:00:00+07:00"] {
            add(&CityFolder::open(&dir).unwrap(), &outage(start), &mut output).unwrap();
        }
        let changed = fs::read_to_string(&source).unwrap();
        assert!(changed.contains("# Ask Budi.\nversion = 3 # first\n"), "{changed}");
        assert!(
            changed.contains("start = 2013-08-06T18:00:00+07:00\nduration = \"3h\"\nevery = \"1d\"\n"),
            "{changed}"
        );
        let city = CityFolder::open(&dir).unwrap();
        assert_eq!((city.topology().version, city.topology().outages.len()), (3, 2));
        let listed = listed(city.topology(), 1_375_786_800 + 86_400 + 1);
        assert!(listed[0].active && listed[0].strikes == ["sukajadi"]);
        assert_eq!(listed[0].next_end, Some(Timestamp::of_seconds(1_375_884_000)), "2013-08-07T14:00:00Z");
        assert!(add(&city, &outage("tomorrow"), &mut output).is_err());
        assert_eq!(fs::read_to_string(&source).unwrap(), changed, "a fault changes nothing");
    }
}
