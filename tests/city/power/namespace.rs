//! A test that needs the machine for itself: it runs as root in mount, network and process namespaces of its own.
//!
//! Mounts, loop devices, packet filters and processes end with the namespaces, however the test ends.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Says to a test that it is already alone: the path of the file by which it shows that it has run.
const ALONE: &str = "ESTAFET_TEST_ALONE";

/// A file that collects what was measured and what was not proved; `tests/run` prints it at its end.
const FINDINGS: &str = "ESTAFET_FINDINGS";

/// What Ethernet and every radio in between carry; the loopback device would take 64 KiB. From before the first session on: one
/// that has found out that its path takes more loses what it sends when it does not any more.
const MTU: &str = "1500";

/// What every such test calls.
const TOOLS: [&str; 3] = ["unshare", "mount", "ip"];

/// Runs `body` alone, by running the test of this name again in new namespaces. `tools` are the further programs that
/// `body` calls. Without root, namespaces or tools the test is not run, and says so.
pub(crate) fn alone(test: &str, tools: &[&str], body: impl FnOnce()) {
    if let Some(witness) = std::env::var_os(ALONE) {
        run("ip", &["link", "set", "lo", "mtu", MTU, "up"]);
        body();
        std::fs::write(witness, "done").unwrap();
        return;
    }
    if let Err(missing) = check(tools) {
        report(&format!("NOT RUN, so this is NOT proved here: {test}: {missing}"));
        return;
    }
    // Outlives the namespaces, so that what was mounted in it is gone when it is removed.
    let folder = tempfile::tempdir().unwrap();
    let witness = folder.path().join("witness");
    let status = new_namespaces()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(ALONE, &witness)
        .env("TMPDIR", folder.path())
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its namespaces, see above");
    assert!(witness.exists(), "no test is called {test}");
}

fn new_namespaces() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]).stdin(Stdio::null());
    command
}

/// What is missing, if something is.
fn check(tools: &[&str]) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("it needs root".to_owned());
    }
    let absent: Vec<&str> = TOOLS.iter().chain(tools).copied().filter(|tool| find(tool).is_none()).collect();
    if !absent.is_empty() {
        return Err(format!("these programs are missing: {}", absent.join(", ")));
    }
    attempt(new_namespaces().arg("true"), "namespaces of its own")?;
    if tools.contains(&"losetup") {
        attempt(Command::new("losetup").arg("--find"), "a loop device")?;
    }
    Ok(())
}

fn attempt(command: &mut Command, what: &str) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("it needs {what}: {}", said.trim())) }
}

fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(tool)).find(|program| program.is_file())
}

/// Says what was measured, or not proved. Past the test harness, which hides what passing tests print.
pub(crate) fn report(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
    if let Some(findings) = std::env::var_os(FINDINGS) {
        let mut findings = OpenOptions::new().create(true).append(true).open(Path::new(&findings)).unwrap();
        writeln!(findings, "{line}").unwrap();
    }
}

/// Makes room for network namespaces with names, which end with the test too: the names are files.
pub(crate) fn own_network_names() {
    run("mkdir", &["-p", "/run/netns"]);
    run("mount", &["-t", "tmpfs", "names", "/run/netns"]);
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {said}", arguments.join(" "));
}
