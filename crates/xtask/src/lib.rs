//! Building this workspace's programs from within one of them.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Builds packages in one of Cargo's profiles and tells where their programs are, by name. Cargo shows its progress.
///
/// The places come from Cargo itself, so that a target folder or a configuration of the user's own is respected.
pub fn build(profile: &str, packages: &[&str]) -> io::Result<BTreeMap<String, PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut building = Command::new(cargo);
    // What Cargo tells this program about its own package would make the inner Cargo build much again.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_BIN_") {
            building.env_remove(&*name);
        }
    }
    let mut building = building
        .args(["build", "--profile", profile, "--message-format=json-render-diagnostics"])
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let messages = building.stdout.take().ok_or_else(|| io::Error::other("cargo has no standard output"))?;
    let mut programs = BTreeMap::new();
    for line in BufReader::new(messages).lines() {
        programs.extend(program(&line?));
    }
    let status = building.wait()?;
    if status.success() { Ok(programs) } else { Err(io::Error::other(format!("cargo build ended with {status}"))) }
}

/// The name and place of the program that one of Cargo's messages speaks of, if it does.
fn program(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let place = message["executable"].as_str()?;
    Some((message["target"]["name"].as_str()?.to_owned(), place.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_cargos_messages() {
        let artifact =
            r#"{"reason":"compiler-artifact","target":{"name":"topology"},"executable":"/t/release/topology"}"#;
        assert_eq!(program(artifact), Some(("topology".to_owned(), "/t/release/topology".into())));
        let library = r#"{"reason":"compiler-artifact","target":{"name":"estafet_cli"},"executable":null}"#;
        for other in [library, r#"{"reason":"build-finished","success":true}"#, "not JSON"] {
            assert_eq!(program(other), None, "{other}");
        }
    }
}
