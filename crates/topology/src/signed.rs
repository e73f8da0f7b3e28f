//! The signed form of a topology, `city.topology`: the file that a node believes.
//!
//! ```text
//! estafet-topology 1
//! signature = kepala ed25519:<public key> <64 bytes of signature in base64url>
//! ---
//! area = "pekanbaru"
//! …
//! ```
//!
//! What must hold, and why the form is so:
//!
//! - The signature is over the exact bytes behind the line `---`, for a purpose of their own. Nothing is parsed
//!   before it is verified.
//! - The body is the canonical text. One topology then has one body, so that two nodes can compare versions by their
//!   bytes, and nobody can hide a difference in what people overlook (order, spacing, comments).
//! - The lines above are not covered by the signature. All they say is therefore checked against the body: the signer
//!   is listed there with that name, that key and the role of admin. Several admins may sign; all their
//!   signatures must be good, and one of them must be trusted already. That is how trust passes on: an admin whom
//!   nodes trust signs the version that lists the next one.

use std::fmt::Write;

use data_encoding::BASE64URL_NOPAD;
use estafet_model::{PublicKey, Signature, SigningKey};

use crate::faults::Faults;
use crate::parse::parse;
use crate::topology::{OperatorRole, Topology};

const MAGIC: &str = "estafet-topology ";
const FORMAT: &str = "1";
const SIGNATURE: &str = "signature = ";
const SEPARATOR: &str = "---\n";
const PURPOSE: &str = "estafet topology";

/// More signatures than any area has admins; bounds the work a stranger's file can cause.
const SIGNATURES_MAX: usize = 16;

/// The longest file, in bytes: a country's offices (about 7,300 sub-districts at 500 bytes a node and its link) fit.
const FILE_BYTES_MAX: usize = 4 << 20;

/// A topology that admins of its own area have signed. Only [`SignedTopology::sign`] and
/// [`SignedTopology::decode`] make one, so to hold it is to know that its signatures are good.
#[derive(Debug, Clone, PartialEq)]
pub struct SignedTopology {
    topology: Topology,
    body: String,
    signers: Vec<Signer>,
}

/// An admin who signed a topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Their operator id.
    pub operator: String,
    /// Their key.
    pub key: PublicKey,
    signature: Signature,
}

/// Why a topology was not signed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SignError {
    /// The signer is not listed.
    #[error("the topology lists no operator `{operator}`")]
    #[diagnostic(help("add [[operator]] with this id, its key and role admin, or sign as somebody listed"))]
    SignerUnknown {
        /// Who wanted to sign.
        operator: String,
    },
    /// The private key is somebody else's.
    #[error("this private key belongs to {found}, but the topology lists {listed} for operator `{operator}`")]
    #[diagnostic(help("use the key of `{operator}`, or correct the `key` of that [[operator]]"))]
    SignerHasOtherKey {
        /// Who wanted to sign.
        operator: String,
        /// The key in the topology.
        listed: PublicKey,
        /// The public half of the key that was to sign.
        found: PublicKey,
    },
    /// The signer may do less than sign.
    #[error("operator `{operator}` is {role}, and only an admin signs topologies")]
    #[diagnostic(help("let an admin sign, or give `{operator}` the role admin"))]
    SignerNotAdmin {
        /// Who wanted to sign.
        operator: String,
        /// The role in the topology.
        role: OperatorRole,
    },
    /// The signer has signed already, or the file has all the signatures it may have.
    #[error("operator `{operator}` has signed already, or {SIGNATURES_MAX} others have")]
    #[diagnostic(help("nothing is left to do: use the file as it is"))]
    SignerSuperfluous {
        /// Who wanted to sign.
        operator: String,
    },
    /// The topology was not made by `parse` and does not hold together.
    #[error("the topology has faults")]
    #[diagnostic(transparent)]
    TopologyFaulty(#[from] Faults),
    /// The topology was not made by `parse`, and written down it says something else.
    #[error("the topology reads back as another one: a node stands under an id that is not its own, or the like")]
    #[diagnostic(help("file every node under its own `id`"))]
    TopologyAmbiguous,
    /// No node would take the file.
    #[error("the topology has {bytes} bytes, and nodes take at most {FILE_BYTES_MAX}")]
    #[diagnostic(help("split the area; a hub joins two areas"))]
    TopologyTooLong {
        /// Its length.
        bytes: usize,
    },
}

