//! Changes of the outages in a topology's text.

use estafet_topology::{Link, LinkName, Outage};
use toml_edit::{ArrayOfTables, Datetime, Table, value};

use super::impact::named_link;
use crate::amendment::{Amendment, list};
use crate::arguments::NewOutage;
use crate::failure::Failure;
use crate::moment::now_in_whole_seconds;
use crate::reach::node_unknown;

/// Adds an outage, and returns it as it is read back.
pub(super) fn add(amendment: &mut Amendment<'_>, outage: &NewOutage) -> Result<Outage, Failure> {
    if let Some(unknown) = outage.nodes.iter().find(|node| amendment.topology().node(node).is_none()) {
        return Err(node_unknown(amendment.topology(), unknown));
    }
    let links = outage.links.iter().map(|text| Ok(link_name(text, &named_link(amendment.topology(), text)?)));
    let links = links.collect::<Result<Vec<LinkName>, Failure>>()?;
    amendment.tables("outage")?.push(table(outage, &links));
    let added = difference(&amendment.changed()?.outages, &amendment.topology().outages);
    added.ok_or_else(|| amendment.uneditable("an outage more cannot be read back"))
}

/// Takes `outage` out, however it is spelled: it is the one whose absence leaves all others. False if it is not there.
pub(super) fn take_out(amendment: &mut Amendment<'_>, outage: &Outage) -> Result<bool, Failure> {
    let count = ArrayOfTables::len(amendment.tables("outage")?);
    for place in 0..count {
        let mut left = amendment.clone();
        left.tables("outage")?.remove(place);
        let outages = left.changed().map(|changed| changed.outages);
        if outages.is_ok_and(|left| difference(&amendment.topology().outages, &left).as_ref() == Some(outage)) {
            *amendment = left;
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is in the first list once more than in the second.
fn difference(more: &[Outage], fewer: &[Outage]) -> Option<Outage> {
    let mut rest = more.to_vec();
    for outage in fewer {
        let place = rest.iter().position(|other| other == outage)?;
        rest.remove(place);
    }
    rest.pop().filter(|_| rest.is_empty())
}

/// The name of the links that were found for `text`: of all between two nodes, unless it says by what.
pub(super) fn link_name(text: &str, found: &[&Link]) -> LinkName {
    let link = found.first().expect("a link that is named is there");
    let [one, other] = link.ends.clone();
    LinkName::new(one, other, text.contains(':').then_some(link.medium))
}

fn table(outage: &NewOutage, links: &[LinkName]) -> Table {
    let mut table = Table::new();
    if !outage.nodes.is_empty() {
        table.insert("nodes", list(&outage.nodes));
    }
    if !links.is_empty() {
        table.insert("links", list(links));
    }
    if !outage.risks.is_empty() {
        table.insert("risks", list(&outage.risks));
    }
    let start = if outage.start == "now" { now_in_whole_seconds() } else { outage.start.clone() };
    // What is no moment is written as text, and the check says what is wrong with it.
    let start = start.parse::<Datetime>().map_or_else(|_| value(&start), value);
    table.insert("start", start);
    table.insert("duration", value(&outage.lasts));
    if let Some(every) = &outage.every {
        table.insert("every", value(every));
    }
    table.insert("reason", value(&outage.reason));
    table
}
