//! `verify receipt`: what a receipt of one record proves by a signed topology alone, and what it does not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use estafet_cli::init::init;
use estafet_cli::{CityFolder, Cli, Failure, Outcome, Output, run};
use estafet_model::{ChainHead, ChainId, ChainedRecord, HeaderDigest, NodeId, PayloadHash, RecordReceipt, SigningKey};
use estafet_topology::{FormerNode, Operator, OperatorRole, Role, SignedTopology, Template};
use tempfile::TempDir;

/// A city's folder, and beside it what somebody elsewhere has.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        init(Template::Pekanbaru, folder.path()).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn key(&self, file: &str) -> SigningKey {
        SigningKey::from_pem(&fs::read_to_string(self.path(file)).unwrap()).unwrap()
    }

    fn node_key(&self, node: &str) -> SigningKey {
        self.key(&format!("nodes/{node}/node.key"))
    }

    /// The folder's topology with a change, signed by somebody.
    fn topology(&self, name: &str, edit: impl FnOnce(&mut estafet_topology::Topology), key: &SigningKey) -> PathBuf {
        let mut topology = CityFolder::open(self.folder.path()).unwrap().topology().clone();
        edit(&mut topology);
        let signer = topology.operators.iter().find(|operator| operator.key == key.public()).unwrap().id.clone();
        let path = self.path(name);
        fs::write(&path, SignedTopology::sign(topology, &signer, key).unwrap().encode()).unwrap();
        path
    }

    fn verify(&self, text: &str, topology: &Path, operator_key: Option<&str>) -> (Result<Outcome, Failure>, String) {
        let file = self.path("receipt");
        fs::write(&file, text).unwrap();
        let mut arguments = vec!["topology", "verify", "receipt", file.to_str().unwrap(), "--topology"];
        arguments.push(topology.to_str().unwrap());
        if let Some(key) = operator_key {
            arguments.extend(["--operator-key", key]);
        }
        let cli = Cli::try_parse_from(arguments).unwrap();
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(run(cli, &mut Output::new(&mut out, &mut notes, false)));
        (outcome, String::from_utf8(out).unwrap())
    }
}

fn record(id: &str) -> ChainedRecord {
    ChainedRecord {
        id: id.parse().unwrap(),
        digest: HeaderDigest([7; 32]),
        payload_hash: PayloadHash::of(b"sealed"),
        payload_bytes: 6,
    }
}

fn receipt(hub: &str, id: &str, key: &SigningKey) -> RecordReceipt {
    let hub: NodeId = hub.parse().unwrap();
    let before = ChainHead::first(&hub, ChainId::from_bytes([1; 16]));
    RecordReceipt::sign(hub, before, record(id), key)
}

