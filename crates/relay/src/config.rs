//! `relay.toml`: the file as people write it, and what it means once every file it names has been read and checked.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use estafet_admin::Limits;
use estafet_model::{ByteCount, NodeId, PublicKey, SigningKey};
use estafet_node::custody::RECEIPT_PATIENCE;
use estafet_tls::{KeyFileError, read_key};
use estafet_topology::{Node, OUTAGE_LEAD, Role, SignedTopology, Succession, Topology};
use serde::Deserialize;
use tracing::warn;

use crate::nut::Nut;
use crate::seal::{SealKeys, Token};
use crate::standing::Rules;
use crate::topologies::{ShutOut, TopologyFile};
use crate::workstations::{self, WorkstationFile, WorkstationFileError, Workstations};

/// The keys of the file. What is not among them is refused.
const KEYS: &[&str] = &[
    "node",
    "topology",
    "key",
    "operator_keys",
    "data",
    "listen",
    "admin",
    "admin_socket",
    "admin_calls_per_second",
    "seal_keys",
    "seal_token",
    "module",
    "label",
    "pin_file",
    "intake",
    "records_per_minute",
    "spool",
    "bytes_max",
    "hold_bytes_max",
    "hold_days",
    "scrub_days",
    "outage_lead",
    "receipt_patience",
    "power",
    "nut",
    "ups",
    "username",
    "password_file",
    "drain_minutes",
    "stop_seconds",
];

/// What is wrong with the configuration, and what to do about it.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum ConfigError {
    #[error("failed to read {}: {source}", path.display())]
    #[diagnostic(help(
        "check that the file is there, whole, and that this user may read it; an operator has city.topology"
    ))]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{}: {message}", path.display())]
    Malformed {
        path: PathBuf,
        message: String,
        #[help]
        help: Option<String>,
    },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Key(#[from] KeyFileError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Workstations(#[from] WorkstationFileError),
    #[error(
        "intake is to listen on {address}, where others than this machine reach it, and no workstation has a token"
    )]
    #[diagnostic(help(
        "run `estafet-relay workstation add NAME --config {}` for each machine that hands records in, or let [intake] listen \
         on 127.0.0.1",
        path.display()
    ))]
    OpenIntake { path: PathBuf, address: SocketAddr },
    #[error("{}: {source}", path.display())]
    #[diagnostic(help(
        "an admin signs it with `topology sign`, and operator_keys of relay.toml names the admins' keys, as they told them by \
         telephone; if it is damaged, get it again"
    ))]
    Topology { path: PathBuf, source: estafet_topology::UntrustedTopology },
    #[error("the topology in {} asks for {missing} more signatures", path.display())]
    #[diagnostic(help(
        "let another of its admins sign the same file: `topology sign` adds to the signatures that are there"
    ))]
    Unfinished { path: PathBuf, missing: usize },
    #[error("the topology in {} does not list node `{node}`", path.display())]
    #[diagnostic(help("correct `node` in relay.toml, or add the node to topology.toml and sign it again"))]
    NotListed { path: PathBuf, node: NodeId },
    #[error("the topology knows node `{node}` by the key {listed}, but the key file holds {held}")]
    #[diagnostic(help(
        "if another machine has taken this one's place, stop this one: it is let in nowhere any more. Otherwise put its own \
         node.key here, or let an admin let it in anew (`topology node replace`)"
    ))]
    OtherKey { node: NodeId, listed: PublicKey, held: PublicKey },
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    node: String,
    topology: PathBuf,
    key: PathBuf,
    operator_keys: Vec<String>,
    #[serde(default = "default_data")]
    data: PathBuf,
    listen: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    admin_socket: Option<PathBuf>,
    admin_calls_per_second: Option<NonZeroU32>,
    #[serde(default = "default_seal_keys")]
    seal_keys: PathBuf,
    seal_token: Option<SealTokenFile>,
    #[serde(default)]
    intake: IntakeFile,
    #[serde(default)]
    spool: SpoolFile,
    outage_lead: Option<String>,
    receipt_patience: Option<String>,
    #[serde(default)]
    power: PowerFile,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealTokenFile {
    module: PathBuf,
    label: String,
    pin_file: PathBuf,
}

