//! Records in other origins' names, under other numbers, with other bytes; and records that are promised and never come.

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use estafet_intruder::{Taking, piece};
use estafet_model::{CHUNK_BYTES, Class, HeaderDigest, PAYLOAD_BYTES_MAX, RecordId};
use estafet_wire::{Answer, Frame, NeverReason, Offer, Verdict};
use tokio::sync::mpsc::UnboundedReceiver;

use super::Scene;
use crate::harness::{capture, noise, wait_for};

fn record(id: &str) -> RecordId {
    id.parse().unwrap()
}

/// What the relay answers about a record.
async fn answered(heard: &mut UnboundedReceiver<Frame>, about: &RecordId) -> Verdict {
    loop {
        if let Frame::Answers(answers) = heard.recv().await.expect("the session goes on")
            && let Some(Answer { verdict, .. }) = answers.into_iter().find(|answer| answer.id == *about)
        {
            return verdict;
        }
    }
}

#[test]
fn records_that_are_not_what_they_say_are_refused_and_the_true_ones_arrive() {
    let scene = Scene::new();
    let (session, mut heard) = scene.join_politely("induk", Taking::Nothing);
    let payload = noise(9, 2_000);
    let of = |id: &str| scene.intruder.headers([(record(id), &payload[..])]).remove(0);
    let refused =
        [NeverReason::ForgedHeader, NeverReason::ForgedHeader, NeverReason::UnknownOrigin].map(Verdict::Never);
    let in_anothers_name = piece(&of("rumbai.1.1"), 0, &[], &payload);
    // The header is signed, and for another number than the one that it travels under.
    let renumbered = {
        let head = estafet_wire::PieceHead {
            signed_header: Some(of("sukajadi.1.7").encode()),
            id: record("sukajadi.1.8"),
            index: 0,
            chunks: 1,
            chunk_hashes: Vec::new(),
        };
        Bytes::from([&head.encode(payload.len())[..], &payload].concat())
    };
    let of_nobody = piece(&of("nobody.1.1"), 0, &[], &payload);
    let own = piece(&of("sukajadi.1.1"), 0, &[], &payload);
    let other_payload = noise(10, 2_000);
    let second =
        piece(&scene.intruder.headers([(record("sukajadi.1.1"), &other_payload[..])])[0], 0, &[], &other_payload);
    scene.run(async {
        let mut stream = session.open().await.unwrap();
        let rows = [(in_anothers_name, "rumbai.1.1"), (renumbered, "sukajadi.1.8"), (of_nobody, "nobody.1.1")];
        for ((bytes, about), expected) in rows.into_iter().zip(refused) {
            stream.write_chunk(bytes).await.unwrap();
            assert_eq!(answered(&mut heard, &record(about)).await, expected, "{about}");
        }
        // Its own is taken once, however often it comes, and under its number nothing else ever is.
        stream.write_chunk(own.clone()).await.unwrap();
        let accepted = async {
            while !matches!(heard.recv().await.unwrap(), Frame::Acceptances(ids) if ids == [record("sukajadi.1.1")]) {}
        };
        accepted.await;
        for _ in 0..200 {
            stream.write_chunk(own.clone()).await.unwrap();
        }
        assert_eq!(answered(&mut heard, &record("sukajadi.1.1")).await, Verdict::Have);
        stream.write_chunk(second).await.unwrap();
        let mut verdict = Verdict::Have;
        while verdict == Verdict::Have {
            verdict = answered(&mut heard, &record("sukajadi.1.1")).await;
        }
        assert_eq!(verdict, Verdict::Never(NeverReason::Conflict));
    });
    let given = capture(&scene.city.intake("rumbai"), &noise(1, 3_000), &[]);
    assert_eq!(given.record_id.split('.').next(), Some("rumbai"));
    scene.city.assert_honored(&[given]);
    let committed = scene.city.committed();
    assert_eq!(committed.len(), 2, "{committed:?}");
    scene.assert_unharmed();
}

#[test]
fn who_sends_other_bytes_than_it_signed_is_kept_out() {
    let scene = Scene::new();
    let (session, _heard) = scene.join_politely("rumbai", Taking::Nothing);
    let ended = scene.run(async {
        let mut stream = session.open().await.unwrap();
        for number in 1..=3 {
            let header = &scene.intruder.headers([(record(&format!("sukajadi.1.{number}")), &b"meant"[..])])[0];
            stream.write_chunk(piece(header, 0, &[], b"other")).await.unwrap();
        }
        session.ended().await.unwrap()
    });
    assert!(ended.contains("payloads of other records"), "{ended}");
    let given = capture(&scene.city.intake("rumbai"), &noise(1, 3_000), &[]);
    scene.city.assert_honored(&[given]);
    assert_eq!(scene.city.committed().len(), 1);
    scene.assert_unharmed();
}

