//! A topology that changes while the city runs: from one node to all, at once, for good.

use std::fs;

use crate::drain::{moment, shown, wait_for_next_hop};

use crate::harness::{City, Given, capture, get, noise, post, said, topology, wait_for};

fn version_at(city: &City, node: &str) -> Option<u64> {
    city.ask(&["--node", node, "show"])?["version"].as_u64()
}

fn wait_for_version(city: &City, node: &str, version: u64) {
    wait_for(&format!("{node} has version {version}"), || (version_at(city, node)? == version).then_some(()));
}

/// The topology without a node, its links and its mention.
fn without(node: &str, text: &str) -> String {
    let name = format!("\"{node}\"");
    let tables = text.split("\n[[").enumerate();
    let kept = tables.filter(|(index, table)| *index == 0 || !table.contains(&name)).map(|(_, table)| table);
    kept.collect::<Vec<_>>().join("\n[[")
}

/// Lets a node start with the present topology, whatever becomes of the city's file.
fn give_own_topology(city: &City, node: &str) -> String {
    let signed = fs::read_to_string(city.dir().join("city.topology")).unwrap();
    fs::write(city.folder(node).join("own.topology"), &signed).unwrap();
    let config = fs::read_to_string(city.config(node)).unwrap();
    let line = config.lines().find(|line| line.starts_with("topology = ")).unwrap();
    fs::write(city.config(node), config.replace(line, "topology = \"own.topology\"")).unwrap();
    signed
}

#[test]
fn a_change_spreads_from_one_node_to_all_and_lasts() {
    let mut city = City::new("pekanbaru");
    // Tampan has a file of its own, and is away while the others hear of the change.
    let first = give_own_topology(&city, "tampan");
    for node in city.node_ids().into_iter().filter(|node| node != "tampan") {
        city.start(&node);
    }
    wait_for_next_hop(&city, "rumbai", "sukajadi");
    let sessions_lost = || city.metric("rumbai", "estafet_sessions_lost_total");
    let before = sessions_lost().unwrap();

    // An outage that is near is heeded without a restart, and nobody's session ends for it.
    let start = moment(300);
    city.ask(&["outage", "add", "--node", "sukajadi", "--start", &start, "--for", "1h", "--reason", "PLN"]).unwrap();
    for node in city.node_ids().iter().filter(|node| *node != "tampan") {
        wait_for_version(&city, node, 2);
    }
    // Any node knows who has it, and who was never heard of.
    let told = |node: &str, version: u64| {
        wait_for(&format!("the main server hears that {node} has version {version}"), || {
            shown(&city, "induk", node).filter(|row| row["topology_version"] == version && row["lags"] == false)
        })
    };
    city.node_ids().iter().filter(|node| *node != "tampan").for_each(|node| drop(told(node, 2)));
    assert!(shown(&city, "induk", "tampan").unwrap()["topology_version"].is_null());
    wait_for("sukajadi drains", || shown(&city, "rumbai", "sukajadi").filter(|row| row["state"] == "draining"));
    wait_for_next_hop(&city, "rumbai", "senapelan");
    assert_eq!(sessions_lost().unwrap(), before);

    // Who was away hears of it with the first session.
    city.start("tampan");
    wait_for_version(&city, "tampan", 2);

    // It lasts over a cut, also where the file that the configuration names is the old one; and the old one does not return.
    city.kill("tampan");
    city.start("tampan");
    wait_for_version(&city, "tampan", 2);
    let old = city.dir().join("old.topology");
    fs::write(&old, &first).unwrap();
    let refused = city.run(&["push", old.to_str().unwrap()]);
    let why = said(&refused);
    assert!(!refused.status.success() && why.contains("newerthan1") && why.contains("raise`version`"), "{why}");

    // Costs are heeded at once as well.
    city.edit_topology(|text| {
        let link = "ends = [\"rumbai\", \"senapelan\"]\nmedium = \"radio\"\ncost = ";
        assert!(text.contains(&format!("{link}15")), "{text}");
        text.replace(&format!("{link}15"), &format!("{link}99"))
    });
    let pushed = city.ask(&["--node", "tampan", "push"]).unwrap();
    assert_eq!((&pushed["node"], &pushed["version"]), (&"tampan".into(), &3.into()), "{pushed}");
    wait_for_next_hop(&city, "rumbai", "rumbai-pesisir");
    let given: Vec<_> = (0..5).map(|seed| capture(&city.intake("rumbai"), &noise(seed, 65_536), &[])).collect();
    city.assert_honored(&given);
}

