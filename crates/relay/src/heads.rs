//! The heads of main servers' chains that this node has heard: what a main server once said of its history, it cannot take
//! back here.
//!
//! Of each main server the first and the newest are kept, and in between one for every so often. They outlive a restart; a
//! power cut may take the newest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use estafet_model::{NodeId, Now, SignedHead};
use tokio::task::JoinHandle;
use tracing::{error, warn};

use crate::durable_file;

/// How far apart the heads are that stay, while there is room.
const APART: Duration = Duration::from_secs(600);

/// Heads that are kept of one main server: with fewer and fewer of older times, this goes back for years.
const HEADS_MAX: usize = 64;

/// How often the file is written at most.
const WRITE_PAUSE: Duration = Duration::from_secs(30);

/// What one main server has said.
#[derive(Debug, Default)]
struct Heard {
    /// In the order they were heard.
    heads: Vec<SignedHead>,
    /// When the newest came that is to stay.
    stays_since: Now,
    /// The last of `heads` gives way to the next one.
    is_passing: bool,
}

/// The heads that this node has heard.
pub(crate) struct HeadBook {
    file: PathBuf,
    heard: BTreeMap<NodeId, Heard>,
    unwritten: bool,
    next_write: Now,
    writing: Option<JoinHandle<()>>,
}

impl HeadBook {
    /// Reads what is kept in the data folder.
    pub(crate) fn in_folder(data: &Path) -> Self {
        let file = data.join("heads.txt");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let mut heard: BTreeMap<NodeId, Heard> = BTreeMap::new();
        for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
            match block.parse::<SignedHead>() {
                Ok(head) => heard.entry(head.hub.clone()).or_default().heads.push(head),
                Err(error) => warn!(%error, file = %file.display(), "a head that was kept cannot be read any more"),
            }
        }
        Self { file, heard, unwritten: false, next_write: Now::default(), writing: None }
    }

    /// A main server has published this head, and its signature is good.
    pub(crate) fn hear(&mut self, now: Now, head: SignedHead) {
        let heard = self.heard.entry(head.hub.clone()).or_default();
        self.unwritten |= heard.hear(now, head);
    }

    /// True if it is kept already.
    pub(crate) fn knows(&self, head: &SignedHead) -> bool {
        self.heard.get(&head.hub).is_some_and(|heard| heard.heads.contains(head))
    }

    /// All that are kept.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &SignedHead> {
        self.heard.values().flat_map(|heard| &heard.heads)
    }

    /// Brings what is new to the disk, on another thread.
    pub(crate) fn write_soon(&mut self, now: Now) {
        let is_writing = self.writing.as_ref().is_some_and(|writing| !writing.is_finished());
        if !self.unwritten || is_writing || now < self.next_write {
            return;
        }
        (self.unwritten, self.next_write) = (false, now + WRITE_PAUSE);
        let text: String = self.iter().map(|head| format!("{head}\n")).collect();
        let file = self.file.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = durable_file::replace(&file, text.as_bytes()) {
                warn!(%error, file = %file.display(), "the heads of main servers' chains are in memory alone");
            }
        }));
    }
}

impl Heard {
    /// True if anything is kept that was not.
    fn hear(&mut self, now: Now, head: SignedHead) -> bool {
        let of_chain = || self.heads.iter().filter(|known| known.head.chain == head.head.chain);
        if of_chain().any(|known| *known == head) {
            return false;
        }
        if of_chain().any(|known| known.head.sequence == head.head.sequence && known.head.link != head.head.link) {
            error!(hub = %head.hub, number = head.head.sequence, "a main server has told two histories of one chain");
            // Together they are the proof of it: both stay.
            self.is_passing = false;
        } else if of_chain().any(|known| known.head.sequence >= head.head.sequence) {
            return false;
        }
        let begins = of_chain().next().is_none();
        let stays = begins || now.since(self.stays_since) >= APART;
        if std::mem::replace(&mut self.is_passing, !stays) && !begins {
            self.heads.pop();
        }
        if stays {
            self.stays_since = now;
        }
        self.heads.push(head);
        if self.heads.len() > HEADS_MAX {
            self.thin_out();
        }
        true
    }

    /// Every second one of the older half goes, but not the first of a chain.
    fn thin_out(&mut self) {
        let older = self.heads.len() / 2;
        let firsts: Vec<bool> = (0..self.heads.len())
            .map(|place| place == 0 || self.heads[place].head.chain != self.heads[place - 1].head.chain)
            .collect();
        let mut place = 0;
        self.heads.retain(|_| {
            let stays = place >= older || place % 2 == 0 || firsts[place];
            place += 1;
            stays
        });
        // A main server that begins chain after chain is not to fill the memory of the others.
        let surplus = self.heads.len().saturating_sub(HEADS_MAX);
        self.heads.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use estafet_model::{ChainHead, ChainId, ChainLink, SigningKey};

    fn head(chain: u8, sequence: u64, link: u8) -> SignedHead {
        let head =
            ChainHead { chain: ChainId::from_bytes([chain; 16]), sequence, link: ChainLink::from_bytes([link; 32]) };
        SignedHead::sign("induk".parse().unwrap(), head, &SigningKey::from_seed([9; 32]))
    }

    fn at(seconds: u64) -> Now {
        Now(Duration::from_secs(seconds))
    }

    fn kept(book: &HeadBook) -> Vec<(u8, u64)> {
        book.iter().map(|head| (head.head.chain.as_bytes()[0], head.head.sequence)).collect()
    }

    #[test]
    fn the_first_of_each_chain_and_the_newest_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = HeadBook::in_folder(folder.path());
        for (seconds, chain, sequence) in
            [(0, 1, 1), (1, 1, 2), (2, 1, 3), (700, 1, 9), (701, 1, 10), (702, 2, 1), (703, 2, 2)]
        {
            book.hear(at(seconds), head(chain, sequence, 0));
        }
        assert_eq!(kept(&book), [(1, 1), (1, 9), (1, 10), (2, 1), (2, 2)]);
        assert!(!book.heard.values_mut().next().unwrap().hear(at(704), head(2, 2, 0)), "it is known");
        assert!(!book.heard.values_mut().next().unwrap().hear(at(704), head(1, 5, 0)), "it goes less far");
        book.hear(at(705), head(2, 2, 7));
        assert_eq!(kept(&book), [(1, 1), (1, 9), (1, 10), (2, 1), (2, 2), (2, 2)], "both histories are kept");
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_older_the_sparser() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = HeadBook::in_folder(folder.path());
        for sequence in 1..5_000 {
            book.hear(at(sequence * 600), head(1, sequence, 0));
        }
        let kept = kept(&book);
        assert!(kept.len() <= HEADS_MAX && kept[0].1 == 1 && kept[kept.len() - 1].1 == 4_999, "{kept:?}");
        for chain in 2..200 {
            book.hear(at(5_000 * 600 + u64::from(chain)), head(chain, 1, 0));
        }
        assert!(self::kept(&book).len() <= HEADS_MAX);
    }

    #[tokio::test]
    async fn they_outlive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = HeadBook::in_folder(folder.path());
        book.hear(at(1), head(1, 1, 0));
        book.hear(at(2), head(1, 2, 0));
        book.write_soon(at(2));
        book.writing.take().unwrap().await.unwrap();
        let again = HeadBook::in_folder(folder.path());
        assert_eq!(again.iter().collect::<Vec<_>>(), book.iter().collect::<Vec<_>>());
        std::fs::write(folder.path().join("heads.txt"), "damaged\n\nmore").unwrap();
        assert_eq!(HeadBook::in_folder(folder.path()).iter().count(), 0);
    }
}