impl SealTokenFile {
    /// As a relay.toml in this folder means it.
    fn in_folder(self, folder: &Path) -> Token {
        Token::new(folder.join(self.module), self.label, folder.join(self.pin_file))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PowerFile {
    nut: Option<SocketAddr>,
    ups: Option<String>,
    username: Option<String>,
    password_file: Option<PathBuf>,
    drain_minutes: Option<u16>,
    stop_seconds: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct IntakeFile {
    listen: Option<SocketAddr>,
    records_per_minute: Option<NonZeroU32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpoolFile {
    bytes_max: Option<String>,
    hold_bytes_max: Option<String>,
    hold_days: Option<u16>,
    scrub_days: Option<f64>,
}

fn default_data() -> PathBuf {
    PathBuf::from("data")
}

fn default_seal_keys() -> PathBuf {
    PathBuf::from("seal")
}

/// Enough for 130,000 scans of 64 KiB: months of one office with the main server dark.
const SPOOL_BYTES_MAX: ByteCount = ByteCount::mebibytes(8 << 10);

/// What nobody means who writes less.
const SPOOL_BYTES_MIN: ByteCount = ByteCount::mebibytes(1);

/// A main server's archive is never given back, so only the disk bounds it.
const ARCHIVE_BYTES_MAX: ByteCount = ByteCount(u64::MAX);

/// What is kept of captures that have their receipt, for as long as nothing else needs the room.
const HOLD_BYTES_MAX: ByteCount = ByteCount::mebibytes(1 << 10);

/// How long they are kept at most: what a citizen asks about is mostly younger.
const HOLD_DAYS: u16 = 30;

/// How long it may take until every complete segment has been read for damage: well within the time for which captures
/// are kept, so that what a main server finds damaged can come again.
const SCRUB_DAYS: f64 = 7.0;
const SCRUB_DAYS_MAX: f64 = 3650.0;

/// Below, a disk that stalls would look like a broken word; above, a broken word costs half a day.
const RECEIPT_PATIENCES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);

/// With less than this left in the battery a node drains, in minutes. `upsd` calls a battery low at about two.
const DRAIN_MINUTES: u16 = 5;

/// How long a node with a low battery may take to hand over what it has: half of what such a battery lasts.
const STOP_SECONDS: u16 = 60;

/// Where counters hand in: this machine, and no other.
const INTAKE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// What one workstation may hand in: more than a scanner feeds, and little enough that one which has gone wild leaves the
/// disk to the others. As many may come at once.
const RECORDS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(6_000).expect("it is not zero");

/// The UPS that most configurations of NUT have.
const UPS: &str = "ups";

/// A node's configuration: everything read, everything checked.
pub(crate) struct Config {
    pub(crate) node: Node,
    pub(crate) topology: Arc<Topology>,
    /// The same, as it was signed.
    pub(crate) signed: Arc<SignedTopology>,
    /// The newer one that shuts this node out, if it was heard of.
    pub(crate) shut_out_by: Option<Arc<SignedTopology>>,
    pub(crate) key: SigningKey,
    pub(crate) data: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) admin_socket: Option<PathBuf>,
    /// How much one caller may ask of the admin API.
    pub(crate) admin_limits: Limits,
    /// A main server's private seal keys.
    pub(crate) seal_keys: SealKeys,
    pub(crate) intake: SocketAddr,
    /// How many records one workstation may hand in.
    pub(crate) records_per_minute: NonZeroU32,
    /// Who may hand in, to begin with, and where that stands.
    pub(crate) workstations: Workstations,
    pub(crate) workstation_file: WorkstationFile,
    pub(crate) spool_bytes_max: ByteCount,
    pub(crate) hold_bytes_max: ByteCount,
    pub(crate) hold_max: Duration,
    /// Nothing if the store is not to be read for damage.
    pub(crate) scrub_interval: Option<Duration>,
    /// How long a neighbor that has accepted a record may leave it without a receipt, at first.
    pub(crate) receipt_patience: Duration,
    /// When this node drains by itself.
    pub(crate) rules: Rules,
    /// Nothing if nobody reads a UPS for it.
    pub(crate) nut: Option<Nut>,
}

impl Config {
    /// Reads of `relay.toml` where the seal keys are, and little else: a new main server has one before a topology lists it.
    pub(crate) fn seal_keys(path: &Path) -> Result<SealKeys, ConfigError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let file = parse(path)?;
        Ok(SealKeys::in_folder(folder.join(file.seal_keys))
            .and_token(file.seal_token.map(|token| token.in_folder(folder))))
    }

    /// Where the workstations stand that hand in at the node of a `relay.toml`.
    pub(crate) fn workstation_file(path: &Path) -> Result<WorkstationFile, ConfigError> {
        parse(path)?;
        Ok(workstations::file_beside(path))
    }

    /// Whether this node is shut out.
    pub(crate) fn shut_out(&self) -> Option<ShutOut> {
        ShutOut::by(self.shut_out_by.as_ref()?.topology(), &self.node.id, &self.topology)
    }

    /// Reads `relay.toml` and every file it names.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = parse(path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let malformed = |message: String| ConfigError::Malformed { path: path.to_owned(), message, help: None };
        let id: NodeId = file.node.parse().map_err(|error| malformed(format!("node: {error}")))?;
        let trusted = file.operator_keys.iter().map(|key| key.parse::<PublicKey>());
        let trusted: Vec<PublicKey> =
            trusted.collect::<Result<_, _>>().map_err(|error| malformed(format!("operator_keys: {error}")))?;
        let key = read_key(&folder.join(&file.key))?;
        let data = folder.join(file.data);
        let topology_path = folder.join(&file.topology);
        let signed = load_topology(&topology_path, &trusted, TopologyFile::in_folder(&data).load())?;
        let topology = signed.topology();
        let Some(node) = topology.node(&id).cloned() else {
            return Err(ConfigError::NotListed { path: topology_path, node: id });
        };
        if node.key != key.public() {
            return Err(ConfigError::OtherKey { node: id, listed: node.key, held: key.public() });
        }
        let shut_out_by = TopologyFile::of_shutting_out(&data).load().filter(|newer| {
            matches!(signed.judge(&newer.encode()), Ok(Succession::Newer(_)))
                && ShutOut::by(newer.topology(), &id, topology).is_some()
        });
        let shut_out_by = shut_out_by.map(Arc::new);
        let is_hub = node.role == Role::Hub;
        let size = |text: Option<String>, default: ByteCount| match text {
            None => Ok(default),
            Some(text) => parse_bytes(&text).ok_or_else(|| malformed(format!("`{text}` is no size, such as 8GiB"))),
        };
        let spool_bytes_max = size(file.spool.bytes_max, if is_hub { ARCHIVE_BYTES_MAX } else { SPOOL_BYTES_MAX })?;
        let hold_bytes_max = size(file.spool.hold_bytes_max, HOLD_BYTES_MAX)?;
        if spool_bytes_max < SPOOL_BYTES_MIN {
            return Err(malformed("spool: in a bytes_max of less than 1MiB no record has room".to_owned()));
        }
        let scrub_days = file.spool.scrub_days.unwrap_or(SCRUB_DAYS);
        if !(0.0..=SCRUB_DAYS_MAX).contains(&scrub_days) {
            return Err(malformed(format!("scrub_days: {scrub_days} is not between 0 (never) and {SCRUB_DAYS_MAX}")));
        }
        let outage_lead = match &file.outage_lead {
            None => OUTAGE_LEAD,
            Some(text) => humantime::parse_duration(text)
                .map_err(|error| malformed(format!("outage_lead: {error}: write such as 10m")))?,
        };
        let receipt_patience = match &file.receipt_patience {
            None => RECEIPT_PATIENCE,
            Some(text) => humantime::parse_duration(text)
                .ok()
                .filter(|patience| RECEIPT_PATIENCES.contains(patience))
                .ok_or_else(|| malformed(format!("receipt_patience: `{text}` is not between 1s and 1h, such as 5m")))?,
        };
        let power = file.power;
        let mut rules = Rules {
            outages: Vec::new(),
            link_outages: BTreeMap::new(),
            outage_lead,
            drain_minutes: power.drain_minutes.unwrap_or(DRAIN_MINUTES),
            stop_max: Duration::from_secs(power.stop_seconds.unwrap_or(STOP_SECONDS).into()),
        };
        rules.heed(topology, &id);
        let nut = load_nut(power, folder).map_err(|error| match error {
            Ok(message) => malformed(message),
            Err(error) => error,
        })?;
        let workstation_file = workstations::file_beside(path);
        let (intake, workstations) = (file.intake.listen.unwrap_or(INTAKE), workstation_file.load()?);
        if !intake.ip().is_loopback() && workstations.is_empty() {
            return Err(ConfigError::OpenIntake { path: path.to_owned(), address: intake });
        }
        let limits = Limits::default();
        Ok(Self {
            rules,
            receipt_patience,
            nut,
            data,
            listen: file.listen.unwrap_or_else(|| listen_address(topology, &node)),
            admin: file.admin.unwrap_or(node.admin),
            seal_keys: Self::seal_keys(path)?,
            admin_socket: file.admin_socket.map(|socket| folder.join(socket)),
            admin_limits: Limits {
                calls_per_second: file.admin_calls_per_second.unwrap_or(limits.calls_per_second),
                ..limits
            },
            intake,
            records_per_minute: file.intake.records_per_minute.unwrap_or(RECORDS_PER_MINUTE),
            workstations,
            workstation_file,
            spool_bytes_max,
            hold_bytes_max,
            hold_max: Duration::from_secs(24 * 3600) * u32::from(file.spool.hold_days.unwrap_or(HOLD_DAYS)),
            scrub_interval: (scrub_days > 0.0).then(|| Duration::from_secs_f64(scrub_days * 24.0 * 3600.0)),
            topology: Arc::new(topology.clone()),
            shut_out_by,
            signed: Arc::new(signed),
            node,
            key,
        })
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}

fn parse(path: &Path) -> Result<File, ConfigError> {
    let text = read(path)?;
    toml::from_str(&text).map_err(|error| {
        let (line, column) = error.span().map_or((1, 1), |span| line_and_column(&text, span.start));
        let message = error.message().trim().replace('\n', ", ");
        let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
        let help = unknown.and_then(suggestion).map(|key| format!("did you mean `{key}`?"));
        ConfigError::Malformed {
            path: path.to_owned(),
            message: format!("line {line}, column {column}: {message}"),
            help,
        }
    })
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The key that was probably meant.
fn suggestion(unknown: &str) -> Option<&'static str> {
    let likeness = |key: &&str| strsim::jaro_winkler(unknown, key);
    let alike = KEYS.iter().copied().filter(|key| *key != unknown && likeness(key) >= ALIKE);
    alike.max_by(|one, other| likeness(one).total_cmp(&likeness(other)))
}

/// Less alike than this (Jaro–Winkler) nobody mistypes a word.
const ALIKE: f64 = 0.8;

/// What `[power]` says of the UPS. A fault is one of the table itself, or one of the file it names.
fn load_nut(power: PowerFile, folder: &Path) -> Result<Option<Nut>, Result<String, ConfigError>> {
    let PowerFile { nut, ups, username, password_file, .. } = power;
    let Some(address) = nut else {
        let is_alone = ups.is_some() || username.is_some() || password_file.is_some();
        let fault =
            "power: ups, username and password_file say nothing without nut, the address of upsd: 127.0.0.1:3493";
        return if is_alone { Err(Ok(fault.to_owned())) } else { Ok(None) };
    };
    let login = match (username, password_file) {
        (None, None) => None,
        (Some(name), Some(file)) => {
            let password = read(&folder.join(file)).map_err(Err)?;
            Some((name, password.trim_end_matches(['\r', '\n']).to_owned()))
        }
        _ => return Err(Ok("power: username and password_file belong together".to_owned())),
    };
    let ups = ups.unwrap_or_else(|| UPS.to_owned());
    let words = login.iter().flat_map(|(name, password)| [name, password]).chain([&ups]);
    if words.into_iter().any(|word| word.is_empty() || word.contains(|letter: char| letter <= ' ' || letter == '"')) {
        return Err(Ok("power: ups, username and password are words without spaces and quotes".to_owned()));
    }
    Ok(Some(Nut { address, ups, login }))
}

/// Where a node listens if its file does not say: at the port of its first address, on every interface. Then the kernel
/// chooses by which of them a datagram leaves, each bearer is served, and sessions go on when an address changes under
/// them. A city on loopback stays there.
fn listen_address(topology: &Topology, node: &Node) -> SocketAddr {
    let over_links = topology.neighbors(&node.id).flat_map(|(_, link)| topology.addresses_over(link, &node.id));
    let addresses: Vec<&SocketAddr> = node.addresses.iter().chain(over_links).collect();
    let (first, port) = (node.addresses[0], node.addresses[0].port());
    let stays_here = addresses.iter().all(|address| address.ip().is_loopback() && address.ip() == first.ip());
    match () {
        () if stays_here => first,
        () if addresses.iter().all(|address| address.is_ipv4()) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        () => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    }
}

/// The topology that `relay.toml` names, signed by one of `trusted`; or the one that came over the network since, if the
/// other is no newer.
fn load_topology(
    path: &Path,
    trusted: &[PublicKey],
    kept: Option<SignedTopology>,
) -> Result<SignedTopology, ConfigError> {
    let Some(kept) = kept else {
        let malformed = |source| ConfigError::Topology { path: path.to_owned(), source };
        let named = SignedTopology::decode(&read(path)?, trusted).map_err(malformed)?;
        return match named.missing_signatures() {
            0 => Ok(named),
            missing => Err(ConfigError::Unfinished { path: path.to_owned(), missing }),
        };
    };
    let named = read(path).map_err(|error| error.to_string());
    match named.and_then(|text| kept.judge(&text).map_err(|error| error.to_string())) {
        Ok(Succession::Newer(named)) => Ok(*named),
        Ok(Succession::Same | Succession::Older { .. }) => Ok(kept),
        Err(error) => {
            let (file, version) = (path.display(), kept.topology().version);
            warn!(%file, %error, version, "what came over the network is in force, and not what relay.toml names");
            Ok(kept)
        }
    }
}

/// `8GiB`, `512MiB`, `64KiB`, `100B`.
pub(crate) fn parse_bytes(text: &str) -> Option<ByteCount> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim() {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift).map(ByteCount)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        std::fs::write(&path, text).unwrap();
        match Config::load(&path) {
            Ok(_) => panic!("loaded"),
            Err(error) => format!(
                "{error} / {}",
                miette::Diagnostic::help(&error).map(|help| help.to_string()).unwrap_or_default()
            ),
        }
    }

    #[test]
    fn a_misspelled_key_is_named_with_its_place_and_a_suggestion() {
        let said = fault("node = \"sail\"\ntopologi = \"x\"\n");
        assert!(said.contains("line 2, column 1") && said.contains("did you mean `topology`?"), "{said}");
    }

    #[test]
    fn a_missing_file_says_which() {
        let said = fault("node = \"sail\"\ntopology = \"t\"\nkey = \"absent.key\"\noperator_keys = []\n");
        assert!(said.contains("absent.key"), "{said}");
    }

    #[test]
    fn a_ups_is_named_by_words_and_a_login_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("nut.password"), "secret\n").unwrap();
        let read = |table: &str| {
            let power = toml::from_str(table).map_err(|error| error.to_string())?;
            load_nut(power, folder.path()).map_err(|error| error.unwrap_or_else(|error| error.to_string()))
        };
        let address = "nut = \"127.0.0.1:3493\"\n";
        assert_eq!(read("").unwrap(), None);
        let nut = read(address).unwrap().unwrap();
        assert_eq!((nut.ups.as_str(), nut.login), ("ups", None));
        let with_login = format!("{address}username = \"estafet\"\npassword_file = \"nut.password\"");
        let login = read(&with_login).unwrap().unwrap().login;
        assert_eq!(login, Some(("estafet".to_owned(), "secret".to_owned())));
        for (table, said) in [
            ("username = \"estafet\"", "belong together"),
            ("ups = \"my ups\"", "words without spaces"),
            ("ups = \"\"", "words without spaces"),
            ("username = \"a\"\npassword_file = \"absent\"", "failed to read"),
        ] {
            let fault = read(&format!("{address}{table}")).unwrap_err();
            assert!(fault.contains(said), "{table}: {fault}");
        }
        for (table, said) in [
            ("ups = \"ups\"", "without nut"),
            ("nut = \"upsd\"", "invalid socket address"),
            ("drain_minute = 3", "unknown field"),
        ] {
            let fault = read(table).unwrap_err();
            assert!(fault.contains(said), "{table}: {fault}");
        }
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(parse_bytes("8GiB"), Some(ByteCount(8 << 30)));
        assert_eq!(parse_bytes("0B"), Some(ByteCount(0)));
        for bad in ["8", "GiB", "8GB", "-1B", "99999999999TiB"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }
}
