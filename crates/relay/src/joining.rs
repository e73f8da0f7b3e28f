//! `estafet-relay init`: a new machine makes its own key and asks to be let in. The private key never travels.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use estafet_model::{JoinRequest, NodeId, PublicKey};
use estafet_tls::{KeyFileError, create_key, new_key, read_key};

/// The files beside `relay.toml`.
const KEY: &str = "node.key";
const TOPOLOGY: &str = "city.topology";

/// Who this machine is to be.
#[derive(Debug, clap::Args)]
pub(crate) struct NewNode {
    /// The node's relay.toml. Its key is made beside it, and its city.topology belongs there.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The folder for its records, on a disk of this machine; by default data, beside relay.toml.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The node's id, for ever: lower-case letters, digits and inner hyphens. A machine that replaces another one keeps it.
    #[arg(long, value_name = "ID")]
    node: NodeId,
    /// Where its neighbors reach it (QUIC, UDP), such as 10.77.0.14:4460. Can be repeated, first choice first.
    #[arg(long = "address", value_name = "IP:PORT", required = true, value_parser = parse_reachable)]
    addresses: Vec<SocketAddr>,
    /// Where operators reach it (gRPC, TCP), such as 10.77.0.14:4461.
    #[arg(long, value_name = "IP:PORT", value_parser = parse_reachable)]
    admin: SocketAddr,
    /// Where counter programs hand records in.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    intake: SocketAddr,
    /// The public key of an admin whom this node is to believe: ed25519:… Can be repeated.
    #[arg(long = "operator-key", value_name = "KEY")]
    operator_keys: Vec<PublicKey>,
}

/// An address at which others find this machine.
fn parse_reachable(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "write an IP address and a port, such as 10.77.0.14:4460")?;
    if address.ip().is_unspecified() || address.port() == 0 {
        return Err("nobody can connect there: write the address that others reach this machine by".to_owned());
    }
    Ok(address)
}

/// Why this machine has no request, or no new one.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum JoiningError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Key(#[from] KeyFileError),
    #[error("{} is there already: no key was made, and the request above is that one's", .0.display())]
    #[diagnostic(help(
        "pass the request on as it is; for a new key stop the relay, and move the old one and the data folder away"
    ))]
    KeyIsThere(PathBuf),
    #[error("the data folder is that of relay.toml, {}", .0.display())]
    #[diagnostic(help("name another with --data: a relay keeps a city.topology of its own there"))]
    OneFolder(PathBuf),
    #[error("failed to write {}: {source}", path.display())]
    #[diagnostic(help("the folder must exist, and this user may write there"))]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("failed to print the request: {0}")]
    Output(#[from] io::Error),
}

/// Makes the key and the configuration, and prints the request to `out` and what to do with it to `notes`.
pub(crate) fn init(node: &NewNode, out: &mut dyn Write, notes: &mut dyn Write) -> Result<(), JoiningError> {
    let folder = folder_of(&node.config);
    let key_path = folder.join(KEY);
    refuse_one_folder(node, folder)?;
    let made = match new_key().and_then(|key| create_key(&key_path, &key)) {
        Ok(()) => true,
        Err(KeyFileError::Exists(_)) => false,
        Err(error) => return Err(error.into()),
    };
    let key = read_key(&key_path)?;
    let configured = write_config(node)?;
    let request = JoinRequest::sign(node.node.clone(), node.addresses.clone(), node.admin, &key);
    write!(out, "{request}")?;
    out.flush()?;
    // Nobody misses the notes when nobody reads them; the request is out.
    let _ = notes.write_all(next_steps(node, &request, configured).as_bytes());
    if made { Ok(()) } else { Err(JoiningError::KeyIsThere(key_path)) }
}

fn refuse_one_folder(node: &NewNode, folder: &Path) -> Result<(), JoiningError> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match &node.data {
        Some(data) if absolute(data) == absolute(folder) => Err(JoiningError::OneFolder(folder.to_owned())),
        _ => Ok(()),
    }
}

/// Writes relay.toml; false if there is one, which stays as it is.
fn write_config(node: &NewNode) -> Result<bool, JoiningError> {
    let create = || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&node.config)?;
        file.write_all(config_text(node)?.as_bytes())?;
        file.sync_all()
    };
    match create() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(JoiningError::Unwritable { path: node.config.clone(), source }),
    }
}

fn config_text(node: &NewNode) -> io::Result<String> {
    let quoted = |text: String| toml::Value::String(text).to_string();
    let data = node.data.as_deref().map(std::path::absolute).transpose()?;
    let data = data.map_or_else(|| "data".to_owned(), |data| data.display().to_string());
    let keys: Vec<String> = node.operator_keys.iter().map(|key| quoted(key.to_string())).collect();
    Ok(format!(
        "\
# One node. Paths count from this file's folder.
node = {id}
topology = \"{TOPOLOGY}\"
key = \"{KEY}\"
# The public keys of the admins whom this relay believes the first time; later it believes those of its topology.
operator_keys = [{keys}]
# Records wait here until the main server has them; never delete it.
data = {data}

# Where counter programs hand records in.
[intake]
listen = \"{intake}\"
",
        id = quoted(node.node.to_string()),
        keys = keys.join(", "),
        data = quoted(data),
        intake = node.intake,
    ))
}

