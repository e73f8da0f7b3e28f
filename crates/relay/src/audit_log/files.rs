//! The files of the log: `audit-log/` in the data folder, one file after the other, each named by its first line.
//!
//! The file that is written has room on the disk beforehand, so that a disk that others have filled still takes some
//! thousand lines. When there are too many files, or there is no room for the next, the oldest is given up, and a line says
//! up to where. A last line without an end is what a cut leaves, and is cut off; any other fault is somebody's work, or the
//! disk's: then the whole folder is set aside for who looks into it, and a new log begins.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use estafet_audit_log::{Entry, Event, GAVE_UP, Head, LINE_BYTES_MAX, Line, LineHash, Who};
use estafet_model::{NodeId, SigningKey, UnixMillis};
use rustix::fs::{FallocateFlags, fallocate};
use tracing::{debug, error, warn};

use super::NotLogged;
use super::folder::{FOLDER, Found, Signatures, Unusable, find, name_of, path_of, set_aside, sync_folder};

/// How much of the log is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// A file that is longer is followed by another.
    file_bytes: u64,
    /// Beyond these the oldest is given up.
    files: usize,
}

/// A file of the log: some 2,500 lines.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;

impl Default for Bounds {
    /// Refusals alone, at their most, fill this in two months.
    fn default() -> Self {
        Self { file_bytes: FILE_BYTES_MAX, files: 32 }
    }
}

/// The log as it is written.
pub(super) struct LogFiles {
    folder: PathBuf,
    me: NodeId,
    key: SigningKey,
    start: u64,
    bounds: Bounds,
    head: Option<Head>,
    /// The number of the first line of each file.
    firsts: Vec<u64>,
    current: Option<Current>,
    /// A write or a sync has failed, and nobody knows what the disk has.
    has_failed: bool,
}

/// The last file.
struct Current {
    file: File,
    length: u64,
}

impl LogFiles {
    /// Opens the log, and goes on behind its last whole line.
    pub(super) fn open(
        data: &Path,
        me: &NodeId,
        key: &SigningKey,
        start: u64,
        bounds: Bounds,
    ) -> Result<Self, NotLogged> {
        let folder = data.join(FOLDER);
        fs::create_dir_all(&folder)?;
        sync_folder(data)?;
        let mut first_words = Vec::new();
        let found = match find(&folder, me, &[key.public()], Signatures::Last) {
            Ok(found) => found,
            Err(Unusable::Disk(error)) => return Err(error.into()),
            Err(Unusable::Bad { file, bad }) => {
                let place = set_aside(data, &folder)?;
                error!(
                    file = %file.display(), %bad, set_aside = %place.display(),
                    "the audit log was changed, or is damaged: it was set aside, and a new one begins"
                );
                let event = Event::noted(Who::ThisNode, "log-set-aside").about("folder", name_of(&place));
                first_words.push(event.about("fault", format_args!("{}: {bad}", name_of(&file))));
                find(&folder, me, &[key.public()], Signatures::Last).map_err(io::Error::other)?
            }
        };
        let Found { chain, firsts, whole, torn } = found;
        if chain.head().is_none() && start > 1 && first_words.is_empty() {
            error!(
                start,
                "there is no audit log of this node's earlier starts: it was deleted, or they were without one"
            );
            first_words.push(Event::noted(Who::ThisNode, "no-earlier-log"));
        }
        let (key, me) = (key.clone(), me.clone());
        let mut log =
            Self { folder, me, key, start, bounds, head: chain.head(), firsts, current: None, has_failed: false };
        if let Some(first) = log.firsts.last() {
            let file = OpenOptions::new().write(true).open(path_of(&log.folder, *first))?;
            if torn > 0 {
                warn!(bytes = torn, "the last line of the audit log was not whole, and was cut off");
                file.set_len(whole)?;
                file.sync_all()?;
                let event = Event::noted(Who::ThisNode, "unfinished-line-cut-off");
                first_words.push(event.about("bytes", torn));
            }
            log.current = Some(Current { file, length: whole });
        }
        for event in first_words {
            log.append(event, crate::store::wall_clock())?;
        }
        Ok(log)
    }

