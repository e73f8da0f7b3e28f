//! Who belongs to a city, as far as it needs no node: what `topology node` and `topology operator` write and refuse.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Parser;
use estafet_cli::init::init;
use estafet_cli::{CityFolder, Cli, Failure, Outcome, Output, run};
use estafet_model::{Fingerprint, JoinRequest, NodeId, SigningKey};
use estafet_tls::{create_key, read_key};
use estafet_topology::{OperatorRole, Template};
use miette::Diagnostic;
use tempfile::TempDir;

struct City {
    folder: TempDir,
}

impl City {
    fn new(template: Template) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        init(template, folder.path()).expect("a city");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn source(&self) -> String {
        fs::read_to_string(self.path("topology.toml")).expect("a topology")
    }

    /// Puts something into the topology, as people do before they sign.
    fn append(&self, text: &str) {
        fs::write(self.path("topology.toml"), self.source() + text).expect("written");
    }

    fn opened(&self) -> CityFolder {
        CityFolder::open(self.folder.path()).expect("a signed city")
    }

    /// Runs a command line, and returns what it noted as well.
    fn run(&self, arguments: &[&str]) -> (Result<Outcome, Failure>, String) {
        let (outcome, _, notes) = self.run_whole(arguments);
        (outcome, notes)
    }

    /// The same with its answer, before what it noted.
    fn run_whole(&self, arguments: &[&str]) -> (Result<Outcome, Failure>, String, String) {
        let city = self.folder.path().to_str().expect("text");
        let words = ["topology", "--city", city].into_iter().chain(arguments.iter().copied());
        let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let outcome = runtime.block_on(run(cli, &mut Output::new(&mut out, &mut notes, false)));
        let [out, notes] = [out, notes].map(|bytes| String::from_utf8(bytes).expect("text"));
        (outcome, out, notes)
    }

    /// No node runs here, which the command says of a change that is signed.
    fn done(&self, arguments: &[&str]) -> String {
        let (outcome, notes) = self.run(arguments);
        let expected = if notes.contains("No node has it yet") { Outcome::Untold } else { Outcome::Good };
        assert_eq!(outcome.unwrap_or_else(|error| panic!("{arguments:?}: {error:?}")), expected, "{notes}");
        notes
    }

    /// Signs what was edited, as the next version.
    fn sign(&self) -> (Result<Outcome, Failure>, String) {
        let version = self.opened().topology().version;
        let raised = self.source().replace(&format!("\nversion = {version}"), &format!("\nversion = {}", version + 1));
        fs::write(self.path("topology.toml"), raised).expect("written");
        self.run(&["sign"])
    }

    /// What a refused command says, with its remedy; nothing has changed.
    fn refused(&self, arguments: &[&str]) -> String {
        let before = (self.source(), fs::read(self.path("city.topology")).expect("a city"));
        let (outcome, _) = self.run(arguments);
        let failure = outcome.expect_err("a refusal");
        let after = (self.source(), fs::read(self.path("city.topology")).expect("a city"));
        assert_eq!(after, before, "{arguments:?} is refused, and changes nothing");
        assert_eq!(failure.exit_code(), 1);
        let help = failure.help().unwrap_or_else(|| panic!("{failure} does not say what to do")).to_string();
        format!("{failure} / {help}")
    }

    fn request(&self, node: &str, seed: u8) -> (PathBuf, String) {
        let key = SigningKey::from_seed([seed; 32]);
        let address = |port| ([10, 77, 0, seed], port).into();
        let request = JoinRequest::sign(id(node), vec![address(4460)], address(4461), &key);
        let file = self.path("request");
        fs::write(&file, request.to_string()).expect("written");
        (file, request.fingerprint().to_string())
    }
}

