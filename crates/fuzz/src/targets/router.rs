//! Routing, with neighbors that sign what they like: LSAs that are well-formed and signed, but lies.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use estafet_model::{Bearer, LinkCost, LsaVersion, LsdbDigest, Medium, NodeId, Now};
use estafet_routing::{
    Adjacency, BearerTerms, HubLedger, LinkRisks, LinkSample, Lsa, NodeState, PowerState, Router, RouterConfig,
    SignedLsa, Standing, TopologyVersions,
};

use super::Target;
use crate::cast::{HUBS, ME, OFFICE, key, node, public};

pub(super) const TARGET: Target = Target { name: "router", check, seeds, words: &[] };

const NAMES: [&str; 5] = [ME, OFFICE, "senapelan", HUBS[0], HUBS[1]];
/// Of these, the ones that have a link with this node.
const NEIGHBORS: [&str; 3] = [OFFICE, "senapelan", HUBS[0]];

/// By what those links are carried.
const MEDIA: [Medium; 2] = [Medium::Radio, Medium::Cellular];

/// What one input may make this node say: one answer to each neighbor for each LSA it has, and some heartbeats.
const OUTPUTS_MAX: usize = 256;

fn check(input: &[u8]) {
    let mut bytes = Unstructured::new(input);
    let mut router = Router::new(node(ME), config());
    let mut now = Now::default();
    while !bytes.is_empty() {
        if step(&mut bytes, &mut router, &mut now).is_err() {
            break;
        }
        let outputs = iter::from_fn(|| router.poll_output()).take(OUTPUTS_MAX + 1).count();
        assert!(outputs <= OUTPUTS_MAX, "one input does not make a storm");
        check_routes(&router);
    }
}

fn check_routes(router: &Router) {
    for hop in router.next_hops() {
        assert!(NEIGHBORS.contains(&hop.neighbor.as_str()), "records go to neighbors only");
    }
    for destination in NAMES.map(node) {
        let _route = router.route_to(&destination);
        let _reverse = router.route_from(&destination, &node(ME));
    }
}

fn step(bytes: &mut Unstructured<'_>, router: &mut Router, now: &mut Now) -> Result<()> {
    let neighbor = node(bytes.choose(&NEIGHBORS)?);
    let bearer = Bearer::new(neighbor.clone(), *bytes.choose(&MEDIA)?);
    match bytes.int_in_range(0..=13u8)? {
        0 => router.session_up(*now, &bearer),
        1 => router.session_down(*now, &bearer),
        2 => {
            let lsdb = bytes.arbitrary::<Option<u64>>()?.map(LsdbDigest);
            router.heartbeat(*now, &bearer, bytes.arbitrary()?, lsdb);
        }
        3 => router.goodbye(*now, &bearer),
        4 if bytes.ratio(1, 4)? => router.carrier_lost(*now, None),
        4 => router.busy(*now, &bearer),
        10 => router.doubted(*now, &bearer),
        11 => router.spoken_to(*now, &bearer),
        12 => {
            let (round_trip, window_bytes) = (Duration::from_millis(bytes.int_in_range(0..=2000)?), bytes.arbitrary()?);
            let packets_sent = bytes.arbitrary::<u32>()?.into();
            let packets_lost = bytes.int_in_range(0..=packets_sent)?;
            router.measured(*now, &bearer, LinkSample { round_trip, packets_sent, packets_lost, window_bytes });
        }
        13 => router.tried(*now, &bearer, bytes.arbitrary()?),
        5 => {
            let (origin, sequence, checksum) = (node(bytes.choose(&NAMES)?), bytes.arbitrary()?, bytes.arbitrary()?);
            router.lsdb_summary_received(&neighbor, &[LsaVersion { origin, sequence, checksum }]);
        }
        6 => {
            // Never to a time that lies behind: that is the driver's side of the contract.
            *now = *now + Duration::from_millis(bytes.int_in_range(0..=5000)?);
            let owes: bool = bytes.arbitrary()?;
            router.handle_timeout(*now, |_| owes);
        }
        7 => {
            if let Some((at, _)) = router.poll_timeout() {
                *now = (*now).max(at);
                router.handle_timeout(*now, |_| true);
            }
        }
        _ => {
            let (name, lsa) = lsa(bytes)?;
            let signed = SignedLsa::sign(lsa, &key(name));
            let signed = SignedLsa::decode(&signed.encode()).expect("it was just written");
            router.lsa_received(*now, &neighbor, signed);
        }
    }
    Ok(())
}

/// What the node of this name says, or somebody with its key.
fn lsa(bytes: &mut Unstructured<'_>) -> Result<(&'static str, Lsa)> {
    let name = *bytes.choose(&NAMES)?;
    let origin = node(if bytes.ratio(1, 16)? { "siak" } else { name });
    let mut adjacencies = Vec::new();
    for _ in 0..bytes.int_in_range(0..=4u8)? {
        let neighbor = node(if bytes.ratio(1, 16)? { "siak" } else { bytes.choose(&NAMES)? });
        let cost = LinkCost(if bytes.ratio(1, 4)? { u32::MAX } else { bytes.int_in_range(1..=100)? });
        adjacencies.push(Adjacency { neighbor, cost, rtt_micros: bytes.arbitrary()? });
    }
    let sequence =
        if bytes.ratio(1, 8)? { u64::MAX - u64::from(bytes.arbitrary::<u8>()?) } else { bytes.int_in_range(0..=8)? };
    let state = if bytes.ratio(1, 4)? { NodeState::Draining } else { NodeState::Serving };
    let battery = PowerState::OnBattery { minutes_left: None };
    let power = *bytes.choose(&[PowerState::Mains, PowerState::Mains, battery, PowerState::LowBattery])?;
    let standing = Standing { state, power, notice: None };
    let hub = bytes.ratio(1, 8)?.then_some(HubLedger { committed: u64::MAX, committed_twice: u64::MAX, head: None });
    let topology = TopologyVersions { in_force: bytes.int_in_range(0..=3)?, kept: u64::MAX };
    let (ledger, outlook) = (None, None);
    Ok((name, Lsa { origin, sequence, adjacencies, standing, durable: true, topology, ledger, hub, outlook }))
}

fn config() -> RouterConfig {
    let names = |names: &[&str]| names.iter().map(|name| node(name)).collect::<BTreeSet<NodeId>>();
    RouterConfig {
        neighbors: NEIGHBORS.iter().map(|name| (node(name), bearers())).collect(),
        link_risks: LinkRisks::new(),
        keys: NAMES.iter().map(|name| (node(name), public(name))).collect::<BTreeMap<_, _>>(),
        hubs: names(&HUBS),
        signing_key: key(ME),
        first_sequence: 1,
        durable: true,
        topology_version: 1,
    }
}

/// A radio, and a metered mobile network beside it.
fn bearers() -> BTreeMap<Medium, BearerTerms> {
    let terms = |medium| (medium, BearerTerms { cost: LinkCost(10), urgent_only: medium == Medium::Cellular });
    MEDIA.map(terms).into()
}

fn seeds() -> Vec<Vec<u8>> {
    vec![(0..=255).collect(), vec![9; 64], (0..64u8).map(|index| index % 14).collect()]
}
