//! Nodes that were removed, and machines that were replaced.

use super::{SMALL, key, with_keys};
use crate::parse;

/// Sail was removed; Sukajadi has a new machine.
const FORMER: &str = r#"[[former_node]]
id = "sail"
code = "SAJ"
key = "KEY-3"

[[former_node]]
id = "sukajadi"
code = "SKJ"
key = "KEY-102"
accept = true

[[link]]"#;

fn text() -> String {
    SMALL.replacen("[[link]]", FORMER, 1)
}

#[test]
fn a_former_nodes_records_are_told_by_its_key_if_somebody_says_so() {
    let topology = parse("city.toml", &with_keys(&text())).unwrap();
    let keys = topology.origin_keys();
    let sukajadi = &keys[&"sukajadi".parse().unwrap()];
    assert_eq!(*sukajadi, [key(2).public(), key(102).public()], "the key of today first");
    assert!(!keys.contains_key(&"sail".parse().unwrap()));
    let accepted = text().replacen("key = \"KEY-3\"", "key = \"KEY-3\"\naccept = true", 1);
    let topology = parse("city.toml", &with_keys(&accepted)).unwrap();
    assert_eq!(topology.origin_keys()[&"sail".parse().unwrap()], [key(3).public()]);
    assert!(topology.node_by_key(&key(3).public()).is_none(), "it is let in nowhere");
}

#[test]
fn receipts_are_told_by_the_keys_of_hubs_and_of_who_was_one() {
    let keys = |text: &str, hub: &str| {
        let (topology, hub) = (parse("city.toml", &with_keys(text)).unwrap(), hub.parse().unwrap());
        let keys: Vec<_> = topology.receipt_keys(&hub).collect();
        (keys, topology)
    };
    let (of_hub, topology) = keys(&text(), "induk");
    assert_eq!(of_hub, [(topology.node(&"induk".parse().unwrap()).unwrap().key, true)]);
    for (hub, expected) in [("sail", vec![]), ("sukajadi", vec![]), ("nobody", vec![])] {
        assert_eq!(keys(&text(), hub).0, expected, "{hub} never was one");
    }
    let was_hub = text().replacen("key = \"KEY-3\"", "key = \"KEY-3\"\nrole = \"hub\"", 1);
    assert_eq!(keys(&was_hub, "sail").0, [(key(3).public(), false)]);
}

#[test]
fn slips_of_a_removed_node_still_name_it() {
    let topology = parse("city.toml", &with_keys(&text())).unwrap();
    let (sail, code) = ("sail".parse().unwrap(), "SAJ".parse().unwrap());
    assert_eq!((topology.code_of(&sail), topology.id_by_code(code)), (Some(code), Some(&sail)));
    assert!(topology.node(&sail).is_none());
}

#[test]
fn ids_codes_and_keys_are_never_used_again() {
    for (from, to, expected) in [
        ("", "", None),
        ("code = \"SAJ\"", "code = \"SKJ\"", Some("short code `SKJ` was `sail`'s")),
        ("code = \"SKJ\"\nkey", "code = \"SKK\"\nkey", Some("`sukajadi` was a node with another short code")),
        ("KEY-3", "KEY-2", Some("already used on line")),
        ("KEY-3", "KEY-100", Some("already used on line")),
        ("KEY-3", "KEY-102", Some("already used on line")),
    ] {
        let (before, former) = text().split_once("[[former_node]]").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let changed = format!("{before}[[former_node]]{}", former.replacen(from, to, 1));
        let faults = parse("city.toml", &with_keys(&changed)).err();
        let found = faults.as_ref().and_then(|faults| faults.faults().first()).map(|fault| fault.what.clone());
        match expected {
            Some(part) => assert!(found.as_deref().is_some_and(|what| what.contains(part)), "{to}: {found:?}"),
            None => assert_eq!(found, None),
        }
    }
}
