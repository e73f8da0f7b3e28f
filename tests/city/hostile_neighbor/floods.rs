//! Too many streams, frames and dials, and a neighbor that never reads.

use std::time::Duration;

use bytes::Bytes;
use estafet_intruder::Taking;
use estafet_wire::{Frame, padding};
use tokio::time::timeout;

use super::{Scene, again_and_again};
use crate::harness::{capture, noise, wait_for};

/// How long a flood lasts.
const FLOOD: Duration = Duration::from_secs(4);

#[test]
fn of_thousands_of_streams_few_are_open_and_the_others_come_at_a_pace() {
    let scene = Scene::new();
    let (session, _heard) = scene.join_politely("induk", Taking::Nothing);
    let (open, cycles) = scene.run(async {
        let mut open = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(300), session.open()).await {
            open.push(stream.unwrap());
            assert!(open.len() < 100, "nothing bounds them");
        }
        let count = open.len();
        // Each begins a piece, so that it holds a buffer, and is given up.
        drop(open.into_iter().map(|mut stream| stream.reset(1u32.into())).collect::<Vec<_>>());
        let cycles = again_and_again(FLOOD, |_| async {
            let Ok(mut stream) = session.open().await else { return false };
            let bytes: Bytes = padding(64).flatten().collect::<Vec<u8>>().into();
            stream.write_chunk(bytes).await.is_ok() && stream.finish().is_ok()
        });
        (count, cycles.await)
    });
    println!("{open} streams open at once, {cycles} one after the other in {FLOOD:?}");
    assert!(open <= 4, "{open}");
    let read_at_most = (32_768 + 8_000 * FLOOD.as_secs()) / 64 + 64;
    assert!(cycles < read_at_most && cycles > 400, "{cycles}");
    let given = capture(&scene.city.intake("rumbai"), &noise(1, 20_000), &[]);
    scene.city.assert_honored(&[given]);
    scene.assert_unharmed();
}

#[test]
fn who_never_reads_is_given_up_before_what_waits_for_it_fills_the_memory() {
    let scene = Scene::new();
    let session = scene.join("induk");
    // Each is answered with the whole database. The last word to it is lost with all others that it does not read.
    scene.run(async { while session.say(&Frame::LsdbSummary(Vec::new())).await.is_ok() {} });
    wait_for("it is given up", || scene.city.log("induk").contains("the neighbor does not read").then_some(()));
    let given = capture(&scene.city.intake("rumbai"), &noise(1, 20_000), &[]);
    scene.city.assert_honored(&[given]);
    scene.assert_unharmed();
}

#[test]
fn thousands_of_frames_a_second_are_read_at_a_pace() {
    let scene = Scene::new();
    let (session, _heard) = scene.join_politely("induk", Taking::Nothing);
    let ids = (1..=32).map(|seq| format!("senapelan.1.{seq}").parse().unwrap()).collect();
    let frame = Frame::Acceptances(ids);
    let units = 1 + (frame.encode().len() as u64 - 4) / 128;
    let said = scene.run(again_and_again(FLOOD, |_| async { session.say(&frame).await.is_ok() }));
    // What lies in the windows of the connection has not been read.
    let in_windows = (3 << 20) / frame.encode().len() as u64;
    let read_at_most = (32_768 + 8_000 * FLOOD.as_secs()) / units + in_windows;
    println!("{said} frames of {units} units left in {FLOOD:?}, at most {read_at_most}");
    assert!(said < read_at_most && said > 4_000, "{said}");
    let given = capture(&scene.city.intake("rumbai"), &noise(1, 20_000), &[]);
    scene.city.assert_honored(&[given]);
    scene.assert_unharmed();
}

#[test]
fn who_redials_as_fast_as_it_can_gets_few_handshakes_and_others_get_theirs() {
    let mut scene = Scene::new();
    // It is kept out, so that nothing but its dialing is left to it.
    let session = scene.join("induk");
    scene.run(async {
        session.say_bytes(Bytes::from_static(&[0xff; 8])).await.unwrap();
        session.ended().await.unwrap();
    });
    scene.city.kill("senapelan");
    let intruder = &scene.intruder;
    let handshakes = scene.run(async {
        let dial = || async {
            let mut done = 0u64;
            loop {
                done += u64::from(intruder.connect("induk").await.is_ok());
                if done == u64::MAX {
                    return done;
                }
            }
        };
        // Eight at a time; each that is let in is counted by the relay itself.
        let all = async { tokio::join!(dial(), dial(), dial(), dial(), dial(), dial(), dial(), dial()) };
        timeout(FLOOD, all).await.is_err()
    });
    assert!(handshakes, "they never end by themselves");
    let dials = scene.city.metric("induk", "estafet_handshakes_total").unwrap();
    println!("{dials} handshakes with all in {FLOOD:?}");
    let at_most = 128 + 16 * (FLOOD.as_secs() + 2) + 40;
    assert!(dials < at_most && dials > 60, "{dials}");
    scene.city.start("senapelan");
    wait_for("another gets in", || scene.city.next_hops("induk")?.get("senapelan").cloned());
    let given = capture(&scene.city.intake("senapelan"), &noise(1, 20_000), &[]);
    scene.city.assert_honored(&[given]);
    scene.assert_unharmed();
}
