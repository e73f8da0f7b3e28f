//! Whether the parts of a file fit together: names given once, links that lead somewhere, a way to a hub for all.
//!
//! Every check works on drafts, and so on files that have other faults too. A check holds back where a value that
//! could not be read is the likely cause: the person has been told about that one already.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::Range;

use estafet_model::{Medium, NodeId, PublicKey, ShortCode};
use toml::Spanned;

use crate::document::{Draft, LinkDraft, NodeDraft};
use crate::faults::{FaultLog, Problem};
use crate::link_name::LinkName;
use crate::suggestion::{did_you_mean, nearest};
use crate::topology::{OperatorRole, Role};

/// Reports everything that does not fit together.
pub(crate) fn validate(draft: &Draft, log: &FaultLog<'_>) {
    let check = Check { draft, log, nodes: nodes_by_id(draft) };
    check.names_are_given_once();
    check.keys_have_one_holder();
    check.former_nodes_keep_their_names();
    check.addresses_belong_to_one_node();
    check.links_lead_somewhere();
    check.bearers_are_told_apart();
    check.hubs_fit_their_nodes();
    check.somebody_administers();
    check.outages_strike_something();
    check.every_office_reaches_a_hub();
}

struct Check<'a> {
    draft: &'a Draft,
    log: &'a FaultLog<'a>,
    nodes: BTreeMap<&'a NodeId, &'a NodeDraft>,
}

fn nodes_by_id(draft: &Draft) -> BTreeMap<&NodeId, &NodeDraft> {
    // Of two nodes with one id the first counts; the second is reported.
    let known = draft.nodes.iter().rev().filter_map(|node| Some((node.id.as_ref()?.get_ref(), node)));
    known.collect()
}

impl<'a> Check<'a> {
    fn names_are_given_once(&self) {
        let nodes = || self.draft.nodes.iter();
        self.once(
            "node id",
            nodes().filter_map(|node| node.id.as_ref()),
            "a node id is never used again: choose another",
        );
        self.once("short code", nodes().filter_map(|node| node.code.as_ref()), "slips begin with it: choose another");
        let operators = self.draft.operators.iter().filter_map(|operator| operator.id.as_ref());
        self.once_by(operators, |name| &name.0, |name| format!("operator `{name}`"), "choose another name");
    }

    /// One key for two holders would make one of them able to act as the other.
    fn keys_have_one_holder(&self) {
        let nodes = self.draft.nodes.iter().filter_map(|node| node.key.as_ref());
        let former = self.draft.former_nodes.iter().filter_map(|former| former.key.as_ref());
        let operators = self.draft.operators.iter().filter_map(|operator| operator.key.as_ref());
        let name = |key: &PublicKey| format!("key `{key}`");
        let remedy =
            "a key proves who holds it: give each node and each operator their own, one that nobody had before";
        self.once_by(nodes.chain(former).chain(operators), |key| key, name, remedy);
    }

    /// A slip or a record's id would otherwise mean two offices. Who has a former node's id has replaced it, and has its
    /// code as well.
    fn former_nodes_keep_their_names(&self) {
        let former = self.draft.former_nodes.iter().filter_map(|former| names(&former.id, &former.code));
        let former: Vec<Names<'_>> = former.collect();
        let nodes = self.draft.nodes.iter().filter_map(|node| names(&node.id, &node.code));
        let later = former.iter().copied().skip(1).chain(nodes).zip(1..);
        for ((id, code), before) in later {
            for (known_id, known_code) in former.iter().take(before) {
                let (same_id, same_code) = (id.get_ref() == known_id.get_ref(), code.get_ref() == known_code.get_ref());
                let remedy = "ids and codes are never used again, for slips live on: choose another";
                if same_id && !same_code {
                    let what = format!("`{}` was a node with another short code", id.get_ref());
                    self.log.report_pair(id.span(), known_id.span(), Problem::new(what, remedy));
                } else if same_code && !same_id {
                    let what = format!("short code `{}` was `{}`'s", code.get_ref(), known_id.get_ref());
                    self.log.report_pair(code.span(), known_code.span(), Problem::new(what, remedy));
                }
            }
        }
    }

    /// QUIC is UDP and the admin side is TCP, so that a node may have one address for both.
    fn addresses_belong_to_one_node(&self) {
        let nodes = || self.draft.nodes.iter();
        let remedy = "two nodes cannot listen at one place: correct one of them";
        self.once("address", nodes().flat_map(|node| &node.addresses), remedy);
        self.addresses_over_links_belong_to_one_node(remedy);
        self.once("admin address", nodes().filter_map(|node| node.admin.as_ref()), remedy);
    }

