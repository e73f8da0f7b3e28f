//! A city made by `topology init`, its relays as child processes, and the waiting that tests need.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes on a loaded machine; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// The built program `name`, beside this test.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    let program = folder.join(name);
    assert!(program.exists(), "{} is not built: run `cargo build --workspace` first, or tests/run", program.display());
    program
}

/// Asks again until `probe` has an answer.
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// As built in 2013 these three are a chain: Rumbai's only way to the main server is Sukajadi. The other nodes need not
/// run.
pub(crate) const CHAIN: [&str; 3] = ["rumbai", "sukajadi", "induk"];

pub(crate) struct City {
    _folder: TempDir,
    pub(crate) dir: PathBuf,
    nodes: BTreeMap<String, Value>,
    relays: BTreeMap<String, Child>,
    ports: BTreeSet<u16>,
}

/// The ports of the cities of all tests that run now. A node that is down does not hold its ports, and another test's
/// city must not be given them meanwhile.
static PORTS_IN_USE: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

fn ports_in_use() -> MutexGuard<'static, BTreeSet<u16>> {
    PORTS_IN_USE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tokens that the test's counter shows, by the beginning of the URL. Tests run in one process, and ports are one city's.
static TOKENS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

fn authorization(url: &str) -> Option<String> {
    let tokens = TOKENS.lock().unwrap_or_else(PoisonError::into_inner);
    tokens.iter().find(|(intake, _)| url.starts_with(intake.as_str())).map(|(_, token)| format!("Bearer {token}"))
}

/// Every port that the city's files name.
fn ports_of(dir: &Path) -> BTreeSet<u16> {
    let topology = std::fs::read_to_string(dir.join("topology.toml")).unwrap();
    let configurations = std::fs::read_dir(dir.join("nodes")).unwrap();
    let configurations =
        configurations.map(|node| std::fs::read_to_string(node.unwrap().path().join("relay.toml")).unwrap());
    let text: String = configurations.chain([topology]).collect();
    let port = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    text.split("127.0.0.1:").skip(1).filter_map(port).collect()
}

impl City {
    /// A new city from a template; nothing runs yet.
    pub(crate) fn new(template: &str) -> Self {
        loop {
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().join("city");
            let made = topology(&["init", "--template", template, "--out", dir.to_str().unwrap(), "--json"]);
            let made = last_object(&made);
            let ports = ports_of(&dir);
            let mut in_use = ports_in_use();
            if in_use.is_disjoint(&ports) {
                in_use.extend(&ports);
                let nodes = made["nodes"].as_object().unwrap().iter();
                let nodes = nodes.map(|(id, node)| (id.clone(), node.clone())).collect();
                return Self { _folder: folder, dir, nodes, relays: BTreeMap::new(), ports };
            }
        }
    }

    /// A city whose relays all run and whose offices all have a way to the main server.
    pub(crate) fn running(template: &str) -> Self {
        let mut city = Self::new(template);
        city.start_all();
        city
    }

    /// Starts all relays, and waits until all offices have a way to the main server.
    pub(crate) fn start_all(&mut self) {
        for node in self.node_ids() {
            self.start(&node);
        }
        self.wait_until_whole();
    }

    pub(crate) fn node_ids(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    pub(crate) fn offices(&self) -> Vec<String> {
        self.nodes.keys().filter(|id| !["induk", "cadangan"].contains(&id.as_str())).cloned().collect()
    }

    /// The city's folder, for the CLI.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn folder(&self, node: &str) -> PathBuf {
        self.dir.join("nodes").join(node)
    }

    pub(crate) fn config(&self, node: &str) -> PathBuf {
        PathBuf::from(self.nodes[node]["config"].as_str().unwrap())
    }

    pub(crate) fn intake(&self, node: &str) -> String {
        format!("{}/v1/records", self.nodes[node]["intake"].as_str().unwrap())
    }

    pub(crate) fn start(&mut self, node: &str) {
        let mut command = Command::new(program("estafet-relay"));
        command.arg("run").arg("--config").arg(self.config(node));
        self.start_as(node, command);
    }

