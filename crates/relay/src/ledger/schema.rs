//! The tables of the ledger, and what brings an earlier form of them to this one.

use estafet_model::RecordId;
use rusqlite::{Connection, params};

/// Raised with every change of the tables. The ledger is derived, so one of another version is made anew.
const VERSION: u32 = 2;

/// A commit, in each of the tables that hold some.
pub(super) const COLUMNS: &str = "hub_sequence, origin, epoch, seq, class, payload_bytes, blake3, header_digest, \
                                  committed_unix_ms, generation, offset, length, received_from, link";
pub(super) const COLUMN_COUNT: usize = 14;

/// What was committed and can be read; what was and cannot be read any more; and of the latter what has come again since,
/// and is committed once more under another number. The chain goes over all of them.
pub(super) const TABLES: [&str; 3] = ["commits", "lost", "superseded"];

pub(super) const CLEAR: &str = "DELETE FROM commits; DELETE FROM lost; DELETE FROM superseded; DELETE FROM chain;";

/// Makes the tables. True if there were others, which are gone.
pub(super) fn prepare(connection: &mut Connection) -> rusqlite::Result<bool> {
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == VERSION {
        return Ok(false);
    }
    let count = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";
    let had_others: bool = connection.query_row(count, [], |row| row.get::<_, u32>(0))? > 0;
    // Together: a cut leaves the old form or the new one.
    let transaction = connection.transaction()?;
    transaction.execute_batch("DROP TABLE IF EXISTS chain;")?;
    for table in TABLES {
        transaction.execute_batch(&format!("DROP TABLE IF EXISTS {table}; {}", table_of(table)))?;
    }
    transaction.execute_batch(&format!(
        "CREATE TABLE chain (
            only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
            id BLOB NOT NULL,
            sequence INTEGER NOT NULL,
            link BLOB NOT NULL
        ) STRICT;
        PRAGMA user_version = {VERSION};"
    ))?;
    transaction.commit()?;
    Ok(had_others)
}

fn table_of(name: &str) -> String {
    // The index is not unique: if the archive ever held a record twice, the ledger must show it.
    format!(
        "CREATE TABLE {name} (
            hub_sequence INTEGER PRIMARY KEY,
            origin TEXT NOT NULL,
            epoch INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            class INTEGER NOT NULL,
            payload_bytes INTEGER NOT NULL,
            blake3 BLOB NOT NULL,
            header_digest BLOB NOT NULL,
            committed_unix_ms INTEGER NOT NULL,
            generation INTEGER NOT NULL,
            offset INTEGER NOT NULL,
            length INTEGER NOT NULL,
            received_from TEXT,
            link BLOB NOT NULL
        ) STRICT;
        CREATE INDEX {name}_by_record ON {name} (origin, epoch, seq);"
    )
}

/// A lost record has come again: its first commit stays in the chain alone.
pub(super) fn supersede(connection: &Connection, id: &RecordId) -> rusqlite::Result<()> {
    let key = params![id.origin.as_str(), id.epoch.get(), id.seq.get()];
    let of_record = "FROM lost WHERE origin = ?1 AND epoch = ?2 AND seq = ?3";
    connection.execute(&format!("INSERT INTO superseded ({COLUMNS}) SELECT {COLUMNS} {of_record}"), key)?;
    connection.execute(&format!("DELETE {of_record}"), key)?;
    Ok(())
}
