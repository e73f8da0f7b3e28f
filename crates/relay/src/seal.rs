//! The two ends of sealing at a node: at an office what its counters hand in, and at a main server the keys that open it.

mod token;

use std::io::Write;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use estafet_model::{NodeId, SealKey, SealKeyId};
use estafet_seal::{AssociatedData, BadSealKeys, NoRandomness, SealSecret, Sealer, Sealing, SecretError};
use estafet_tls::{KeyFileError, create_secret, read_secret};
use estafet_topology::Topology;
use tokio::sync::watch;
use tracing::{error, info};

pub(crate) use self::token::Token;
use self::token::TokenError;
use crate::config::{Config, ConfigError};

/// What key files end with.
const EXTENSION: &str = "key";

/// Seals what is captured to the hubs of the topology in force.
pub(crate) struct Seals {
    in_force: watch::Receiver<Arc<Topology>>,
    keys: Vec<SealKey>,
    sealer: Sealer,
}

impl Seals {
    pub(crate) fn new(mut in_force: watch::Receiver<Arc<Topology>>) -> Result<Self, BadSealKeys> {
        let keys = keys_of(&in_force.borrow_and_update());
        Ok(Self { sealer: Sealer::new(&keys)?, keys, in_force })
    }

    /// Leaves everything readable for everybody, to measure beside it what sealing costs.
    pub(crate) fn off(in_force: watch::Receiver<Arc<Topology>>) -> Self {
        let keys = keys_of(&in_force.borrow());
        Self { sealer: Sealer::off(), keys, in_force }
    }

    /// Begins a record.
    pub(crate) fn begin(&mut self, associated: AssociatedData) -> Result<Sealing, NoRandomness> {
        if self.in_force.has_changed().unwrap_or(false) {
            self.heed();
        }
        self.sealer.begin(associated)
    }

    /// Another topology is in force.
    fn heed(&mut self) {
        let keys = keys_of(&self.in_force.borrow_and_update());
        if keys == self.keys {
            return;
        }
        match Sealer::new(&keys) {
            Ok(sealer) => {
                info!(keys = ?keys, "new records are sealed to other keys");
                (self.sealer, self.keys) = (sealer, keys);
            }
            // A topology with such keys is not taken, so this does not come; and the counter never stops for it.
            Err(error) => error!(%error, "the topology names unusable seal keys: records are sealed to those before"),
        }
    }
}

fn keys_of(topology: &Topology) -> Vec<SealKey> {
    topology.seal_keys().cloned().collect()
}

/// What can be done with seal keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Operation {
    /// Makes a key in the folder of seal keys, or in the PKCS#11 token that `[seal_token]` of relay.toml names, and prints the
    /// public half, for `topology rotate seal-key` or the topology.
    ///
    /// The private half stays there: copy its file, or back up the token, to a safe place, because nobody can open without it
    /// what is sealed to it. Earlier keys have to stay, for what was sealed to them.
    New {
        /// The main server's relay.toml.
        #[arg(long)]
        config: PathBuf,
    },
    /// Prints each key that is there: its id, whether new records are sealed to it, its public half.
    List {
        /// The main server's relay.toml.
        #[arg(long)]
        config: PathBuf,
    },
}

/// Nothing came of an operation.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum SealKeyError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Folder(#[from] SealKeysError),
    #[error("the topology lets records be sealed to {0}, and the private half of that key is not here")]
    #[diagnostic(help(
        "put its file back into the folder of seal keys, from its copy; or make another key and rotate to it"
    ))]
    Missing(SealKeyId),
    #[error("`{0}` is no main server: nothing is sealed to it")]
    #[diagnostic(help("name the relay.toml of a main server"))]
    NoHub(NodeId),
    #[error("failed to print the key: {0}")]
    Output(#[from] io::Error),
}