    /// Starts a node's relay by a command of the test's own.
    pub(crate) fn start_as(&mut self, node: &str, mut command: Command) {
        let log = OpenOptions::new().create(true).append(true).open(self.folder(node).join("relay.log")).unwrap();
        let relay = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.relays.insert(node.to_owned(), relay);
    }

    /// SIGKILL: what a power cut is to a process.
    pub(crate) fn kill(&mut self, node: &str) {
        if let Some(mut relay) = self.relays.remove(node) {
            relay.kill().unwrap();
            relay.wait().unwrap();
        }
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self, node: &str) {
        let mut relay = self.relays.remove(node).unwrap();
        Command::new("kill").arg(relay.id().to_string()).status().unwrap();
        assert!(relay.wait().unwrap().success(), "{node} did not stop cleanly");
    }

    /// Sends a node's relay a signal by its name.
    pub(crate) fn signal(&self, node: &str, signal: &str) {
        let relay = self.relays[node].id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &relay]).status().unwrap().success());
    }

    /// Waits until a node's relay has ended by itself.
    pub(crate) fn wait_until_ended(&mut self, node: &str) -> ExitStatus {
        let mut relay = self.relays.remove(node).unwrap();
        wait_for(&format!("{node} ends"), || relay.try_wait().unwrap())
    }

    /// Changes the topology as a person does, and signs it.
    pub(crate) fn edit_topology(&self, edit: impl FnOnce(String) -> String) {
        let (file, key) = (self.dir.join("topology.toml"), self.dir.join("operator.key"));
        let text = edit(std::fs::read_to_string(&file).unwrap());
        let (before, rest) = text.split_once("\nversion = ").unwrap();
        let (version, after) = rest.split_once('\n').unwrap();
        let next = version.parse::<u64>().unwrap() + 1;
        std::fs::write(&file, format!("{before}\nversion = {next}\n{after}")).unwrap();
        let signed = topology(&["sign", file.to_str().unwrap(), "--key", key.to_str().unwrap()]);
        assert!(signed.status.success(), "{}", said(&signed));
    }

    /// A node's machine has another address for its counters and operators.
    pub(crate) fn move_to(&mut self, node: &str, address: &str) {
        for face in ["intake", "admin"] {
            let there = self.nodes[node][face].as_str().unwrap().replace("127.0.0.1", address);
            self.nodes.get_mut(node).unwrap()[face] = there.into();
        }
        let config = std::fs::read_to_string(self.config(node)).unwrap();
        std::fs::write(self.config(node), config.replace("127.0.0.1", address)).unwrap();
        let admin = self.nodes[node]["admin"].as_str().unwrap();
        let here = format!("\"127.0.0.1:{}\"", admin.rsplit_once(':').unwrap().1);
        self.edit_topology(|text| text.replace(&here, &format!("\"{admin}\"")));
        self.give_token(node);
    }

    /// The test's counter is a machine that the node knows: beyond loopback nobody else hands in.
    fn give_token(&self, node: &str) {
        let mut command = Command::new(program("estafet-relay"));
        let added = command.args(["workstation", "add", "test", "--config"]).arg(self.config(node)).output().unwrap();
        assert!(added.status.success(), "{}", said(&added));
        let token = String::from_utf8(added.stdout).unwrap().trim().to_owned();
        let intake = self.nodes[node]["intake"].as_str().unwrap().to_owned();
        TOKENS.lock().unwrap_or_else(PoisonError::into_inner).insert(intake, token);
    }

    /// Adds lines to a node's relay.toml.
    pub(crate) fn configure(&self, node: &str, lines: &str) {
        let config = self.config(node);
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("{text}\n{lines}")).unwrap();
    }

    pub(crate) fn log(&self, node: &str) -> String {
        std::fs::read_to_string(self.folder(node).join("relay.log")).unwrap_or_default()
    }

    /// Runs the CLI on this city and returns its last object.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Option<Value> {
        let output = self.run(arguments);
        // An audit while somebody is dark is an answer, though not a complete one.
        matches!(output.status.code(), Some(0 | 4)).then(|| last_object(&output))
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let dir = self.dir.to_str().unwrap();
        topology(&[&["--city", dir, "--json"], arguments].concat())
    }

    /// The next hop of each node, as `node` sees it.
    pub(crate) fn next_hops(&self, node: &str) -> Option<BTreeMap<String, String>> {
        let show = self.ask(&["--node", node, "show"])?;
        let hop = |row: &Value| Some((row["id"].as_str()?.to_owned(), row["next_hop"].as_str()?.to_owned()));
        Some(show["nodes"].as_array()?.iter().filter_map(hop).collect())
    }

    pub(crate) fn wait_until_whole(&self) {
        for node in ["induk", "rumbai"] {
            wait_for("every office has a way to the main server", || {
                (self.next_hops(node)?.len() == self.offices().len()).then_some(())
            });
        }
    }

    /// Waits until the first of these nodes reaches the main server by the others.
    pub(crate) fn wait_for_path(&self, hops: &[&str]) {
        wait_for("the way to the main server", || {
            let path = self.ask(&["--node", hops[0], "path", hops[0]])?;
            (path["hops"] == serde_json::json!(hops)).then_some(())
        });
    }

    /// Waits until the main server's ledger says that all captures of the area, at least `captured`, are receipted.
    pub(crate) fn wait_until_receipted(&self, captured: u64) -> Value {
        wait_for("everything captured is receipted", || {
            let audit = self.ask(&["--node", "induk", "audit"])?;
            (audit["receipted"].as_u64()? >= captured && audit["held"] == 0).then_some(audit)
        })
    }

    /// Every record committed at the main server, by id.
    pub(crate) fn committed(&self) -> BTreeMap<String, Vec<Value>> {
        self.committed_at("induk")
    }

    /// Every record committed at this main server, by id.
    pub(crate) fn committed_at(&self, hub: &str) -> BTreeMap<String, Vec<Value>> {
        let output = self.run(&["records", "--node", hub, "--state", "committed", "--limit", "0"]);
        let mut committed: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            committed.entry(record["record_id"].as_str().unwrap().to_owned()).or_default().push(record);
        }
        committed
    }

    /// Every slip that was given must be honored: committed exactly once, with the bytes that were handed in.
    pub(crate) fn assert_honored(&self, given: &[Given]) {
        let audit = self.wait_until_receipted(given.len() as u64);
        assert_eq!((&audit["missing"], &audit["committed_twice"]), (&0.into(), &0.into()), "{audit}");
        let verdict = self.verdict(given);
        assert!(verdict.is_good(), "{verdict}");
    }

    /// Compares every slip that was given with what the main server has committed now.
    pub(crate) fn verdict(&self, given: &[Given]) -> Verdict {
        let committed = self.committed();
        let mut verdict = Verdict { given: given.len(), ..Verdict::default() };
        for slip in given {
            match committed.get(&slip.record_id).map_or(&[][..], Vec::as_slice) {
                [] => verdict.absent.push(slip.record_id.clone()),
                [commit] => {
                    let same = commit["blake3"] == slip.blake3.as_str() && commit["bytes"].as_u64() == Some(slip.bytes);
                    if !same {
                        verdict.altered.push(slip.record_id.clone());
                    }
                }
                _ => verdict.twice.push(slip.record_id.clone()),
            }
        }
        verdict
    }

    /// Where a node listens for its neighbors. It sends to them from there as well.
    pub(crate) fn quic_port(&self, node: &str) -> u16 {
        let listen: SocketAddr = self.nodes[node]["listen"].as_str().unwrap().parse().unwrap();
        listen.port()
    }

    /// The port of a face of a node: `listen`, `admin` or `intake`.
    pub(crate) fn port(&self, face: &str, node: &str) -> u16 {
        let address = self.nodes[node][face].as_str().unwrap();
        address.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// A value of a node's metrics; none while it does not answer.
    pub(crate) fn metric(&self, node: &str, name: &str) -> Option<u64> {
        let url = format!("{}/metrics", self.nodes[node]["intake"].as_str().unwrap());
        let request = agent().get(&url);
        let request = match authorization(&url) {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        };
        let mut answer = request.call().ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// The number of the process of a node's relay.
    pub(crate) fn pid(&self, node: &str) -> u32 {
        self.relays[node].id()
    }

    /// The process of a node's relay.
    pub(crate) fn relay(&mut self, node: &str) -> &mut Child {
        self.relays.get_mut(node).expect("its relay was started")
    }
}

/// What became of the slips that were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) given: usize,
    /// Not committed.
    pub(crate) absent: Vec<String>,
    /// Committed more than once.
    pub(crate) twice: Vec<String>,
    /// Committed with other bytes.
    pub(crate) altered: Vec<String>,
}