#[test]
fn a_receipt_is_believed_by_the_main_servers_key_in_a_topology_that_is_believed() {
    let desk = Desk::new();
    let (city, hub) = (desk.path("city.topology"), desk.node_key("induk"));
    let operator = desk.key("operator.key").public().to_string();
    let good = receipt("induk", "rumbai.513.42", &hub).to_string();
    let (outcome, out) = desk.verify(&good, &city, Some(&operator));
    assert_eq!(outcome.unwrap(), Outcome::Good);
    for part in ["GOOD: induk, main server of pekanbaru", "rumbai.513.42 (slip RMB", "number 1 of its chain", "6 bytes"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(!out.contains("compare the key"), "{out}");
    let (outcome, out) = desk.verify(&good, &city, None);
    assert!(outcome.is_ok() && out.contains("compare the key"), "who signed it, nobody has said: {out}");

    let stranger = SigningKey::from_seed([66; 32]);
    let of_other = receipt("induk", "rumbai.513.43", &hub).to_string();
    let signature = |text: &str| text.split_once("signature").unwrap().1.to_owned();
    for (text, reason) in [
        (receipt("induk", "rumbai.513.42", &stranger).to_string(), "never signed by induk"),
        (receipt("induk", "rumbai.513.42", &desk.node_key("sukajadi")).to_string(), "never signed by induk"),
        (receipt("sukajadi", "rumbai.513.42", &desk.node_key("sukajadi")).to_string(), "`sukajadi` is no main server"),
        (receipt("cadangan", "rumbai.513.42", &hub).to_string(), "`cadangan` is no node"),
        (good.replace(&signature(&good), &signature(&of_other)), "changed after it was signed"),
        (good.replace("rumbai.513.42", "rumbai.513.43"), "not made of what it says"),
        (good.replace("rumbai.513.42", "rumbai.512.42"), "not made of what it says"),
        (good.replace("bytes = 6", "bytes = 7"), "not made of what it says"),
        (good.replace("number = 1", "number = 2"), "not made of what it says"),
        (good.replace("estafet-receipt 1", "estafet-receipt 2"), "its first line cannot be read"),
        (good.replace("hub = induk\n", ""), "hub cannot be read"),
        (String::new(), "its first line cannot be read"),
    ] {
        let failure = desk.verify(&text, &city, Some(&operator)).0.unwrap_err();
        assert!(failure.to_string().contains(reason), "{reason}: {failure}");
        assert_eq!(failure.exit_code(), 1);
    }
}

#[test]
fn a_topology_that_is_not_believed_proves_nothing() {
    let desk = Desk::new();
    let good = receipt("induk", "rumbai.513.42", &desk.node_key("induk")).to_string();
    let stranger = SigningKey::from_seed([66; 32]);
    // Somebody makes a city of their own, in which their key is the main server's.
    let theirs = desk.topology(
        "theirs",
        |topology| {
            topology.operators =
                vec![Operator { id: "kepala".to_owned(), key: stranger.public(), role: OperatorRole::Admin }];
            topology.nodes.get_mut(&"induk".parse().unwrap()).unwrap().key = SigningKey::from_seed([67; 32]).public();
        },
        &stranger,
    );
    let forged = receipt("induk", "rumbai.513.42", &SigningKey::from_seed([67; 32])).to_string();
    let operator = Some(desk.key("operator.key").public().to_string());
    let altered = desk.path("altered");
    let text = fs::read_to_string(desk.path("city.topology")).unwrap();
    fs::write(&altered, text.replacen("Rumbai", "Rumbay", 1)).unwrap();
    for (receipt, topology) in [
        (&forged, &theirs),
        (&good, &theirs),
        (&good, &altered),
        (&good, &desk.path("topology.toml")),
        (&good, &desk.path("nowhere")),
    ] {
        let failure = desk.verify(receipt, topology, operator.as_deref()).0.unwrap_err();
        assert!(matches!(failure, Failure::Untrusted { .. } | Failure::Read { .. }), "{failure}");
        assert_eq!(failure.exit_code(), 1);
    }
    for topology in [&altered, &desk.path("topology.toml")] {
        assert!(desk.verify(&good, topology, None).0.is_err(), "nor when nobody is named");
    }
}

#[test]
fn the_word_of_a_former_main_server_counts_and_that_of_a_former_office_does_not() {
    let desk = Desk::new();
    let former = SigningKey::from_seed([50; 32]);
    let code = "LMA".parse().unwrap();
    for (role, expected) in [(Role::Hub, true), (Role::Relay, false)] {
        let topology = desk.topology(
            "with-former",
            |topology| {
                let id = "lama".parse().unwrap();
                topology.former_nodes.push(FormerNode { id, code, key: former.public(), role, accept: true });
            },
            &desk.key("operator.key"),
        );
        let (outcome, out) = desk.verify(&receipt("lama", "rumbai.513.42", &former).to_string(), &topology, None);
        assert_eq!(outcome.is_ok(), expected, "{role}");
        assert_eq!(out.contains("is a main server no more"), expected, "{out}");
    }
}
