//! What is sealed is read by hubs alone, whole, and under its own header.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

use estafet_model::{
    CHUNK_BYTES, Class, Kind, MediaType, PAYLOAD_BYTES_MAX, PayloadHash, RecordHeader, SealKey, SealKeyId, UnixMillis,
};
use estafet_seal::{
    AssociatedData, BadSealKeys, HUBS_MAX, OpenError, Opening, RECORDS_PER_CHAIN, SealSecret, Sealer, TAG_BYTES,
};

fn secret(number: u8) -> SealSecret {
    SealSecret::from_seed(&[number; 32])
}

fn header(payload_bytes: usize) -> RecordHeader {
    RecordHeader {
        id: "rumbai.7.42".parse().unwrap(),
        class: Class::Urgent,
        kind: "ktp-el".parse().unwrap(),
        media_type: MediaType::default(),
        payload_bytes: u32::try_from(payload_bytes).unwrap(),
        payload_hash: PayloadHash::of(b""),
        captured_at: UnixMillis(1_385_000_000_000),
    }
}

/// The chunks of a payload.
fn seal(sealer: &mut Sealer, content: &[u8]) -> Vec<Vec<u8>> {
    let sealing = sealer.begin(AssociatedData::of(&header(0))).unwrap();
    let expected = sealing.payload_bytes(content.len() as u64);
    let payload = sealing.whole(content);
    assert_eq!(payload.len() as u64, expected);
    payload.chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect()
}

fn open(secrets: &[SealSecret], header: &RecordHeader, chunks: &[Vec<u8>]) -> Result<Vec<u8>, OpenError> {
    let mut opening = Opening::begin(secrets, header, &chunks[0])?;
    let mut content = Vec::new();
    for chunk in chunks {
        content.extend_from_slice(opening.open(&mut chunk.clone())?);
    }
    assert_eq!(opening.content_bytes(), content.len() as u64);
    assert_eq!(estafet_seal::open(secrets, header, &chunks.concat()), Ok(content.clone()));
    Ok(content)
}