fn next_steps(node: &NewNode, request: &JoinRequest, configured: bool) -> String {
    let (folder, config) = (folder_of(&node.config).display(), node.config.display());
    let mut text = format!(
        "
This machine's private key is {folder}/{KEY}. It stays here: nobody needs a copy.
Its fingerprint, to read to the operator over the telephone:

    {fingerprint}

1. Bring the join request above to the operator. It holds no secret.
   They run: topology node add --request FILE --fingerprint ... (or, for a new machine of an old node: node replace)
2. Bring back the city's city.topology, to {folder}/{TOPOLOGY}. It holds no secret either.
",
        fingerprint = request.fingerprint(),
    );
    let keys = match (configured, node.operator_keys.is_empty()) {
        (false, _) => {
            "3. relay.toml was there and is as it was: see that its operator_keys are those that the operator names."
        }
        (true, true) => {
            "3. Ask the operator for the admins' public keys, and write them into operator_keys of relay.toml."
        }
        (true, false) => "3. Ask the operator whether the keys in operator_keys of relay.toml are the admins'.",
    };
    writeln!(text, "{keys}\n4. estafet-relay check --config {config}, and start it.").expect("a string takes all");
    text
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use estafet_model::SigningKey;

    use super::*;

    fn new_node(folder: &Path) -> NewNode {
        NewNode {
            config: folder.join("relay.toml"),
            data: Some(folder.join("a \"data\" folder")),
            node: "siak-hulu".parse().unwrap(),
            addresses: vec!["10.77.0.14:4460".parse().unwrap()],
            admin: "10.77.0.14:4461".parse().unwrap(),
            intake: "127.0.0.1:8080".parse().unwrap(),
            operator_keys: vec![SigningKey::from_seed([1; 32]).public()],
        }
    }

    fn run(node: &NewNode) -> (Result<(), JoiningError>, JoinRequest, String) {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let result = init(node, &mut out, &mut notes);
        let request = String::from_utf8(out).unwrap().parse().unwrap();
        (result, request, String::from_utf8(notes).unwrap())
    }

    #[test]
    fn a_machine_makes_its_key_once_and_asks_as_often_as_it_likes() {
        let folder = tempfile::tempdir().unwrap();
        let node = new_node(folder.path());
        let (result, request, notes) = run(&node);
        result.unwrap();
        let key_path = folder.path().join(KEY);
        assert_eq!(fs::metadata(&key_path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_key(&key_path).unwrap().public(), request.key);
        assert_eq!((&request.node, &request.addresses), (&node.node, &node.addresses));
        assert!(notes.contains(&request.fingerprint().to_string()), "{notes}");
        let config: toml::Table = fs::read_to_string(&node.config).unwrap().parse().unwrap();
        assert_eq!(config["data"].as_str(), node.data.as_deref().and_then(Path::to_str));
        assert_eq!(config["operator_keys"][0].as_str(), Some(node.operator_keys[0].to_string().as_str()));

        let (bytes, config) = (fs::read(&key_path).unwrap(), fs::read(&node.config).unwrap());
        let (result, again, notes) = run(&NewNode { operator_keys: vec![], ..new_node(folder.path()) });
        assert!(matches!(result, Err(JoiningError::KeyIsThere(_))), "{result:?}");
        assert_eq!(again, request);
        assert!(notes.contains("is as it was"), "{notes}");
        assert_eq!((fs::read(&key_path).unwrap(), fs::read(&node.config).unwrap()), (bytes, config));
    }

    #[test]
    fn the_configuration_is_written_also_where_a_cut_came_between() {
        let folder = tempfile::tempdir().unwrap();
        let node = new_node(folder.path());
        create_key(&folder.path().join(KEY), &SigningKey::from_seed([2; 32])).unwrap();
        let (result, ..) = run(&node);
        assert!(matches!(result, Err(JoiningError::KeyIsThere(_))), "{result:?}");
        assert!(node.config.exists());
    }

    #[test]
    fn an_address_is_one_that_others_reach() {
        for (text, good) in [
            ("10.77.0.14:4460", true),
            ("[fd00::14]:4460", true),
            ("0.0.0.0:4460", false),
            ("[::]:1", false),
            ("10.77.0.14", false),
            ("10.77.0.14:0", false),
        ] {
            assert_eq!(parse_reachable(text).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn records_are_kept_apart_from_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let node = NewNode { data: Some(folder.path().to_owned()), ..new_node(folder.path()) };
        let refused = init(&node, &mut Vec::new(), &mut Vec::new());
        assert!(matches!(refused, Err(JoiningError::OneFolder(_))), "{refused:?}");
        assert!(!folder.path().join(KEY).exists(), "nothing was made");
    }
}
