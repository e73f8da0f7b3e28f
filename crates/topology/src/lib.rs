//! The network of one area as one document: read, checked, written canonically, signed.
//!
//! People write `topology.toml`; [`parse`] makes a [`Topology`] of it or reports every fault with line, column and
//! remedy. An admin's signature makes it a [`SignedTopology`] (`city.topology`), which is the only source of trust:
//! who may connect, who may administer, whose receipts count. [`Template`] gives the plan of a real city to begin with.
//!
//! This crate does not read files, route, or know whether a node is alive. Planned outages are kept and checked here,
//! and told for any moment that is given; what follows from them is decided elsewhere.
//!
//! # What is always true
//!
//! Of a topology that [`parse`] or [`SignedTopology`] gave:
//!
//! 1. Node ids, short codes, keys (of nodes and operators together), QUIC addresses and admin addresses are each
//!    given once; an address over a link is no other node's.
//! 2. Every link joins two different nodes that are there. Two links that join the same two, the bearers between them, have
//!    different media.
//! 3. There is a hub. The nodes with [`Role::Hub`] and the [`Hub`] entries are the same ones.
//! 4. Every node has a way to some hub over the links.
//! 5. Some operator is an [`OperatorRole::Admin`], so that a next version can be signed.
//! 6. Every node has a QUIC address, every cost is at least 1, every outage strikes something that is there.
//! 7. No node has a former node's key. One that has its id has its code as well; no other has either.
//! 8. `parse(name, topology.to_toml())` gives an equal topology.
//!
//! # Several bearers between two nodes
//!
//! Each is a `[[link]]` of its own, with its own medium, cost and risks:
//!
//! ```toml
//! [[link]]
//! ends = ["induk", "sukajadi"]
//! medium = "cellular"
//! cost = 40
//! # Where its ends are dialed over this link; the nodes' own `addresses` if it does not say. `[]`: this end cannot be
//! # dialed over it, and dials.
//! addresses = { induk = ["203.0.113.7:4460"], sukajadi = [] }
//! # Its bytes cost money: urgent records and control only ...
//! metered = true
//! # ... unless it is told to carry all.
//! bulk = true
//! ```
//!
//! Read first: [`Topology`] (what there is to know) and [`SignedTopology`] (why anybody believes it).

mod calendar;
mod canonical;
mod document;
mod faults;
mod link_name;
mod parse;
mod reader;
mod signed;
mod succession;
mod suggestion;
mod template;
mod topology;
mod validate;
mod values;
mod words;

#[cfg(test)]
mod tests;

pub use calendar::{Darkness, OUTAGE_LEAD, imminent_outage, next_outage, unix_seconds};
pub use estafet_model::Medium;
pub use faults::{Fault, Faults};
pub use link_name::{LinkName, LinkNameError};
pub use parse::parse;
pub use signed::{SignError, SignedTopology, Signer, UntrustedTopology};
pub use succession::{NoSuccessor, Succession, TakesEffect};
pub use suggestion::did_you_mean;
pub use template::{CityPlan, NodeSetup, PlannedNode, Template, UnknownTemplate};
pub use topology::{FormerNode, Hub, Link, Node, Operator, OperatorRole, Outage, Place, Power, Role, Topology};
