//! The topology as people write it: any text.

use estafet_model::SealKey;
use estafet_topology::{Faults, Operator, OperatorRole, SignedTopology, Topology, parse};
use miette::Diagnostic;

use super::Target;
use crate::cast::{key, public};
use crate::memory::bounded;

pub(super) const TARGET: Target = Target { name: "topology", check, seeds, words: WORDS };

/// Fault reports hold the text twice, a place and two sentences for each fault, and a fault takes few bytes to make.
const MEMORY_TIMES: usize = 1024;

pub(super) const WORDS: &[&[u8]] = &[
    b"[[node]]\n",
    b"[[link]]\n",
    b"[[hub]]\n",
    b"[[operator]]\n",
    b"[[outage]]\n",
    b"id = \"",
    b"code = \"",
    b"label = \"",
    b"role = \"",
    b"key = \"ed25519:",
    b"addresses = [",
    b"admin = \"",
    b"ends = [",
    b"medium = \"",
    b"cost = ",
    b"capacity = \"",
    b"risks = [",
    b"area = \"",
    b"version = ",
    b"seal_key = \"",
    b"power = { ups_minutes = ",
    b"place = { latitude = ",
    b"longitude = ",
    b"region = \"",
    b"start = ",
    b"duration = \"",
    b"every = \"",
    b"reason = \"",
    b"nodes = [",
];

fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match bounded(input, MEMORY_TIMES, || parse("fuzz", text)) {
        Ok(topology) => check_good(topology),
        Err(faults) => check_faults(text, &faults),
    }
}

fn check_good(topology: Topology) {
    let canonical = topology.to_toml();
    let again = parse("canonical", &canonical).unwrap_or_else(|faults| panic!("{faults:?}\n{canonical}"));
    assert_eq!(again, topology, "a topology survives being written");
    assert_eq!(again.to_toml(), canonical, "a topology has one canonical text");
    let (admin, operator_key) = (admin(), key("kepala"));
    if topology.operator_by_key(&operator_key.public()) == Some(&admin) {
        let signed = SignedTopology::sign(topology, &admin.id, &operator_key).expect("its admin can sign it");
        let believed = SignedTopology::decode(&signed.encode(), &[operator_key.public()]);
        assert_eq!(believed.expect("a trusted admin has signed"), signed);
    }
}

/// What is shown to people must lie in their file.
fn check_faults(text: &str, faults: &Faults) {
    assert!(!faults.faults().is_empty(), "a refusal says why");
    for fault in faults.faults() {
        for label in fault.labels().into_iter().flatten() {
            let (start, end) = (label.offset(), label.offset() + label.len());
            assert!(end <= text.len(), "{fault} is at {start}..{end} of {}", text.len());
            assert!(text.is_char_boundary(start) && text.is_char_boundary(end), "{fault} splits a letter");
        }
    }
}

/// Who signs the topologies of the cast.
pub(super) fn admin() -> Operator {
    Operator { id: "kepala".to_owned(), key: public("kepala"), role: OperatorRole::Admin }
}

/// A small area in which everything is right.
pub(super) fn small_area() -> String {
    let mut text = SMALL.replace("SEAL-KEY", &SealKey::from_bytes([1; SealKey::BYTES]).to_string());
    for name in ["kepala", "induk", "sukajadi"] {
        text = text.replace(&format!("KEY-{name}"), &public(name).to_string());
    }
    text
}

const SMALL: &str = r#"area = "pekanbaru"
label = "Kota Pekanbaru"
version = 3

[[operator]]
id = "kepala"
key = "KEY-kepala"
role = "admin"

[[hub]]
node = "induk"
seal_key = "SEAL-KEY"

[[node]]
id = "induk"
code = "NDK"
label = "Disdukcapil"
role = "hub"
key = "KEY-induk"
addresses = ["10.77.0.1:4460"]
admin = "10.77.0.1:4461"

[[node]]
id = "sukajadi"
code = "SKJ"
label = "Kecamatan Sukajadi"
role = "relay"
key = "KEY-sukajadi"
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

fn seeds() -> Vec<Vec<u8>> {
    let parts =
        ["area = \"x\"\n[[node]]\nid = 3\n", "[[link]]\nends = [\"a\", \"a\"]\n", "a.b.c = {d = [1, {e = 2}]}\n"];
    parts.into_iter().map(str::to_owned).chain([small_area()]).map(String::into_bytes).collect()
}