fn id(name: &str) -> NodeId {
    name.parse().expect("a node id")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn public(seed: u8) -> String {
    SigningKey::from_seed([seed; 32]).public().to_string()
}

fn fingerprint(seed: u8) -> String {
    Fingerprint::of(&SigningKey::from_seed([seed; 32]).public()).to_string()
}

#[test]
fn a_node_is_added_with_its_links_and_what_people_wrote_stays() {
    let city = City::new(Template::Pekanbaru);
    let written = city.source().replacen("version = 1", "# Ask Budi.\nversion = 1 # first", 1);
    fs::write(city.path("topology.toml"), &written).unwrap();
    let (request, fingerprint) = city.request("siak", 40);
    let words = ["node", "add", "--request", text(&request), "--code", "S1K", "--label", "Kecamatan \"Siak\""];
    let links = ["--link", "sukajadi:fiber", "--link", "rumbai-pesisir:radio:15", "--risk", "pln-siak"];
    let words = [&words[..], &links, &["--fingerprint", &fingerprint]].concat();
    let notes = city.done(&words);
    assert!(notes.contains("city.topology") && notes.contains("fingerprint"), "{notes}");
    assert!(city.source().contains("# Ask Budi.\nversion = 2 # first\n"), "{}", city.source());
    let opened = city.opened();
    let siak = opened.topology().node(&id("siak")).unwrap();
    assert_eq!((siak.label.as_str(), siak.key.to_string()), ("Kecamatan \"Siak\"", public(40)));
    let links = opened.topology().neighbors(&siak.id).map(|(to, link)| format!("{to} {} {}", link.medium, link.cost));
    let mut links: Vec<String> = links.collect();
    links.sort();
    assert_eq!(links, ["rumbai-pesisir radio 15", "sukajadi fiber 10"]);

    assert!(city.refused(&words).contains("node replace siak"));
    city.request("kampar", 41);
    let (_, fingerprint) = city.request("kampar", 41);
    let again = |to: &str, code: &str| {
        let words = ["node", "add", "--request", text(&request), "--label", "Kampar", "--fingerprint", &fingerprint];
        city.refused(&[&words[..], &["--code", code, "--link", to]].concat())
    };
    assert!(again("sukajad:fiber", "KMP").contains("did you mean `sukajadi`"));
    let used = again("sukajadi:fiber", "SKJ");
    assert!(used.contains("would not hold together") && used.contains("SKJ"), "{used}");
}

#[test]
fn a_request_is_believed_only_by_its_fingerprint() {
    let city = City::new(Template::Pekanbaru);
    let (request, fingerprint) = city.request("siak", 40);
    let add = |more: &[&str]| {
        let words = ["node", "add", "--request", text(&request), "--code", "S1K", "--label", "Siak"];
        city.refused(&[&words[..], &["--link", "sukajadi:fiber"], more].concat())
    };
    let not_compared = add(&[]);
    assert!(not_compared.contains("nobody has compared") && !not_compared.contains(&fingerprint), "it is to be heard");
    let other = fingerprint.replace(fingerprint.chars().next().unwrap(), "Z").replacen('Z', "Y", 1);
    assert!(add(&["--fingerprint", &other]).contains("do not let it in"));
    let changed = fs::read_to_string(&request).unwrap().replace("10.77.0.40:4460", "10.66.0.1:4460");
    fs::write(&request, changed).unwrap();
    assert!(add(&["--fingerprint", &fingerprint]).contains("changed after it was signed"));
    fs::write(&request, "hello").unwrap();
    assert!(add(&["--fingerprint", &fingerprint]).contains("no join request"));
}

#[test]
fn a_machine_is_replaced_under_its_nodes_name() {
    let city = City::new(Template::Pekanbaru);
    let before = city.opened().topology().node(&id("rumbai")).unwrap().clone();
    let (request, fingerprint) = city.request("rumbai", 40);
    let replace = |node: &'static str| {
        ["node", "replace", node, "--request", text(&request), "--fingerprint", &fingerprint].map(str::to_owned)
    };
    let words = |node| replace(node).to_vec();
    let run = |words: Vec<String>, refused: bool| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if refused { city.refused(&words) } else { city.done(&words) }
    };
    assert!(run(words("sail"), true).contains("is for `rumbai`, and not for `sail`"));
    run(words("rumbai"), false);
    let opened = city.opened();
    let after = opened.topology().node(&id("rumbai")).unwrap();
    assert_eq!((after.key.to_string(), &after.label, after.code), (public(40), &before.label, before.code));
    let former = &opened.topology().former_nodes[0];
    assert_eq!((&former.id, former.key, former.accept), (&before.id, before.key, false));
    assert!(run(words("rumbai"), true).contains("nothing is to be replaced"));
    city.request("induk", 41);
    let (_, fingerprint) = city.request("induk", 41);
    let hub = ["node", "replace", "induk", "--request", text(&request), "--fingerprint", &fingerprint];
    assert!(city.refused(&hub).contains("receipts"));
}

