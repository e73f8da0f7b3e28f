//! From the text of a file to a [`Topology`], or to all that is wrong with it.

use toml::de::DeTable;

use crate::document::Draft;
use crate::faults::{FaultLog, Faults, Problem};
use crate::topology::Topology;
use crate::validate::validate;

/// Reads a topology as people write it (`topology.toml`). `source_name` is how messages call the file.
///
/// # Errors
/// Every fault of the text at once. Where the text is no TOML, those are all its syntax faults and nothing else:
/// behind a bracket that is not closed, a key's table is a guess.
pub fn parse(source_name: &str, text: &str) -> Result<Topology, Faults> {
    let log = FaultLog::new(text);
    let topology = read(text, &log);
    match log.into_faults(source_name) {
        Some(faults) => Err(faults),
        None => Ok(topology.expect("what cannot be read or does not fit is reported, and nothing was")),
    }
}

fn read(text: &str, log: &FaultLog<'_>) -> Option<Topology> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = error.span().unwrap_or(text.len()..text.len());
        let what = format!("not TOML: {}", error.message());
        log.report(place, Problem::new(what, "correct the line; texts stand in quotes, tables begin with [[name]]"));
    }
    if !errors.is_empty() {
        return None;
    }
    let draft = Draft::read(table.get_ref(), log);
    validate(&draft, log);
    draft.finish()
}
