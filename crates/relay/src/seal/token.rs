//! Private seal keys in a PKCS#11 token (OASIS PKCS #11, version 2.40 or later).
//!
//! No token can compute with an X-Wing key yet. So a key lies in it as a private data object, which it gives out to who knows its
//! PIN, for the moment in which something is opened; nothing of it is ever in a file of this machine.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use estafet_seal::{SealSecret, SecretError};
use estafet_tls::{KeyFileError, read_secret};
use zeroize::Zeroizing;

/// What marks our objects among those of others (`CKA_APPLICATION`).
const APPLICATION: &[u8] = b"estafet seal key";

/// Where a token is, by relay.toml.
pub(crate) struct Token {
    module: PathBuf,
    label: String,
    pin_file: PathBuf,
    /// Loaded at the first use, once for the process; and used by one thread at a time, for who closes the last session logs
    /// all of them out.
    loaded: Mutex<Option<Pkcs11>>,
}

/// Nothing came of asking a token.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum TokenError {
    #[error("failed to load the PKCS#11 module {}: {error}", path.display())]
    #[diagnostic(help(
        "[seal_token] module is the file of the token's maker, such as /usr/lib/softhsm/libsofthsm2.so"
    ))]
    Module { path: PathBuf, error: Error },
    #[error("no token is labelled `{label}`: {}", found(.there))]
    #[diagnostic(help("is it plugged in, and may this user reach it? [seal_token] label names it"))]
    NotThere { label: String, there: Vec<String> },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Pin(#[from] KeyFileError),
    #[error("the token `{label}` does not take the PIN in {}: {error}", pin_file.display())]
    #[diagnostic(help("correct the file before trying again: most tokens lock themselves after a few wrong PINs"))]
    Refused { label: String, pin_file: PathBuf, error: Error },
    #[error("the token `{label}` holds a seal key that cannot be read: {error}")]
    #[diagnostic(help("put the key in anew from its copy, and remove the damaged object with the token's own tools"))]
    Malformed { label: String, error: SecretError },
    #[error("failed to {doing} in the token `{label}`: {error}")]
    #[diagnostic(help("look at the token with its own tools, such as `pkcs11-tool --list-objects --login`"))]
    Failed { label: String, doing: &'static str, error: Error },
}

fn found(labels: &[String]) -> String {
    if labels.is_empty() { "there is none".to_owned() } else { format!("there is {}", labels.join(", ")) }
}

impl Token {
    pub(crate) fn new(module: PathBuf, label: String, pin_file: PathBuf) -> Self {
        Self { module, label, pin_file, loaded: Mutex::new(None) }
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Every seal key in it.
    pub(crate) fn load(&self) -> Result<Vec<SealSecret>, TokenError> {
        self.with_session(|session| {
            let objects = session.find_objects(&[Attribute::Class(ObjectClass::DATA), application()]);
            let objects = objects.map_err(self.failed("look for seal keys"))?;
            objects.into_iter().map(|object| self.read(session, object)).collect()
        })
    }

    fn read(&self, session: &Session, object: ObjectHandle) -> Result<SealSecret, TokenError> {
        let attributes = session.get_attributes(object, &[AttributeType::Value]);
        let attributes = attributes.map_err(self.failed("read a seal key"))?;
        let value = attributes.into_iter().find_map(|attribute| match attribute {
            Attribute::Value(bytes) => Some(Zeroizing::new(bytes)),
            _ => None,
        });
        let text = value.as_deref().and_then(|bytes| str::from_utf8(bytes).ok());
        text.ok_or(SecretError)
            .and_then(SealSecret::from_text)
            .map_err(|error| TokenError::Malformed { label: self.label.clone(), error })
    }

    /// Puts a key into it, to stay.
    pub(crate) fn store(&self, secret: &SealSecret) -> Result<(), TokenError> {
        let value = secret.to_text();
        self.with_session(|session| {
            let template = [
                Attribute::Class(ObjectClass::DATA),
                Attribute::Token(true),
                Attribute::Private(true),
                Attribute::Modifiable(false),
                Attribute::Label(secret.public().id().to_string().into_bytes()),
                application(),
                Attribute::Value(value.as_bytes().to_vec()),
            ];
            session.create_object(&template).map(drop).map_err(self.failed("put a seal key"))
        })
    }

    /// In a session of who knows the PIN.
    fn with_session<T>(&self, work: impl FnOnce(&Session) -> Result<T, TokenError>) -> Result<T, TokenError> {
        let mut library = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let library = match &mut *library {
            Some(library) => library,
            none => none.insert(self.open_library()?),
        };
        let session = library.open_rw_session(self.slot(library)?).map_err(self.failed("begin a session"))?;
        let pin = AuthPin::new(read_secret(&self.pin_file)?.trim_end_matches(['\r', '\n']).into());
        session.login(UserType::User, Some(&pin)).map_err(|error| TokenError::Refused {
            label: self.label.clone(),
            pin_file: self.pin_file.clone(),
            error,
        })?;
        work(&session)
    }

    fn open_library(&self) -> Result<Pkcs11, TokenError> {
        let fault = |error| TokenError::Module { path: self.module.clone(), error };
        let library = Pkcs11::new(&self.module).map_err(fault)?;
        match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(library),
            Err(error) => Err(fault(error)),
        }
    }

    fn slot(&self, library: &Pkcs11) -> Result<Slot, TokenError> {
        let slots = library.get_slots_with_initialized_token().map_err(self.failed("look for it"))?;
        let mut there = Vec::new();
        for slot in slots {
            let token = library.get_token_info(slot).map_err(self.failed("look at what is there"))?;
            if token.label() == self.label {
                return Ok(slot);
            }
            there.push(token.label().to_owned());
        }
        Err(TokenError::NotThere { label: self.label.clone(), there })
    }

    fn failed(&self, doing: &'static str) -> impl Fn(Error) -> TokenError {
        let label = self.label.clone();
        move |error| TokenError::Failed { label: label.clone(), doing, error }
    }
}

fn application() -> Attribute {
    Attribute::Application(APPLICATION.to_vec())
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Token({})", self.label)
    }
}