    /// A node may have one address for several links: one modem, many neighbors.
    fn addresses_over_links_belong_to_one_node(&self, remedy: &str) {
        let own = self.nodes.iter().flat_map(|(id, node)| node.addresses.iter().map(move |address| (*id, address)));
        let over = self.draft.links.iter().flat_map(|link| &link.addresses);
        let over = over.flat_map(|(end, listed)| listed.iter().map(move |address| (end.get_ref(), address)));
        let mut seen: BTreeMap<&SocketAddr, (&NodeId, Range<usize>)> = BTreeMap::new();
        for (node, address) in own {
            seen.entry(address.get_ref()).or_insert((node, address.span()));
        }
        for (node, address) in over {
            let (holder, earlier) = seen.entry(address.get_ref()).or_insert((node, address.span()));
            if *holder != node {
                let what = format!("address `{}` is already `{holder}`'s", address.get_ref());
                self.log.report_pair(address.span(), earlier.clone(), Problem::new(what, remedy));
            }
        }
    }

    fn links_lead_somewhere(&self) {
        let mut seen: BTreeMap<([&NodeId; 2], Medium), Range<usize>> = BTreeMap::new();
        for link in &self.draft.links {
            for end in &link.ends {
                self.is_a_node(end, "a link to nowhere");
            }
            let [first, second] = link.ends.as_slice() else { continue };
            let mut ends = [first.get_ref(), second.get_ref()];
            ends.sort();
            if ends[0] == ends[1] {
                let what = format!("`{}` is linked to itself", ends[0]);
                self.log.report(second.span(), Problem::new(what, "name two nodes, or remove the link"));
                continue;
            }
            let Some(medium) = link.medium.as_ref().map(|medium| *medium.get_ref()) else { continue };
            if let Some(earlier) = seen.get(&(ends, medium)) {
                let line = self.log.line_of(earlier.start);
                let what = format!("`{}` and `{}` are already linked by {medium} on line {line}", ends[0], ends[1]);
                let remedy = "keep one of the two, or give this one its own medium: it names the bearers of a pair";
                self.log.report_pair(first.span(), earlier.clone(), Problem::new(what, remedy));
            } else {
                seen.insert((ends, medium), first.span());
            }
        }
    }

    fn bearers_are_told_apart(&self) {
        for link in &self.draft.links {
            for (end, _) in &link.addresses {
                if link.ends.len() == 2 && !link.ends.iter().any(|known| known.get_ref() == end.get_ref()) {
                    let ends = link.ends.iter().map(|end| end.get_ref().as_str());
                    let remedy = did_you_mean(end.get_ref().as_str(), ends, "name one of its `ends`");
                    let what = format!("addresses of `{}`, which is no end of this link", end.get_ref());
                    self.log.report(end.span(), Problem::new(what, remedy));
                }
            }
            let nowhere = link.addresses.iter().filter(|(_, listed)| listed.is_empty()).count();
            if let Some((end, _)) = link.addresses.last().filter(|_| nowhere == 2) {
                let what = "neither end can be dialed over this link";
                self.log.report(end.span(), Problem::new(what, "give one of them an address"));
            }
            let is_metered = link.metered.as_ref().is_some_and(|metered| *metered.get_ref());
            if let Some(bulk) = link.bulk.as_ref().filter(|bulk| *bulk.get_ref() && !is_metered) {
                let what = "`bulk` says what a metered link carries, and this one is not metered";
                self.log.report(bulk.span(), Problem::new(what, "add `metered = true`, or remove `bulk`"));
            }
        }
    }

    fn hubs_fit_their_nodes(&self) {
        let hubs: Vec<_> = self.draft.hubs.iter().filter_map(|hub| hub.node.as_ref()).collect();
        self.once("hub", hubs.iter().copied(), "keep one of the two");
        for hub in &hubs {
            self.is_a_node(hub, "a hub that is no node");
            let role = self.nodes.get(hub.get_ref()).and_then(|node| node.role.as_ref());
            if let Some(role) = role
                && *role.get_ref() == Role::Relay
            {
                let what = format!("hub `{}` is a node with role relay", hub.get_ref());
                let remedy = "give the node `role = \"hub\"`, or remove this [[hub]]";
                self.log.report_pair(hub.span(), role.span(), Problem::new(what, remedy));
            }
        }
        let unreadable = self.draft.hubs.len() > hubs.len();
        if let Some(copies) = &self.draft.copies
            && copies.get_ref().0 > self.draft.hubs.len().max(1)
        {
            let what = format!(
                "`copies` asks for {} main servers, and the file has {}",
                copies.get_ref().0,
                self.draft.hubs.len()
            );
            let remedy = "no record would ever be let go: add a [[hub]], or lower it";
            self.log.report(copies.span(), Problem::new(what, remedy));
        }
        for (id, node) in &self.nodes {
            let Some(role) = node.role.as_ref().filter(|role| *role.get_ref() == Role::Hub) else { continue };
            if !unreadable && !hubs.iter().any(|hub| hub.get_ref() == *id) {
                let what = format!("node `{id}` has role hub and no [[hub]] entry");
                let remedy = format!("add [[hub]] with `node = \"{id}\"`, or give it `role = \"relay\"`");
                self.log.report(role.span(), Problem::new(what, remedy));
            }
        }
        let no_node_is_one = self.draft.nodes.iter().all(|node| is_role(node, Role::Relay));
        if self.draft.hubs.is_empty() && no_node_is_one {
            let remedy = "give the main server `role = \"hub\"` and add [[hub]] with its `node`";
            self.log.report(0..0, Problem::new("no hub at all: nobody would commit a record", remedy));
        }
    }

