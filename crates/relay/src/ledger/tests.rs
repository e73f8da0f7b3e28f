use std::path::Path;

use estafet_model::{ChainHead, ChainId, Class, HeaderDigest, NodeId, PayloadHash, SigningKey, UnixMillis};
use estafet_spool::{Extent, StoredRecord};
use rusqlite::{Connection, params};

use super::{Ledger, Suspects};

fn hub() -> NodeId {
    "induk".parse().unwrap()
}

fn chain(number: u8) -> ChainId {
    ChainId::from_bytes([number; 16])
}

/// Record `seq` of Rumbai at a place of its own, that Sukajadi brought.
fn stored(seq: u32, offset: u32) -> StoredRecord {
    StoredRecord {
        id: format!("rumbai.1.{seq}").parse().unwrap(),
        class: Class::Normal,
        payload_bytes: seq,
        digest: HeaderDigest([u8::try_from(seq).unwrap(); 32]),
        own: false,
        received_from: Some("sukajadi".parse().unwrap()),
        idempotency: None,
        stored_at: UnixMillis(1_000 * u64::from(offset)),
        payload_hash: PayloadHash::of(&seq.to_be_bytes()),
        record: Extent { generation: 1, offset, length: 10 },
    }
}

fn opened(path: &Path, id: ChainId) -> Ledger {
    let ledger = Ledger::open(path).unwrap();
    ledger.set_chain(hub(), id).unwrap();
    ledger
}

/// The head, after all that the ledger was told.
fn head(ledger: &Ledger) -> ChainHead {
    ledger.committed().unwrap();
    ledger.head().unwrap()
}

/// What the chain is when these were committed in this order.
fn expected(id: ChainId, seqs: &[u32]) -> ChainHead {
    let chained = |seq: u32| {
        let stored = stored(seq, 0);
        estafet_model::ChainedRecord {
            id: stored.id,
            digest: stored.digest,
            payload_hash: stored.payload_hash,
            payload_bytes: stored.payload_bytes,
        }
    };
    seqs.iter().fold(ChainHead::first(&hub(), id), |head, seq| head.with(&chained(*seq)))
}

#[tokio::test]
async fn a_ledger_that_is_made_anew_has_the_same_chain_and_gives_the_same_receipts() {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<StoredRecord> = (1..=5).map(|seq| stored(seq, seq)).collect();
    let first = opened(&folder.path().join("first"), chain(1));
    all.iter().for_each(|record| first.feed(vec![record.clone()]));
    assert_eq!(head(&first), expected(chain(1), &[1, 2, 3, 4, 5]));
    let anew = opened(&folder.path().join("anew"), chain(1));
    anew.catch_up(all);
    assert_eq!(head(&anew), head(&first));

    let key = SigningKey::from_seed([9; 32]);
    let mut receipts = Vec::new();
    for ledger in [&first, &anew] {
        let commit = ledger.find("rumbai.1.3".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(commit.received_from, Some("sukajadi".parse().unwrap()));
        receipts.push(ledger.receipt(commit, hub(), key.clone()).await.unwrap().unwrap());
    }
    assert_eq!(receipts[0], receipts[1]);
    assert_eq!((receipts[0].verify(&key.public()), receipts[0].head()), (Ok(()), expected(chain(1), &[1, 2, 3])));
    for (at, is_on_it) in [
        (expected(chain(1), &[1, 2]), true),
        (expected(chain(1), &[2, 1]), false),
        (expected(chain(2), &[1, 2]), false),
        (expected(chain(1), &[]), true),
    ] {
        assert_eq!(first.has_head(hub(), at).await.unwrap(), is_on_it, "{at:?}");
    }
}

#[tokio::test]
async fn what_is_lost_and_comes_again_stays_in_the_chain_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = opened(&folder.path().join("ledger"), chain(1));
    ledger.feed((1..=3).map(|seq| stored(seq, seq)).collect());
    let lost = ledger.take_out("rumbai.1.2".parse().unwrap(), stored(2, 2).record).await.unwrap().unwrap();
    assert_eq!(lost.hub_sequence, 2);
    assert_eq!(head(&ledger), expected(chain(1), &[1, 2, 3]), "that it was committed stays true");
    ledger.feed(vec![stored(2, 9)]);
    assert_eq!(head(&ledger), expected(chain(1), &[1, 2, 3, 2]));
    let told = ledger.chained_from(1).await.unwrap();
    assert_eq!(told.iter().map(|commit| commit.id.seq.get()).collect::<Vec<_>>(), [1, 2, 3, 2]);
    assert_eq!(ledger.committed().unwrap().1, 0, "it is committed once");
    // As another chain, of all that ever was.
    ledger.set_chain(hub(), chain(2)).unwrap();
    assert_eq!(head(&ledger), expected(chain(2), &[1, 2, 3, 2]));
    let again = ledger.chained_from(4).await.unwrap();
    assert_eq!(again[0].link, expected(chain(2), &[1, 2, 3, 2]).link);
}