/// Why a signed file is not believed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum UntrustedTopology {
    /// This is no signed topology, or its beginning is damaged.
    #[error("this is no signed topology: {what}")]
    #[diagnostic(help("make one with `topology sign`, and pass on the whole file without editing it"))]
    FileMalformed {
        /// What is not as it should be.
        what: &'static str,
    },
    /// A later program wrote it.
    #[error("the file has format {found}, and this program knows format {FORMAT}")]
    #[diagnostic(help("update this program, or sign the topology with one of its age"))]
    FileOfOtherFormat {
        /// The format it names.
        found: String,
    },
    /// The bytes are not those that were signed.
    #[error("the signature of `{operator}` does not fit: the file was changed after it was signed")]
    #[diagnostic(help("get the original again, or let an admin look at the change and sign it"))]
    FileAltered {
        /// Whose signature it is said to be.
        operator: String,
    },
    /// Good signatures, but of strangers.
    #[error("signed by {signers}, whom this node does not trust")]
    #[diagnostic(help("let an admin of the topology in force sign it too"))]
    SignerUnknown {
        /// Who signed, as the file has it.
        signers: String,
    },
    /// The topology itself does not say that the signer is an admin with this key.
    #[error("signed by `{operator}`, whom the topology itself does not list as an admin with this key")]
    #[diagnostic(help("list every signer as [[operator]] with role admin, and sign again"))]
    SignerNotAdmin {
        /// Who signed, as the file has it.
        operator: String,
    },
    /// The signature is good and the topology is not.
    #[error("a trusted admin signed a topology with faults")]
    #[diagnostic(transparent)]
    SignerPassedFaults(#[from] Faults),
    /// The signature is good and the topology is sound, but it is not in canonical form.
    #[error("the signed text is not in canonical form from its line {line} on")]
    #[diagnostic(help("sign with `topology sign`, which writes the canonical form"))]
    SignerSkippedCanonicalForm {
        /// The first line of the body that differs, counted from 1.
        line: usize,
    },
}

impl SignedTopology {
    /// Signs a topology as one of its own admins.
    ///
    /// # Errors
    /// If `operator_id` is not listed with this key and role admin, or the topology does not hold together.
    pub fn sign(mut topology: Topology, operator_id: &str, key: &SigningKey) -> Result<Self, SignError> {
        // The fields of a topology are public, so this one may be anything: it is read back as a node will read it.
        topology.sort();
        let body = topology.to_toml();
        if parse("the topology to sign", &body)? != topology {
            return Err(SignError::TopologyAmbiguous);
        }
        Self { topology, body, signers: Vec::new() }.countersign(operator_id, key)
    }

    /// Adds the signature of another admin, for nodes that trust only them.
    ///
    /// # Errors
    /// If `operator_id` is not listed with this key and role admin, or has signed already.
    pub fn countersign(mut self, operator_id: &str, key: &SigningKey) -> Result<Self, SignError> {
        let operator = operator_id.to_owned();
        let Some(listed) = self.topology.operators.iter().find(|listed| listed.id == operator_id) else {
            return Err(SignError::SignerUnknown { operator });
        };
        if listed.key != key.public() {
            return Err(SignError::SignerHasOtherKey { operator, listed: listed.key, found: key.public() });
        }
        if listed.role != OperatorRole::Admin {
            return Err(SignError::SignerNotAdmin { operator, role: listed.role });
        }
        let has_signed = self.signers.iter().any(|signer| signer.operator == operator_id);
        if has_signed || self.signers.len() == SIGNATURES_MAX {
            return Err(SignError::SignerSuperfluous { operator });
        }
        let signature = key.sign(PURPOSE, self.body.as_bytes());
        self.signers.push(Signer { operator, key: key.public(), signature });
        let bytes = self.encode().len();
        if bytes > FILE_BYTES_MAX { Err(SignError::TopologyTooLong { bytes }) } else { Ok(self) }
    }