    /// Without one, no later version could be signed: the area would be frozen.
    fn somebody_administers(&self) {
        let may_be_admin =
            |role: Option<&Spanned<OperatorRole>>| role.is_none_or(|r| *r.get_ref() == OperatorRole::Admin);
        if !self.draft.operators.iter().any(|operator| may_be_admin(operator.role.as_ref())) {
            let remedy = "add [[operator]] with `id`, `key` and `role = \"admin\"`";
            self.log
                .report(0..0, Problem::new("no operator with role admin: nobody could sign the next version", remedy));
        }
        let admins = self.draft.operators.iter().filter(|operator| may_be_admin(operator.role.as_ref())).count();
        if let Some(required) = &self.draft.required_signatures
            && required.get_ref().0 > admins.max(1)
        {
            let what =
                format!("`required_signatures` asks for {}, and the file has {admins} admins", required.get_ref().0);
            let remedy = "no later version could be signed: add an [[operator]] with role admin, or lower it";
            self.log.report(required.span(), Problem::new(what, remedy));
        }
    }

    fn outages_strike_something(&self) {
        let on_nodes = self.draft.nodes.iter().flat_map(|node| &node.risks);
        let on_links = self.draft.links.iter().flat_map(|link| &link.risks);
        let risks: BTreeSet<&str> = on_nodes.chain(on_links).map(|risk| risk.get_ref().0.as_str()).collect();
        for outage in &self.draft.outages {
            for node in &outage.nodes {
                self.is_a_node(node, "an outage of no node");
            }
            outage.links.iter().for_each(|link| self.is_a_link(link));
            for risk in outage.risks.iter().filter(|risk| !risks.contains(risk.get_ref().0.as_str())) {
                let what = format!("no node and no link has the risk `{}`", risk.get_ref().0);
                let remedy =
                    did_you_mean(&risk.get_ref().0, risks.iter().copied(), "add it to `risks` of what it strikes");
                self.log.report(risk.span(), Problem::new(what, remedy));
            }
            if outage.is_aimless {
                let remedy = "name `nodes`, `links` or `risks`";
                self.log.report(outage.place_in_file.clone(), Problem::new("an outage that strikes nothing", remedy));
            }
            if let (Some(duration), Some(every)) = (&outage.duration, &outage.every)
                && every.get_ref() <= duration.get_ref()
            {
                let what = format!("the outage comes again every {} and lasts {}", every.get_ref(), duration.get_ref());
                let remedy = "make `every` longer than `duration`";
                self.log.report_pair(every.span(), duration.span(), Problem::new(what, remedy));
            }
        }
    }

    /// A link with a misspelt end is followed to where it was probably meant to lead, and the good end of a link
    /// whose other end is anybody's guess counts as reached: one wrong name cuts nobody off on paper.
    fn every_office_reaches_a_hub(&self) {
        if self.draft.links.iter().any(|link| link.ends.is_empty()) {
            return;
        }
        let may_be_hub = self.nodes.iter().filter(|(_, node)| !is_role(node, Role::Relay)).map(|(id, _)| *id);
        let listed = self.draft.hubs.iter().filter_map(|hub| hub.node.as_ref()).map(Spanned::get_ref);
        let mut begin: BTreeSet<&NodeId> = may_be_hub.chain(listed).collect();
        if begin.is_empty() {
            return;
        }
        let mut edges = Vec::new();
        for link in &self.draft.links {
            let ends: Vec<&NodeId> = link.ends.iter().filter_map(|end| self.meant_by(end.get_ref())).collect();
            match ends.as_slice() {
                [first, second] => edges.push((*first, *second)),
                doubtful => begin.extend(doubtful),
            }
        }
        let reached = reachable(begin, &edges);
        for (id, node) in self.nodes.iter().filter(|(id, _)| !reached.contains(*id)) {
            let what = format!("`{id}` has no way to any hub");
            let remedy = "link it to a hub, or to a node that has a way to one";
            let place = node.id.as_ref().map_or_else(|| node.place_in_file.clone(), Spanned::span);
            self.log.report(place, Problem::new(what, remedy));
        }
    }