#[test]
fn a_ledger_of_an_earlier_form_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let earlier =
        "CREATE TABLE commits (hub_sequence INTEGER PRIMARY KEY, origin TEXT NOT NULL, epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL, class INTEGER NOT NULL, payload_bytes INTEGER NOT NULL, blake3 BLOB NOT NULL,
        header_digest BLOB NOT NULL, committed_unix_ms INTEGER NOT NULL, generation INTEGER NOT NULL,
        offset INTEGER NOT NULL, length INTEGER NOT NULL) STRICT;
        CREATE INDEX commits_by_record ON commits (origin, epoch, seq);
        CREATE TABLE lost (hub_sequence INTEGER PRIMARY KEY, origin TEXT NOT NULL) STRICT;
        CREATE INDEX lost_by_record ON lost (origin);";
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(earlier).unwrap();
    let row = "INSERT INTO commits VALUES (1, 'rumbai', 1, 1, 1, 1, ?1, ?1, 0, 1, 1, 10)";
    connection.execute(row, params![[0_u8; 32]]).unwrap();
    drop(connection);
    let ledger = opened(&path, chain(1));
    assert_eq!((ledger.newest(), ledger.scan_from()), (None, 0), "the archive is read from its beginning");
    ledger.catch_up(vec![stored(1, 1), stored(2, 2)]);
    assert_eq!(head(&ledger), expected(chain(1), &[1, 2]));
    drop(ledger);
    let again = opened(&path, chain(1));
    assert_eq!((head(&again), again.newest()), (expected(chain(1), &[1, 2]), Some((1, 2))), "and only once");
    let lost = again.look_at_losses(Suspects::default(), |_| true).unwrap();
    assert!(lost.is_empty());
}

#[tokio::test]
async fn no_receipt_is_signed_for_what_was_changed_in_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let ledger = opened(&path, chain(1));
    ledger.feed((1..=3).map(|seq| stored(seq, seq)).collect());
    head(&ledger);
    let other = Connection::open(&path).unwrap();
    other.execute("UPDATE commits SET payload_bytes = 99 WHERE hub_sequence = 2", []).unwrap();
    let key = SigningKey::from_seed([9; 32]);
    for (id, is_signed) in [("rumbai.1.1", true), ("rumbai.1.2", false), ("rumbai.1.3", true)] {
        let commit = ledger.find(id.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(ledger.receipt(commit, hub(), key.clone()).await.unwrap().is_some(), is_signed, "{id}");
    }
}

#[tokio::test]
async fn what_was_committed_since_is_found_by_the_first_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = opened(&folder.path().join("ledger"), chain(1));
    // The clock is put back after the second.
    ledger.feed(vec![stored(1, 5), stored(2, 20), stored(3, 7)]);
    for (since, first) in [(0, Some(1)), (6_000, Some(2)), (20_000, Some(2)), (20_001, None)] {
        assert_eq!(ledger.first_since(UnixMillis(since)).await.unwrap(), first, "{since}");
    }
    let rumbai: NodeId = "rumbai".parse().unwrap();
    for (since, before, count) in [(0, Some(3), 2), (6_000, Some(3), 1), (0, None, 3), (0, Some(1), 0)] {
        let found = ledger.captured_between(rumbai.clone(), UnixMillis(since), before).await.unwrap();
        assert_eq!(found.len(), count, "{since} {before:?}");
    }
}
