//! An operator's order to drain, kept in the data folder so that it lasts over restarts.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use estafet_model::UnixMillis;
use serde::{Deserialize, Serialize};
use tracing::error;

use crate::durable_file;

/// The file's name in the data folder.
const FILE: &str = "drain.json";

/// What an operator ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DrainOrder {
    /// Why, in their words.
    pub(crate) words: String,
    /// For how long, if not until it is ended.
    pub(crate) for_s: Option<u64>,
    /// When that is over by the clock on the wall, which may be wrong.
    pub(crate) until_unix_s: Option<u64>,
}

impl DrainOrder {
    pub(crate) fn new(words: &str, lasts: Option<Duration>, wall: UnixMillis) -> Self {
        let for_s = lasts.map(|lasts| lasts.as_secs());
        Self { words: words.to_owned(), for_s, until_unix_s: for_s.map(|span| (wall.0 / 1000).saturating_add(span)) }
    }

    /// The same order, given while `earlier` may be in force: without words of its own it keeps those.
    pub(crate) fn after(self, earlier: Option<Self>, wall: UnixMillis) -> Self {
        let in_force = earlier.filter(|earlier| earlier.left(wall) != Some(Duration::ZERO));
        match in_force {
            Some(earlier) if self.words.is_empty() => Self { words: earlier.words, ..self },
            _ => self,
        }
    }

    /// How long it still lasts, if not until it is ended: never longer than it was ordered for, however the clock was set.
    pub(crate) fn left(&self, wall: UnixMillis) -> Option<Duration> {
        let left = self.until_unix_s?.saturating_sub(wall.0 / 1000);
        Some(Duration::from_secs(left.min(self.for_s?)))
    }
}

/// Where the order is kept.
#[derive(Debug, Clone)]
pub(crate) struct DrainFile {
    path: PathBuf,
}

impl DrainFile {
    pub(crate) fn in_folder(data: &Path) -> Self {
        Self { path: data.join(FILE) }
    }

    /// The order that was kept. One that cannot be read is reported, and the node serves: it can be drained again.
    pub(crate) fn load(&self) -> Option<DrainOrder> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                error!(file = %self.path.display(), %error, "cannot read whether this node is drained; it serves");
                return None;
            }
        };
        let read = serde_json::from_slice(&text);
        read.inspect_err(|error| {
            error!(file = %self.path.display(), %error, "cannot read whether this node is drained; it serves");
        })
        .ok()
    }

    /// Keeps an order, or that there is none, durably: after a cut it is the old one or the new one. Blocks for the disk.
    pub(crate) fn store(&self, order: Option<&DrainOrder>) -> io::Result<()> {
        match order {
            Some(order) => durable_file::replace(&self.path, &serde_json::to_vec(order)?),
            None => durable_file::remove(&self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_order_without_words_keeps_those_of_the_one_in_force() {
        let wall = |seconds: u64| UnixMillis((1_000 + seconds) * 1000);
        let first = DrainOrder::new("moving the rack", Some(Duration::from_secs(60)), wall(0));
        for (words, given_after, expected) in
            [("", 30, "moving the rack"), ("new roof", 30, "new roof"), ("", 60, ""), ("new roof", 60, "new roof")]
        {
            let order = DrainOrder::new(words, None, wall(given_after));
            assert_eq!(order.clone().after(None, wall(given_after)), order);
            let after = order.after(Some(first.clone()), wall(given_after));
            assert_eq!((after.words.as_str(), after.for_s), (expected, None), "{words} {given_after}");
        }
    }

    #[test]
    fn an_order_is_found_again_until_it_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let file = DrainFile::in_folder(folder.path());
        assert_eq!(file.load(), None);
        let order = DrainOrder::new("moving the rack", Some(Duration::from_secs(60)), UnixMillis(1_000_000));
        file.store(Some(&order)).unwrap();
        assert_eq!(file.load(), Some(order));
        file.store(None).unwrap();
        file.store(None).unwrap();
        assert_eq!(file.load(), None);
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(file.load(), None);
    }
}
