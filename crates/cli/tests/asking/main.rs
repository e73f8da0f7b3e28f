//! The commands that ask nodes, against nodes that know a fixed story: `rumbai.1.1` is committed at `induk`,
//! `rumbai.1.2` is still with `sukajadi`, and `rumbai.1.3` is missing.

mod fake_node;

use std::path::Path;

use clap::Parser;
use estafet_admin::v1;
use estafet_cli::commands::tail::tail;
use estafet_cli::init::init;
use estafet_cli::{CityFolder, Cli, Failure, Outcome, Output, Reach, run};
use estafet_topology::Template;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake_node::{Edit, FakeNode, PAYLOAD};

/// A city of which only the main server and Sukajadi are up.
struct City {
    folder: TempDir,
    _nodes: Vec<FakeNode>,
}

impl City {
    async fn start(up: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        init(Template::Pekanbaru, folder.path()).expect("a new city");
        let mut nodes = Vec::new();
        for id in up {
            nodes.push(FakeNode::start(folder.path(), id).await);
        }
        Self { folder, _nodes: nodes }
    }

    /// Some nodes tell another map.
    async fn telling(up: &[(&str, Edit)]) -> Self {
        let mut city = Self::start(&[]).await;
        for (id, edit) in up {
            city._nodes.push(FakeNode::telling(city.folder.path(), id, *edit).await);
        }
        city
    }

    async fn ask(&self, arguments: &[&str]) -> (Result<Outcome, Failure>, String) {
        let city = self.folder.path().to_str().expect("a path in UTF-8");
        let cli = Cli::try_parse_from(["topology", "--city", city].iter().chain(arguments)).expect("a command line");
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let json = cli.options.json;
        let outcome = run(cli, &mut Output::new(&mut out, &mut notes, json)).await;
        (outcome, String::from_utf8(out).expect("text"))
    }

    /// What is said beside the answer.
    async fn notes(&self, arguments: &[&str]) -> String {
        let city = text_of(self.folder.path());
        let cli = Cli::try_parse_from(["topology", "--city", city].iter().chain(arguments)).expect("a command line");
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        run(cli, &mut Output::new(&mut out, &mut notes, false)).await.expect("an answer");
        String::from_utf8(notes).expect("text")
    }

    async fn json(&self, arguments: &[&str]) -> (Outcome, Vec<Value>) {
        let (outcome, out) = self.ask(&[arguments, &["--json"]].concat()).await;
        let lines = out.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        (outcome.expect("an answer"), lines.collect())
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

/// `whole` has every field of `part`; what is more in objects may be there.
fn assert_has(whole: &Value, part: &Value) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().for_each(|(key, part)| assert_has(whole.get(key).unwrap_or_else(|| panic!("no {key}")), part));
        }
        (Value::Array(whole), Value::Array(part)) if whole.len() == part.len() => {
            whole.iter().zip(part).for_each(|(whole, part)| assert_has(whole, part));
        }
        _ => assert_eq!(whole, part),
    }
}

#[tokio::test]
async fn show_prints_the_map_of_the_hub() {
    let city = City::start(&["induk", "sukajadi"]).await;
    let (outcome, lines) = city.json(&["show"]).await;
    assert_eq!(outcome, Outcome::Good);
    assert_has(
        &lines[0],
        &json!({
            "area": "pekanbaru", "version": 1, "seen_from": "induk", "audit_log_head": {"sequence": 7},
            "nodes": [
                {"id": "induk", "label": "Disdukcapil", "role": "hub", "state": "serving", "next_hop": null, "held": 0,
                 "last_receipt": null},
                {"id": "rumbai", "label": "Rumbai", "role": "relay", "state": "serving", "next_hop": "sukajadi", "coverage": 0.75,
                 "capture_room_bytes": 41_u64 << 30, "captured_bytes_per_hour": 1 << 30, "held": 1, "last_receipt": "2013-08-06T11:00:00.000Z"},
            ],
            "links": [{"ends": ["induk", "sukajadi"], "state": "up", "cost": 10, "rtt_ms": 1.5}],
        }),
    );
    let (_, text) = city.ask(&["show"]).await;
    assert!(text.contains("rumbai") && text.contains("3 s ago"), "{text}");
}

