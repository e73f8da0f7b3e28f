//! `topology path`: the way from a node, with what it costs and what stands ready beside it.

use estafet_admin::v1;
use estafet_model::NodeId;
use serde::Serialize;

use super::question;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, or_dash, or_null, percent};
use crate::reach::Reach;

#[derive(Serialize)]
struct Way {
    from: String,
    to: Option<String>,
    cost: Option<u32>,
    hops: Vec<String>,
    /// The cost from the start to each hop.
    hop_costs: Vec<u32>,
    /// The bearer by which each hop is reached; null at the start.
    media: Vec<Option<String>>,
    alternates: Vec<Alternate>,
    /// The share of destinations for which an alternate of `from` outlives its next hop.
    coverage: Option<f64>,
}

#[derive(Serialize)]
struct Alternate {
    next_hop: String,
    cost: u32,
    protects: String,
}

/// Asks the first node that answers for the way from `from` to `to`, or to the nearest hub.
pub async fn path(
    reach: &Reach,
    from: &NodeId,
    to: Option<&NodeId>,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let mut node = reach.first().await?;
    let to = to.map(ToString::to_string).unwrap_or_default();
    let asked = node.client.get_path(question(v1::GetPathRequest { from: from.to_string(), to })).await;
    let found = asked.map_err(Failure::refused(&node.name))?.into_inner();
    let outcome = if found.found { Outcome::Good } else { Outcome::Bad };
    let way = Way::from(found);
    output.answer(&way, print)?;
    Ok(outcome)
}

fn print(way: &Way, output: &mut Output<'_>) -> Result<(), Failure> {
    let to = way.to.as_deref().unwrap_or("any hub");
    let Some(cost) = way.cost else {
        return output.line(format_args!("No way leads from {} to {to} now.", way.from));
    };
    output.line(format_args!("{} to {to}, cost {cost}\n", way.from))?;
    let starts = [0].into_iter().chain(way.hop_costs.iter().copied());
    let hops = way.hops.iter().zip(&way.media).zip(&way.hop_costs).zip(starts);
    let hops = hops.map(|(((hop, medium), cost), before)| {
        let by = or_dash(medium.as_deref().unwrap_or_default());
        [hop.clone(), by, cost.saturating_sub(before).to_string(), cost.to_string()]
    });
    output.table(["node", "by", "hop", "sum"], hops.collect(), "It is there already.")?;
    output.line("")?;
    let alternates = way.alternates.iter().map(|alternate| {
        let survives = match alternate.protects.as_str() {
            "node" => "the first hop's death",
            _ => "the first link's death",
        };
        [alternate.next_hop.clone(), alternate.cost.to_string(), survives.to_owned()]
    });
    output.table(["alternate", "cost", "survives"], alternates.collect(), "No alternate stands ready.")?;
    let Some(coverage) = way.coverage else { return Ok(()) };
    let (from, share) = (&way.from, percent(coverage));
    output.line(format_args!(
        "\n{from} has an alternate ready for the loss of its next hop to {share} of all it reaches."
    ))
}

impl From<v1::Path> for Way {
    fn from(path: v1::Path) -> Self {
        Self {
            from: path.from,
            to: or_null(path.to),
            cost: path.found.then_some(path.cost),
            coverage: path.coverage,
            hop_costs: path.hops.iter().map(|hop| hop.cost).collect(),
            media: path.hops.iter().map(|hop| or_null(hop.medium.clone())).collect(),
            hops: path.hops.into_iter().map(|hop| hop.node).collect(),
            alternates: path.alternates.into_iter().map(Alternate::from).collect(),
        }
    }
}

impl From<v1::Alternate> for Alternate {
    fn from(alternate: v1::Alternate) -> Self {
        Self { next_hop: alternate.next_hop, cost: alternate.cost, protects: alternate.protects }
    }
}
