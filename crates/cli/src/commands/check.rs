//! `topology check`: finds the faults of a file.

use std::path::Path;

use estafet_topology::Fault;
use serde::Serialize;

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::topology_file::TopologyFile;

#[derive(Serialize)]
struct Checked<'a> {
    ok: bool,
    file: &'a Path,
    area: Option<&'a str>,
    version: Option<u64>,
    signed: Option<bool>,
    faults: &'a [Fault],
}

/// Says that a file is sound, or all that is wrong with it. As text, faults are a failure that shows their lines.
pub fn check(file: &Path, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    match TopologyFile::read(file) {
        Ok(read) => {
            report_sound(file, &read, output)?;
            Ok(Outcome::Good)
        }
        Err(Failure::Faults(faults)) if output.is_json() => {
            let faults = faults.faults();
            output.object(&Checked { ok: false, file, area: None, version: None, signed: None, faults })?;
            Ok(Outcome::Bad)
        }
        Err(failure) => Err(failure),
    }
}

fn report_sound(file: &Path, read: &TopologyFile, output: &mut Output<'_>) -> Result<(), Failure> {
    let TopologyFile { topology, is_signed } = read;
    if output.is_json() {
        return output.object(&Checked {
            ok: true,
            file,
            area: Some(&topology.area),
            version: Some(topology.version),
            signed: Some(*is_signed),
            faults: &[],
        });
    }
    output.line(format_args!(
        "{} is sound: {} version {}, {} nodes, {} links, {}",
        file.display(),
        topology.area,
        topology.version,
        topology.nodes.len(),
        topology.links.len(),
        if *is_signed { "signed by its own admin" } else { "not signed" },
    ))
}