/// `out` gets the keys, `notes` what people should know.
pub(crate) fn operate(operation: &Operation, out: &mut dyn Write, notes: &mut dyn Write) -> Result<(), SealKeyError> {
    let (Operation::New { config } | Operation::List { config }) = operation;
    let keys = Config::seal_keys(config)?;
    // A new main server has its keys before a topology lists it.
    let listed = Config::load(config).ok();
    if let Some(config) = listed.as_ref().filter(|config| config.topology.hub_ids().all(|hub| *hub != config.node.id)) {
        return Err(SealKeyError::NoHub(config.node.id.clone()));
    }
    let in_force: Vec<SealKeyId> =
        listed.iter().flat_map(|config| config.topology.seal_keys().map(SealKey::id)).collect();
    match operation {
        Operation::New { .. } => {
            let (public, place) = keys.make()?;
            writeln!(out, "{public}")?;
            match place {
                Place::File(path) => writeln!(
                    notes,
                    "{} is private: copy it to a safe place, and let it stay here. The line above is public.",
                    path.display()
                )?,
                Place::Token(label) => writeln!(
                    notes,
                    "Its private half is in the token `{label}`, and nowhere else: back the token up by its maker's means. The line \
                     above is public."
                )?,
            }
            writeln!(
                notes,
                "It is used from `topology rotate seal-key HUB --key-file FILE` on; its id is {}.",
                public.id()
            )?;
        }
        Operation::List { .. } => {
            let secrets = keys.load()?;
            if secrets.is_empty() {
                let token = keys.token.as_ref().map(|token| format!(" nor in the token `{}`", token.label()));
                writeln!(notes, "There is no key in {}{}.", keys.folder.display(), token.unwrap_or_default())?;
            }
            for secret in secrets {
                let public = secret.public();
                let mark = if in_force.contains(&public.id()) { "in force" } else { "-" };
                writeln!(out, "{}  {mark:<8}  {public}", public.id())?;
            }
        }
    }
    Ok(())
}

/// A main server's private seal keys: a folder of files, and perhaps a token. They are read when something is to be opened, and
/// wiped after that.
#[derive(Debug, Clone)]
pub(crate) struct SealKeys {
    folder: PathBuf,
    token: Option<Arc<Token>>,
}

/// Where a key was put.
#[derive(Debug)]
pub(crate) enum Place {
    File(PathBuf),
    /// The token with this label.
    Token(String),
}

/// A private seal key cannot be read or written.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum SealKeysError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    File(#[from] KeyFileError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Token(#[from] TokenError),
    #[error("{}: {source}", path.display())]
    #[diagnostic(help("put the file back that `estafet-relay seal-key new` wrote, from its copy"))]
    Malformed { path: PathBuf, source: SecretError },
    #[error("failed to look into {}: {source}", path.display())]
    #[diagnostic(help("the folder must belong to the relay's user"))]
    Folder { path: PathBuf, source: io::Error },
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl SealKeys {
    pub(crate) fn in_folder(folder: PathBuf) -> Self {
        Self { folder, token: None }
    }

    /// The same, and in a token, where new ones go.
    pub(crate) fn and_token(self, token: Option<Token>) -> Self {
        Self { token: token.map(Arc::new), ..self }
    }

    /// Every key, those in files first, in the order of their names. A folder that is not there holds none.
    pub(crate) fn load(&self) -> Result<Vec<SealSecret>, SealKeysError> {
        let fault = |source| SealKeysError::Folder { path: self.folder.clone(), source };
        let mut files = match std::fs::read_dir(&self.folder) {
            Ok(entries) => {
                let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
                paths.map_err(fault)?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(fault(error)),
        };
        files.retain(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
        files.sort();
        let mut secrets = files.iter().map(|path| load_secret(path)).collect::<Result<Vec<_>, _>>()?;
        if let Some(token) = &self.token {
            secrets.extend(token.load()?);
        }
        Ok(secrets)
    }

    /// The key that a topology names for this main server, if its private half is not here. Nothing at other nodes.
    pub(crate) fn missing(&self, topology: &Topology, me: &NodeId) -> Result<Option<SealKeyId>, SealKeysError> {
        let Some(hub) = topology.hubs.iter().find(|hub| hub.node == *me) else { return Ok(None) };
        let is_held = match self.load() {
            // It may be plugged in again; until then nothing can be opened, and everything else goes on.
            Err(SealKeysError::Token(fault)) => {
                error!(%fault, "the token with seal keys cannot be asked");
                false
            }
            loaded => loaded?.iter().any(|secret| secret.public() == hub.seal_key),
        };
        Ok((!is_held).then(|| hub.seal_key.id()))
    }

    /// Makes a key, and puts it into the token, or where there is none into a file that is named by the key's id.
    pub(crate) fn make(&self) -> Result<(SealKey, Place), SealKeysError> {
        let secret = SealSecret::generate()?;
        let public = secret.public();
        if let Some(token) = &self.token {
            token.store(&secret)?;
            return Ok((public, Place::Token(token.label().to_owned())));
        }
        let fault = |source| SealKeysError::Folder { path: self.folder.clone(), source };
        std::fs::create_dir_all(&self.folder).map_err(fault)?;
        let path = self.folder.join(file_name(public.id()));
        create_secret(&path, &secret.to_text())?;
        Ok((public, Place::File(path)))
    }
}

fn file_name(id: SealKeyId) -> String {
    format!("{id}.{EXTENSION}")
}

fn load_secret(path: &Path) -> Result<SealSecret, SealKeysError> {
    let text = read_secret(path)?;
    SealSecret::from_text(&text).map_err(|source| SealKeysError::Malformed { path: path.to_owned(), source })
}