impl Verdict {
    pub(crate) fn is_good(&self) -> bool {
        self.absent.is_empty() && self.twice.is_empty() && self.altered.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { given, absent, twice, altered } = self;
        write!(formatter, "{given} slips, {} absent, {} twice, {} altered", absent.len(), twice.len(), altered.len())?;
        match absent.iter().chain(twice).chain(altered).next() {
            Some(example) => write!(formatter, ", such as {example}"),
            None => Ok(()),
        }
    }
}

impl Drop for City {
    fn drop(&mut self) {
        for relay in self.relays.values_mut() {
            // It may have ended by itself; either way it is gone after this.
            let _ = relay.kill();
            let _ = relay.wait();
        }
        ports_in_use().retain(|port| !self.ports.contains(port));
        if std::thread::panicking() {
            for node in self.node_ids() {
                let log = self.log(&node);
                let tail: Vec<&str> = log.lines().rev().take(12).collect();
                println!("--- end of the log of {node}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
        }
    }
}

/// What a counter was promised.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) slip: String,
    pub(crate) record_id: String,
    pub(crate) blake3: String,
    pub(crate) bytes: u64,
}

/// An answer of intake.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// A client that keeps its connections open.
pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into()
}

/// Hands in a record; an error means that nobody answered.
pub(crate) fn post(url: &str, body: &[u8], headers: &[(&str, &str)]) -> Result<Answer, String> {
    post_by(&agent(), url, body, headers)
}

