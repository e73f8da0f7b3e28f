//! What a counter program is told, in good times and bad.

use std::process::Command;

use crate::harness::{City, capture, get, noise, post, program, wait_for};

/// What is wrong, the body, the headers, the status that says so.
type Row<'a> = (&'a str, &'a [u8], &'a [(&'a str, &'a str)], u16);

#[test]
fn bad_requests_are_refused_with_what_to_do() {
    let mut city = City::new("pekanbaru");
    city.start("sail");
    let url = city.intake("sail");
    wait_for("intake answers", || post(&url, b"x", &[]).ok());
    let rows: [Row<'_>; 5] = [
        ("an unknown class", b"x", &[("estafet-class", "soon")], 400),
        ("a kind that is no word", b"x", &[("estafet-kind", "ktp el!")], 400),
        ("an empty key", b"x", &[("idempotency-key", "")], 400),
        ("a content type that is too long", b"x", &[("content-type", &"x".repeat(200))], 400),
        ("more than 16 MiB", &vec![0; (16 << 20) + 1], &[], 413),
    ];
    for (what, body, headers, status) in rows {
        let answer = post(&url, body, headers).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(answer.status, status, "{what}: {}", answer.body);
        assert!(answer.body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{what}: {}", answer.body);
    }
    assert_eq!(get(&format!("{url}/NOT-A-SLIP")).status, 400);
    assert_eq!(get(&format!("{url}/SKJ0-4000-1A7K")).status, 400);
}

#[test]
fn the_same_key_gives_the_same_slip_and_never_another_records() {
    let mut city = City::new("pekanbaru");
    city.start("sail");
    let url = city.intake("sail");
    wait_for("intake answers", || post(&url, b"x", &[]).ok());
    let (small, large) = (noise(1, 500), noise(2, 700_000));
    let first = capture(&url, &small, &[("idempotency-key", "a")]);
    let second = capture(&url, &large, &[("idempotency-key", "b")]);
    assert_eq!(capture(&url, &small, &[("idempotency-key", "a")]).slip, first.slip);
    assert_eq!(capture(&url, &large, &[("idempotency-key", "b")]).slip, second.slip);
    assert_eq!(post(&url, &large, &[("idempotency-key", "a")]).unwrap().status, 409);
    // The promise outlives the process: it stands in the record's own entry.
    city.kill("sail");
    city.start("sail");
    let again = wait_for("sail is back", || post(&url, &small, &[("idempotency-key", "a")]).ok());
    assert_eq!(again.body["slip"], first.slip.as_str());
    assert_eq!(post(&url, &small, &[("idempotency-key", "b")]).unwrap().status, 409);
}

#[test]
fn a_full_spool_refuses_before_it_gives_a_slip_and_keeps_what_it_has() {
    let mut city = City::new("pekanbaru");
    let config = city.config("sail");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("8GiB", "64MiB")).unwrap();
    city.start("sail");
    let url = city.intake("sail");
    wait_for("intake answers", || post(&url, b"x", &[]).ok());
    let mut taken = Vec::new();
    let refused = wait_for("the spool is full", || {
        let body = noise(taken.len() as u64, 4 << 20);
        let answer = post(&url, &body, &[]).unwrap();
        if answer.status == 201 {
            taken.push(crate::harness::given(&answer, &body));
            return None;
        }
        Some(answer)
    });
    assert_eq!(refused.status, 507, "{}", refused.body);
    assert!(refused.body["detail"].as_str().unwrap().contains("no slip"), "{}", refused.body);
    assert!(taken.len() > 8, "only {} records of 4 MiB fit into 64 MiB", taken.len());
    for node in city.node_ids() {
        if node != "sail" {
            city.start(&node);
        }
    }
    city.wait_until_receipted(taken.len() as u64 + 1);
    wait_for("there is room again", || (post(&url, b"y", &[]).unwrap().status == 201).then_some(()));
    let committed = city.committed();
    assert!(taken.iter().all(|given| committed.contains_key(&given.record_id)));
}

#[test]
fn a_failing_disk_gives_no_slip_and_says_so() {
    let mut city = City::new("pekanbaru");
    // Beyond this size every write to a file fails, as on a disk that dies. The signal is ignored, the error stays.
    let script = r#"trap '' XFSZ; ulimit -f 2048; exec "$0" run --config "$1""#;
    let mut command = Command::new("bash");
    command.arg("-c").arg(script).arg(program("estafet-relay")).arg(city.config("sail"));
    city.start_as("sail", command);
    let url = city.intake("sail");
    wait_for("intake answers", || post(&url, b"x", &[]).ok());
    let mut taken = Vec::new();
    let refused = wait_for("the disk fails", || {
        let body = noise(taken.len() as u64, 200_000);
        let answer = post(&url, &body, &[]).unwrap();
        if answer.status == 201 {
            taken.push(crate::harness::given(&answer, &body));
            return None;
        }
        Some(answer)
    });
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(post(&url, b"z", &[]).unwrap().status, 503, "a poisoned spool stays poisoned");
    assert!(city.log("sail").contains("ERROR"), "somebody must be called");
    // On a good disk everything that got a slip is there.
    city.kill("sail");
    for node in city.node_ids() {
        city.start(&node);
    }
    city.assert_honored(&taken);
}

#[test]
fn a_slip_survives_the_death_of_its_relay_the_moment_it_was_given() {
    let mut city = City::new("pekanbaru");
    city.start("sail");
    let url = city.intake("sail");
    wait_for("intake answers", || post(&url, b"x", &[]).ok());
    for round in 0..5 {
        let given = capture(&url, &noise(round, 300_000), &[]);
        city.kill("sail");
        city.start("sail");
        let state =
            wait_for("sail is back", || std::panic::catch_unwind(|| get(&format!("{url}/{}", given.slip))).ok());
        assert_eq!((state.status, &state.body["state"]), (200, &"waiting".into()), "{}", state.body);
    }
}

#[test]
fn submit_hands_in_files_and_prints_their_slips() {
    let mut city = City::new("pekanbaru");
    city.start("sail");
    wait_for("intake answers", || post(&city.intake("sail"), b"x", &[]).ok());
    let file = city.dir.join("formulir.pdf");
    std::fs::write(&file, noise(7, 90_000)).unwrap();
    let submit = || {
        let mut command = Command::new(program("estafet-relay"));
        command.arg("submit").arg("--config").arg(city.config("sail")).args(["--kind", "ktp-el"]).arg(&file);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        crate::harness::last_object(&output)
    };
    let first = submit();
    assert_eq!(first["content_bytes"], 90_000);
    assert_eq!(submit()["slip"], first["slip"], "repeating the command makes no second record");
}
