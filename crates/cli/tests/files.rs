//! The commands that need no node: init, check, sign, impact, spof, advise, completions.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Parser;
use estafet_cli::init::init;
use estafet_cli::{CityFolder, Cli, Failure, Outcome, Output, run};
use estafet_sim::Drill;
use estafet_topology::Template;
use serde_json::{Value, json};

/// Runs a command line and returns its outcome with what it wrote to standard output.
fn topology(arguments: &[&str]) -> (Result<Outcome, Failure>, String) {
    let cli = Cli::try_parse_from(["topology"].iter().chain(arguments)).expect("a good command line");
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let json = cli.options.json;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let outcome = runtime.block_on(run(cli, &mut Output::new(&mut out, &mut notes, json)));
    (outcome, String::from_utf8(out).expect("text"))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text.lines().last().expect("a last line")).expect("JSON")
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|name| name.as_str().expect("a name")).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[test]
fn init_makes_a_city_that_opens() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("city");
    let (outcome, out) = topology(&["init", "--template", "pekanbaru", "--out", dir.to_str().unwrap(), "--json"]);
    assert_eq!(outcome.unwrap(), Outcome::Good);
    let made = json(&out);
    let nodes = made["nodes"].as_object().unwrap();
    assert_eq!(nodes.len(), 13);
    assert_eq!(Path::new(made["dir"].as_str().unwrap()), dir.canonicalize().unwrap());

    let city = CityFolder::open(&dir).unwrap();
    let mut ports = BTreeSet::new();
    for (id, made) in nodes {
        let node = &city.topology().nodes[&id.parse().unwrap()];
        let text = |key: &str| made[key].as_str().unwrap().to_owned();
        assert_eq!(text("listen").parse(), Ok(node.addresses[0]));
        assert_eq!(text("admin").parse(), Ok(node.admin));
        let config = fs::read_to_string(text("config")).unwrap();
        let intake = text("intake").strip_prefix("http://").unwrap().to_owned();
        assert!(config.contains(&format!("[intake]\nlisten = \"{intake}\"")), "{config}");
        assert!(config.contains(&format!("node = \"{id}\"")), "{config}");
        let key = Path::new(&text("config")).with_file_name("node.key");
        assert_eq!(mode(&key), 0o600);
        let key = estafet_model::SigningKey::from_pem(&fs::read_to_string(key).unwrap()).unwrap();
        assert_eq!(key.public(), node.key);
        let intake: SocketAddr = intake.parse().unwrap();
        assert!(ports.insert(("udp", node.addresses[0].port())));
        assert!(ports.insert(("tcp", node.admin.port())) && ports.insert(("tcp", intake.port())));
        // The ports are let go again: a node can listen there.
        drop((UdpSocket::bind(node.addresses[0]).unwrap(), TcpListener::bind(intake).unwrap()));
    }
    assert_eq!(mode(&dir.join("operator.key")), 0o600);
}

#[test]
fn init_never_writes_over_anything() {
    let folder = tempfile::tempdir().unwrap();
    init(Template::Pekanbaru2013, folder.path()).unwrap();
    let key = fs::read(folder.path().join("operator.key")).unwrap();
    let failure = init(Template::Pekanbaru, folder.path()).unwrap_err();
    assert!(matches!(failure, Failure::FolderNotEmpty(_)), "{failure}");
    assert_eq!(failure.exit_code(), 1);
    assert_eq!(fs::read(folder.path().join("operator.key")).unwrap(), key);
}

#[test]
fn check_accepts_what_init_made_and_names_faults() {
    let folder = tempfile::tempdir().unwrap();
    init(Template::Pekanbaru, folder.path()).unwrap();
    let source = folder.path().join("topology.toml");
    for (file, signed) in [(source.clone(), false), (folder.path().join("city.topology"), true)] {
        let (outcome, out) = topology(&["check", file.to_str().unwrap(), "--json"]);
        assert_eq!(outcome.unwrap(), Outcome::Good);
        assert_eq!((json(&out)["ok"].as_bool(), json(&out)["signed"].as_bool()), (Some(true), Some(signed)));
    }

    let text = fs::read_to_string(&source).unwrap().replacen("role = \"hub\"", "role = \"hup\"", 1);
    fs::write(&source, &text).unwrap();
    let line = text.lines().position(|line| line.contains("hup")).unwrap() + 1;
    let (outcome, out) = topology(&["check", source.to_str().unwrap(), "--json"]);
    assert_eq!(outcome.unwrap(), Outcome::Bad);
    let fault = &json(&out)["faults"][0];
    assert_eq!(fault["line"].as_u64(), Some(line as u64), "{out}");
    assert!(fault["column"].is_u64() && fault["remedy"].is_string(), "{out}");
    let (outcome, _) = topology(&["check", source.to_str().unwrap()]);
    assert!(matches!(outcome, Err(Failure::Faults(_))));
}

