//! What is no frame and no piece, and frames that answer nothing.

use bytes::Bytes;
use estafet_intruder::{Taking, piece};
use estafet_model::{Epoch, NodeId, ReceiptKey, RecordId, SeqRanges, SetDigest};
use estafet_wire::{Answer, CONTROL_FRAME_BYTES_MAX, Frame, Holding, NeverReason, RecordSet, Verdict};

use super::Scene;
use crate::harness::{capture, noise, wait_for};

/// What is sent, and whether as control or as payload.
fn junk() -> [(&'static str, Vec<u8>, bool); 3] {
    let too_long = u32::try_from(CONTROL_FRAME_BYTES_MAX).unwrap() + 1;
    let no_frame = [&50u32.to_le_bytes()[..], &noise(1, 50)].concat();
    [
        ("induk", no_frame, true),
        ("rumbai", [&too_long.to_le_bytes()[..], &noise(2, 100_000)].concat(), true),
        ("senapelan", noise(3, 100_000), false),
    ]
}

#[test]
fn junk_ends_the_session_and_keeps_its_sender_out_ever_longer() {
    let scene = Scene::new();
    for round in 0..2 {
        for (relay, bytes, is_control) in junk() {
            let joined = scene.join(relay);
            let ended = scene.run(async {
                if is_control {
                    joined.say_bytes(bytes.into()).await.unwrap();
                } else {
                    let mut stream = joined.open().await.unwrap();
                    stream.write_chunk(bytes.into()).await.unwrap();
                }
                joined.ended().await.unwrap()
            });
            assert!(ended.contains("bad control frame") || ended.contains("bad payload"), "{relay}: {ended}");
            let refused = scene.refused(relay).expect("it is kept out for seconds");
            assert!(refused.contains("kept out"), "{relay}: {refused}");
            let expected: &[u64] = if round == 0 { &[5] } else { &[5, 10] };
            assert_eq!(scene.exclusions(relay), expected, "{relay}");
        }
    }
    let given = capture(&scene.city.intake("rumbai"), &noise(4, 10_000), &[]);
    scene.city.assert_honored(&[given]);
    scene.assert_unharmed();
}

/// Everything that a neighbor may answer, of a record that it was never handed.
fn answers(id: &RecordId) -> Vec<Frame> {
    let verdicts = [
        Verdict::Have,
        Verdict::Want { first_chunk: 900 },
        Verdict::Never(NeverReason::Conflict),
        Verdict::Full(std::time::Duration::from_secs(1 << 20)),
        Verdict::Wait(std::time::Duration::from_secs(1 << 20)),
    ];
    let set = RecordSet::new(7, id.origin.clone(), id.epoch, SeqRanges::up_to(Some(id.seq))).unwrap();
    let answers = verdicts.map(|verdict| Answer { id: id.clone(), verdict });
    vec![
        Frame::Answers(answers.into()),
        Frame::Acceptances(vec![id.clone(); 100]),
        Frame::Holdings(vec![Holding { set: set.clone(), digest: SetDigest([0; 32]) }]),
        Frame::Inventory(vec![set; 64]),
    ]
}

#[test]
fn who_accepts_what_it_was_never_handed_or_forges_receipts_ends_no_record() {
    let mut scene = Scene::new();
    let first = capture(&scene.city.intake("rumbai"), &noise(1, 1_000), &[]);
    scene.city.wait_until_receipted(1);
    scene.city.kill("induk");
    wait_for("rumbai has no way", || (!scene.city.next_hops("rumbai")?.contains_key("rumbai")).then_some(()));
    let held = capture(&scene.city.intake("rumbai"), &noise(2, 50_000), &[]);
    let id: RecordId = held.record_id.parse().unwrap();
    let (intruder, _heard) = scene.join_politely("rumbai", Taking::Nothing);
    let ended = scene.run(async {
        for frame in answers(&id) {
            intruder.say(&frame).await.unwrap();
        }
        let key = |hub: &str| {
            let hub: NodeId = hub.parse().unwrap();
            ReceiptKey { hub, origin: id.origin.clone(), epoch: id.epoch }
        };
        let covers = SeqRanges::up_to(Some(id.seq));
        let forged = scene.intruder.receipt(key("induk"), covers.clone()).encode();
        let mut flipped = forged.to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        let of_no_hub = scene.intruder.receipt(key("sukajadi"), covers).encode();
        // Receipts of epochs that never were: nothing is remembered of them.
        let made_up = (1..=Epoch::MAX)
            .filter_map(Epoch::new)
            .map(|epoch| scene.intruder.receipt(ReceiptKey { epoch, ..key("induk") }, SeqRanges::new()).encode());
        for receipts in [vec![forged], vec![flipped.into()], vec![of_no_hub], made_up.collect::<Vec<Bytes>>()] {
            if intruder.say(&Frame::Receipts(receipts)).await.is_err() {
                break;
            }
        }
        intruder.ended().await.unwrap()
    });
    assert!(ended.contains("receipts that no main server signed"), "{ended}");
    let whereabouts = scene.city.ask(&["--node", "rumbai", "trace", &held.slip]).unwrap();
    assert!(!whereabouts.to_string().contains("receipted"), "{whereabouts}");
    assert_eq!(scene.city.metric("rumbai", "estafet_records_held"), Some(1));
    scene.city.start("induk");
    scene.city.assert_honored(&[first, held]);
    scene.assert_unharmed();
}

#[test]
fn pieces_that_nobody_asked_for_are_read_ever_slower() {
    let scene = Scene::new();
    let origin: NodeId = "sukajadi".parse().unwrap();
    let payload = vec![0; 1_000_000];
    let id = RecordId { origin, epoch: Epoch::FIRST, seq: "sukajadi.1.1".parse::<RecordId>().unwrap().seq };
    let header = scene.intruder.headers([(id, &payload[..])]).remove(0);
    let chunks: Vec<&[u8]> = payload.chunks(16 << 10).collect();
    let hashes = vec![estafet_model::ChunkHash::of(b"", 0, 1); chunks.len()];
    let unwanted = piece(&header, 5, &hashes, chunks[5]);
    let (intruder, _heard) = scene.join_politely("induk", Taking::Nothing);
    let span = std::time::Duration::from_secs(6);
    let sent = scene.run(async {
        let stream = tokio::sync::Mutex::new(intruder.open().await.unwrap());
        super::again_and_again(span, |_| async { stream.lock().await.write_chunk(unwanted.clone()).await.is_ok() })
            .await
    });
    // What may come at once, at five units each, then a hundred a second, and what lies in the windows of the connection.
    let read_at_most = (8_192 + 6 * 500) / 5 + (64 + 8) * 64;
    println!("{sent} unwanted pieces left in {span:?}");
    assert!(sent < read_at_most, "{sent}");
    let given = capture(&scene.city.intake("senapelan"), &noise(4, 10_000), &[]);
    scene.city.assert_honored(&[given]);
    scene.assert_unharmed();
}
