//! `topology path`: the way from a node, with what it costs and what stands ready beside it.

use estafet_admin::v1;
use estafet_model::NodeId;
use estafet_routing::CostParts;
use serde::Serialize;

use super::question;
use crate::cost;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, or_dash, or_null, percent};
use crate::reach::Reach;

#[derive(Serialize)]
struct Way {
    from: String,
    to: Option<String>,
    cost: Option<u32>,
    /// Why that is more than the links on the way cost: `gray`, `draining`, `on battery`.
    cost_raised_by: Vec<String>,
    hops: Vec<String>,
    /// The cost from the start to each hop.
    hop_costs: Vec<u32>,
    /// Why the last step to each hop costs more than its link.
    hop_costs_raised_by: Vec<Vec<String>>,
    /// The bearer by which each hop is reached; null at the start.
    media: Vec<Option<String>>,
    alternates: Vec<Alternate>,
    /// The share of destinations for which an alternate of `from` outlives its next hop.
    coverage: Option<f64>,
    /// What the last step to each hop costs.
    #[serde(skip)]
    steps: Vec<CostParts>,
    /// The nearest hub was asked for, and not a node by name.
    #[serde(skip)]
    to_any_hub: bool,
}

#[derive(Serialize)]
struct Alternate {
    next_hop: String,
    cost: u32,
    cost_raised_by: Vec<String>,
    #[serde(skip)]
    cost_words: String,
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
    let named = to.map(ToString::to_string).unwrap_or_default();
    let asked = node.client.get_path(question(v1::GetPathRequest { from: from.to_string(), to: named })).await;
    let found = asked.map_err(Failure::refused(&node.name))?.into_inner();
    let outcome = if found.found { Outcome::Good } else { Outcome::Bad };
    let way = Way::new(found, to.is_none());
    output.answer(&way, print)?;
    Ok(outcome)
}

fn print(way: &Way, output: &mut Output<'_>) -> Result<(), Failure> {
    let Way { from, hops, steps, .. } = way;
    let to = way.to.as_deref().unwrap_or("any hub");
    match hops.len() {
        0 if way.to_any_hub => {
            output.line(format_args!("No way leads from {from} to a main server now."))?;
            return output.line(
                "`topology show` tells who is dark, and who drains: nothing is sent to a main server that does.",
            );
        }
        0 => return output.line(format_args!("No way leads from {from} to {to} now.")),
        1 if way.to_any_hub => {
            return output.line(format_args!("{from} is a main server itself: what it captures is committed there."));
        }
        1 => return output.line(format_args!("{from} is where the way begins and ends: it costs nothing.")),
        _ => {}
    }
    let total = steps.iter().copied().fold(CostParts::default(), |sum, step| sum + step);
    output.line(format_args!("{from} to {to}, cost {}\n", cost::words(&total)))?;
    let sums = steps.iter().scan(CostParts::default(), |sum, step| {
        *sum = *sum + *step;
        Some(*sum)
    });
    let rows = hops.iter().zip(&way.media).zip(steps).zip(sums).map(|(((hop, medium), step), sum)| {
        [hop.clone(), or_dash(medium.as_deref().unwrap_or_default()), cost::words(step), cost::words(&sum)]
    });
    output.table(["node", "by", "hop", "sum"], rows.collect(), "")?;
    output.line("")?;
    let alternates = way.alternates.iter().map(|alternate| {
        let survives = match alternate.protects.as_str() {
            "node" => "the first hop's death",
            _ => "the first link's death",
        };
        [alternate.next_hop.clone(), alternate.cost_words.clone(), survives.to_owned()]
    });
    output.table(["alternate", "cost", "survives"], alternates.collect(), "No alternate stands ready.")?;
    let Some(coverage) = way.coverage else { return Ok(()) };
    let share = percent(coverage);
    output.line(format_args!(
        "\n{from} has an alternate ready for the loss of its next hop to {share} of all it reaches."
    ))
}

impl Way {
    fn new(path: v1::Path, to_any_hub: bool) -> Self {
        let before = std::iter::once(0).chain(path.hops.iter().map(|hop| hop.cost));
        let steps = path.hops.iter().zip(before);
        let steps: Vec<CostParts> =
            steps.map(|(hop, before)| cost::parts(hop.cost.saturating_sub(before), hop.step)).collect();
        let total = cost::parts(path.cost, path.cost_parts);
        Self {
            from: path.from,
            to: or_null(path.to),
            cost: path.found.then_some(path.cost),
            cost_raised_by: cost::raised_by(&total),
            coverage: path.coverage,
            hop_costs: path.hops.iter().map(|hop| hop.cost).collect(),
            hop_costs_raised_by: steps.iter().map(cost::raised_by).collect(),
            media: path.hops.iter().map(|hop| or_null(hop.medium.clone())).collect(),
            hops: path.hops.into_iter().map(|hop| hop.node).collect(),
            alternates: path.alternates.into_iter().map(Alternate::from).collect(),
            steps,
            to_any_hub,
        }
    }
}

impl From<v1::Alternate> for Alternate {
    fn from(alternate: v1::Alternate) -> Self {
        let v1::Alternate { next_hop, cost, protects, cost_parts } = alternate;
        let parts = cost::parts(cost, cost_parts);
        Self { next_hop, cost, cost_raised_by: cost::raised_by(&parts), cost_words: cost::words(&parts), protects }
    }
}