#[test]
fn a_changed_signed_file_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    init(Template::Pekanbaru, folder.path()).unwrap();
    let signed = folder.path().join("city.topology");
    let text = fs::read_to_string(&signed).unwrap().replacen("cost = 10", "cost = 11", 1);
    fs::write(&signed, text).unwrap();
    let (outcome, _) = topology(&["check", signed.to_str().unwrap()]);
    assert!(matches!(outcome, Err(Failure::Untrusted { .. })), "{outcome:?}");
    assert!(matches!(CityFolder::open(folder.path()), Err(Failure::Untrusted { .. })));
}

#[test]
fn a_second_admin_adds_a_signature_where_two_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    init(Template::Pekanbaru, folder.path()).unwrap();
    let path = |name: &str| folder.path().join(name);
    let second = estafet_model::SigningKey::from_seed([7; 32]);
    fs::write(path("wakil.key"), second.to_pem()).unwrap();
    fs::set_permissions(path("wakil.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let source = path("topology.toml");
    let text = fs::read_to_string(&source).unwrap().replacen("version = 1", "version = 2\nrequired_signatures = 2", 1);
    let admin =
        format!("[[operator]]\nid = \"wakil\"\nkey = \"{}\"\nrole = \"admin\"\n\n[[operator]]", second.public());
    fs::write(&source, text.replacen("[[operator]]", &admin, 1)).unwrap();
    let sign = |key: &str| {
        let key = path(key);
        let (outcome, out) = topology(&["sign", source.to_str().unwrap(), "--key", key.to_str().unwrap(), "--json"]);
        let missing = json(&out)["missing_signatures"].as_u64().unwrap();
        assert_eq!(outcome.unwrap(), if missing > 0 { Outcome::Incomplete } else { Outcome::Good }, "{out}");
        (names(&json(&out)["operators"]).join(" "), missing)
    };
    assert_eq!(sign("operator.key"), ("operator".to_owned(), 1));
    assert_eq!(sign("operator.key"), ("operator".to_owned(), 1), "the same again adds nothing");
    assert_eq!(sign("wakil.key"), ("operator wakil".to_owned(), 0));
    assert!(CityFolder::open(folder.path()).is_ok());
    // The new admin's signature is not one by the version before, which asked for one.
    fs::remove_file(path("city.topology")).unwrap();
    fs::copy(path("previous.topology"), path("city.topology")).unwrap();
    assert_eq!(sign("wakil.key"), ("wakil".to_owned(), 1));
}

#[test]
fn who_signs_second_sees_what_changes_beside_their_own_version() {
    let folder = tempfile::tempdir().unwrap();
    init(Template::Pekanbaru, folder.path()).unwrap();
    let (first, desk) = (folder.path(), folder.path().join("desk"));
    let path = |folder: &Path, name: &str| folder.join(name).to_str().unwrap().to_owned();
    let second = estafet_model::SigningKey::from_seed([7; 32]);
    fs::create_dir(&desk).unwrap();
    fs::write(desk.join("operator.key"), second.to_pem()).unwrap();
    fs::set_permissions(desk.join("operator.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let admin =
        format!("[[operator]]\nid = \"wakil\"\nkey = \"{}\"\nrole = \"admin\"\n\n[[operator]]", second.public());
    let rewrite = |from: &str, to: &str| {
        let text = fs::read_to_string(first.join("topology.toml")).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(first.join("topology.toml"), text.replacen(from, to, 1)).unwrap();
    };
    let ends = |arguments: &[&str], expected: Outcome| {
        let (outcome, out) = topology(arguments);
        assert_eq!(outcome.unwrap(), expected, "{out}");
        out
    };
    let done = |arguments: &[&str]| ends(arguments, Outcome::Good);
    let [source, key] = ["topology.toml", "operator.key"].map(|name| path(first, name));
    rewrite("version = 1", "version = 2\nrequired_signatures = 2");
    rewrite("[[operator]]", &admin);
    ends(&["sign", &source, "--key", &key], Outcome::Incomplete);
    done(&["sign", &source, "--key", &path(&desk, "operator.key")]);
    fs::copy(first.join("city.topology"), desk.join("city.topology")).unwrap();

    // The first admin changes something, and sends the second what was signed.
    rewrite("version = 2", "version = 3");
    rewrite("cost = 10", "cost = 11");
    let said = ends(&["sign", &source, "--key", &key], Outcome::Incomplete);
    assert!(said.contains("-cost = 10\n") && said.contains("+cost = 11\n"), "{said}");
    let sent = path(first, "city.topology");
    let of_desk = path(&desk, "city.topology");
    let at_desk =
        |arguments: &[&str], expected| ends(&[&["--city", desk.to_str().unwrap()], arguments].concat(), expected);
    let shown = at_desk(&["diff", &sent], Outcome::Good);
    let changed: Vec<&str> =
        shown.lines().filter(|line| line.starts_with(['+', '-']) && line.as_bytes()[1] != line.as_bytes()[0]).collect();
    assert_eq!(changed, ["-version = 2", "+version = 3", "-cost = 10", "+cost = 11"], "{shown}");
    assert!(shown.contains("ends = "), "it says whose cost that is: {shown}");
    assert!(shown.contains("signed by operator, an admin of version 2"), "{shown}");
    // Wherever it is written to, it is told by the own version, and the same once it is signed.
    let elsewhere = path(&desk, "elsewhere");
    for arguments in [&["sign", &sent, "-o", &elsewhere][..], &["sign", &sent], &["sign", &sent]] {
        let signed = at_desk(arguments, Outcome::Good);
        assert!(signed.contains("+cost = 11\n") && signed.contains("signed by operator, wakil"), "{signed}");
    }
    assert!(CityFolder::open(&desk).is_ok());
    assert_eq!(done(&["diff", &sent, "--from", &of_desk]).lines().next(), Some("Nothing differs."));
    assert_eq!(fs::read_to_string(&sent).unwrap().matches("signature = ").count(), 1, "what was sent stays as it is");

    // Somebody who makes himself an admin, and signs that.
    let third = estafet_model::SigningKey::from_seed([8; 32]);
    fs::write(first.join("third.key"), third.to_pem()).unwrap();
    fs::set_permissions(first.join("third.key"), fs::Permissions::from_mode(0o600)).unwrap();
    rewrite("version = 3", "version = 4");
    rewrite("\"wakil\"", "\"asing\"");
    rewrite(&second.public().to_string(), &third.public().to_string());
    rewrite("[[operator]]", &admin);
    let strange = path(first, "strange.topology");
    let by_third = ["sign", &source, "--key", &path(first, "third.key"), "-o", &strange];
    let said = ends(&by_third, Outcome::Incomplete);
    assert!(said.contains("By version 2, asing is no admin"), "{said}");
    let shown = at_desk(&["diff", &strange], Outcome::Good);
    assert!(shown.contains("signed by asing, who is NO admin of version 3"), "{shown}");
    let signed = at_desk(&["sign", &strange], Outcome::Incomplete);
    assert!(signed.contains("before 1 more"), "{signed}");
    // It lies in the folder, and is not what the next version is compared with.
    rewrite("version = 4", "version = 5");
    let shown = at_desk(&["diff", &source], Outcome::Good);
    assert!(shown.contains("-version = 3\n+version = 5\n") && shown.contains("+id = \"asing\"\n"), "{shown}");
}

#[test]
fn sign_demands_a_higher_version_for_a_change() {
    let folder = tempfile::tempdir().unwrap();
    init(Template::Pekanbaru, folder.path()).unwrap();
    let source = folder.path().join("topology.toml");
    let key = folder.path().join("operator.key");
    let sign = || topology(&["sign", source.to_str().unwrap(), "--key", key.to_str().unwrap(), "--json"]);
    assert_eq!(sign().0.unwrap(), Outcome::Good, "the same again is no change");

    let changed = fs::read_to_string(&source).unwrap().replacen("cost = 10", "cost = 12", 1);
    fs::write(&source, &changed).unwrap();
    assert!(matches!(sign().0, Err(Failure::VersionNotRaised { there: 1, new: 1, .. })));
    fs::write(&source, changed.replacen("version = 1", "version = 2", 1)).unwrap();
    let (outcome, out) = sign();
    assert_eq!(outcome.unwrap(), Outcome::Good);
    assert_eq!(json(&out)["version"].as_u64(), Some(2));
    assert_eq!(CityFolder::open(folder.path()).unwrap().topology().version, 2);

    let stranger = folder.path().join("nodes/sail/node.key");
    let (outcome, _) = topology(&["sign", source.to_str().unwrap(), "--key", stranger.to_str().unwrap()]);
    assert!(matches!(outcome, Err(Failure::SignerUnlisted { .. })), "{outcome:?}");
}

fn names_of_cut_off(told: &Value) -> Vec<&str> {
    told["cut_off"].as_array().expect("a list").iter().filter_map(|entry| entry["node"].as_str()).collect()
}

#[test]
fn impact_says_who_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let city = |template: Template| {
        let dir = folder.path().join(template.name());
        init(template, &dir).unwrap();
        dir
    };
    let (historic, redundant) = (city(Template::Pekanbaru2013), city(Template::Pekanbaru));
    for (dir, failed, cut_off, detoured) in [
        (&historic, "sukajadi", vec!["rumbai", "rumbai-pesisir", "sukajadi"], vec![]),
        (&redundant, "sukajadi", vec!["sukajadi"], vec!["rumbai", "rumbai-pesisir"]),
    ] {
        for file in ["topology.toml", "city.topology"] {
            let file = dir.join(file);
            let (outcome, out) = topology(&["impact", failed, "--file", file.to_str().unwrap(), "--json"]);
            assert_eq!(outcome.unwrap(), Outcome::Good);
            let told = json(&out);
            assert_eq!(names(&told["failed"]), [failed]);
            let nodes = |list: &Value| {
                let nodes = list.as_array().unwrap().iter();
                nodes.map(|entry| entry["node"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
            };
            assert_eq!(nodes(&told["cut_off"]), cut_off);
            assert_eq!(nodes(&told["detoured"]), detoured);
        }
    }
    let (_, out) = topology(&["--city", redundant.to_str().unwrap(), "--json", "impact", "sukajadi"]);
    let detour = &json(&out)["detoured"][0];
    assert_eq!(names(&detour["via"]), ["senapelan"]);
    assert_eq!((detour["cost_before"].as_u64(), detour["cost_after"].as_u64()), (Some(20), Some(25)));
    assert_eq!(json(&out)["cut_off"][0]["label"], "Kecamatan Sukajadi");
    for dir in [&historic, &redundant] {
        let (_, out) = topology(&["--city", dir.to_str().unwrap(), "impact", "induk", "--json"]);
        assert_eq!(json(&out)["cut_off"].as_array().unwrap().len(), 13);
    }
    let two_hubs = city(Template::PekanbaruCadangan);
    for hub in ["induk", "cadangan"] {
        let (_, out) = topology(&["--city", two_hubs.to_str().unwrap(), "impact", hub, "--json"]);
        assert_eq!(names_of_cut_off(&json(&out)), [hub], "nobody else");
    }
    let (outcome, _) = topology(&["--city", two_hubs.to_str().unwrap(), "spof"]);
    assert_eq!(outcome.unwrap(), Outcome::Good, "no node, link or risk isolates anybody");
    let (outcome, _) = topology(&["--city", redundant.to_str().unwrap(), "impact", "nowhere"]);
    assert!(matches!(outcome, Err(Failure::NodeUnknown { .. })), "{outcome:?}");
}

#[test]
fn impact_needs_no_node_and_says_what_it_does_not_know_without_one() {
    let folder = tempfile::tempdir().unwrap();
    init(Template::Pekanbaru, folder.path()).unwrap();
    let (city, file) = (folder.path().to_str().unwrap(), folder.path().join("topology.toml"));
    for (arguments, why) in [
        (&["--city", city, "impact", "sukajadi"][..], Some("no node has answered")),
        (&["--city", city, "impact", "sukajadi", "--offline"], Some("no node was asked")),
        (&["impact", "sukajadi", "--file", file.to_str().unwrap()], Some("no node was asked")),
        (&["--city", city, "impact", "--link", "rumbai-sukajadi", "--offline"], None),
    ] {
        let (outcome, out) = topology(arguments);
        assert_eq!(outcome.unwrap(), Outcome::Good, "{arguments:?}");
        let line = why.map(|why| format!("for how long they have room is not known: {why}"));
        let told = out.lines().find(|line| line.starts_with("for how long")).map(str::to_owned);
        assert_eq!(told, line, "{out}");
        let unknown = out.contains("what is dark or draining now is not known");
        assert_eq!(unknown, why == Some("no node has answered"), "{out}");
        let (_, out) = topology(&[&["--json"], arguments].concat());
        let told = json(&out);
        assert_eq!((&told["seen_from"], &told["now"]), (&Value::Null, &Value::Null));
        assert!(told["cut_off"].as_array().unwrap().iter().all(|office| office["hours_left"].is_null()), "{out}");
    }
}

#[test]
fn impact_takes_links_and_risks() {
    let folder = tempfile::tempdir().unwrap();
    init(Template::Pekanbaru, folder.path()).unwrap();
    let city = folder.path().to_str().unwrap();
    let ask = |arguments: &[&str]| topology(&[&["--city", city, "--json", "impact"], arguments].concat());
    for (arguments, cut_off, why) in [
        (&["--link", "induk-sail"][..], vec!["sail"], vec!["isolated"]),
        (&["--link", "rumbai-pesisir-sukajadi"], vec![], vec![]),
        (&["--link", "sukajadi,rumbai", "--link", "senapelan,rumbai"], vec![], vec![]),
        (&["--risk", "telkom-sto"], vec!["pekanbaru-kota"], vec!["isolated"]),
        (
            &["sail", "--risk", "pln-kota"],
            vec!["lima-puluh", "pekanbaru-kota", "sail"],
            vec!["struck", "struck", "fails"],
        ),
    ] {
        let (outcome, out) = ask(arguments);
        assert_eq!(outcome.unwrap(), Outcome::Good, "{arguments:?}");
        let told = json(&out);
        let field = |name: &str| {
            let entries = told["cut_off"].as_array().unwrap().iter();
            entries.map(|entry| entry[name].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!((field("node"), field("why")), (words(&cut_off), words(&why)), "{arguments:?}");
    }
    for (arguments, meant) in [
        (&["sial"][..], "`sail`"),
        (&["--link", "rumbai-sukajad"], "`rumbai-sukajadi`"),
        (&["--link", "sail-rumbai"], "nothing joins these two; the first has induk-sail"),
        (&["--link", "sail-bogor"], "use one of"),
        (&["--risk", "telkom"], "`telkom-sto`"),
    ] {
        let failure = ask(arguments).0.unwrap_err();
        let help = miette::Diagnostic::help(&failure).unwrap().to_string();
        assert!(help.contains(meant), "{arguments:?}: {help}");
        assert_eq!(failure.exit_code(), 1);
    }
    assert!(Cli::try_parse_from(["topology", "impact"]).is_err(), "something must fail");
}

/// Sail has a mobile network beside its radio, and fails with neither of them alone.
const SECOND_BEARER: &str = "
[[link]]
ends = [\"induk\", \"sail\"]
medium = \"cellular\"
cost = 40
risks = [\"tower\"]
";

#[test]
fn a_second_bearer_outlives_the_first() {
    let folder = tempfile::tempdir().unwrap();
    init(Template::Pekanbaru, folder.path()).unwrap();
    let file = folder.path().join("topology.toml");
    let text = fs::read_to_string(&file).unwrap();
    let file_name = file.to_str().unwrap();
    let isolate_sail = || {
        let points = json(&topology(&["--json", "spof", "--file", file_name]).1)["single_points"].clone();
        let points = points.as_array().unwrap().iter().filter(|point| point["leaves_no_hub"] == false);
        points.filter(|point| point["isolates"].to_string().contains("\"sail\"")).count()
    };
    assert_eq!(isolate_sail(), 2, "its link, and the mast");
    let isolates_sail = |arguments: &[&str]| {
        let (outcome, out) = topology(&[&["--json", "impact", "--file", file_name], arguments].concat());
        outcome.unwrap();
        json(&out)["cut_off"].to_string().contains("sail")
    };
    assert!(isolates_sail(&["--link", "sail-induk"]));
    fs::write(&file, text + SECOND_BEARER).unwrap();
    assert_eq!(isolate_sail(), 0);
    for (arguments, isolated) in [
        (&["--link", "sail-induk"][..], true),
        (&["--link", "sail-induk:radio"], false),
        (&["--link", "sail-induk:cellular"], false),
        (&["--link", "sail-induk:radio", "--risk", "tower"], true),
        (&["--risk", "mast-induk"], false),
    ] {
        assert_eq!(isolates_sail(arguments), isolated, "{arguments:?}");
    }
    let failure = topology(&["impact", "--file", file_name, "--link", "sail-induk:fiber"]).0.unwrap_err();
    let help = miette::Diagnostic::help(&failure).unwrap().to_string();
    assert!(help.contains("radio"), "{help}");
    let warnings = json(&topology(&["--json", "check", file_name]).1)["warnings"].to_string();
    assert!(warnings.contains("over all bearers"), "they have no addresses of their own: {warnings}");
}

#[test]
fn impact_adds_what_the_calendar_darkens_at_a_moment() {
    let folder = tempfile::tempdir().unwrap();
    init(Template::Pekanbaru, folder.path()).unwrap();
    let city = folder.path().to_str().unwrap();
    for outage in [
        &["--risk", "pln-kota", "--for", "3h", "--every", "1d", "--reason", "evenings"][..],
        &["--node", "rumbai", "--risk", "telkom-sto", "--for", "1h", "--reason", "new roof"],
    ] {
        let add = ["--city", city, "outage", "add", "--start", "2113-08-06T18:00:00+07:00"];
        topology(&[&add, outage].concat()).0.unwrap();
    }
    let add = ["--city", city, "outage", "add", "--start", "2113-08-05T08:00:00+07:00", "--for", "1h"];
    topology(&[&add[..], &["--link", "sail-induk", "--reason", "new mast"]].concat()).0.unwrap();
    let ask = |arguments: &[&str]| {
        let (outcome, out) = topology(&[&["--city", city, "--json", "impact"], arguments].concat());
        assert_eq!(outcome.unwrap(), Outcome::Good, "{arguments:?}");
        json(&out)
    };
    let kota = "lima-puluh dark, pekanbaru-kota dark, sail dark";
    for (arguments, applied, cut_off) in [
        (&["--at", "2113-08-06T17:59:59+07:00"][..], "", ""),
        (
            &["--at", "2113-08-06T18:30:00+07:00"],
            "evenings, new roof",
            // The branch loses its fiber, and its way around by Lima Puluh.
            "lima-puluh dark, pekanbaru-kota dark, rumbai dark, rumbai-pesisir isolated, sail dark, senapelan isolated, \
             sukajadi isolated",
        ),
        (&["--at", "2113-08-06T12:00:00Z"], "evenings", kota),
        (&["--at", "2126-12-01T18:00:00+07:00"], "evenings", kota),
        (&["--at", "2126-12-01T21:00:00+07:00"], "", ""),
        (
            &["sukajadi", "--risk", "pln-rumbai", "--at", "2113-08-06T18:30:00+07:00"],
            "evenings, new roof",
            "lima-puluh dark, pekanbaru-kota dark, rumbai struck, rumbai-pesisir struck, sail dark, senapelan isolated, \
             sukajadi fails",
        ),
        (&["sail"], "", "sail fails"),
    ] {
        let told = ask(arguments);
        let text = |entry: &Value, field: &str| entry[field].as_str().expect("text").to_owned();
        let reasons: Vec<String> = list(&told["outages"]).iter().map(|outage| text(outage, "reason")).collect();
        assert_eq!(reasons.join(", "), applied, "{arguments:?}");
        let nodes = list(&told["cut_off"]).iter().map(|node| format!("{} {}", text(node, "node"), text(node, "why")));
        assert_eq!(nodes.collect::<Vec<_>>().join(", "), cut_off, "{arguments:?}");
    }
    let links_down = |moment: &str| ask(&["--at", moment])["links_down"].clone();
    assert_eq!(links_down("2113-08-05T08:30:00+07:00"), json!([["induk", "sail"]]), "and its ends go on");
    assert_eq!(links_down("2113-08-05T09:30:00+07:00"), json!([]));
    let (planned, named) =
        (["--at", "2113-08-06T18:30:00+07:00"], ["rumbai", "--risk", "pln-kota", "--risk", "telkom-sto"]);
    let (planned, named) = (ask(&planned), ask(&named));
    for field in ["links_down", "detoured"] {
        assert_eq!(planned[field], named[field], "as if it were named");
    }
    assert!(!list(&planned["links_down"]).is_empty());
    let told = ask(&["--at", "2113-08-07T20:00:00+07:00"]);
    assert_eq!(told["at"], "2113-08-07T13:00:00.000Z");
    let evening = &told["outages"][0];
    assert_eq!(names(&evening["strikes"]), ["lima-puluh", "pekanbaru-kota", "sail"]);
    assert_eq!(
        (&evening["start"], &evening["end"]),
        (&json!("2113-08-07T11:00:00.000Z"), &json!("2113-08-07T14:00:00.000Z"))
    );
    assert_eq!(names(&told["cut_off"][0]["dark_by"]), ["evenings"]);
    assert!(ask(&["--at", "now"])["at"].is_string());
    let (_, out) = topology(&["--city", city, "impact", "--at", "2113-08-06T17:00:00+07:00"]);
    assert!(out.starts_with("No outage is planned for 2113-08-0"), "{out}");
    assert!(Cli::try_parse_from(["topology", "impact", "--at", "tonight"]).is_err());
    let backward = Cli::try_parse_from(["topology", "drain", "sail", "--for", "-2h"]).unwrap_err().to_string();
    assert!(backward.contains("write it as 2h"), "{backward}");
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// What a command that works on a file answers.
fn ask_about(file: &Path, arguments: &[&str]) -> (Outcome, Value) {
    let file = file.to_str().expect("a path in UTF-8");
    let (outcome, out) = topology(&[arguments, &["--file", file, "--json"]].concat());
    (outcome.expect("an answer"), json(&out))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// Each single point of failure, with how many it isolates and whether no hub is left.
fn single_points(file: &Path) -> (Outcome, Vec<(String, usize, bool)>) {
    let (outcome, found) = ask_about(file, &["spof"]);
    let point = |point: &Value| {
        let isolated = list(&point["isolates"]).len();
        (names(&point["names"]).join(" "), isolated, point["leaves_no_hub"] == true)
    };
    (outcome, list(&found["single_points"]).iter().map(point).collect())
}

fn warned(file: &Path) -> Vec<String> {
    let (outcome, out) = topology(&["check", file.to_str().expect("a path in UTF-8"), "--json"]);
    assert_eq!(outcome.expect("an answer"), Outcome::Good, "a warning is no fault");
    list(&json(&out)["warnings"]).iter().map(|warning| names(&json!([warning["node"]]))[0].to_owned()).collect()
}

/// Puts what `advise` proposes at the end of the file, and returns the advice.
fn build(file: &Path, links: &str) -> Value {
    let (outcome, advice) = ask_about(file, &["advise", "--links", links]);
    assert_eq!(outcome, Outcome::Good);
    let blocks = list(&advice["links"]).iter().map(|link| link["toml"].as_str().expect("a text").to_owned());
    let text = fs::read_to_string(file).expect("the file that was asked about");
    let text: Vec<String> = [text].into_iter().chain(blocks).collect();
    fs::write(file, text.join("\n")).expect("written");
    advice
}

#[test]
fn what_advise_proposes_removes_what_spof_lists() {
    let folder = tempfile::tempdir().unwrap();
    init(Template::Pekanbaru, folder.path()).unwrap();
    let file = folder.path().join("topology.toml");
    let (outcome, points) = single_points(&file);
    assert_eq!(outcome, Outcome::Bad);
    assert_eq!(points[0], ("induk".to_owned(), 12, true));
    assert_eq!(points[2], ("mast-induk".to_owned(), 6, false));
    assert_eq!(points.len(), 7);
    assert_eq!(warned(&file), ["marpoyan-damai", "pekanbaru-kota", "sail"]);

    let advice = build(&file, "4");
    assert_eq!(list(&advice["links"]).len(), 4, "no three are enough: {advice}");
    assert_eq!(advice["is_best"].as_bool(), Some(true));
    assert_eq!(advice["second_hub"]["because"][0]["names"][0], "induk");
    assert!(advice["second_hub"]["sites"][0]["node"].is_string());
    let (_, points) = single_points(&file);
    let left: Vec<_> = points.iter().map(|(name, _, leaves_no_hub)| (name.as_str(), *leaves_no_hub)).collect();
    assert_eq!(left, [("induk", true), ("pln-induk", true)], "only a second hub helps against these");
    assert_eq!(warned(&file), Vec::<String>::new());
    assert!(list(&build(&file, "3")["links"]).is_empty(), "there is nothing left for a link");
}

#[test]
fn with_a_second_hub_links_lead_toward_the_other() {
    let folder = tempfile::tempdir().unwrap();
    init(Template::Pekanbaru, folder.path()).unwrap();
    let file = folder.path().join("topology.toml");
    let text = fs::read_to_string(&file).unwrap();
    let (before, senapelan) = text.split_at(text.find("id = \"senapelan\"").unwrap());
    let senapelan = senapelan.replacen("role = \"relay\"", "role = \"hub\"", 1);
    let seal_key = text.lines().find(|line| line.starts_with("seal_key")).unwrap();
    fs::write(&file, format!("{before}{senapelan}\n[[hub]]\nnode = \"senapelan\"\n{seal_key}\n")).unwrap();
    assert!(single_points(&file).1.contains(&("induk".to_owned(), 7, false)));
    for round in 0..3 {
        let advice = build(&file, "3");
        assert!(advice["second_hub"].is_null(), "round {round}: {advice}");
    }
    assert_eq!(single_points(&file), (Outcome::Good, Vec::new()));
}

#[test]
fn completions_name_the_commands() {
    let (outcome, out) = topology(&["completions", "bash"]);
    assert_eq!(outcome.unwrap(), Outcome::Good);
    assert!(out.contains("impact") && out.contains("topology"));
}

#[test]
fn the_exit_codes_stand_in_the_help() {
    let help = Cli::try_parse_from(["topology", "--help"]).unwrap_err().to_string();
    for part in
        ["Exit codes", "0  done", "1  it failed", "single points of failure", "2  the command", "3  no node answered"]
    {
        assert!(help.contains(part), "{help}");
    }
}

#[test]
fn a_day_of_rolling_blackouts_is_told_row_by_row_with_its_figures() {
    let (outcome, out) = topology(&["drill", "pekanbaru-2013", "--seed", "3", "--days", "1", "--json"]);
    let told = json(&out);
    assert_eq!(told["pass"].as_bool(), Some(outcome.unwrap() == Outcome::Good), "{out}");
    let lost = &told["rows"]["minutes_lost"];
    assert_eq!((lost["with_estafet"].as_f64(), lost["at_most"].as_f64()), (Some(0.0), Some(0.0)), "{out}");
    assert!(lost["as_it_was"].as_f64() > Some(0.0), "{out}");
    assert!(told["rows"]["route_changes"]["as_it_was"].is_null() && told["attempts"].as_u64() > Some(100), "{out}");
}

#[test]
fn the_figures_of_each_drill_stand_in_its_help() {
    let help = Cli::try_parse_from(["topology", "drill", "--help"]).unwrap_err().to_string();
    for drill in Drill::ALL {
        let (_, rest) = help.split_once(&format!("  {drill}, {} days", drill.days())).expect("its story");
        for figure in drill.figures() {
            let line = format!("{} <= {}", figure.row.label(), figure.row.show(figure.at_most));
            assert!(rest.contains(&line), "{line} of {drill} in {help}");
        }
    }
    let unknown = Cli::try_parse_from(["topology", "drill", "ambon"]).unwrap_err().to_string();
    assert!(unknown.contains("ambon-2019"), "{unknown}");
}

#[test]
fn offices_that_only_metered_links_lead_to_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    init(Template::Pekanbaru2013, folder.path()).unwrap();
    let file = folder.path().join("topology.toml");
    let path = file.to_str().unwrap().to_owned();
    let metered = |path: &str| {
        let (_, out) = topology(&["check", path, "--json"]);
        let warnings = json(&out)["warnings"].as_array().unwrap().clone();
        let metered = warnings.iter().filter(|warning| warning["hangs_on"] == "metered");
        metered.map(|warning| warning["node"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(metered(&path).is_empty());
    let text = fs::read_to_string(&file).unwrap();
    let link = "ends = [\"induk\", \"sukajadi\"]\n";
    assert!(text.contains(link), "{text}");
    fs::write(&file, text.replace(link, &format!("{link}metered = true\n"))).unwrap();
    let behind = ["rumbai", "rumbai-pesisir", "sukajadi"];
    assert_eq!(metered(&path), behind);
    let (_, out) = topology(&["spof", "--file", &path, "--json"]);
    assert_eq!(names(&json(&out)["urgent_only"]), behind);
    let (_, out) = topology(&["spof", "--file", &path]);
    assert!(out.contains("Over metered links only") && out.contains(&behind.join(", ")), "{out}");
    fs::write(&file, text.replace(link, &format!("{link}metered = true\nbulk = true\n"))).unwrap();
    assert!(metered(&path).is_empty());
}

#[test]
fn no_links_at_all_are_no_advice() {
    let refused = Cli::try_parse_from(["topology", "advise", "--links", "0"]).unwrap_err();
    assert_eq!(refused.exit_code(), 2);
    assert!(refused.to_string().contains("ask for one link at least"), "{refused}");
}
