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
    /// Offices that reach a hub over metered links only: nothing but urgent records leaves them, though nothing has failed.
    urgent_only: Vec<String>,
}

/// Lists the nodes, links and risks whose loss alone isolates somebody. Bad news if there are any.
pub fn spof(topology: &Topology, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let points = single_points(&plan::graph(topology), &plan::hubs(topology));
    let found = Found {
        single_points: points.iter().map(|point| Isolation::new(topology, point)).collect(),
        urgent_only: plan::urgent_only_offices(topology).iter().map(ToString::to_string).collect(),
    };
    output.answer(&found, print)?;
    Ok(if points.is_empty() { Outcome::Good } else { Outcome::Bad })
}

fn print(found: &Found, output: &mut Output<'_>) -> Result<(), Failure> {
    let none = "No single node, link or risk isolates an office.";
    plan::table_of(&found.single_points, none, output)?;
    if !found.single_points.is_empty() {
        output.line("\n`topology advise` proposes what to build against it.")?;
    }
    if !found.urgent_only.is_empty() {
        output.line(format_args!(
            "\nOver metered links only, which let nothing but urgent records through while all is well: {}",
            found.urgent_only.join(", ")
        ))?;
    }
    Ok(())
}
