//! The signed topology, as a file or from a neighbor: the bytes as they come, and the bytes behind a good signature.

use data_encoding::BASE64URL_NOPAD;
use estafet_model::PublicKey;
use estafet_topology::{SignedTopology, parse};

use super::Target;
use super::topology::{WORDS, admin, small_area};
use crate::cast::{key, public};
use crate::memory::bounded;

pub(super) const TARGET: Target = Target { name: "signed_topology", check, seeds, words: WORDS };

/// See the target of the text alone: a signed one is parsed and written once more.
const MEMORY_TIMES: usize = 2048;

fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let trusted = [public("kepala")];
    check_file(text, &trusted);
    check_file(&sign_anything(text), &trusted);
}

fn check_file(text: &str, trusted: &[PublicKey]) {
    let Ok(signed) = bounded(text.as_bytes(), MEMORY_TIMES, || SignedTopology::decode(text, trusted)) else { return };
    assert_eq!(signed.encode(), text, "a signed topology has one form");
    assert!(signed.signers().iter().any(|signer| trusted.contains(&signer.key)), "somebody trusted has signed it");
    assert!(SignedTopology::decode(text, &[public("nobody")]).is_err(), "strangers are not believed");
}

/// What an admin may have signed with another program: any text at all.
fn sign_anything(body: &str) -> String {
    let signature = key("kepala").sign("estafet topology", body.as_bytes());
    let signature = BASE64URL_NOPAD.encode(signature.as_bytes());
    format!("estafet-topology 1\nsignature = kepala {} {signature}\n---\n{body}", public("kepala"))
}

fn seeds() -> Vec<Vec<u8>> {
    let topology = parse("seed", &small_area()).expect("the small area is good");
    let body = topology.to_toml();
    let signed = SignedTopology::sign(topology, &admin().id, &key("kepala")).expect("its admin signs it");
    [signed.encode(), body].map(String::into_bytes).to_vec()
}
