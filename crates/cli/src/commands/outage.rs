//! `topology outage`: the calendar of what goes dark.

use std::time::Duration;

use estafet_model::NodeId;
use estafet_topology::{Darkness, Topology};
use serde::Serialize;
use toml_edit::{Datetime, Table, value};

use crate::amendment::{Amendment, list as names};
use crate::arguments::{NewOutage, Options};
use crate::city::CityFolder;
use crate::failure::{Failure, Outcome};
use crate::moment::{Moment, rfc3339_of_seconds};
use crate::output::{Output, or_dash};

/// The city whose calendar is meant.
pub fn city(options: &Options) -> Result<CityFolder, Failure> {
    CityFolder::open(options.city.as_deref().ok_or(Failure::NoCity)?)
}

/// Writes an outage into the city's topology, and signs it. What people wrote beside it stays as it is.
pub fn add(city: &CityFolder, outage: &NewOutage, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let mut amendment = Amendment::begin(city)?;
    amendment.tables("outage")?.push(table(outage));
    amendment.finish(output)
}

fn table(outage: &NewOutage) -> Table {
    let mut table = Table::new();
    if !outage.nodes.is_empty() {
        table.insert("nodes", names(&outage.nodes));
    }
    if !outage.risks.is_empty() {
        table.insert("risks", names(&outage.risks));
    }
    // What is no moment is written as text, and the check says what is wrong with it.
    let start = outage.start.parse::<Datetime>().map_or_else(|_| value(&outage.start), value);
    table.insert("start", start);
    table.insert("duration", value(&outage.lasts));
    if let Some(every) = &outage.every {
        table.insert("every", value(every));
    }
    table.insert("reason", value(&outage.reason));
    table
}

#[derive(Serialize)]
struct Listed<'a> {
    nodes: Vec<&'a str>,
    risks: &'a [String],
    /// The nodes that go dark, by name or by risk.
    strikes: Vec<&'a str>,
    start: &'a str,
    duration_s: u64,
    every_s: Option<u64>,
    reason: &'a str,
    /// It goes on now, by the clock of this machine.
    active: bool,
    next_start: Option<String>,
    next_end: Option<String>,
}

/// Lists the outages of the signed topology.
pub fn list(city: &CityFolder, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let listed = listed(city.topology(), Moment::Now.unix_s());
    if output.is_json() {
        output.object(&listed)?;
        return Ok(Outcome::Good);
    }
    let span = |seconds: u64| humantime::format_duration(Duration::from_secs(seconds)).to_string();
    let rows = listed.iter().map(|outage| {
        let next = match (&outage.next_start, &outage.next_end) {
            (Some(_), Some(end)) if outage.active => format!("now, until {end}"),
            (Some(start), Some(end)) => format!("{start} to {end}"),
            _ => "over".to_owned(),
        };
        [
            or_dash(&outage.strikes.join(", ")),
            or_dash(&outage.risks.join(", ")),
            next,
            span(outage.duration_s),
            or_dash(&outage.every_s.map(span).unwrap_or_default()),
            outage.reason.to_owned(),
        ]
    });
    output.table(["nodes", "risks", "next", "lasts", "every", "reason"], rows.collect(), "No outage is planned.")?;
    Ok(Outcome::Good)
}

fn listed(topology: &Topology, now: i64) -> Vec<Listed<'_>> {
    let listed = topology.outages.iter().map(|outage| {
        let next: Option<Darkness> = outage.at_or_after(now);
        let struck = topology.nodes.values().filter(|node| outage.strikes_node(node));
        Listed {
            nodes: outage.nodes.iter().map(NodeId::as_str).collect(),
            risks: &outage.risks,
            strikes: struck.map(|node| node.id.as_str()).collect(),
            start: &outage.start,
            duration_s: outage.duration.as_secs(),
            every_s: outage.every.map(|every| every.as_secs()),
            reason: &outage.reason,
            active: next.is_some_and(|next| next.covers(now)),
            next_start: next.map(|next| rfc3339_of_seconds(next.start)),
            next_end: next.map(|next| rfc3339_of_seconds(next.end)),
        }
    });
    listed.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use estafet_topology::Template;

    use super::*;
    use crate::city::TOPOLOGY_SOURCE;
    use crate::init::init;

    fn outage(start: &str) -> NewOutage {
        NewOutage {
            nodes: vec!["sukajadi".parse().unwrap()],
            risks: vec![],
            start: start.to_owned(),
            lasts: "3h".to_owned(),
            every: Some("1d".to_owned()),
            reason: "rolling blackout".to_owned(),
        }
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
        for _ in 0..2 {
            add(&CityFolder::open(&dir).unwrap(), &outage("2013-08-06T18:00:00+07:00"), &mut output).unwrap();
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
        assert_eq!(listed[0].next_end.as_deref(), Some("2013-08-07T14:00:00.000Z"));
        assert!(add(&city, &outage("tomorrow"), &mut output).is_err());
        assert_eq!(fs::read_to_string(&source).unwrap(), changed, "a fault changes nothing");
    }
}