#[test]
fn a_node_is_removed_with_all_that_names_it_and_never_comes_again() {
    let city = City::new(Template::Pekanbaru);
    city.append("\n[[outage]]\nnodes = [\"rumbai\", \"sail\"]\nstart = 2013-08-06T18:00:00+07:00\nduration = \"3h\"\nreason = \"both\"\n");
    city.append(
        "\n[[outage]]\nnodes = [\"rumbai\"]\nstart = 2013-08-06T18:00:00+07:00\nduration = \"3h\"\nreason = \"one\"\n",
    );
    assert!(city.refused(&["node", "remove", "rumbai"]).contains("topology sign"), "nothing is signed unawares");
    let (signed, notes) = city.sign();
    assert_eq!(signed.unwrap(), Outcome::Good, "{notes}");
    let notes = city.done(&["node", "remove", "rumbai"]);
    assert!(notes.contains("node accept rumbai"), "{notes}");
    let opened = city.opened();
    let topology = opened.topology();
    assert!(topology.node(&id("rumbai")).is_none());
    assert!(!topology.links.iter().any(|link| link.ends.contains(&id("rumbai"))));
    assert_eq!(topology.outages.iter().map(|outage| outage.reason.as_str()).collect::<Vec<_>>(), ["both"]);
    assert_eq!(topology.former_nodes[0].id, id("rumbai"));

    assert!(city.refused(&["node", "remove", "rumbai"]).contains("no node `rumbai`"));
    city.done(&["node", "accept", "rumbai"]);
    assert!(city.opened().topology().former_nodes[0].accept);
    assert!(city.refused(&["node", "accept", "rumbai"]).contains("[[former_node]]"));
}

#[test]
fn who_carries_others_or_commits_for_all_is_not_removed() {
    let city = City::new(Template::Pekanbaru2013);
    assert!(city.refused(&["node", "remove", "induk"]).contains("only main server"));
    let said = city.refused(&["node", "remove", "sukajadi"]);
    assert!(said.contains("rumbai, rumbai-pesisir") && said.contains("topology impact sukajadi"), "{said}");
}

