//! What can be typed about who belongs to a city: its machines and its operators.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use estafet_model::{Fingerprint, Medium, NameError, NodeId, PublicKey, ShortCode};
use estafet_topology::OperatorRole;

/// What to do about nodes.
#[derive(Debug, Subcommand)]
pub enum NodeChange {
    /// Let a new machine in, by the join request that `estafet-relay init` printed there.
    Add(NewNode),
    /// Let a new machine take the place of a node's old one, which is shut out: it was stolen, or is broken.
    ///
    /// The node keeps its id, its short code and its links, and its captures begin a new epoch. What the old machine had
    /// captured and others still hold goes to quarantine until `node accept`.
    Replace {
        /// The node.
        #[command(flatten)]
        node: KnownNode,
        /// What the new machine says of itself.
        #[command(flatten)]
        request: Request,
    },
    /// Take a node out: its sessions end, and nothing that it says counts any more.
    ///
    /// Its id and its short code are never another node's. What it had captured and others still hold goes to quarantine
    /// until `node accept`.
    Remove(KnownNode),
    /// Take the records that a removed node, or a replaced machine, had captured and that others still hold.
    ///
    /// To be decided by somebody who knows since when it was in wrong hands. What is in quarantine is tried again within an
    /// hour, or at once by `quarantine retry`.
    Accept(KnownNode),
}

/// A node that the topology knows.
// Its argument is another than the --node that says whom to ask.
#[derive(Debug, Clone, Args)]
pub struct KnownNode {
    /// The node.
    #[arg(value_name = "ID", id = "known_node")]
    pub id: NodeId,
}

/// What a machine says of itself, and how it is known to be that machine.
#[derive(Debug, Clone, Args)]
pub struct Request {
    /// The join request that `estafet-relay init` printed on the machine.
    #[arg(long = "request", value_name = "FILE")]
    pub file: PathBuf,
    /// The fingerprint as somebody at the machine reads it over the telephone; asked for if it is not given.
    #[arg(long, value_name = "GROUPS")]
    pub fingerprint: Option<Fingerprint>,
}

/// A node that is to be.
#[derive(Debug, Args)]
pub struct NewNode {
    /// What the machine says of itself.
    #[command(flatten)]
    pub request: Request,
    /// What its slips begin with: three letters or digits that no other node has or had.
    #[arg(long, value_name = "CODE", value_parser = parse_code)]
    pub code: ShortCode,
    /// Its name, for people.
    #[arg(long, value_name = "TEXT")]
    pub label: String,
    /// Its region code of today.
    #[arg(long, value_name = "TEXT")]
    pub region: Option<String>,
    /// A link to another node: its id, what carries it (fiber, copper, radio, cellular, satellite) and perhaps its cost, 10
    /// by default: sukajadi:fiber, sukajadi:radio:15. Can be repeated.
    #[arg(long = "link", value_name = "ID:MEDIUM[:COST]", required = true)]
    pub links: Vec<NewLink>,
    /// What it fails together with, such as pln-siak. Can be repeated.
    #[arg(long = "risk", value_name = "RISK")]
    pub risks: Vec<String>,
}

/// Stricter than a slip is read: a code with a look-alike would show as another one than was typed.
fn parse_code(text: &str) -> Result<ShortCode, String> {
    let code: ShortCode = text.parse().map_err(|error: NameError| error.to_string())?;
    if code.to_string() == text {
        Ok(code)
    } else {
        Err(format!("it would be read as `{code}`: write that, or another"))
    }
}

/// A link of a node that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLink {
    /// The node at the other end.
    pub to: NodeId,
    /// What carries it.
    pub medium: Medium,
    /// What it costs.
    pub cost: u16,
}

/// As cheap as most links of a city.
const LINK_COST: u16 = 10;

impl FromStr for NewLink {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let (Some(to), Some(medium)) = (parts.next(), parts.next()) else {
            return Err("write the other node and what carries the link, such as sukajadi:fiber".to_owned());
        };
        let to = to.parse::<NodeId>().map_err(|error| error.to_string())?;
        let medium = medium.parse::<Medium>().map_err(|error| error.to_string())?;
        let cost = match parts.next() {
            None => LINK_COST,
            Some(cost) => cost.parse().ok().filter(|cost| *cost > 0).ok_or("a cost is 1 to 65535")?,
        };
        match parts.next() {
            Some(_) => Err("write it as ID:MEDIUM:COST".to_owned()),
            None => Ok(Self { to, medium, cost }),
        }
    }
}

/// What to do about operators.
#[derive(Debug, Subcommand)]
pub enum OperatorChange {
    /// Make a private key for whoever types this, and print its public half and fingerprint. Asks nobody, needs no city.
    ///
    /// To be done on the operator's own machine; the private key stays there.
    Key {
        /// The file, new.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Give somebody a role, by the public key that `operator key` printed on their machine.
    Add {
        /// Who: lower-case letters, digits and inner hyphens.
        name: String,
        /// viewer looks; operator also drains, retries and fetches; admin also signs topologies.
        #[arg(long, value_enum)]
        role: Role,
        /// Their public key: ed25519:…
        #[arg(long, value_name = "KEY")]
        key: PublicKey,
        /// Its fingerprint as they read it over the telephone; asked for if it is not given.
        #[arg(long, value_name = "GROUPS")]
        fingerprint: Option<Fingerprint>,
    },
    /// List who has which role, with the fingerprint of their key. Asks nobody; no role is needed.
    List,
    /// Take somebody's role away.
    ///
    /// A new key for somebody is a new name with it, and then the old one's removal, by an admin who stays.
    Remove {
        /// Who.
        name: String,
    },
}

/// What an operator may do, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Also drains, retries and fetches.
    Operator,
    /// Also signs topologies.
    Admin,
}

impl From<Role> for OperatorRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Operator => Self::Operator,
            Role::Admin => Self::Admin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_typed_as_it_will_be_read() {
        assert!(parse_code("S1K").is_ok());
        for wrong in ["SIK", "s1k", "S1", "S-K", "SUK"] {
            assert!(parse_code(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_link_is_typed_with_its_medium_and_perhaps_a_cost() {
        let link = |to: &str, cost| NewLink { to: to.parse().unwrap(), medium: Medium::Radio, cost };
        assert_eq!("rumbai-pesisir:radio".parse(), Ok(link("rumbai-pesisir", 10)));
        assert_eq!("sail:radio:15".parse(), Ok(link("sail", 15)));
        for wrong in ["sail", "sail:", "sail:wire", "sail:radio:0", "sail:radio:x", "sail:radio:1:2", ":radio"] {
            assert!(wrong.parse::<NewLink>().is_err(), "{wrong}");
        }
    }
}