    /// The newest line.
    pub(super) fn head(&self) -> Option<Head> {
        self.head
    }

    /// Writes a line and syncs it.
    pub(super) fn append(&mut self, event: Event, wall: UnixMillis) -> Result<(), NotLogged> {
        if self.has_failed {
            return Err(NotLogged::Failed);
        }
        if self.current.as_ref().is_none_or(|current| current.length >= self.bounds.file_bytes) {
            self.begin_file(wall)?;
        }
        self.write_line(event, wall)
    }

    fn next(&self) -> (u64, LineHash) {
        self.head.map_or((1, LineHash::NONE), |head| (head.sequence + 1, head.hash))
    }

    fn write_line(&mut self, event: Event, wall: UnixMillis) -> Result<(), NotLogged> {
        let (sequence, previous) = self.next();
        let entry = Entry::new(self.me.clone(), self.start, wall, event, (sequence, previous));
        let mut line = Line::encode(&entry, &self.key);
        let hash = LineHash::of(line.as_bytes());
        line.push('\n');
        let Some(Current { file, length }) = &mut self.current else { return Err(NotLogged::Failed) };
        if let Err(error) = file.write_all_at(line.as_bytes(), *length) {
            // Half a line must not stay where the next one is written.
            self.has_failed = file.set_len(*length).is_err();
            return Err(error.into());
        }
        if let Err(error) = file.sync_data() {
            // What the disk has of it is not known: a second sync could say that all is well, and be wrong.
            self.has_failed = true;
            return Err(error.into());
        }
        *length += line.len() as u64;
        self.head = Some(Head { sequence, hash });
        Ok(())
    }

    fn begin_file(&mut self, wall: UnixMillis) -> Result<(), NotLogged> {
        let (mut first, mut file, mut room) = self.create_file()?;
        if room == Err(rustix::io::Errno::NOSPC) && self.firsts.len() > 1 {
            fs::remove_file(path_of(&self.folder, first))?;
            self.give_up_oldest(wall)?;
            (first, file, room) = self.create_file()?;
        }
        if let Err(error) = room {
            debug!(%error, "the audit log has no room beforehand");
        }
        sync_folder(&self.folder)?;
        self.firsts.push(first);
        self.current = Some(Current { file, length: 0 });
        while self.firsts.len() > self.bounds.files {
            self.give_up_oldest(wall)?;
        }
        Ok(())
    }

    /// An empty file for what comes next, and whether there is room for all of it.
    fn create_file(&self) -> io::Result<(u64, File, rustix::io::Result<()>)> {
        let (first, _) = self.next();
        let path = path_of(&self.folder, first);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let bytes = self.bounds.file_bytes + LINE_BYTES_MAX as u64;
        let room = fallocate(&file, FallocateFlags::KEEP_SIZE, 0, bytes);
        Ok((first, file, room))
    }