/// Hands in a record over a connection that may be open already.
pub(crate) fn post_by(agent: &ureq::Agent, url: &str, body: &[u8], headers: &[(&str, &str)]) -> Result<Answer, String> {
    let mut request = headers.iter().fold(agent.post(url), |request, (name, value)| request.header(*name, *value));
    if let Some(authorization) = authorization(url) {
        request = request.header("authorization", authorization);
    }
    let mut answer = request.send(body).map_err(|error| error.to_string())?;
    let text = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
    let body = serde_json::from_str(&text).map_err(|error| format!("{error} in `{text}`"))?;
    Ok(Answer { status: answer.status().as_u16(), body })
}

pub(crate) fn get(url: &str) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer = agent.get(url).call().unwrap();
    let body = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    Answer { status: answer.status().as_u16(), body }
}

/// Hands in a record that is to be taken.
pub(crate) fn capture(url: &str, body: &[u8], headers: &[(&str, &str)]) -> Given {
    let answer = post(url, body, headers).unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    given(&answer, body)
}

/// Reads a 201 and checks it against what was sent.
pub(crate) fn given(answer: &Answer, body: &[u8]) -> Given {
    let text = |key: &str| answer.body[key].as_str().unwrap().to_owned();
    let given = Given {
        slip: text("slip"),
        record_id: text("record_id"),
        blake3: text("blake3"),
        bytes: answer.body["bytes"].as_u64().unwrap(),
    };
    assert_eq!(answer.body["content_bytes"].as_u64(), Some(body.len() as u64));
    assert_ne!(given.blake3, blake3::hash(body).to_hex().as_str(), "what travels is sealed");
    given
}

/// Bytes that do not compress and differ by seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub(crate) fn topology(arguments: &[&str]) -> Output {
    Command::new(program("topology")).args(arguments).env_remove("ESTAFET_CITY").output().unwrap()
}

/// What a program said on standard error, however its lines were broken: without white space and frames.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).chars().filter(|letter| !letter.is_whitespace() && *letter != '│').collect()
}

/// The object that a command with `--json` prints last.
pub(crate) fn last_object(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let line = text.lines().last().unwrap_or_else(|| {
        panic!("no answer; {}", String::from_utf8_lossy(&output.stderr));
    });
    serde_json::from_str(line).unwrap()
}

/// A file for a test's own output.
pub(crate) fn output_file(path: &Path) -> File {
    File::create(path).unwrap()
}
