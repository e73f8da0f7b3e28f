//! Who is believed, and what happens to a file on its way.

use super::{SMALL, city, key, small, with_keys};
use crate::{Operator, OperatorRole, SignError, SignedTopology, Template, Topology, UntrustedTopology};

fn signed() -> SignedTopology {
    SignedTopology::sign(small(), "kepala", &key(100)).unwrap()
}

/// The small area with a second admin (key 101) and somebody who only looks (key 102).
fn with_more_operators() -> Topology {
    let mut topology = small();
    for (id, number, role) in [("wakil", 101, OperatorRole::Admin), ("tamu", 102, OperatorRole::Viewer)] {
        topology.operators.push(Operator { id: id.to_owned(), key: key(number).public(), role });
    }
    topology
}

/// Signs any text as a body, as a program could that does not use this crate.
fn signed_body(body: &str, operator: &str, number: u8) -> String {
    let signature = key(number).sign("estafet topology", body.as_bytes());
    let signature = data_encoding::BASE64URL_NOPAD.encode(signature.as_bytes());
    format!("estafet-topology 1\nsignature = {operator} {} {signature}\n---\n{body}", key(number).public())
}

#[test]
fn a_signed_file_reads_back() {
    for topology in [small(), city(Template::Pekanbaru), city(Template::Pekanbaru2013)] {
        let signed = SignedTopology::sign(topology.clone(), "kepala", &key(100)).unwrap();
        let read = SignedTopology::decode(&signed.encode(), &[key(100).public()]).unwrap();
        assert_eq!(read, signed);
        assert_eq!(read.topology(), &topology);
        assert_eq!(read.signers().len(), 1);
        assert_eq!((read.signers()[0].operator.as_str(), read.signers()[0].key), ("kepala", key(100).public()));
    }
}

#[test]
fn only_a_listed_admin_signs() {
    let sign = |operator: &str, number| SignedTopology::sign(with_more_operators(), operator, &key(number));
    assert!(sign("kepala", 100).is_ok());
    assert!(matches!(sign("bukan-siapa", 100), Err(SignError::SignerUnknown { .. })));
    assert!(matches!(sign("kepala", 101), Err(SignError::SignerHasOtherKey { .. })));
    assert!(matches!(sign("tamu", 102), Err(SignError::SignerNotAdmin { role: OperatorRole::Viewer, .. })));
    assert!(matches!(signed().countersign("kepala", &key(100)), Err(SignError::SignerSuperfluous { .. })));
}

#[test]
fn what_was_built_by_hand_is_checked_before_it_is_signed() {
    let mut faulty = small();
    faulty.hubs.clear();
    assert!(matches!(SignedTopology::sign(faulty, "kepala", &key(100)), Err(SignError::TopologyFaulty(_))));

    let mut misfiled = small();
    let node = misfiled.nodes.remove(&"sukajadi".parse().unwrap()).unwrap();
    misfiled.nodes.insert("tampan".parse().unwrap(), node);
    assert!(matches!(SignedTopology::sign(misfiled, "kepala", &key(100)), Err(SignError::TopologyAmbiguous)));

    let mut smuggled = small();
    smuggled.outages[0].start = "2013-08-06T18:00:00+07:00\"\n[[operator]]\nid = \"maling".to_owned();
    assert!(matches!(SignedTopology::sign(smuggled, "kepala", &key(100)), Err(SignError::TopologyFaulty(_))));
}

#[test]
fn trust_passes_from_one_admin_to_the_next() {
    let by_one = SignedTopology::sign(with_more_operators(), "kepala", &key(100)).unwrap();
    let by_both = by_one.clone().countersign("wakil", &key(101)).unwrap();
    for (file, trusted, believed) in [
        (&by_one, 100, true),
        (&by_one, 101, false),
        (&by_both, 100, true),
        (&by_both, 101, true),
        (&by_both, 102, false),
    ] {
        assert_eq!(SignedTopology::decode(&file.encode(), &[key(trusted).public()]).is_ok(), believed);
    }
    let error = SignedTopology::decode(&by_both.encode(), &[]).unwrap_err();
    insta::assert_snapshot!(error, @"signed by `kepala`, `wakil`, whom this node does not trust");
}

#[test]
fn every_changed_letter_is_found() {
    let file = signed().encode();
    let trusted = [key(100).public()];
    for (position, letter) in file.char_indices() {
        let mut changed = file.clone();
        let other = if letter == 'x' { "y" } else { "x" };
        changed.replace_range(position..position + letter.len_utf8(), other);
        assert!(SignedTopology::decode(&changed, &trusted).is_err(), "changed at {position}: {changed}");
    }
    for length in 0..file.len() {
        assert!(SignedTopology::decode(&file[..length], &trusted).is_err(), "cut at {length}");
    }
}

#[test]
fn a_file_is_refused_by_who_is_at_fault() {
    use UntrustedTopology as U;
    let file = signed().encode();
    let trusted = [key(100).public()];
    let body = with_more_operators().to_toml();
    let loose = with_keys(SMALL);
    let faulty = body.replace("role = \"hub\"", "role = \"relay\"");
    let twice = file.replacen("---", &format!("{}\n---", file.lines().nth(1).unwrap()), 1);
    type Row<'a> = (&'a str, String, fn(&U) -> bool);
    let rows: [Row<'_>; 15] = [
        ("empty", String::new(), |e| matches!(e, U::FileMalformed { .. })),
        ("unsigned", loose.clone(), |e| matches!(e, U::FileMalformed { .. })),
        ("no signature", format!("estafet-topology 1\n---\n{body}"), |e| matches!(e, U::FileMalformed { .. })),
        ("no separator", file.replacen("---\n", "", 1), |e| matches!(e, U::FileMalformed { .. })),
        ("signed twice by one", twice, |e| matches!(e, U::FileMalformed { .. })),
        ("a fourth word", file.replacen("\n---", " x\n---", 1), |e| matches!(e, U::FileMalformed { .. })),
        ("too long", file.clone() + &" ".repeat(5 << 20), |e| matches!(e, U::FileMalformed { .. })),
        ("newer", file.replacen(" 1\n", " 2\n", 1), |e| matches!(e, U::FileOfOtherFormat { .. })),
        ("tampered", file.replacen("version = 3", "version = 4", 1), |e| matches!(e, U::FileAltered { .. })),
        ("appended", file.clone() + "\n", |e| matches!(e, U::FileAltered { .. })),
        ("a stranger", signed_body(&body, "kepala", 7), |e| matches!(e, U::SignerUnknown { .. })),
        ("under another name", signed_body(&body, "wakil", 100), |e| matches!(e, U::SignerNotAdmin { .. })),
        ("with faults", signed_body(&faulty, "kepala", 100), |e| matches!(e, U::SignerPassedFaults(_))),
        ("not canonical", signed_body(&loose, "kepala", 100), |e| {
            matches!(e, U::SignerSkippedCanonicalForm { line: 13 })
        }),
        ("a comment", signed_body(&format!("{body}# x\n"), "kepala", 100), |e| {
            matches!(e, U::SignerSkippedCanonicalForm { .. })
        }),
    ];
    for (name, file, expected) in rows {
        let error = SignedTopology::decode(&file, &trusted).expect_err(name);
        assert!(expected(&error), "{name}: {error:?}");
    }
    let by_viewer = signed_body(&body, "tamu", 102);
    let error = SignedTopology::decode(&by_viewer, &[key(102).public()]).unwrap_err();
    assert!(matches!(error, U::SignerNotAdmin { .. }), "{error:?}");
}
