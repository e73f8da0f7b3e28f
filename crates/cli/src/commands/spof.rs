//! `topology spof`: every single point of failure. Works on a file, so it can be asked in the dark.

use estafet_routing::single_points;
use estafet_topology::Topology;
use serde::Serialize;

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::plan::{self, Isolation};

#[derive(Serialize)]
struct Found {
    single_points: Vec<Isolation>,
}

/// Lists the nodes, links and risks whose loss alone isolates somebody. Bad news if there are any.
pub fn spof(topology: &Topology, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let points = single_points(&plan::graph(topology), &plan::hubs(topology));
    let found = Found { single_points: points.iter().map(|point| Isolation::new(topology, point)).collect() };
    output.answer(&found, print)?;
    Ok(if points.is_empty() { Outcome::Good } else { Outcome::Bad })
}

fn print(found: &Found, output: &mut Output<'_>) -> Result<(), Failure> {
    let none = "No single node, link or risk isolates an office.";
    plan::table_of(&found.single_points, none, output)?;
    if !found.single_points.is_empty() {
        output.line("\n`topology advise` proposes what to build against it.")?;
    }
    Ok(())
}
