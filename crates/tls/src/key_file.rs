//! Files with a private key, which nobody but its owner may read: PKCS #8 PEM, or another secret text.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use estafet_model::{KeyError, SigningKey};
use miette::Diagnostic;
use rustix::process::geteuid;
use zeroize::Zeroizing;

/// The only bits that a key's file may have.
const OWNER_MAY_READ_AND_WRITE: u32 = 0o600;

/// A key is 119 bytes; a larger file is none.
const FILE_BYTES_MAX: usize = 4096;

/// Why a private key was not made, written or read.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum KeyFileError {
    /// The file is not there, or may not be read.
    #[error("failed to read the private key {}: {source}", path.display())]
    #[diagnostic(help("check that the file exists and that this user may read it"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file could not be made.
    #[error("failed to write the private key {}: {source}", path.display())]
    #[diagnostic(help("check the permissions of the folder and the space on its disk"))]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is a file already. A key that is overwritten is lost.
    #[error("{} is there already, and a key is never overwritten", .0.display())]
    #[diagnostic(help("use the key that is there, or name another file"))]
    Exists(PathBuf),
    /// Others than its owner may use the file.
    #[error("the private key {} can be read by others (mode {mode:03o})", path.display())]
    #[diagnostic(help("run: chmod 600 {}", path.display()))]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to another user, who can read and change it.
    #[error("the private key {} belongs to user {owner}, and this program runs as user {user}", path.display())]
    #[diagnostic(help("run as that user, or run: chown {user} {} && chmod 600 {}", path.display(), path.display()))]
    OtherOwner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// As whom this process runs.
        user: u32,
    },
    /// The file holds something else.
    #[error("{}: {source}", path.display())]
    #[diagnostic(help(
        "`estafet-relay init` makes a node's key, `topology operator key` an operator's; remove a file that holds none"
    ))]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// The operating system gave no random bytes.
    #[error("failed to make a key: {0}")]
    NoRandomness(#[from] getrandom::Error),
}

/// A key that nobody has had before.
///
/// # Errors
/// If the operating system has no random bytes.
pub fn new_key() -> Result<SigningKey, KeyFileError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut())?;
    Ok(SigningKey::from_seed(*seed))
}

/// Reads a private key, if its file is this user's and nobody else's.
///
/// # Errors
/// If the file is not there, open to others, another user's, or no key.
pub fn read_key(path: &Path) -> Result<SigningKey, KeyFileError> {
    let pem = read_secret(path)?;
    SigningKey::from_pem(&pem).map_err(|source| KeyFileError::NoKey { path: path.to_owned(), source })
}

/// Reads a secret text, if its file is this user's and nobody else's.
///
/// # Errors
/// If the file is not there, open to others, another user's, or no text.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let unreadable = |source| KeyFileError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    // Of the file that is open, so that nobody can put another one in its place meanwhile.
    let found = file.metadata().map_err(unreadable)?;
    let (mode, owner, user) = (found.mode() & 0o777, found.uid(), geteuid().as_raw());
    if mode & !OWNER_MAY_READ_AND_WRITE != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    if owner != user {
        return Err(KeyFileError::OtherOwner { path: path.to_owned(), owner, user });
    }
    // Large enough from the beginning: what grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX));
    match file.take(FILE_BYTES_MAX as u64).read_to_string(&mut text) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(KeyFileError::NoKey { path: path.to_owned(), source: KeyError::Private })
        }
        Err(error) => Err(unreadable(error)),
        Ok(_) => Ok(text),
    }
}

/// Writes a private key to a new file that only this user may read, and syncs it.
///
/// # Errors
/// If there is a file already, or the disk refuses.
pub fn create_key(path: &Path, key: &SigningKey) -> Result<(), KeyFileError> {
    create_secret(path, &key.to_pem())
}

/// Writes a secret text to a new file that only this user may read, and syncs it.
///
/// # Errors
/// If there is a file already, or the disk refuses.
pub fn create_secret(path: &Path, text: &str) -> Result<(), KeyFileError> {
    let create = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_MAY_READ_AND_WRITE).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        File::open(folder_of(path))?.sync_all()
    };
    create().map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => KeyFileError::Unwritable { path: path.to_owned(), source },
    })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn help(error: &KeyFileError) -> String {
        error.help().map(|help| help.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_key_is_written_once_for_its_owner_alone_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        let key = SigningKey::from_seed([1; 32]);
        create_key(&path, &key).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read_key(&path).unwrap().public(), key.public());
        let again = create_key(&path, &SigningKey::from_seed([2; 32])).unwrap_err();
        assert!(matches!(again, KeyFileError::Exists(_)), "{again}");
        assert_eq!(read_key(&path).unwrap().public(), key.public(), "the first key stays");
    }

    #[test]
    fn a_key_that_others_may_use_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        create_key(&path, &SigningKey::from_seed([1; 32])).unwrap();
        for (mode, good) in
            [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false), (0o700, false)]
        {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match read_key(&path) {
                Ok(_) => assert!(good, "{mode:o}"),
                Err(error) => {
                    assert!(!good, "{mode:o}: {error}");
                    assert_eq!(help(&error), format!("run: chmod 600 {}", path.display()));
                }
            }
        }
    }

    #[test]
    fn a_key_of_another_user_is_refused_with_what_to_do() {
        if !geteuid().is_root() {
            // Only root can give a file away.
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        create_key(&path, &SigningKey::from_seed([1; 32])).unwrap();
        std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
        let error = read_key(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::OtherOwner { owner: 12_345, user: 0, .. }), "{error}");
        assert!(help(&error).contains("chmod 600"), "{}", help(&error));
    }

    #[test]
    fn what_is_no_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        assert!(matches!(read_key(&path), Err(KeyFileError::Unreadable { .. })));
        for text in [&b"nonsense"[..], b"", b"\xff\xfe", &[b'x'; 10_000]] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            let error = read_key(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::NoKey { .. }), "{error}");
        }
    }
}
