//! What a new machine asks to be let in with. The private key stays where it was made.
//!
//! ```text
//! estafet-join 1
//! node = siak-hulu
//! key = ed25519:<public key>
//! addresses = 10.77.0.14:4460, [fd00::14]:4460
//! admin = 10.77.0.14:4461
//! signature = <64 bytes in base64url>
//! ```
//!
//! The signature, by the key itself, is over the canonical bytes of all the rest: who has the request has what that machine
//! said, and the machine holds the key. That it is the right machine, only its fingerprint tells, from person to person.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;

use crate::canonical::Writer;
use crate::fingerprint::Fingerprint;
use crate::keys::{PublicKey, Signature, SigningKey};
use crate::name::NodeId;

const MAGIC: &str = "estafet-join 1";
const PURPOSE: &str = "estafet join request";

/// A machine has a few networks; more addresses are no machine's.
const ADDRESSES_MAX: usize = 16;

/// The text is no join request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinRequestError {
    /// Lines are missing, or another text was meant.
    #[error("this is no join request: {0}; it is what `estafet-relay init` prints, from `{MAGIC}` to the signature")]
    Malformed(&'static str),
    /// It is not as its machine wrote it.
    #[error("the join request was changed after it was signed: get it from the machine again")]
    Altered,
}

/// A machine's wish to be a node, signed by the key that it has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// The node that it is to be.
    pub node: NodeId,
    /// Its key.
    pub key: PublicKey,
    /// Where it listens for neighbors, first choice first. At least one.
    pub addresses: Vec<SocketAddr>,
    /// Where it listens for operators.
    pub admin: SocketAddr,
    signature: Signature,
}

impl JoinRequest {
    /// Signs a request with the machine's own key.
    #[must_use]
    pub fn sign(node: NodeId, addresses: Vec<SocketAddr>, admin: SocketAddr, key: &SigningKey) -> Self {
        let signature = key.sign(PURPOSE, &canonical(&node, &key.public(), &addresses, admin));
        Self { node, key: key.public(), addresses, admin, signature }
    }

    /// What the two people at both ends compare.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.key)
    }
}

fn canonical(node: &NodeId, key: &PublicKey, addresses: &[SocketAddr], admin: SocketAddr) -> Bytes {
    let mut writer = Writer::new();
    writer.text(node.as_str()).raw(key.as_bytes()).text(&admin.to_string());
    for address in addresses {
        writer.text(&address.to_string());
    }
    writer.finish()
}

impl fmt::Display for JoinRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, key, addresses, admin, signature } = self;
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        writeln!(formatter, "{MAGIC}\nnode = {node}\nkey = {key}\naddresses = {}", addresses.join(", "))?;
        writeln!(formatter, "admin = {admin}\nsignature = {}", BASE64URL_NOPAD.encode(signature.as_bytes()))
    }
}

impl FromStr for JoinRequest {
    type Err = JoinRequestError;

    /// Reads a request and checks its signature. Blank lines and spaces around it, as a mail program leaves them, do not
    /// matter.
    fn from_str(text: &str) -> Result<Self, JoinRequestError> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        if lines.next() != Some(MAGIC) {
            return Err(JoinRequestError::Malformed("its first line is another"));
        }
        let node = field(lines.next(), "node = ", "the node is missing")?;
        let key: PublicKey = field(lines.next(), "key = ", "the key is missing")?;
        let addresses: String = field(lines.next(), "addresses = ", "the addresses are missing")?;
        let admin = field(lines.next(), "admin = ", "the operators' address is missing")?;
        let signature: String = field(lines.next(), "signature = ", "the signature is missing")?;
        if lines.next().is_some() {
            return Err(JoinRequestError::Malformed("something stands behind the signature"));
        }
        let addresses: Result<Vec<SocketAddr>, _> = addresses.split(", ").map(str::parse).collect();
        let addresses = addresses.ok().filter(|addresses| addresses.len() <= ADDRESSES_MAX);
        let addresses = addresses.ok_or(JoinRequestError::Malformed("its addresses cannot be read"))?;
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        let signature = signature.map(Signature::from_bytes);
        let signature = signature.ok_or(JoinRequestError::Malformed("its signature cannot be read"))?;
        if !key.verifies(PURPOSE, &canonical(&node, &key, &addresses, admin), &signature) {
            return Err(JoinRequestError::Altered);
        }
        Ok(Self { node, key, addresses, admin, signature })
    }
}

fn field<T: FromStr>(line: Option<&str>, name: &str, fault: &'static str) -> Result<T, JoinRequestError> {
    let value = line.and_then(|line| line.strip_prefix(name)).and_then(|value| value.parse().ok());
    value.ok_or(JoinRequestError::Malformed(fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> JoinRequest {
        let addresses = vec!["10.77.0.14:4460".parse().unwrap(), "[fd00::14]:4460".parse().unwrap()];
        let key = SigningKey::from_seed([9; 32]);
        JoinRequest::sign("siak-hulu".parse().unwrap(), addresses, "10.77.0.14:4461".parse().unwrap(), &key)
    }

    #[test]
    fn it_is_read_back_also_from_a_mail() {
        let text = request().to_string();
        assert_eq!(text.parse(), Ok(request()));
        let mailed = format!("\r\n  {}\r\n\r\n", text.replace('\n', " \r\n"));
        assert_eq!(mailed.parse(), Ok(request()));
    }

    #[test]
    fn whatever_is_changed_in_it_is_found() {
        let text = request().to_string();
        let other = SigningKey::from_seed([8; 32]).public().to_string();
        for (was, is) in [
            ("siak-hulu", "siak-hilir"),
            ("10.77.0.14:4460", "10.77.0.15:4460"),
            (", [fd00::14]:4460", ""),
            ("10.77.0.14:4461", "10.77.0.14:4462"),
            (request().key.to_string().as_str(), other.as_str()),
        ] {
            let changed = text.replacen(was, is, 1);
            assert_ne!(changed, text);
            assert_eq!(changed.parse::<JoinRequest>(), Err(JoinRequestError::Altered), "{was}");
        }
    }

    #[test]
    fn no_text_is_taken_for_one() {
        let text = request().to_string();
        for end in 0..text.trim_end().len() {
            assert!(text[..end].parse::<JoinRequest>().is_err(), "{}", &text[..end]);
        }
        for other in [format!("{text}more"), text.replacen("join 1", "join 2", 1), text.replacen("node", "nod", 1)] {
            assert!(matches!(other.parse::<JoinRequest>(), Err(JoinRequestError::Malformed(_))), "{other}");
        }
    }
}