    /// The file.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = format!("{MAGIC}{FORMAT}\n");
        for Signer { operator, key, signature } in &self.signers {
            let signature = BASE64URL_NOPAD.encode(signature.as_bytes());
            writeln!(text, "{SIGNATURE}{operator} {key} {signature}").expect("a string takes all that is written");
        }
        text + SEPARATOR + &self.body
    }

    /// Reads a file and believes it if a holder of one of the `trusted` keys has signed it.
    ///
    /// `trusted` are the keys of the admins of the topology in force, or for a new node the key it was given.
    ///
    /// # Errors
    /// Whatever keeps the file from being believed, named by who is at fault.
    pub fn decode(text: &str, trusted: &[PublicKey]) -> Result<Self, UntrustedTopology> {
        let (signers, body) = take_apart(text)?;
        for signer in &signers {
            if !signer.key.verifies(PURPOSE, body.as_bytes(), &signer.signature) {
                return Err(UntrustedTopology::FileAltered { operator: signer.operator.clone() });
            }
        }
        if !signers.iter().any(|signer| trusted.contains(&signer.key)) {
            let names: Vec<String> = signers.iter().map(|signer| format!("`{}`", signer.operator)).collect();
            return Err(UntrustedTopology::SignerUnknown { signers: names.join(", ") });
        }
        let topology = parse("the signed topology", body)?;
        for signer in &signers {
            let listed = topology.operator_by_key(&signer.key);
            if !listed.is_some_and(|listed| listed.id == signer.operator && listed.role == OperatorRole::Admin) {
                return Err(UntrustedTopology::SignerNotAdmin { operator: signer.operator.clone() });
            }
        }
        let canonical = topology.to_toml();
        if canonical != body {
            let same = canonical.lines().zip(body.lines()).take_while(|(left, right)| left == right).count();
            return Err(UntrustedTopology::SignerSkippedCanonicalForm { line: same + 1 });
        }
        Ok(Self { topology, body: canonical, signers })
    }

    /// Reads back what a node has kept on its own disk after it had judged it: whoever signed it, is trusted.
    ///
    /// # Errors
    /// As [`SignedTopology::decode`].
    pub fn decode_kept(text: &str) -> Result<Self, UntrustedTopology> {
        let (signers, _) = take_apart(text)?;
        let signers: Vec<PublicKey> = signers.iter().map(|signer| signer.key).collect();
        Self::decode(text, &signers)
    }

    /// What was signed.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// How many admins have still to sign before a node takes it, by its own word; the topology in force there may ask for
    /// more.
    #[must_use]
    pub fn missing_signatures(&self) -> usize {
        self.topology.required_signatures.saturating_sub(self.signers.len())
    }

    /// Who signed, in the order in which they did. At least one.
    #[must_use]
    pub fn signers(&self) -> &[Signer] {
        &self.signers
    }
}

/// The signatures, not yet verified, and the body they are over.
fn take_apart(text: &str) -> Result<(Vec<Signer>, &str), UntrustedTopology> {
    let malformed = |what| UntrustedTopology::FileMalformed { what };
    if text.len() > FILE_BYTES_MAX {
        return Err(malformed("it is longer than 4 MiB"));
    }
    let (first, mut rest) = text.split_once('\n').ok_or_else(|| malformed("it has no lines"))?;
    let format = first.strip_prefix(MAGIC).ok_or_else(|| malformed("its first line is not `estafet-topology 1`"))?;
    if format != FORMAT {
        return Err(UntrustedTopology::FileOfOtherFormat { found: format.chars().take(20).collect() });
    }
    let mut signers: Vec<Signer> = Vec::new();
    while let Some((line, behind)) = rest.strip_prefix(SIGNATURE).and_then(|rest| rest.split_once('\n')) {
        let signer = read_signer(line).ok_or_else(|| malformed("a signature line cannot be read"))?;
        if signers.len() == SIGNATURES_MAX || signers.iter().any(|earlier| earlier.key == signer.key) {
            return Err(malformed("it has too many signatures, or two of one signer"));
        }
        signers.push(signer);
        rest = behind;
    }
    if signers.is_empty() {
        return Err(malformed("its second line is no signature"));
    }
    let body = rest.strip_prefix(SEPARATOR).ok_or_else(|| malformed("no line `---` follows the signatures"))?;
    Ok((signers, body))
}

fn read_signer(line: &str) -> Option<Signer> {
    let mut words = line.split(' ');
    let (operator, key, signature) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    let signature: [u8; 64] = BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?.try_into().ok()?;
    let signature = Signature::from_bytes(signature);
    Some(Signer { operator: operator.to_owned(), key: key.parse().ok()?, signature })
}
