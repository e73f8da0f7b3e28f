//! Lies about the map and the topology.

use std::fs;

use bytes::Bytes;
use estafet_intruder::Taking;
use estafet_model::NodeId;
use estafet_wire::Frame;

use super::Scene;
use crate::harness::{capture, noise, wait_for};

/// By the topology the way over Sukajadi is a detour.
const DEAR: u32 = 40;

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

/// The link from Sukajadi to the main server costs more than the way by Senapelan.
fn with_dear_link(text: &str) -> String {
    let is_the_link =
        |table: &&str| table.contains("\"induk\"") && table.contains("\"sukajadi\"") && table.contains("cost");
    let tables: Vec<&str> = text.split("\n[[").collect();
    let link = tables.iter().copied().find(|table| table.starts_with("link]]") && is_the_link(table)).unwrap();
    text.replace(link, &link.replace("cost = 10", &format!("cost = {DEAR}")))
}

#[test]
fn a_lie_about_costs_or_links_draws_no_records_and_moves_nobody_else() {
    let scene = Scene::prepared(|city| city.edit_topology(|text| with_dear_link(&text)));
    scene.city.wait_for_path(&["rumbai", "senapelan", "induk"]);
    let sessions = ["induk", "rumbai", "senapelan"].map(|relay| scene.join_politely(relay, Taking::AndForgetting));
    let everywhere: Vec<(NodeId, u32)> = scene.intruder.topology().nodes.keys().map(|node| (node.clone(), 1)).collect();
    let others = everywhere.iter().filter(|(node, _)| node.as_str() != "sukajadi").cloned().collect::<Vec<_>>();
    let say = |lsa: Bytes| {
        scene.run(async {
            for (session, _) in &sessions {
                session.say(&Frame::Lsas(vec![lsa.clone()])).await.unwrap();
            }
        });
    };
    // Its own side, too cheap, and with links to everybody; then with the number that nobody can go beyond.
    for sequence in [1 << 60, u64::MAX] {
        say(scene.intruder.lsa(&id("sukajadi"), sequence, &others));
        wait_for("induk and rumbai believe that it is there", || {
            let hops = scene.city.next_hops("rumbai")?;
            hops.get("sukajadi").cloned()
        });
        let path = scene.city.ask(&["--node", "rumbai", "path", "rumbai"]).unwrap();
        assert_eq!(path["hops"], serde_json::json!(["rumbai", "senapelan", "induk"]), "{path}");
        let path = scene.city.ask(&["--node", "induk", "path", "sukajadi"]).unwrap();
        assert!(path.to_string().contains(&DEAR.to_string()), "it costs what the topology says: {path}");
    }
    let given: Vec<_> = (0..20).map(|n| capture(&scene.city.intake("rumbai"), &noise(n, 3_000), &[])).collect();
    scene.city.assert_honored(&given);
    scene.assert_unharmed();
}

#[test]
fn lsas_in_others_names_are_refused_and_old_ones_are_answered_with_the_newest() {
    let scene = Scene::new();
    scene.city.wait_for_path(&["rumbai", "senapelan", "induk"]);
    let (session, mut heard) = scene.join_politely("rumbai", Taking::Nothing);
    // What it hears of the others, to say it again when it is old.
    let mut old: Vec<Bytes> = Vec::new();
    scene.run(async {
        session.say(&Frame::LsdbSummary(Vec::new())).await.unwrap();
        while old.len() < 3 {
            if let Some(Frame::Lsas(lsas)) = heard.recv().await {
                old.extend(lsas);
            }
        }
    });
    let given = capture(&scene.city.intake("senapelan"), &noise(1, 3_000), &[]);
    scene.city.wait_until_receipted(1);
    scene.run(async {
        for _ in 0..50 {
            session.say(&Frame::Lsas(old.clone())).await.unwrap();
        }
    });
    let path = scene.city.ask(&["--node", "rumbai", "path", "rumbai"]).unwrap();
    assert_eq!(path["hops"], serde_json::json!(["rumbai", "senapelan", "induk"]), "{path}");
    assert!(scene.exclusions("rumbai").is_empty(), "an old LSA may be honest");

    let ended = scene.run(async {
        let cut_off = scene.intruder.lsa(&id("senapelan"), u64::MAX, &[(id("rumbai"), 1)]);
        for _ in 0..3 {
            if session.say(&Frame::Lsas(vec![cut_off.clone()])).await.is_err() {
                break;
            }
        }
        session.ended().await.unwrap()
    });
    assert!(ended.contains("LSAs that their origins did not sign"), "{ended}");
    let path = scene.city.ask(&["--node", "rumbai", "path", "rumbai"]).unwrap();
    assert_eq!(path["hops"], serde_json::json!(["rumbai", "senapelan", "induk"]), "{path}");
    scene.city.assert_honored(&[given]);
    scene.assert_unharmed();
}

