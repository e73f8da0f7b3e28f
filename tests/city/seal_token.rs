//! A main server whose private seal key is in a PKCS#11 token (SoftHSM2), and in no file.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::{CHAIN, City, Given, capture, noise, program, said, wait_for};

/// Where Debian's package has it, on any machine.
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "271828";

/// A token of the test's own.
struct Token {
    config: PathBuf,
    pin: PathBuf,
}

impl Token {
    /// Nothing where SoftHSM2 is not installed; that is said past the harness, which hides what passing tests print.
    fn new(city: &City) -> Option<Self> {
        if !Path::new(MODULE).exists() {
            let missing = "NOT RUN, so seal keys in tokens are NOT proved here: the package softhsm2 is missing\n";
            std::io::stderr().write_all(missing.as_bytes()).unwrap();
            return None;
        }
        let folder = city.dir.join("tokens");
        fs::create_dir(&folder).unwrap();
        let (config, pin) = (folder.join("softhsm2.conf"), city.folder("induk").join("token.pin"));
        fs::write(&config, format!("directories.tokendir = {}\n", folder.display())).unwrap();
        let init = ["--init-token", "--free", "--label", "capil", "--so-pin", "31415926", "--pin", PIN];
        let output = Command::new("softhsm2-util").args(init).env("SOFTHSM2_CONF", &config).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let token = Self { config, pin };
        token.set_pin(PIN);
        let lines = format!("[seal_token]\nmodule = \"{MODULE}\"\nlabel = \"capil\"\npin_file = \"token.pin\"");
        city.configure("induk", &lines);
        Some(token)
    }

    fn set_pin(&self, pin: &str) {
        fs::write(&self.pin, format!("{pin}\n")).unwrap();
        fs::set_permissions(&self.pin, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn command(&self, city: &City, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("estafet-relay"));
        command.args(arguments).arg("--config").arg(city.config("induk")).env("SOFTHSM2_CONF", &self.config);
        command
    }

    fn run(&self, city: &City, arguments: &[&str]) -> Output {
        self.command(city, arguments).output().unwrap()
    }
}

fn fetch(city: &City, given: &Given) -> Result<Vec<u8>, String> {
    let file = city.dir.join("fetched");
    let output = city.run(&["fetch", &given.slip, "-o", file.to_str().unwrap()]);
    if output.status.success() { Ok(fs::read(&file).unwrap()) } else { Err(said(&output)) }
}

#[test]
fn a_key_in_a_token_opens_what_is_sealed_to_it_and_is_in_no_file() {
    let mut city = City::new("pekanbaru-2013");
    let Some(token) = Token::new(&city) else { return };
    for node in &CHAIN[..CHAIN.len() - 1] {
        city.start(node);
    }
    city.start_as("induk", token.command(&city, &["run"]));
    city.wait_for_path(&CHAIN);
    let body = noise(1, 50_000);
    let before = capture(&city.intake("rumbai"), &body, &[]);
    city.assert_honored(std::slice::from_ref(&before));

    let keys = city.folder("induk").join("seal");
    let files = || fs::read_dir(&keys).unwrap().count();
    let made = token.run(&city, &["seal-key", "new"]);
    assert!(made.status.success() && said(&made).contains("inthetoken`capil`"), "{}", said(&made));
    assert_eq!(files(), 1, "the key of before, and no other");
    let public = city.dir.join("seal-key.txt");
    fs::write(&public, &made.stdout).unwrap();
    let rotated = city.run(&["rotate", "seal-key", "induk", "--key-file", public.to_str().unwrap()]);
    assert!(rotated.status.success(), "{}", said(&rotated));
    let list = String::from_utf8(token.run(&city, &["seal-key", "list"]).stdout).unwrap();
    assert_eq!((list.lines().count(), list.matches("in force").count()), (2, 1), "{list}");

    wait_for("rumbai has heard of the new key", || {
        city.log("rumbai").contains("another topology is in force").then_some(())
    });
    let after = capture(&city.intake("rumbai"), &body, &[]);
    city.assert_honored(&[before.clone(), after.clone()]);
    for given in [&before, &after] {
        assert!(fetch(&city, given).unwrap() == body);
    }

    // Without the token the main server commits all the same, and says what is wrong.
    city.kill("induk");
    token.set_pin("000000");
    city.start_as("induk", token.command(&city, &["run"]));
    let later = capture(&city.intake("rumbai"), &body, &[]);
    city.assert_honored(&[before.clone(), after.clone(), later.clone()]);
    let refused = fetch(&city, &later).unwrap_err();
    assert!(refused.contains("doesnottakethePIN"), "{refused}");
    let log = city.log("induk");
    assert!(log.contains("the token with seal keys cannot be asked") && !log.contains(PIN), "{log}");
    let checked = token.run(&city, &["check"]);
    assert!(!checked.status.success() && said(&checked).contains("lockthemselves"), "{}", said(&checked));
    token.set_pin(PIN);
    assert!(fetch(&city, &later).unwrap() == body, "with the right PIN it opens again, without a restart");
}

#[test]
fn a_token_that_is_not_there_is_told_by_name() {
    let city = City::new("pekanbaru-2013");
    let Some(token) = Token::new(&city) else { return };
    let config = city.config("induk");
    let text = fs::read_to_string(&config).unwrap();
    for (of, with, told) in [
        ("label = \"capil\"", "label = \"kapil\"", "notokenislabelled`kapil`:thereiscapil"),
        (MODULE, "/nowhere/module.so", "failedtoloadthePKCS#11module/nowhere/module.so"),
        ("token.pin", "no.pin", "no.pin"),
    ] {
        fs::write(&config, text.replace(of, with)).unwrap();
        let list = token.run(&city, &["seal-key", "list"]);
        assert!(!list.status.success() && said(&list).contains(told), "{}", said(&list));
    }
    fs::write(&config, &text).unwrap();
    fs::set_permissions(&token.pin, fs::Permissions::from_mode(0o644)).unwrap();
    let list = token.run(&city, &["seal-key", "list"]);
    assert!(!list.status.success() && said(&list).contains("chmod600"), "{}", said(&list));
}