    /// The node of that name, or of the name most like it.
    fn meant_by(&self, id: &NodeId) -> Option<&'a NodeId> {
        let exact = self.nodes.get_key_value(id).map(|(known, _)| *known);
        exact.or_else(|| {
            let name = nearest(id.as_str(), self.nodes.keys().map(|known| known.as_str()))?;
            self.nodes.keys().copied().find(|known| known.as_str() == name)
        })
    }

    /// Reports a name that no node has, unless some node's name could not be read.
    fn is_a_link(&self, name: &Spanned<LinkName>) {
        let links = &self.draft.links;
        let is_meant = |link: &LinkDraft| {
            let mut ends: Vec<&NodeId> = link.ends.iter().map(Spanned::get_ref).collect();
            ends.sort();
            let medium = link.medium.as_ref().map(Spanned::get_ref);
            let by_medium = name.get_ref().medium().is_none_or(|meant| medium.is_none_or(|medium| *medium == meant));
            // What cannot be read is reported by itself, and may be what was meant.
            link.ends.len() < 2 || by_medium && ends.iter().copied().eq(name.get_ref().ends())
        };
        if !links.iter().any(is_meant) {
            let what = format!("an outage of no link: there is no link `{}`", name.get_ref());
            self.log.report(name.span(), Problem::new(what, "add a [[link]] with these ends, or correct the name"));
        }
    }

    fn is_a_node(&self, id: &Spanned<NodeId>, fault: &str) {
        let all_readable = self.draft.nodes.iter().all(|node| node.id.is_some());
        if all_readable && !self.nodes.contains_key(id.get_ref()) {
            let names = self.nodes.keys().map(|known| known.as_str());
            let remedy = did_you_mean(id.get_ref().as_str(), names, "add a [[node]] with this id, or correct the name");
            self.log.report(id.span(), Problem::new(format!("{fault}: there is no node `{}`", id.get_ref()), remedy));
        }
    }

    fn once<T: Ord + Display + 'a>(&self, kind: &str, values: impl Iterator<Item = &'a Spanned<T>>, remedy: &str) {
        self.once_by(values, |value| value, |value| format!("{kind} `{value}`"), remedy);
    }

    /// Reports each value whose key has come before.
    fn once_by<T: 'a, K: Ord + ?Sized + 'a>(
        &self,
        values: impl Iterator<Item = &'a Spanned<T>>,
        key: impl Fn(&'a T) -> &'a K,
        describe: impl Fn(&'a K) -> String,
        remedy: &str,
    ) {
        let mut seen: BTreeMap<&K, Range<usize>> = BTreeMap::new();
        for value in values {
            let key = key(value.get_ref());
            if let Some(earlier) = seen.get(key) {
                let line = self.log.line_of(earlier.start);
                let problem = Problem::new(format!("{} is already used on line {line}", describe(key)), remedy);
                self.log.report_pair(value.span(), earlier.clone(), problem);
            } else {
                seen.insert(key, value.span());
            }
        }
    }
}

/// What a slip names a node by.
type Names<'a> = (&'a Spanned<NodeId>, &'a Spanned<ShortCode>);

fn names<'a>(id: &'a Option<Spanned<NodeId>>, code: &'a Option<Spanned<ShortCode>>) -> Option<Names<'a>> {
    Some((id.as_ref()?, code.as_ref()?))
}

/// True if the node's role is known and is `role`.
fn is_role(node: &NodeDraft, role: Role) -> bool {
    node.role.as_ref().is_some_and(|known| *known.get_ref() == role)
}

/// Everything that can be reached from `begin`, itself included.
fn reachable<'a>(begin: BTreeSet<&'a NodeId>, edges: &[(&'a NodeId, &'a NodeId)]) -> BTreeSet<&'a NodeId> {
    let mut neighbors: BTreeMap<&NodeId, Vec<&NodeId>> = BTreeMap::new();
    for (first, second) in edges {
        neighbors.entry(first).or_default().push(second);
        neighbors.entry(second).or_default().push(first);
    }
    let mut frontier: Vec<&NodeId> = begin.iter().copied().collect();
    let mut reached = begin;
    while let Some(node) = frontier.pop() {
        for neighbor in neighbors.get(node).into_iter().flatten() {
            if reached.insert(neighbor) {
                frontier.push(neighbor);
            }
        }
    }
    reached
}