#[test]
fn a_topology_that_no_operator_signed_is_taken_by_nobody() {
    let scene = Scene::new();
    let good = fs::read_to_string(scene.city.dir().join("city.topology")).unwrap();
    let version = scene.intruder.topology().version;
    let newer = good.replace(&format!("\nversion = {version}\n"), &format!("\nversion = {}\n", version + 7));
    assert_ne!(newer, good);
    let (session, _heard) = scene.join_politely("rumbai", Taking::Nothing);
    scene.run(async {
        for text in [newer.clone(), newer.replace("signature = ", "signatur = "), "x".repeat(900_000)] {
            session.say(&Frame::Topology(Bytes::from(text))).await.unwrap();
        }
    });
    wait_for("it is refused", || scene.city.log("rumbai").contains("is not taken").then_some(()));
    for relay in super::HONEST {
        let shown = scene.city.ask(&["--node", relay, "show"]).unwrap();
        assert_eq!(shown["version"].as_u64(), Some(version), "{relay}");
    }
    let given = capture(&scene.city.intake("rumbai"), &noise(1, 3_000), &[]);
    scene.city.assert_honored(&[given]);
    scene.assert_unharmed();
}

#[test]
fn who_speaks_of_itself_without_end_is_passed_on_at_a_pace() {
    let scene = Scene::new();
    let (session, _heard) = scene.join_politely("senapelan", Taking::Nothing);
    let span = std::time::Duration::from_secs(4);
    scene.run(super::again_and_again(span, |number| {
        let lsa = scene.intruder.lsa(
            &id("sukajadi"),
            number + 1,
            &[(id("senapelan"), 15 + u32::from(number.is_multiple_of(2)))],
        );
        let session = &session;
        async move { session.say(&Frame::Lsas(vec![lsa])).await.is_ok() }
    }));
    // The main server is told by Senapelan alone: what came to it came at the pace.
    let (watcher, mut heard) = scene.join_politely("induk", Taking::Nothing);
    let news = scene.run(async {
        let flood = super::again_and_again(span, |number| {
            let sequence = (1 << 40) + number;
            let lsa = scene.intruder.lsa(&id("sukajadi"), sequence, &[(id("senapelan"), 15)]);
            let session = &session;
            async move { session.say(&Frame::Lsas(vec![lsa])).await.is_ok() }
        });
        let said = flood.await;
        watcher.say(&Frame::Heartbeat { busy: false, lsdb: None, clock: None }).await.unwrap();
        let mut news = 0;
        while let Ok(frame) = heard.try_recv() {
            if let Frame::Lsas(lsas) = frame {
                let own = lsas.iter().filter(|lsa| {
                    estafet_routing::SignedLsa::decode(lsa)
                        .is_ok_and(|signed| signed.lsa().origin.as_str() == "sukajadi")
                });
                news += own.count();
            }
        }
        println!("of {said} words of its own {news} were passed on in {span:?}");
        assert!(said > 1_000, "the flood was none: {said}");
        news
    });
    assert!(news <= 20 * 4 + 40, "{news}");
    let given = capture(&scene.city.intake("rumbai"), &noise(1, 3_000), &[]);
    scene.city.assert_honored(&[given]);
    scene.assert_unharmed();
}