#[test]
fn operators_come_and_go_and_enough_admins_stay() {
    let city = City::new(Template::Pekanbaru);
    let key = city.path("budi.key");
    let made = city.done(&["operator", "key", "-o", text(&key)]);
    assert!(made.contains("fingerprint"), "{made}");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(city.refused(&["operator", "key", "-o", text(&key)]).contains("never overwritten"));

    let add = |name: &str, role: &str, seed: u8| {
        let (key, fingerprint) = (public(seed), fingerprint(seed));
        ["operator", "add", name, "--role", role, "--key", &key, "--fingerprint", &fingerprint].map(str::to_owned)
    };
    fn words(add: &[String; 9]) -> [&str; 9] {
        add.each_ref().map(String::as_str)
    }
    let budi = add("budi", "viewer", 41);
    let not_compared = city.refused(&words(&budi)[..7]);
    assert!(not_compared.contains("nobody has compared") && !not_compared.contains(&fingerprint(41)), "{not_compared}");
    let mut swapped = words(&budi);
    let other = fingerprint(42);
    swapped[8] = &other;
    assert!(city.refused(&swapped).contains(&other));
    city.done(&words(&budi));
    city.done(&words(&add("sari", "admin", 42)));
    let listed = |name: &str| {
        let opened = city.opened();
        opened.topology().operators.iter().find(|operator| operator.id == name).map(|operator| operator.role)
    };
    assert_eq!((listed("budi"), listed("sari")), (Some(OperatorRole::Viewer), Some(OperatorRole::Admin)));
    let (_, table, _) = city.run_whole(&["operator", "list"]);
    let sari = table.lines().find(|line| line.contains("sari")).unwrap();
    assert!(sari.contains("admin") && sari.contains(&fingerprint(42)), "{table}");
    assert!(table.lines().any(|line| line.starts_with("operator ") && line.contains("this folder's")), "{table}");
    assert!(city.refused(&words(&add("budi", "viewer", 43))).contains("an operator `budi` already"));
    assert!(city.refused(&["operator", "remove", "bud"]).contains("did you mean `budi`"));
    assert!(city.refused(&["operator", "remove", "operator"]).contains("another admin"), "nobody removes themselves");
    city.done(&["operator", "remove", "budi"]);
    assert_eq!(listed("budi"), None);

    let two = city.source().replacen("copies = 1\n", "", 1).replacen(
        "\n[[operator]]",
        "required_signatures = 2\n\n[[operator]]",
        1,
    );
    fs::write(city.path("topology.toml"), two).unwrap();
    let (signed, notes) = city.sign();
    assert_eq!(signed.unwrap(), Outcome::Incomplete, "one of two has signed: {notes}");
    assert!(city.refused(&["operator", "remove", "sari"]).contains("1 of the 2 admins"));
}

#[test]
fn who_is_no_admin_opens_a_folder_that_gives_them_their_role_and_changes_nothing() {
    let city = City::new(Template::Pekanbaru);
    fs::copy(city.path("operator.key"), city.path("admin.key")).unwrap();
    for (name, role) in [("sari", "admin"), ("budi", "viewer"), ("wati", "operator")] {
        let key = city.path(&format!("{name}.key"));
        city.done(&["operator", "key", "-o", text(&key)]);
        let public = read_key(&key).unwrap().public();
        let (fingerprint, public) = (Fingerprint::of(&public).to_string(), public.to_string());
        fs::copy(city.path("admin.key"), city.path("operator.key")).unwrap();
        city.done(&["operator", "add", name, "--role", role, "--key", &public, "--fingerprint", &fingerprint]);
        fs::copy(&key, city.path("operator.key")).unwrap();
        let opened = CityFolder::open(city.folder.path());
        assert_eq!(opened.is_ok(), role != "admin", "an admin has to have signed: {opened:?}");
        let (refused, _) = city.run(&["operator", "remove", "operator"]);
        let refused = refused.expect_err("only an admin changes who belongs to a city");
        assert!(role == "admin" || refused.to_string().contains("admin"), "{refused}");
    }
    // A folder that does not know its key is believed by nobody.
    create_key(&city.path("stranger.key"), &SigningKey::from_seed([77; 32])).unwrap();
    fs::copy(city.path("stranger.key"), city.path("operator.key")).unwrap();
    assert!(CityFolder::open(city.folder.path()).is_err());
}

#[test]
fn an_operators_key_that_others_can_read_is_refused() {
    let city = City::new(Template::Pekanbaru);
    fs::set_permissions(city.path("operator.key"), Permissions::from_mode(0o644)).unwrap();
    assert!(city.refused(&["node", "remove", "rumbai"]).contains("run: chmod 600 "));
}
