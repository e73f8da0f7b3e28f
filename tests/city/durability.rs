//! A relay promises nothing on a disk that does not keep what is synced.

use std::path::Path;
use std::process::Command;

use crate::harness::{City, noise, post, program, said, wait_for};

/// A folder in memory. Every Linux has it.
const IN_MEMORY: &str = "/dev/shm";

/// Moves a node's data folder into memory.
fn move_to_memory(city: &City, node: &str, folder: &Path) {
    let config = city.config(node);
    let text = std::fs::read_to_string(&config).unwrap();
    let data = text.lines().find(|line| line.starts_with("data =")).map(str::to_owned);
    let moved = format!("data = \"{}\"", folder.display());
    let text = match data {
        Some(line) => text.replace(&line, &moved),
        None => format!("{moved}\n{text}"),
    };
    std::fs::write(config, text).unwrap();
}

#[test]
fn a_folder_in_memory_is_refused_unless_told_and_then_nothing_is_promised() {
    let memory = tempfile::tempdir_in(IN_MEMORY).unwrap();
    let mut city = City::new("pekanbaru");
    move_to_memory(&city, "rumbai", memory.path());

    let refused =
        Command::new(program("estafet-relay")).arg("run").arg("--config").arg(city.config("rumbai")).output().unwrap();
    let said = said(&refused);
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("inmemory") && said.contains("--no-durability-i-know"), "{said}");

    for node in city.node_ids().into_iter().filter(|node| node != "rumbai") {
        city.start(&node);
    }
    let mut command = Command::new(program("estafet-relay"));
    command.args(["run", "--no-durability-i-know", "--config"]).arg(city.config("rumbai"));
    city.start_as("rumbai", command);
    city.wait_until_whole();

    let shown = city.ask(&["--node", "induk", "show"]).unwrap();
    let not_durable: Vec<&str> = shown["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|node| node["durable"] == false)
        .filter_map(|node| node["id"].as_str())
        .collect();
    assert_eq!(not_durable, ["rumbai"]);

    let answer = post(&city.intake("rumbai"), &noise(1, 4096), &[]).unwrap();
    assert_eq!((answer.status, answer.body.get("slip")), (202, None), "no slip is given: {}", answer.body);
    let id = answer.body["record_id"].as_str().unwrap().to_owned();
    wait_for("what it took is committed all the same", || city.committed().contains_key(&id).then_some(()));
}
