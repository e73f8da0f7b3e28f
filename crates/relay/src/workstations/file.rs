//! `workstations.toml`: names, and the hashes of their tokens.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use estafet_model::NodeId;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{May, Workstation, Workstations};
use crate::durable_file;

/// The file's name, beside `relay.toml`.
pub(super) const NAME: &str = "workstations.toml";

/// Far more than an office has. Each request is compared with all of them.
pub(super) const WORKSTATIONS_MAX: usize = 256;

/// A file with so many is shorter.
const FILE_BYTES_MAX: u64 = 256 << 10;

const HEAD: &str = "\
# The machines that may hand records in at this node's intake, each with the BLAKE3 hash of its token.
# Written by `estafet-relay workstation add` and `remove`; a running relay heeds it within a second.
";

/// The workstations cannot be read or written.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum WorkstationFileError {
    #[error("failed to read {}: {source}", path.display())]
    #[diagnostic(help("it must belong to the relay's user"))]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("failed to write {}: {source}", path.display())]
    #[diagnostic(help("check the permissions of the folder and the space on its disk"))]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("{} may be read or changed by others (mode {mode:03o}, user {owner})", path.display())]
    #[diagnostic(help("it has to belong to the relay's user alone: chown it to them, and run chmod 600 {}", path.display()))]
    Exposed { path: PathBuf, mode: u32, owner: u32 },
    #[error("{}: {message}", path.display())]
    #[diagnostic(help("`estafet-relay workstation add` and `remove` write it; remove the file to begin anew"))]
    Malformed { path: PathBuf, message: String },
}

/// The file as it is written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    workstation: Vec<WrittenWorkstation>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWorkstation {
    name: String,
    token_blake3: String,
    may: String,
}

/// What tells whether a file is another than it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileState(Option<[i64; 6]>);

/// Where the workstations stand.
#[derive(Debug, Clone)]
pub(crate) struct WorkstationFile {
    pub(super) path: PathBuf,
}

impl WorkstationFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Every workstation. A file that is not there holds none.
    pub(crate) fn load(&self) -> Result<Workstations, WorkstationFileError> {
        let text = match read_private(&self.path) {
            Ok(Ok(text)) => text,
            Ok(Err((mode, owner))) => {
                return Err(WorkstationFileError::Exposed { path: self.path.clone(), mode, owner });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Workstations::default()),
            Err(source) => return Err(WorkstationFileError::Unreadable { path: self.path.clone(), source }),
        };
        parse(&text).map_err(|message| WorkstationFileError::Malformed { path: self.path.clone(), message })
    }

    /// Writes them durably, for the relay's user alone. Blocks for the disk.
    pub(super) fn store(&self, workstations: &Workstations) -> Result<(), WorkstationFileError> {
        let written = Written { workstation: workstations.0.iter().map(WrittenWorkstation::from).collect() };
        let unwritable = |source| WorkstationFileError::Unwritable { path: self.path.clone(), source };
        let text = toml::to_string(&written).map_err(|error| unwritable(io::Error::other(error)))?;
        durable_file::replace_private(&self.path, format!("{HEAD}\n{text}").as_bytes()).map_err(unwritable)
    }

    pub(super) fn state(&self) -> FileState {
        FileState(fs::metadata(&self.path).ok().map(|found| {
            let inode = i64::from_ne_bytes(found.ino().to_ne_bytes());
            let length = i64::try_from(found.len()).unwrap_or(i64::MAX);
            [inode, length, found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()]
        }))
    }
}

/// The text of a file that is this user's alone, or the mode and the owner of one that others may use.
pub(crate) fn read_private(path: &Path) -> io::Result<Result<Zeroizing<String>, (u32, u32)>> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    let (mode, owner) = (found.mode() & 0o777, found.uid());
    if mode & 0o077 != 0 || owner != geteuid().as_raw() {
        return Ok(Err((mode, owner)));
    }
    // Large enough from the beginning: what grows leaves copies behind.
    let length = usize::try_from(found.len().min(FILE_BYTES_MAX)).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(length));
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Ok(text))
}

fn parse(text: &str) -> Result<Workstations, String> {
    let Written { workstation } = toml::from_str(text).map_err(|error| error.message().replace('\n', ", "))?;
    if workstation.len() > WORKSTATIONS_MAX {
        return Err(format!("it has more than {WORKSTATIONS_MAX} workstations"));
    }
    let mut all = Workstations::default();
    for WrittenWorkstation { name, token_blake3, may } in workstation {
        check_name(&name)?;
        if all.by_name(&name).is_some() {
            return Err(format!("`{name}` is there twice"));
        }
        let token_hash = blake3::Hash::from_hex(&token_blake3)
            .map_err(|_| format!("token_blake3 of `{name}` is not 64 hexadecimal digits"))?;
        let may = [May::HandIn, May::ReadMetrics].into_iter().find(|known| known.as_str() == may);
        let may = may.ok_or_else(|| format!("`{name}` may hand-in or metrics"))?;
        all.0.push(Workstation { name, token_hash, may });
    }
    Ok(all)
}

/// A workstation is named like a node.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let checked = name.parse::<NodeId>().map(drop);
    checked.map_err(|_| format!("`{name}` is no name: use 1 to 32 lower-case letters, digits and inner hyphens"))
}

impl From<&Workstation> for WrittenWorkstation {
    fn from(Workstation { name, token_hash, may }: &Workstation) -> Self {
        Self { name: name.clone(), token_blake3: token_hash.to_hex().to_string(), may: may.as_str().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn some() -> Workstations {
        let hash = |text: &str| blake3::hash(text.as_bytes());
        Workstations(vec![
            Workstation { name: "loket-1".to_owned(), token_hash: hash("one"), may: May::HandIn },
            Workstation { name: "prometheus".to_owned(), token_hash: hash("two"), may: May::ReadMetrics },
        ])
    }

    #[test]
    fn what_is_written_is_read_and_for_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = WorkstationFile::new(folder.path().join(NAME));
        assert_eq!(file.load().unwrap(), Workstations::default());
        let absent = file.state();
        file.store(&some()).unwrap();
        assert_eq!(file.load().unwrap(), some());
        assert_ne!(file.state(), absent);
        assert_eq!(fs::metadata(&file.path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&file.path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(file.load(), Err(WorkstationFileError::Exposed { mode: 0o644, .. })));
    }

    #[test]
    fn what_is_written_by_hand_is_looked_through() {
        let hash = "0".repeat(64);
        let entry = |name: &str, hash: &str, may: &str| {
            format!("[[workstation]]\nname = \"{name}\"\ntoken_blake3 = \"{hash}\"\nmay = \"{may}\"\n")
        };
        let good = entry("loket-1", &hash, "hand-in");
        for (text, said) in [
            (good.clone(), None),
            (format!("{good}{good}"), Some("twice")),
            (entry("Loket 1", &hash, "hand-in"), Some("no name")),
            (entry("loket-1", "00", "hand-in"), Some("64 hexadecimal digits")),
            (entry("loket-1", &hash, "all"), Some("hand-in or metrics")),
            (format!("{good}token = \"x\"\n"), Some("unknown field")),
            ((0..300).map(|number| entry(&format!("w{number}"), &hash, "hand-in")).collect(), Some("more than")),
        ] {
            let fault = parse(&text).err();
            assert_eq!(fault.is_some(), said.is_some(), "{text}: {fault:?}");
            assert!(fault.as_deref().unwrap_or_default().contains(said.unwrap_or_default()), "{fault:?}");
        }
    }
}
