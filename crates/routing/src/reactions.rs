//! Tests of how one router reacts before anybody is told: suspects, gray links, neighbors that flap.

use std::time::Duration;

use crate::area::{Area, LATENCY, SETTLE};
use crate::pekanbaru::{by_radio, id, network_2013, redundant};
use crate::quality::LinkSample;
use crate::suspicion::SUSPECT_AFTER;

fn sample(packets_sent: u64, packets_lost: u64) -> LinkSample {
    LinkSample { round_trip: LATENCY * 2, packets_sent, packets_lost, window_bytes: 1 << 20 }
}

/// Measures a link twice a second for so long, with so many of a hundred packets lost.
fn measure(area: &mut Area, from: &str, to: &str, begin: u64, seconds: u64, lost_percent: u64) {
    for step in 1..=seconds * 2 {
        let sample = sample(begin + step * 100, step * lost_percent);
        area.change(from, |router, now| router.measured(now, &by_radio(to), sample));
        area.run(Duration::from_millis(500));
    }
}

#[test]
fn a_suspect_is_the_last_choice_at_once_and_nobody_is_told() {
    let mut area = Area::settled(redundant());
    assert_eq!(area.downhill("rumbai"), "sukajadi senapelan");
    area.lsa_frames = 0;
    area.change("rumbai", |router, now| {
        router.busy(now, &by_radio("sukajadi"));
        router.handle_timeout(now + SUSPECT_AFTER / 2, |_| true);
        router.handle_timeout(now + SUSPECT_AFTER, |_| true);
    });
    assert_eq!(area.next_hops("rumbai"), "senapelan rumbai-pesisir sukajadi");
    assert_eq!(area.downhill("rumbai"), "senapelan");
    area.change("rumbai", |router, now| router.acknowledged(now + SUSPECT_AFTER * 2, &by_radio("sukajadi")));
    assert_eq!(area.next_hops("rumbai"), "sukajadi senapelan rumbai-pesisir");
    assert_eq!(area.lsa_frames, 0);
}

#[test]
fn a_gray_link_is_left_within_three_seconds_and_used_again_after_ten_good_ones() {
    let mut area = Area::settled(redundant());
    measure(&mut area, "rumbai", "sukajadi", 0, 3, 30);
    assert_eq!(area.next_hops("rumbai"), "senapelan rumbai-pesisir sukajadi");
    assert!(area.router("rumbai").gray(&id("sukajadi")).is_some());
    assert_eq!(area.downhill("rumbai"), "senapelan rumbai-pesisir", "both are nearer now than rumbai");
    assert_eq!(area.next_hops("rumbai-pesisir"), "sukajadi lima-puluh rumbai", "its own link is good");
    measure(&mut area, "rumbai", "sukajadi", 1_000, 9, 0);
    assert_eq!(area.next_hops("rumbai"), "senapelan rumbai-pesisir sukajadi");
    measure(&mut area, "rumbai", "sukajadi", 3_000, 6, 0);
    area.assert_agree_on(&area.map);
}

#[test]
fn who_flaps_is_the_last_choice_until_it_has_come_to_stay() {
    let mut area = Area::settled(redundant());
    let mut changes = Vec::new();
    for second in 0..100 {
        match second % 4 {
            _ if second > 62 => {}
            0 => area.change("rumbai", |router, now| router.session_down(now, &by_radio("sukajadi"))),
            2 => area.change("rumbai", |router, now| router.session_up(now, &by_radio("sukajadi"))),
            _ => {}
        }
        area.run(Duration::from_secs(1));
        let first = area.router("rumbai").next_hops()[0].neighbor.clone();
        if changes.last().is_none_or(|(_, last)| *last != first) {
            changes.push((second, first));
        }
    }
    let [(0, away), (back, sukajadi)] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((away, sukajadi), (&id("senapelan"), &id("sukajadi")));
    assert!((62..=90).contains(back), "used again at {back}");
}

#[test]
fn who_has_no_other_way_uses_a_flapping_neighbor_all_the_same() {
    let mut area = Area::settled(network_2013());
    for _ in 0..3 {
        area.change("rumbai", |router, now| router.session_down(now, &by_radio("sukajadi")));
        area.run(SETTLE);
        area.change("rumbai", |router, now| router.session_up(now, &by_radio("sukajadi")));
        area.run(SETTLE);
        assert_eq!(area.next_hops("rumbai"), "sukajadi");
    }
}