fn open_whole(secrets: &[SealSecret], chunks: &[Vec<u8>]) -> Result<Vec<u8>, OpenError> {
    open(secrets, &header(chunks.iter().map(Vec::len).sum()), chunks)
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

#[test]
fn every_hub_reads_what_was_sealed_whatever_its_length() {
    let hubs = [secret(1), secret(2)].map(|secret| secret.public());
    let mut sealer = Sealer::new(&hubs).unwrap();
    let first = CHUNK_BYTES - 6 - 2 * 1176 - TAG_BYTES;
    let full = CHUNK_BYTES - TAG_BYTES;
    for bytes in [0, 1, 4096, first - 1, first, first + 1, first + full, first + full + 1, 300_000] {
        let content = content(bytes);
        let chunks = seal(&mut sealer, &content);
        assert!(chunks.iter().rev().skip(1).all(|chunk| chunk.len() == CHUNK_BYTES), "{bytes} bytes");
        for holder in [secret(1), secret(2)] {
            assert_eq!(open_whole(&[secret(9), holder], &chunks).unwrap(), content, "{bytes} bytes");
        }
        let asked_of = hubs.iter().map(SealKey::id).collect();
        assert_eq!(open_whole(&[secret(3)], &chunks), Err(OpenError::OtherKeys(asked_of)));
    }
}

#[test]
fn the_largest_content_makes_a_payload_that_may_travel() {
    let hubs: Vec<SealKey> = (0..HUBS_MAX).map(|number| secret(u8::try_from(number).unwrap()).public()).collect();
    let sealing = Sealer::new(&hubs).unwrap().begin(AssociatedData::of(&header(0))).unwrap();
    assert!(sealing.payload_bytes(u64::from(estafet_model::CONTENT_BYTES_MAX)) <= u64::from(PAYLOAD_BYTES_MAX));
    assert!(sealing.head().len() + TAG_BYTES < CHUNK_BYTES);
}

#[test]
fn nothing_of_it_can_be_altered_moved_or_left_out() {
    let mut sealer = Sealer::new(&[secret(1).public()]).unwrap();
    let secrets = [secret(1)];
    let whole = seal(&mut sealer, &content(50_000));
    assert_eq!(whole.len(), 4);
    for (chunk, bytes) in whole.iter().enumerate() {
        let step = if chunk == 0 { 13 } else { 997 };
        for place in (0..bytes.len()).step_by(step) {
            let mut altered = whole.clone();
            altered[chunk][place] ^= 1;
            assert!(open_whole(&secrets, &altered).is_err(), "byte {place} of chunk {chunk}");
        }
    }
    let [first, second, third, last] = <[Vec<u8>; 4]>::try_from(whole.clone()).unwrap();
    for other in [
        vec![first.clone(), third.clone(), second.clone(), last.clone()],
        vec![first.clone(), second.clone(), third.clone()],
        vec![first.clone(), second.clone(), last.clone()],
        vec![first.clone(), second.clone(), third.clone(), third.clone(), last],
    ] {
        assert_eq!(open_whole(&secrets, &other), Err(OpenError::Altered));
    }
    let other = seal(&mut sealer, &content(50_000));
    assert_eq!(open_whole(&secrets, &[vec![first], other[1..].to_vec()].concat()), Err(OpenError::Altered));
}

#[test]
fn a_payload_is_opened_under_its_own_header_alone() {
    let mut sealer = Sealer::new(&[secret(1).public()]).unwrap();
    let chunks = seal(&mut sealer, b"NIK 1471");
    let own = header(chunks[0].len());
    assert_eq!(open(&[secret(1)], &own, &chunks).unwrap(), b"NIK 1471");
    let with = |change: &dyn Fn(&mut RecordHeader)| {
        let mut header = own.clone();
        change(&mut header);
        header
    };
    for other in [
        with(&|header| header.id.origin = "sail".parse().unwrap()),
        with(&|header| header.class = Class::Bulk),
        with(&|header| header.kind = Kind::default()),
        with(&|header| header.media_type = "application/pdf".parse().unwrap()),
        with(&|header| header.captured_at.0 += 1),
    ] {
        assert_eq!(open(&[secret(1)], &other, &chunks), Err(OpenError::Altered), "{other:?}");
    }
}

#[test]
fn each_record_has_a_key_of_its_own_and_a_chain_ends() {
    let mut sealer = Sealer::new(&[secret(1).public()]).unwrap();
    let head = |chunks: &[Vec<u8>]| chunks[0][6..6 + 1176].to_vec();
    let sealed: Vec<_> = (0..=RECORDS_PER_CHAIN).map(|_| seal(&mut sealer, b"the same")).collect();
    assert_eq!(head(&sealed[0]), head(&sealed[RECORDS_PER_CHAIN as usize - 1]));
    assert_ne!(head(&sealed[0]), head(&sealed[RECORDS_PER_CHAIN as usize]));
    let bodies: std::collections::BTreeSet<_> = sealed.iter().map(|chunks| chunks[0][1182..].to_vec()).collect();
    assert_eq!(bodies.len(), sealed.len());
    for chunks in [&sealed[0], &sealed[1], &sealed[4095], &sealed[4096]] {
        assert_eq!(open_whole(&[secret(1)], chunks).unwrap(), b"the same");
    }
}

#[test]
fn what_is_no_sealed_payload_is_an_error() {
    let good = seal(&mut Sealer::new(&[secret(1).public()]).unwrap(), b"content");
    for length in 0..good[0].len() {
        assert!(open_whole(&[secret(1)], &[good[0][..length].to_vec()]).is_err(), "{length} bytes");
    }
    let mut clear = Sealer::off().begin(AssociatedData::of(&header(0))).unwrap();
    let payload = [clear.head(), b"content".to_vec()].concat();
    assert_eq!((clear.payload_bytes(7), clear.seal(&[], &mut [], true)), (8, None));
    assert_eq!(open_whole(&[secret(1)], &[payload]), Err(OpenError::Unknown));
}

#[test]
fn there_is_a_sealer_only_for_hubs_that_can_open() {
    assert_eq!(Sealer::new([]).unwrap_err(), BadSealKeys::NoHub);
    let many: Vec<SealKey> = (0..=8).map(|number| secret(number).public()).collect();
    assert_eq!(Sealer::new(&many).unwrap_err(), BadSealKeys::TooManyHubs);
    let nonsense = SealKey::from_bytes([0xff; SealKey::BYTES]);
    let id: SealKeyId = nonsense.id();
    assert_eq!(Sealer::new([&nonsense]).unwrap_err(), BadSealKeys::NotAKey(id));
}