/// A node as a map shows it.
fn node(network: &mut v1::Network, id: &str, state: &str) {
    network.nodes.retain(|node| node.id != id);
    let (id, state) = (id.to_owned(), state.to_owned());
    network.nodes.push(v1::Node { id, state, topology_version: Some(4), ..v1::Node::default() });
}

#[tokio::test]
async fn whom_the_asked_node_cannot_reach_is_asked_itself() {
    let by_induk: Edit = |network| {
        network.version = 4;
        ["rumbai", "sail", "tampan"].iter().for_each(|id| node(network, id, "offline"));
    };
    let by_rumbai: Edit = |network| {
        node(network, "rumbai", "serving");
        let own = network.nodes.iter_mut().find(|node| node.id == "rumbai").unwrap();
        (own.topology_version, own.topology_version_kept) = (Some(3), Some(4));
    };
    let by_tampan: Edit = |network| {
        node(network, "tampan", "draining");
        network.nodes.iter_mut().find(|node| node.id == "tampan").unwrap().topology_version = Some(2);
    };
    let city = City::telling(&[("induk", by_induk), ("rumbai", by_rumbai), ("tampan", by_tampan)]).await;
    let (_, lines) = city.json(&["show"]).await;
    let row = |id: &str| lines[0]["nodes"].as_array().unwrap().iter().find(|row| row["id"] == id).unwrap().clone();
    let said = |id: &str| ["state", "cut_off_from", "lags", "topology_version"].map(|key| row(id)[key].clone());
    assert_eq!(said("rumbai"), [json!("serving"), json!("induk"), json!(true), json!(3)]);
    assert_eq!(said("tampan"), [json!("draining"), json!("induk"), json!(true), json!(2)]);
    assert_eq!(said("sail"), [json!("offline"), json!(null), json!(false), json!(4)]);
    assert_eq!((&lines[0]["newest_version"], &lines[0]["one_view"]), (&json!(4), &json!(false)));
    let (_, text) = city.ask(&["show"]).await;
    for expected in [
        "serving, cut off from induk, topology v3, v4 waits for its next start",
        "draining, cut off from induk, topology v2, newest is v4",
        "version 4 is not in force at rumbai, tampan",
        "bring it to those who are cut off: topology push --node rumbai",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }

    let (_, lines) = city.json(&["show", "--node", "induk"]).await;
    let offline = lines[0]["nodes"].as_array().unwrap().iter().filter(|row| row["state"] == "offline").count();
    assert_eq!((offline, &lines[0]["one_view"]), (3, &json!(true)), "one node's view is not mended");
    let (_, text) = city.ask(&["show", "--node", "induk"]).await;
    assert!(text.contains("as induk sees it (nobody else was asked"), "{text}");
}

#[tokio::test]
async fn impact_counts_what_is_dark_or_draining_now() {
    let trouble: Edit = |network| {
        ["senapelan", "rumbai-pesisir"].iter().for_each(|id| node(network, id, "offline"));
        node(network, "sukajadi", "draining");
        let link = v1::Link { ends: ["induk", "sail"].map(str::to_owned).to_vec(), ..network.links[0].clone() };
        network.links.push(v1::Link { state: "down".to_owned(), medium: "radio".to_owned(), ..link });
    };
    let city = City::telling(&[("induk", trouble)]).await;
    let cut_off = |told: &Value| {
        let offices = told["cut_off"].as_array().unwrap().iter().map(|office| office["node"].as_str().unwrap());
        offices.collect::<Vec<_>>().join(" ")
    };
    // Rumbai's other ways are dark already.
    let (_, lines) = city.json(&["impact", "sukajadi"]).await;
    assert_eq!(cut_off(&lines[0]), "rumbai sukajadi");
    let now = &lines[0]["now"];
    assert_eq!((&now["dark"], &now["draining"]), (&json!(["rumbai-pesisir", "senapelan"]), &json!(["sukajadi"])));
    let (_, text) = city.ask(&["impact", "sukajadi"]).await;
    let line = "now, as induk sees it: already dark: rumbai-pesisir, senapelan; draining: sukajadi";
    assert!(text.contains(line), "{text}");
    // A moment and a file are judged as if all else were well.
    let file = city.file("topology.toml");
    for (arguments, dark) in [
        (&["impact", "sukajadi", "--at", "now"][..], "sukajadi"),
        (&["impact", "sukajadi", "--offline"], "sukajadi"),
        (&["impact", "sukajadi", "--file", text_of(&file)], "sukajadi"),
        (&["impact", "senapelan"], "senapelan"),
    ] {
        let (_, lines) = city.json(arguments).await;
        assert_eq!(cut_off(&lines[0]), dark, "{arguments:?}");
        assert_eq!(lines[0]["now"].is_null(), arguments.len() > 2, "{arguments:?}");
    }
    // A main server that drains takes nothing: all wait already, and nobody is cut off by anything else.
    let drained: Edit = |network| node(network, "induk", "draining");
    let city = City::telling(&[("induk", drained)]).await;
    let (_, lines) = city.json(&["impact", "sukajadi"]).await;
    assert_eq!((cut_off(&lines[0]).as_str(), lines[0]["now"]["cut_off"].as_array().unwrap().len()), ("sukajadi", 13));
}