/// Sends offers of the largest records, in its own name and in another's, and never a piece.
async fn offer_without_end(session: &estafet_intruder::Polite, until: Instant) {
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let mut round = 0u8;
    while Instant::now() < until {
        round = round.wrapping_add(1);
        let offers = (0..32u32).map(|number| Offer {
            id: record(&format!(
                "{}.1.{}",
                if number.is_multiple_of(2) { "sukajadi" } else { "senapelan" },
                900_000 + number
            )),
            class: Class::Normal,
            payload_bytes: PAYLOAD_BYTES_MAX - number,
            digest: HeaderDigest([round; 32]),
            for_hub: None,
        });
        if session.say(&Frame::Offers(offers.collect())).await.is_err() {
            return;
        }
        pace.tick().await;
    }
}

#[test]
fn who_offers_without_end_and_never_sends_keeps_nobody_waiting() {
    /// More than may be on its way at once to a neighbor, many times.
    const RECORDS: u64 = 40;
    let scene = Scene::new();
    let send = |seed: u64| {
        let began = Instant::now();
        let given: Vec<_> =
            (0..RECORDS).map(|n| capture(&scene.city.intake("senapelan"), &noise(seed + n, 600_000), &[])).collect();
        scene.city.wait_until_receipted((seed / 1_000 + 1) * RECORDS);
        (began.elapsed(), given)
    };
    let (alone, mut given) = send(0);
    let (session, _heard) = scene.join_politely("induk", Taking::Nothing);
    let until = Instant::now() + Duration::from_secs(60);
    let offers = scene.runtime.spawn(async move { offer_without_end(&session, until).await });
    let (beside, more) = send(1_000);
    offers.abort();
    println!("{RECORDS} records of 600 kB: {alone:?} alone, {beside:?} beside the offers");
    // A second of standing still is what the first broken promise costs.
    assert!(beside < alone * 2 + Duration::from_secs(2), "{beside:?} instead of {alone:?}");
    given.extend(more);
    scene.city.assert_honored(&given);
    scene.assert_unharmed();
}

#[test]
fn who_floods_an_office_without_a_way_leaves_a_third_of_its_room() {
    const SPOOL_MIB: u64 = 64;
    /// What transit may take of it: the rest is for the counter, for receipts and control.
    const TRANSIT_MIB: u64 = SPOOL_MIB * 13 / 16;
    let mut scene = Scene::prepared(|city| {
        let config = city.config("rumbai");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("8GiB", &format!("{SPOOL_MIB}MiB"))).unwrap();
    });
    scene.city.kill("induk");
    let (session, mut heard) = scene.join_politely("rumbai", Taking::Nothing);
    let is_heard = || scene.city.log("rumbai").contains("adjacency up neighbor=sukajadi").then_some(());
    wait_for("rumbai listens", is_heard);
    let payload = vec![7; CHUNK_BYTES];
    let sent = scene.run(async {
        let mut stream = session.open().await.unwrap();
        for number in 1..10_000u64 {
            let id = record(&format!("sukajadi.1.{number}"));
            let header = &scene.intruder.headers([(id.clone(), &payload[..])])[0];
            stream.write_chunk(piece(header, 0, &[], &payload)).await.unwrap();
            loop {
                match heard.recv().await.expect("the session goes on") {
                    Frame::Acceptances(accepted) if accepted.contains(&id) => break,
                    Frame::Answers(answers) if answers.iter().any(|answer| answer.id == id) => {
                        assert!(matches!(answers[0].verdict, Verdict::Full(_)), "{answers:?}");
                        return number - 1;
                    }
                    _ => {}
                }
            }
        }
        panic!("the flood never ends");
    });
    let taken_mib = (sent * payload.len() as u64) >> 20;
    println!("{taken_mib} of {TRANSIT_MIB} MiB were taken of the flood");
    // The relay looks at its room now and then.
    assert!((TRANSIT_MIB / 2..TRANSIT_MIB * 3 / 4).contains(&taken_mib), "{taken_mib} of {TRANSIT_MIB} MiB");
    assert!(!scene.city.log("rumbai").contains("asked to wait"), "others find room");
    let given = capture(&scene.city.intake("rumbai"), &noise(1, 3_000), &[]);
    scene.city.start("induk");
    scene.city.assert_honored(&[given]);
    scene.assert_unharmed();
}
