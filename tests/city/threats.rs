//! THREATS.md names a test for each threat: it is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|ending| ending == "rs")).collect()
}

/// The functions that are marked as tests.
fn tests_of(text: &str) -> impl Iterator<Item = &str> {
    let marked = text.split("#[test]").skip(1).filter_map(|behind| behind.split_once("fn ")?.1.split_once('('));
    marked.map(|(name, _)| name)
}

/// What stands between backticks in the last column of a table's rows.
fn named_in(text: &str) -> BTreeSet<&str> {
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let cells = rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit_once(" | ").map(|(_, last)| last));
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.filter(|name| name.contains('_') && !name.contains(['/', ' '])).collect()
}

#[test]
fn every_threat_names_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let threats = fs::read_to_string(root.join("THREATS.md")).unwrap();
    let sources: Vec<String> = ["tests/city", "crates"]
        .iter()
        .flat_map(|folder| sources(&root.join(folder)))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let tests: BTreeSet<&str> = sources.iter().flat_map(|text| tests_of(text)).collect();
    let named = named_in(&threats);
    assert!(named.len() > 20, "the tables are not read: {named:?}");
    let missing: Vec<_> = named.difference(&tests).collect();
    assert!(missing.is_empty(), "THREATS.md names tests that are not there: {missing:?}");
    let rows = threats.lines().filter(|line| line.starts_with("| ") && !line.contains("| test |"));
    let without: Vec<&str> = rows.filter(|row| named_in(row).is_empty()).collect();
    assert!(without.is_empty(), "rows without a test: {without:?}");
}