#[test]
fn a_node_that_is_removed_is_shut_out_at_once_and_gives_no_slip_until_it_is_added_again() {
    let mut city = City::new("pekanbaru");
    give_own_topology(&city, "sail");
    city.start_all();
    city.wait_until_whole();
    let with_it = fs::read_to_string(city.dir().join("topology.toml")).unwrap();
    let sail_is_up = || {
        let show = city.ask(&["--node", "sail", "show"])?;
        show["links"].as_array()?.iter().any(|link| link["state"] == "up").then_some(())
    };
    wait_for("sail has its neighbors", sail_is_up);
    city.edit_topology(|text| without("sail", &text));
    let counts = |city: &City| {
        let names = ["estafet_neighbor_deaths_total", "estafet_sessions_lost_total"];
        let of = |node: &str| names.map(|name| city.metric(node, name).unwrap());
        city.node_ids().iter().map(|node| (node.clone(), of(node))).collect::<Vec<_>>()
    };
    let before = counts(&city);
    let mut given = vec![capture(&city.intake("sail"), b"before it was removed", &[])];
    city.wait_until_receipted(1);
    city.ask(&["--node", "induk", "push"]).unwrap();
    wait_for("the main server has no session with sail", || {
        city.log("induk").lines().any(|line| line.contains("session down") && line.contains("sail")).then_some(())
    });
    for node in city.node_ids().into_iter().filter(|node| node != "sail") {
        wait_for_version(&city, &node, 2);
    }
    assert!(shown(&city, "rumbai", "sail").is_none());
    wait_for("sail hears that it is shut out", || city.log("sail").contains("shut out by the city's").then_some(()));
    wait_for("sail is refused", || city.log("induk").contains("refused a connection: not a neighbor").then_some(()));
    assert_gives_no_slip(&city, "sail", &given[0]);
    assert_eq!(counts(&city), before, "nobody counts it as a death, nor as a session lost");

    // What is known of its records stays in the books.
    let audit = city.ask(&["--node", "rumbai", "audit"]).unwrap();
    let row = audit["origins"].as_array().unwrap().iter().find(|row| row["node"] == "sail").unwrap();
    assert_eq!((&row["removed"], &row["receipted"]), (&true.into(), &given.len().into()), "{row}");

    // A start with its own file changes nothing, nor does the version that it has.
    city.stop("sail");
    city.start("sail");
    let starts = || city.log("sail").matches("serving node=sail").count();
    wait_for("sail serves", || (starts() == 2).then_some(()));
    assert_gives_no_slip(&city, "sail", &given[0]);
    // Who asks it needs a folder in which it is still listed.
    let desk = city.dir().join("desk");
    fs::create_dir(&desk).unwrap();
    fs::copy(city.dir().join("operator.key"), desk.join("operator.key")).unwrap();
    fs::copy(city.folder("sail").join("own.topology"), desk.join("city.topology")).unwrap();
    let newest = city.dir().join("city.topology");
    let [desk, newest] = [&desk, &newest].map(|path| path.to_str().unwrap());
    let again = topology(&["--city", desk, "--node", "sail", "push", newest]);
    assert!(said(&again).contains("hasnoplaceinversion2"), "{}", said(&again));

    city.edit_topology(|_| with_it.replace("\nversion = 1\n", "\nversion = 2\n"));
    for node in ["sail", "induk"] {
        city.ask(&["--node", node, "push"]).unwrap();
    }
    given.push(capture(&city.intake("sail"), b"one of them again", &[]));
    city.assert_honored(&given);
}

/// A clerk is told so at once, and what was given before is found.
fn assert_gives_no_slip(city: &City, node: &str, before: &Given) {
    let url = city.intake(node);
    for (url, body) in [(url.clone(), &b"too late"[..]), (url.replace("records", "batches"), b"")] {
        let refused = post(&url, body, &[]).unwrap();
        assert_eq!(refused.status, 503, "{}", refused.body);
        assert!(
            ["removed or replaced", "NOT taken"].iter().all(|words| refused.body.to_string().contains(words)),
            "{}",
            refused.body
        );
    }
    let state = get(&url.replace("records", "state")).body;
    assert_eq!((&state["state"], &state["reason"]), (&"shut-out".into(), &"topology".into()), "{state}");
    let found = get(&format!("{url}/{}", before.slip));
    assert_eq!(found.status, 200, "{}", found.body);
}

#[test]
fn what_waits_for_a_restart_is_marked_until_then() {
    let mut city = City::new("pekanbaru");
    for node in ["induk", "sukajadi"] {
        city.start(node);
    }
    wait_for_next_hop(&city, "sukajadi", "induk");
    let address = format!("\"127.0.0.1:{}\"", city.quic_port("sukajadi"));
    city.edit_topology(|text| {
        assert!(text.contains(&format!("[{address}]")), "{text}");
        text.replacen(&format!("[{address}]"), &format!("[{address}, \"127.0.0.1:9\"]"), 1)
    });
    city.ask(&["--node", "sukajadi", "push"]).unwrap();
    let row = wait_for("the main server hears what sukajadi has", || {
        shown(&city, "induk", "sukajadi").filter(|row| row["topology_version_kept"] == 2)
    });
    assert_eq!((&row["topology_version"], &row["lags"]), (&1.into(), &true.into()), "{row}");
    city.stop("sukajadi");
    city.start("sukajadi");
    wait_for("sukajadi goes by it", || {
        shown(&city, "induk", "sukajadi").filter(|row| row["topology_version"] == 2 && row["lags"] == false)
    });
}

#[test]
fn an_office_whose_only_link_is_moved_hears_of_it_before_the_old_one_ends() {
    let mut city = City::new("pekanbaru-2013");
    for node in ["induk", "sail", "pekanbaru-kota"] {
        city.start(node);
    }
    wait_for_next_hop(&city, "sail", "induk");
    city.edit_topology(|text| {
        let link = "ends = [\"induk\", \"sail\"]";
        assert!(text.contains(link), "{text}");
        text.replace(link, "ends = [\"pekanbaru-kota\", \"sail\"]")
    });
    city.ask(&["--node", "induk", "push"]).unwrap();
    wait_for_version(&city, "sail", 2);
    wait_for_next_hop(&city, "sail", "pekanbaru-kota");
    let given = [capture(&city.intake("sail"), b"by another way", &[])];
    city.assert_honored(&given);
}