#[tokio::test]
async fn impact_adds_for_how_long_offices_have_room() {
    let city = City::start(&["sukajadi"]).await;
    let (outcome, lines) = city.json(&["impact", "induk"]).await;
    assert_eq!((outcome, &lines[0]["seen_from"]), (Outcome::Good, &json!("sukajadi")));
    let hours = |told: &Value, node: &str| {
        let mut offices = told["cut_off"].as_array().unwrap().iter();
        offices.find(|office| office["node"] == node).unwrap()["hours_left"].clone()
    };
    assert_eq!(["rumbai", "induk", "sail"].map(|node| hours(&lines[0], node)), [json!(41), Value::Null, Value::Null]);

    let (_, text) = city.ask(&["impact", "induk"]).await;
    for (node, room) in [("rumbai ", "41 h"), ("induk ", "-"), ("sail ", "?")] {
        let line = text.lines().find(|line| line.trim_start().starts_with(node)).unwrap();
        assert!(line.trim_end().ends_with(room), "{line}");
    }
    assert!(!text.contains("not known"), "{text}");
    let (_, lines) = city.json(&["impact", "induk", "--offline"]).await;
    assert_eq!((&lines[0]["seen_from"], hours(&lines[0], "rumbai")), (&Value::Null, Value::Null));
    let (unknown, _) = city.ask(&["impact", "induk", "--node", "nowhere"]).await;
    assert_eq!(unknown.unwrap_err().exit_code(), 1);
}

#[tokio::test]
async fn the_named_node_is_the_one_that_answers() {
    let city = City::start(&["induk", "sukajadi"]).await;
    let (_, lines) = city.json(&["show", "--node", "sukajadi"]).await;
    assert_eq!(lines[0]["seen_from"], "sukajadi");
    let (dark, _) = city.ask(&["show", "--node", "rumbai"]).await;
    assert_eq!(dark.unwrap_err().exit_code(), 3);
    let (unknown, _) = city.ask(&["show", "--node", "nowhere"]).await;
    assert_eq!(unknown.unwrap_err().exit_code(), 1);
}

#[tokio::test]
async fn a_node_is_told_to_drain_and_what_it_runs_on() {
    let city = City::start(&["induk", "sukajadi"]).await;
    let (_, lines) = city.json(&["drain", "sukajadi", "--for", "2h", "--reason", "new roof"]).await;
    assert_has(
        &lines[0],
        &json!({
            "node": "sukajadi", "state": "draining", "power": "mains", "minutes_left": null, "reason": "operator",
            "words": "new roof", "back": "2013-08-06T13:00:00.000Z",
        }),
    );
    for (command, expected) in [
        (&["drain", "sukajadi"][..], "sukajadi is draining (operator)\n"),
        (
            &["drain", "induk", "--for", "1h", "--reason", "x"],
            // The hour is that of whoever reads.
            "induk is draining (operator: x), back 2013-08-0",
        ),
        (&["undrain", "sukajadi"], "sukajadi is serving\n"),
        (&["power", "sukajadi", "battery"], "sukajadi is serving, on battery, 10 min left\n"),
        (&["power", "sukajadi", "low"], "sukajadi is serving, BATTERY LOW\n"),
    ] {
        let said = city.ask(command).await.1;
        assert!(said.starts_with(expected), "{command:?}: {said}");
    }
    let warned = city.notes(&["power", "sukajadi", "low"]).await;
    assert!(warned.contains("has to be started when power is back"), "{warned}");
    let (dark, _) = city.ask(&["drain", "rumbai"]).await;
    assert_eq!(dark.unwrap_err().exit_code(), 3, "no other node can be drained in its place");
}

