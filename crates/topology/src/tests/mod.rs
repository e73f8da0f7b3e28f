//! What the crate promises, from the outside: a table of faults, round trips, signatures, templates.

mod faults;
mod former_nodes;
mod round_trip;
mod signed;
mod succession;
mod templates;

use estafet_model::{NodeId, SealKey, SigningKey};

use crate::{NodeSetup, Operator, OperatorRole, Template, Topology};

/// A small area in which everything is right. `KEY-n` stands for the public key of [`key`]`(n)`,
/// `SEAL-KEY` for [`seal_key`].
const SMALL: &str = r#"area = "pekanbaru"
label = "Kota Pekanbaru"
version = 3

[[operator]]
id = "kepala"
key = "KEY-100"
role = "admin"

[[hub]]
node = "induk"
seal_key = "SEAL-KEY"
[[node]]
id = "induk"
code = "NDK"
label = "Disdukcapil"
role = "hub"
key = "KEY-1"
addresses = ["10.77.0.1:4460"]
admin = "10.77.0.1:4461"

[[node]]
id = "sukajadi"
code = "SKJ"
label = "Kecamatan Sukajadi"
role = "relay"
key = "KEY-2"
addresses = ["10.77.0.2:4460"]
admin = "10.77.0.2:4461"
place = { latitude = 0.51826, longitude = 101.43833 }
power = { ups_minutes = 30 }
risks = ["pln-sukajadi"]

[[link]]
ends = ["induk", "sukajadi"]
medium = "radio"
cost = 10
capacity = "10Mbit"

[[outage]]
start = 2013-08-06T18:00:00+07:00
risks = ["pln-sukajadi"]
duration = "3h"
every = "1d"
reason = "rolling blackout"
"#;

fn key(number: u8) -> SigningKey {
    SigningKey::from_seed([number; 32])
}

fn seal_key() -> SealKey {
    SealKey::from_bytes([1; SealKey::BYTES])
}

/// Puts real keys in the place of `KEY-n`.
fn with_keys(text: &str) -> String {
    let numbers = [100, 101, 102, 1, 2, 3];
    let text = text.replace("SEAL-KEY", &seal_key().to_string());
    numbers
        .into_iter()
        .fold(text, |text, number| text.replace(&format!("\"KEY-{number}\""), &format!("\"{}\"", key(number).public())))
}

pub(crate) fn small() -> Topology {
    crate::parse("small.toml", &with_keys(SMALL)).unwrap()
}

/// A whole city, with made-up keys and addresses.
fn city(template: Template) -> Topology {
    let operator = Operator { id: "kepala".to_owned(), key: key(100).public(), role: OperatorRole::Admin };
    let mut number = 0;
    let setup = |_: &NodeId| {
        number += 1;
        NodeSetup {
            key: key(number).public(),
            addresses: vec![([10, 77, 0, number], 4460).into()],
            admin: ([10, 77, 0, number], 4461).into(),
        }
    };
    template.plan().into_topology(operator, setup, |_| seal_key())
}
