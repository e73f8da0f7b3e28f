//! Changes of the outages in a topology's text. What people wrote beside them stays as it is.

use std::path::Path;

use estafet_topology::{Link, LinkName, Outage, Topology, parse};
use toml_edit::{Array, ArrayOfTables, Datetime, DocumentMut, Item, Table, Value, value};

use super::impact::named_link;
use crate::arguments::NewOutage;
use crate::failure::Failure;
use crate::moment::now_in_whole_seconds;

/// The text of `topology.toml` that is to be changed.
pub(super) struct CalendarEdit<'a> {
    /// Where it stands, for people.
    source: &'a Path,
    document: DocumentMut,
    topology: Topology,
}

impl<'a> CalendarEdit<'a> {
    /// Reads the text. Its faults are told in our own words, with lines and remedies.
    pub(super) fn new(source: &'a Path, text: &str) -> Result<Self, Failure> {
        let topology = parse(&source.display().to_string(), text)?;
        let document = text.parse().map_err(|error: toml_edit::TomlError| uneditable(source, error.message()))?;
        Ok(Self { source, document, topology })
    }

    /// The text with one outage more, and that outage as it was read back.
    pub(super) fn with(mut self, outage: &NewOutage, signed: u64) -> Result<(String, Outage), Failure> {
        let links = outage.links.iter().map(|text| Ok(link_name(text, &named_link(&self.topology, text)?)));
        let links = links.collect::<Result<Vec<LinkName>, Failure>>()?;
        let outages = self.document.entry("outage").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        let outages = outages
            .as_array_of_tables_mut()
            .ok_or_else(|| uneditable(self.source, "its outages are not [[outage]] tables"))?;
        outages.push(table(outage, &links));
        let text = self.raised(signed)?;
        let changed = parse(&self.source.display().to_string(), &text)?;
        let added = difference(&changed.outages, &self.topology.outages);
        Ok((text, added.ok_or_else(|| uneditable(self.source, "an outage more cannot be read back"))?))
    }

    /// The text without `outage`; nothing if it is not there.
    pub(super) fn without(mut self, outage: &Outage, signed: u64) -> Result<Option<String>, Failure> {
        let count = self.document.get("outage").and_then(Item::as_array_of_tables).map_or(0, ArrayOfTables::len);
        // However it is spelled: it is the one whose absence leaves all others.
        let is_meant = |place: &usize| {
            let mut left = self.document.clone();
            take_out(&mut left, *place);
            let left = parse(&self.source.display().to_string(), &left.to_string());
            left.is_ok_and(|left| difference(&self.topology.outages, &left.outages).as_ref() == Some(outage))
        };
        let Some(place) = (0..count).find(is_meant) else { return Ok(None) };
        take_out(&mut self.document, place);
        self.raised(signed).map(Some)
    }

    /// The text with a version that is higher than the file's and `signed`.
    fn raised(&mut self, signed: u64) -> Result<String, Failure> {
        let version = i64::try_from(self.topology.version.max(signed)).unwrap_or(i64::MAX).saturating_add(1);
        let written = self.document.get_mut("version").and_then(Item::as_value_mut);
        let written = written.ok_or_else(|| uneditable(self.source, "it has no version"))?;
        // What stands behind it on the line, such as a comment, stays.
        let decor = written.decor().clone();
        *written = Value::from(version);
        *written.decor_mut() = decor;
        Ok(self.document.to_string())
    }
}

fn uneditable(source: &Path, what: &str) -> Failure {
    Failure::Uneditable { path: source.to_owned(), what: what.to_owned() }
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

fn take_out(document: &mut DocumentMut, place: usize) {
    let Some(outages) = document.get_mut("outage").and_then(Item::as_array_of_tables_mut) else { return };
    outages.remove(place);
    if outages.is_empty() {
        document.remove("outage");
    }
}

/// The name of the links that were found for `text`: of all between two nodes, unless it says by what.
pub(super) fn link_name(text: &str, found: &[&Link]) -> LinkName {
    let link = found.first().expect("a link that is named is there");
    let [one, other] = link.ends.clone();
    LinkName::new(one, other, text.contains(':').then_some(link.medium))
}

fn table(outage: &NewOutage, links: &[LinkName]) -> Table {
    let mut table = Table::new();
    let mut list = |key: &str, names: Vec<String>| {
        if !names.is_empty() {
            table.insert(key, value(names.into_iter().collect::<Array>()));
        }
    };
    list("nodes", outage.nodes.iter().map(ToString::to_string).collect());
    list("links", links.iter().map(ToString::to_string).collect());
    list("risks", outage.risks.clone());
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