#[tokio::test]
async fn a_topology_is_pushed_to_the_first_node_that_answers() {
    let city = City::start(&["sukajadi"]).await;
    let (_, lines) = city.json(&["push"]).await;
    assert_eq!(lines, [json!({ "node": "sukajadi", "version": 2, "waits_for_restart": true, "known": false })]);
    let (_, text) = city.ask(&["push"]).await;
    assert!(text.contains("sukajadi has version 2") && text.contains("when they are started again"), "{text}");
    let stranger = city.file("topology.toml");
    let (refused, _) = city.ask(&["push", stranger.to_str().unwrap()]).await;
    let said = format!("{:?}", miette::Report::new(refused.unwrap_err()));
    assert!(said.contains("this is no signed topology") && said.contains("nothing was changed there"), "{said}");
    let (nobody, _) = City::start(&[]).await.ask(&["push"]).await;
    assert_eq!(nobody.unwrap_err().exit_code(), 3);
}

#[tokio::test]
async fn a_city_without_its_hub_answers_too() {
    let city = City::start(&["sukajadi"]).await;
    let (_, lines) = city.json(&["show"]).await;
    assert_eq!(lines[0]["seen_from"], "sukajadi");
}

#[tokio::test]
async fn a_dark_city_is_exit_code_3() {
    let city = City::start(&[]).await;
    for command in [&["show"][..], &["audit"], &["trace", "rumbai.1.1"], &["records"], &["tail"]] {
        let (outcome, _) = city.ask(command).await;
        let failure = outcome.unwrap_err();
        assert_eq!(failure.exit_code(), 3, "{command:?}: {failure}");
    }
}

