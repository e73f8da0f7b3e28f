//! Headers with their origin's proof, as they come with a record's first piece.

use estafet_model::{RecordHeader, SignedHeader, UnixMillis, sign_batch};

use super::{Target, with_a_flipped_bit};
use crate::cast::{OFFICE, key, samples};
use crate::memory::bounded;

pub(super) const TARGET: Target = Target {
    name: "signed_header",
    check,
    seeds,
    words: &[b"\0\0\0\x06rumbai", b"\0\0\0\x06record", b"application/pdf"],
};

fn check(input: &[u8]) {
    let Ok(signed) = bounded(input, 8, || SignedHeader::decode(input)) else { return };
    assert_eq!(signed.encode(), input, "a signed header has one form");
    let signer = key(OFFICE);
    // It must not matter what the signature is: a stranger's proof is checked, never trusted.
    let _verdict = signed.verify(&signer.public(), &mut None);
    let batch = u64::from(input.len().to_le_bytes()[0] % 4) + 1;
    let header = |delay| {
        let header = signed.header().clone();
        RecordHeader { captured_at: UnixMillis(header.captured_at.0.wrapping_add(delay)), ..header }
    };
    for (index, own) in sign_batch((0..batch).map(header).collect(), &signer).iter().enumerate() {
        assert_eq!(own.verify(&signer.public(), &mut None), Ok(()), "header {index} of {batch} is signed");
        let bytes = own.encode();
        assert_eq!(SignedHeader::decode(&bytes).as_ref(), Ok(own), "a signed header survives the way");
        if let Ok(forged) = SignedHeader::decode(&with_a_flipped_bit(&bytes)) {
            assert!(forged.verify(&signer.public(), &mut None).is_err(), "no bit can be changed: {forged:?}");
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let headers: Vec<_> = samples()[..3].iter().map(|sample| sample.signed.header().clone()).collect();
    let batch = sign_batch(headers, &key(OFFICE));
    samples()[..2].iter().map(|sample| &sample.signed).chain(&batch).map(|signed| signed.encode().to_vec()).collect()
}
