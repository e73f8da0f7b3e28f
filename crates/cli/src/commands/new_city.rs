//! `topology init`: makes a city's folder.

use std::path::Path;

use estafet_topology::Template;

use crate::failure::{Failure, Outcome};
use crate::init::{self, NewCity};
use crate::output::Output;

/// Makes a city and says what to do with it.
pub fn init(template: Template, dir: &Path, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let city = init::init(template, dir)?;
    if output.is_json() {
        output.object(&city)?;
        return Ok(Outcome::Good);
    }
    let NewCity { dir, nodes } = &city;
    let rows = nodes
        .iter()
        .map(|(id, node)| [id.clone(), node.listen.to_string(), node.admin.to_string(), node.intake.clone()]);
    output.table(["node", "listen", "admin", "intake"], rows.collect(), "no nodes")?;
    let dir = dir.display();
    output.note(format_args!("\nThe city stands in {dir}. Start each node:"));
    output.note(format_args!("  estafet-relay run --config {dir}/nodes/ID/relay.toml"));
    output.note(format_args!("and look at it:\n  topology --city {dir} show"));
    Ok(Outcome::Good)
}