#[tokio::test]
async fn path_names_what_makes_it_dear_and_what_is_no_way_at_all() {
    let city = City::start(&["induk"]).await;
    let (_, lines) = city.json(&["path", "senapelan"]).await;
    let reasons = json!({
        "cost": 16_777_256, "cost_raised_by": ["draining"], "hop_costs_raised_by": [[], [], ["draining"]],
        "alternates": [{"cost": 262_179, "cost_raised_by": ["gray"]}],
    });
    assert_has(&lines[0], &reasons);
    let (_, text) = city.ask(&["path", "senapelan"]).await;
    for expected in ["cost 40 + draining", "30 + draining", "35 + gray"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    for (arguments, expected) in [
        (&["path", "induk"][..], "induk is a main server itself: what it captures is committed there.\n"),
        (&["path", "rumbai", "rumbai"], "rumbai is where the way begins and ends: it costs nothing.\n"),
        (&["path", "rumbai", "tampan"], "No way leads from rumbai to tampan now.\n"),
    ] {
        assert_eq!(city.ask(arguments).await.1, expected);
    }
}

#[tokio::test]
async fn path_prints_hops_and_alternates() {
    let city = City::start(&["induk"]).await;
    let (outcome, lines) = city.json(&["path", "rumbai"]).await;
    assert_eq!(outcome, Outcome::Good);
    assert_has(
        &lines[0],
        &json!({
            "from": "rumbai", "to": "induk", "cost": 20, "hops": ["rumbai", "sukajadi", "induk"],
            "alternates": [{"next_hop": "senapelan", "cost": 25, "protects": "node"}], "coverage": 0.75,
        }),
    );
    let (outcome, lines) = city.json(&["path", "rumbai", "tampan"]).await;
    assert_eq!(outcome, Outcome::Bad);
    assert_has(&lines[0], &json!({"from": "rumbai", "to": "tampan", "cost": null, "hops": [], "alternates": []}));
}

#[tokio::test]
async fn trace_merges_what_every_node_says() {
    let city = City::start(&["induk", "sukajadi"]).await;
    let (outcome, lines) = city.json(&["trace", "rumbai.1.1"]).await;
    assert_eq!(outcome, Outcome::Good);
    let expected = json!({"state": "receipted", "receipt": {"hub": "induk", "told_by": ["induk", "sukajadi"]}});
    assert_has(&lines[0], &expected);
    assert_eq!(lines[0]["silent"].as_array().unwrap().len(), 11);

    let (_, text) = city.ask(&["trace", "rumbai.1.1"]).await;
    let rows: Vec<&str> = text.lines().filter(|line| line.contains("2013-08-06T")).collect();
    assert!(rows[0].contains("induk") && rows[1].contains("sukajadi") && rows[1].contains("receipted"), "{text}");

    let (_, lines) = city.json(&["trace", "rumbai.1.2"]).await;
    assert_has(
        &lines[0],
        &json!({"state": "held", "receipt": null,
                "custodians": [{"node": "sukajadi", "state": "waiting", "state_age_ms": 3000}]}),
    );
    let (outcome, lines) = city.json(&["trace", "rumbai.1.9"]).await;
    assert_eq!((outcome, &lines[0]["state"]), (Outcome::Bad, &json!("unknown")));
}

#[tokio::test]
async fn records_come_from_every_node_that_answers() {
    let city = City::start(&["induk", "sukajadi"]).await;
    let (_, lines) = city.json(&["records"]).await;
    let at = |line: &Value| format!("{} {} {}", line["node"], line["record_id"], line["state"]).replace('"', "");
    let expected = ["induk rumbai.1.1 committed", "sukajadi rumbai.1.1 receipted", "sukajadi rumbai.1.2 waiting"];
    assert_eq!(lines.iter().map(at).collect::<Vec<_>>(), expected);
    let (_, lines) = city.json(&["records", "--node", "sukajadi", "--state", "waiting"]).await;
    assert_eq!(lines.iter().map(at).collect::<Vec<_>>(), expected[2..]);

    let (_, lines) = city.json(&["records", "--limit", "1"]).await;
    assert_eq!(lines.iter().map(at).collect::<Vec<_>>(), expected[..2]);
    let said = city.notes(&["records", "--limit", "1"]).await;
    assert!(said.contains("there are more at sukajadi: --limit 0"), "{said}");
    assert!(!city.notes(&["records", "--limit", "2"]).await.contains("more at"));
}

#[tokio::test]
async fn an_audit_without_the_newest_word_of_somebody_is_incomplete_and_who_was_removed_is_still_counted() {
    let city = City::start(&["sail", "tampan"]).await;
    let (outcome, lines) = city.json(&["audit", "--node", "sail"]).await;
    assert_eq!((outcome, &lines[0]["unreachable"]), (Outcome::Good, &json!([])), "whoever was removed cannot be asked");
    assert_has(&lines[0]["origins"][1], &json!({"node": "kulim", "captured": 4, "receipted": 4, "removed": true}));
    assert!(city.ask(&["audit", "--node", "sail"]).await.1.contains("removed"));
    let (outcome, lines) = city.json(&["audit", "--node", "tampan"]).await;
    assert_eq!((outcome.exit_code(), &lines[0]["unreachable"]), (4, &json!(["rumbai"])));
    assert!(city.ask(&["audit", "--node", "tampan"]).await.1.contains("INCOMPLETE"));
}

#[tokio::test]
async fn draining_the_only_main_server_is_done_with_a_warning() {
    let city = City::start(&["induk", "sukajadi"]).await;
    let said = city.notes(&["drain", "induk"]).await;
    assert!(said.contains("warning: no other main server serves"), "{said}");
    assert_eq!(city.notes(&["drain", "sukajadi"]).await, "");
    let (outcome, lines) = city.json(&["drain", "induk"]).await;
    assert_eq!(outcome, Outcome::Good);
    assert!(lines[0]["warning"].as_str().unwrap().contains("records wait"), "{}", lines[0]);
}

#[tokio::test]
async fn an_audit_that_misses_a_record_is_bad_news() {
    let city = City::start(&["induk"]).await;
    let (outcome, lines) = city.json(&["audit"]).await;
    assert_eq!(outcome, Outcome::Bad);
    assert_has(
        &lines[0],
        &json!({
            "area": "pekanbaru", "captured": 3, "receipted": 1, "held": 1, "missing": 1, "committed_twice": 0,
            "origins": [{"node": "rumbai", "captured": 3, "receipted": 1, "held": 1, "missing": ["rumbai.1.3"]}],
        }),
    );
    let (_, text) = city.ask(&["audit"]).await;
    assert!(text.contains("missing: rumbai.1.3"), "{text}");
}

#[tokio::test]
async fn suspects_are_named_by_all_who_answer() {
    let city = City::start(&["induk", "rumbai"]).await;
    let (outcome, lines) = city.json(&["audit", "--suspects"]).await;
    assert_eq!(outcome, Outcome::Bad);
    let suspect = json!({"node": "sukajadi", "by_word_of": "rumbai", "records": 12, "shunned_for_ms": 3_000_000});
    assert_has(&lines[0], &json!({"suspects": [suspect]}));
    assert!(lines[0]["silent"].as_array().unwrap().contains(&json!("sail")));
    let (_, text) = city.ask(&["audit", "--suspects"]).await;
    assert!(text.contains("again in 50 min") && text.contains("INCOMPLETE: no answer from"), "{text}");

    let (outcome, lines) = city.json(&["audit", "--suspects", "--node", "induk"]).await;
    assert_eq!((outcome, &lines[0]["suspects"]), (Outcome::Good, &json!([])));
}

#[tokio::test]
async fn fetch_writes_a_verified_payload_or_nothing() {
    let city = City::start(&["induk", "sukajadi"]).await;
    let out = city.file("payload.bin");
    let to = out.to_str().unwrap();
    let (outcome, lines) = city.json(&["fetch", "rumbai.1.1", "-o", to]).await;
    assert_eq!(outcome, Outcome::Good);
    assert_eq!(std::fs::read(&out).unwrap(), PAYLOAD);
    assert_has(&lines[0], &json!({"record_id": "rumbai.1.1", "bytes": PAYLOAD.len(), "hub": "induk"}));

    let lost = city.file("lost.bin");
    for damaged in ["rumbai.1.4", "rumbai.1.5", "rumbai.1.9"] {
        let (outcome, _) = city.ask(&["fetch", damaged, "-o", lost.to_str().unwrap()]).await;
        assert_eq!(outcome.unwrap_err().exit_code(), 1, "{damaged}");
        assert!(!lost.exists(), "{damaged}");
    }
    let (outcome, _) = city.ask(&["fetch", "rumbai.1.1", "--node", "sukajadi", "-o", to]).await;
    assert!(matches!(outcome, Err(Failure::NotAHub(_))), "{outcome:?}");
    let left = std::fs::read_dir(city.folder.path()).unwrap().count();
    assert_eq!(left, 5, "no temporary file stays behind");
}

#[tokio::test]
async fn tail_prints_a_line_per_commit_until_it_is_stopped() {
    let city = City::start(&["induk"]).await;
    let hubs = Reach::city(&CityFolder::open(city.folder.path()).unwrap()).unwrap().hubs().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let mut out = StopAfterLines { text: Vec::new(), lines: 2, stop: Some(stop) };
    let until = async { stopped.await.unwrap_or(()) };
    let mut notes = Vec::new();
    let outcome = tail(&hubs, 1, until, &mut Output::new(&mut out, &mut notes, true)).await;
    assert_eq!(outcome.unwrap(), Outcome::Good);
    let lines: Vec<Value> =
        String::from_utf8(out.text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_has(
        &json!(lines),
        &json!([
            {"record_id": "rumbai.1.1", "origin": "rumbai", "bytes": PAYLOAD.len(), "hub_sequence": 1,
             "time": "2013-08-06T11:00:00.000Z"},
            {"record_id": "rumbai.1.2", "hub_sequence": 2},
        ]),
    );
}

#[tokio::test]
async fn one_node_can_be_asked_over_its_socket_without_a_city() {
    let city = City::start(&["sukajadi"]).await;
    let socket = city.file("nodes/sukajadi/admin.sock");
    let cli = Cli::try_parse_from(["topology", "--socket", text_of(&socket), "--json", "show"]).unwrap();
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    run(cli, &mut Output::new(&mut out, &mut notes, true)).await.unwrap();
    let shown: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(shown["seen_from"], "sukajadi");
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Stands for a person who presses Ctrl-C after so many lines.
struct StopAfterLines {
    text: Vec<u8>,
    lines: usize,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl std::io::Write for StopAfterLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.text.iter().filter(|byte| **byte == b'\n').count() >= self.lines
            && let Some(stop) = self.stop.take()
        {
            let _ = stop.send(());
        }
        Ok(())
    }
}
