//! Who is not in the topology gets in nowhere.

use std::process::Command;

use crate::harness::{City, capture, noise, program, topology, wait_for};

#[test]
fn a_node_with_another_key_gets_no_session() {
    let (mut city, other) = (City::new("pekanbaru"), City::new("pekanbaru"));
    // A machine that claims to be sail, with a key of its own: it knows the city, the city does not know it.
    let text = std::fs::read_to_string(city.dir.join("topology.toml")).unwrap();
    let key = |dir: &std::path::Path| {
        let text = std::fs::read_to_string(dir.join("topology.toml")).unwrap();
        let node = text.split("[[node]]").find(|part| part.contains("id = \"sail\"")).unwrap().to_owned();
        node.lines().find(|line| line.starts_with("key")).unwrap().to_owned()
    };
    let forged = text.replace(&key(&city.dir), &key(&other.dir));
    assert_ne!(forged, text);
    let stranger = city.dir.join("stranger");
    std::fs::create_dir(&stranger).unwrap();
    std::fs::write(stranger.join("topology.toml"), forged).unwrap();
    let operator_key = city.dir.join("operator.key");
    let signed = topology(&[
        "sign",
        stranger.join("topology.toml").to_str().unwrap(),
        "--key",
        operator_key.to_str().unwrap(),
        "-o",
        stranger.join("city.topology").to_str().unwrap(),
    ]);
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    let config = std::fs::read_to_string(city.config("sail")).unwrap();
    let config = config.replace("../../city.topology", stranger.join("city.topology").to_str().unwrap());
    std::fs::write(city.config("sail"), config).unwrap();
    std::fs::copy(other.folder("sail").join("node.key"), city.folder("sail").join("node.key")).unwrap();
    for node in ["induk", "sail", "sukajadi"] {
        city.start(node);
    }
    wait_for("induk refuses it", || city.log("induk").contains("not a neighbor").then_some(()));
    let log = city.run(&["audit-log", "induk"]);
    let log = String::from_utf8(log.stdout).unwrap();
    let told = log.lines().find(|line| line.contains(r#""what":"session""#)).expect("the refusal is in the audit log");
    assert!(told.contains("127.0.0.1") && told.contains("not a neighbor"), "{told}");
    wait_for("sukajadi is in", || city.next_hops("sukajadi")?.get("sukajadi").cloned());
    assert!(!city.next_hops("induk").unwrap().contains_key("sail"));
    assert!(!city.log("induk").contains("session up neighbor=sail"));
}

#[test]
fn a_removed_node_gets_no_session() {
    let mut city = City::new("pekanbaru");
    let text = std::fs::read_to_string(city.dir.join("topology.toml")).unwrap();
    let parts: Vec<&str> = text.split("\n[[").collect();
    let kept: Vec<&str> = parts.into_iter().filter(|part| !part.contains("\"sail\"")).collect();
    let without_sail = kept.join("\n[[").replace("version = 1", "version = 2");
    let old = city.dir.join("old.topology");
    std::fs::copy(city.dir.join("city.topology"), &old).unwrap();
    std::fs::write(city.dir.join("topology.toml"), without_sail).unwrap();
    let file = city.dir.join("topology.toml");
    let key = city.dir.join("operator.key");
    let signed = topology(&["sign", file.to_str().unwrap(), "--key", key.to_str().unwrap()]);
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    // The removed machine still has the old topology, in which it is a neighbor of induk.
    let config = std::fs::read_to_string(city.config("sail")).unwrap();
    std::fs::write(city.config("sail"), config.replace("../../city.topology", "../../old.topology")).unwrap();
    for node in ["induk", "sail", "sukajadi"] {
        city.start(node);
    }
    wait_for("induk refuses it", || city.log("induk").contains("not a neighbor").then_some(()));
    let given = capture(&city.intake("sukajadi"), &noise(1, 1_000), &[]);
    city.assert_honored(&[given]);
    assert!(!city.log("induk").contains("session up neighbor=sail"));
}

#[test]
fn a_tampered_topology_a_foreign_key_and_a_second_relay_are_refused_with_what_to_do() {
    let mut city = City::new("pekanbaru");
    let check = |city: &City| {
        let mut command = Command::new(program("estafet-relay"));
        let output = command.arg("check").arg("--config").arg(city.config("sail")).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(check(&city).0);
    city.start("sail");
    wait_for("sail runs", || city.log("sail").contains("serving").then_some(()));
    let mut second = Command::new(program("estafet-relay"));
    let second = second.arg("run").arg("--config").arg(city.config("sail")).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("another process"), "{said}");

    let signed = city.dir.join("city.topology");
    let good = std::fs::read_to_string(&signed).unwrap();
    std::fs::write(&signed, good.replace("cost = 10", "cost = 11")).unwrap();
    let (passed, said) = check(&city);
    assert!(!passed && said.contains("city.topology"), "{said}");
    std::fs::write(&signed, good).unwrap();

    std::fs::copy(city.folder("rumbai").join("node.key"), city.folder("sail").join("node.key")).unwrap();
    let (passed, said) = check(&city);
    assert!(!passed && said.contains("sail"), "{said}");
}