    fn give_up_oldest(&mut self, wall: UnixMillis) -> Result<(), NotLogged> {
        let [oldest, next, ..] = self.firsts[..] else { return Ok(()) };
        let through = next - 1;
        warn!(through, "the oldest lines of the audit log are given up for room");
        self.write_line(Event::noted(Who::ThisNode, GAVE_UP).about("through", through), wall)?;
        fs::remove_file(path_of(&self.folder, oldest))?;
        self.firsts.remove(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::folder::{read, verify};
    use super::*;

    fn me() -> NodeId {
        "sail".parse().unwrap()
    }

    fn key() -> SigningKey {
        SigningKey::from_seed([4; 32])
    }

    /// Three or four lines in a file.
    const SMALL: Bounds = Bounds { file_bytes: 1_000, files: 3 };

    fn open(data: &Path) -> LogFiles {
        LogFiles::open(data, &me(), &key(), 1, SMALL).unwrap()
    }

    fn write(log: &mut LogFiles, count: u64) {
        for number in 0..count {
            log.append(Event::noted(Who::ThisNode, "drain").about("words", number), UnixMillis(number)).unwrap();
        }
    }

    fn verdict(data: &Path) -> Result<u64, String> {
        let verified = verify(data, &me(), key().public(), None);
        verified.map(|verified| verified.head.sequence).map_err(|error| error.to_string())
    }

    /// What the lines say, with their numbers.
    fn told(data: &Path, head: Head) -> Vec<(u64, String)> {
        let mut text = Vec::new();
        read(data, 0, head, &mut |piece| {
            text.extend_from_slice(&piece);
            true
        })
        .unwrap();
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| Line::decode(line).unwrap().entry).map(|entry| (entry.sequence, entry.event.what)).collect()
    }

    fn last_file(data: &Path) -> PathBuf {
        let mut files: Vec<_> = fs::read_dir(data.join(FOLDER)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.pop().unwrap()
    }

    #[test]
    fn the_log_goes_on_over_restarts_and_files_and_the_oldest_lines_are_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        for round in 0..5 {
            let mut log = open(data);
            write(&mut log, 7);
            assert_eq!(verdict(data), Ok(log.head().unwrap().sequence), "round {round}");
        }
        let mut log = open(data);
        assert_eq!(log.firsts.len(), SMALL.files);
        let told = told(data, log.head().unwrap());
        assert!(told[0].0 > 1 && told.iter().any(|(_, what)| what == GAVE_UP), "{told:?}");
        // What was not given up is missed.
        log.head = None;
        fs::remove_file(path_of(&data.join(FOLDER), log.firsts[0])).unwrap();
        assert!(verdict(data).unwrap_err().contains("were never given up"), "{:?}", verdict(data));
        fs::remove_file(path_of(&data.join(FOLDER), log.firsts[1])).unwrap();
        assert!(verdict(data).is_err());
    }

    #[test]
    fn what_a_cut_leaves_is_cut_off_and_a_line_says_so() {
        for torn in [&b"{"[..], b"{\"sequence\":9", b"\0\0\0\0", b"{\"sequence\0\0\0\0\0}\n"] {
            let folder = tempfile::tempdir().unwrap();
            let data = folder.path();
            write(&mut open(data), 2);
            let file = last_file(data);
            let good = fs::read(&file).unwrap();
            fs::write(&file, [&good[..], torn].concat()).unwrap();
            assert!(verdict(data).unwrap_err().contains("has no end"), "{torn:?}");
            let log = open(data);
            let told = told(data, log.head().unwrap());
            assert_eq!(told.last(), Some(&(3, "unfinished-line-cut-off".to_owned())), "{torn:?}");
            assert_eq!(verdict(data), Ok(3));
            assert!(fs::read(&file).unwrap().starts_with(&good));
        }
    }

    #[test]
    fn what_somebody_changed_is_set_aside_and_a_new_log_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        write(&mut open(data), 3);
        for round in 1..=10 {
            let file = last_file(data);
            let changed = fs::read_to_string(&file).unwrap().replacen("\"start\":1", "\"start\":2", 1);
            fs::write(&file, &changed).unwrap();
            assert!(verdict(data).is_err());
            let mut log = open(data);
            assert_eq!(told(data, log.head().unwrap()), [(1, "log-set-aside".to_owned())]);
            let aside = data.join(format!("audit-log.set-aside-{round}"));
            assert_eq!(fs::read_to_string(aside.join(name_of(&file))).unwrap(), changed);
            write(&mut log, 2);
            assert_eq!(verdict(data), Ok(3));
        }
        let kept = fs::read_dir(data).unwrap().count();
        assert_eq!(kept, 1 + 8, "as many as are kept, and the log");
    }

    #[test]
    fn another_machine_s_log_is_not_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let other = SigningKey::from_seed([5; 32]);
        let mut log = LogFiles::open(folder.path(), &me(), &other, 1, SMALL).unwrap();
        write(&mut log, 2);
        let log = open(folder.path());
        assert_eq!(told(folder.path(), log.head().unwrap()), [(1, "log-set-aside".to_owned())]);
    }
}
