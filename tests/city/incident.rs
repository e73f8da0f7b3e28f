//! A machine is stolen: what it held is told by all others, within the hours that the law gives.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::harness::{CHAIN, City, Given, agent, capture, last_object, noise, post_by, said, wait_for};

fn captures(city: &City, node: &str, seeds: std::ops::Range<u64>) -> Vec<Given> {
    seeds.map(|seed| capture(&city.intake(node), &noise(seed, 1_000), &[])).collect()
}

/// The next whole second, once it has begun.
fn next_second() -> String {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let begun = now();
    let next = wait_for("the next second", || Some(now()).filter(|now| *now > begun));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(next)).to_string()
}

/// How many records the machine held; `ESTAFET_RECORDS` of them.
const RECORDS: u64 = 1_000;

/// However many: the law's 72 hours are for people.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn many_records_are_told_soon() {
    let records = std::env::var("ESTAFET_RECORDS").map_or(RECORDS, |records| records.parse().unwrap());
    let mut city = City::new("pekanbaru-2013");
    CHAIN.iter().for_each(|node| city.start(node));
    city.wait_for_path(&CHAIN);
    let since = next_second();
    std::thread::scope(|scope| {
        for counter in 0..COUNTERS {
            let url = city.intake(if counter % 2 == 0 { "rumbai" } else { "sukajadi" });
            scope.spawn(move || {
                let agent = agent();
                for seed in (0..records).filter(|seed| seed % COUNTERS == counter) {
                    let answer = post_by(&agent, &url, &noise(seed, 500), &[]).unwrap();
                    assert_eq!(answer.status, 201, "{}", answer.body);
                }
            });
        }
    });
    city.wait_until_receipted(records);
    city.kill("sukajadi");
    let out = city.dir().join("incident.csv");
    let asked = Instant::now();
    let report = city.ask(&["incident", "sukajadi", "--since", &since, "-o", out.to_str().unwrap()]).unwrap();
    let took = asked.elapsed();
    println!("{records} records told in {took:?}");
    assert_eq!((&report["certain"], &report["possible"]), (&records.into(), &0.into()));
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count() as u64, records + 1);
    assert!(took < ANSWERED_WITHIN, "{took:?}");
}

/// Who hand in at the same time.
const COUNTERS: u64 = 32;

#[test]
fn what_a_stolen_machine_held_is_told_by_all_others() {
    let mut city = City::new("pekanbaru-2013");
    CHAIN.iter().for_each(|node| city.start(node));
    city.wait_for_path(&CHAIN);
    let kept = captures(&city, "sukajadi", 0..2);
    let before = captures(&city, "rumbai", 10..11);
    city.assert_honored(&[&kept[..], &before[..]].concat());
    let since = next_second();
    let captured = captures(&city, "sukajadi", 2..5);
    let passed_on = captures(&city, "rumbai", 11..13);
    city.assert_honored(&[&kept[..], &before, &captured, &passed_on].concat());
    wait_for("sukajadi has heard of all receipts", || {
        (city.metric("sukajadi", "estafet_records_held")? == 0).then_some(())
    });
    // What nobody else has seen, but that it exists.
    city.kill("induk");
    let alone = captures(&city, "sukajadi", 5..7);
    wait_for("rumbai has heard of them", || {
        let audit = city.ask(&["--node", "rumbai", "audit"])?;
        let of_it = audit["origins"].as_array()?.iter().find(|origin| origin["node"] == "sukajadi")?.clone();
        (of_it["held"] == 2).then_some(())
    });
    city.kill("sukajadi");
    city.start("induk");
    wait_for("the main server answers", || city.ask(&["--node", "induk", "audit"]));

    let out = city.dir().join("incident.csv");
    let asked = city.run(&["incident", "sukajadi", "--since", &since, "-o", out.to_str().unwrap()]);
    assert_eq!(asked.status.code(), Some(4), "the other offices of the city do not run: {}", said(&asked));
    let report = last_object(&asked);
    assert_eq!((&report["certain"], &report["possible"]), (&7.into(), &2.into()), "{report}");
    assert_eq!((&report["payloads_readable"], &report["hub_answered"]), (&0.into(), &true.into()));

    let csv = fs::read_to_string(&out).unwrap();
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("record_id,slip,origin,epoch,number,class,held,evidence,payload_readable"));
    let listed: BTreeMap<&str, (&str, &str, &str)> = lines
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            (fields[0], (fields[1], fields[6], fields[7]))
        })
        .collect();
    let groups: [(&[Given], &str, &str); 4] = [
        (&captured, "certain", "captured"),
        (&passed_on, "certain", "received"),
        (&alone, "certain", "announced"),
        (&kept, "possible", "kept"),
    ];
    let expected: BTreeMap<&str, (&str, &str, &str)> = groups
        .iter()
        .flat_map(|(given, held, evidence)| {
            given.iter().map(|given| (given.record_id.as_str(), (given.slip.as_str(), *held, *evidence)))
        })
        .collect();
    assert_eq!(listed, expected, "and what passed it before is not listed");
    let hub = city.run(&["incident", "induk", "--since", &since]);
    assert!(said(&hub).contains("keysthatopenit"), "nobody is told that its payloads were shut: {}", said(&hub));
    let unknown = city.run(&["incident", "sukajady", "--since", "now"]);
    assert!(said(&unknown).contains("sukajadi"), "{}", said(&unknown));
}
