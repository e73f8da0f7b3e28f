//! Costs as people read them. A way around trouble costs millions, and the sum says nothing: `10 + gray` does.

use estafet_admin::v1;
use estafet_model::LinkCost;
use estafet_routing::CostParts;

/// A cost for people: `20`, `20 + gray`, `20 + 2 draining + on battery`.
pub(crate) fn words(parts: &CostParts) -> String {
    std::iter::once(parts.plain.0.to_string()).chain(raised_by(parts)).collect::<Vec<_>>().join(" + ")
}

/// Why a cost is more than that of its links.
pub(crate) fn raised_by(parts: &CostParts) -> Vec<String> {
    let reasons =
        [(parts.gray_links, "gray"), (parts.draining_nodes, "draining"), (parts.nodes_on_battery, "on battery")];
    let reason = |(count, name): (u32, &str)| match count {
        0 => None,
        1 => Some(name.to_owned()),
        several => Some(format!("{several} {name}")),
    };
    reasons.into_iter().filter_map(reason).collect()
}

/// What a node says that a cost is made of; if it says nothing, the cost is taken as it is.
pub(crate) fn parts(cost: u32, said: Option<v1::CostParts>) -> CostParts {
    said.map_or(CostParts { plain: LinkCost(cost), ..CostParts::default() }, |said| CostParts {
        plain: LinkCost(said.plain),
        gray_links: said.gray_links,
        draining_nodes: said.draining_nodes,
        nodes_on_battery: said.nodes_on_battery,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surcharges_are_named_and_not_summed() {
        for ([gray_links, draining_nodes, nodes_on_battery], expected) in [
            ([0, 0, 0], "10"),
            ([1, 0, 0], "10 + gray"),
            ([0, 1, 0], "10 + draining"),
            ([0, 0, 1], "10 + on battery"),
            ([2, 1, 4], "10 + 2 gray + draining + 4 on battery"),
        ] {
            let said = v1::CostParts { plain: 10, gray_links, draining_nodes, nodes_on_battery };
            assert_eq!(words(&parts(99, Some(said))), expected);
        }
        assert_eq!(words(&parts(99, None)), "99");
    }
}
