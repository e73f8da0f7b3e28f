//! The folder of the log as it is found: read, judged, and set aside if it was changed.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use estafet_audit_log::{BadLine, Chain, Fault, Head, Line, LineHash, Verified};
use estafet_model::{NodeId, PublicKey};

use super::files::FILE_BYTES_MAX;

/// The folder in the data folder.
pub(super) const FOLDER: &str = "audit-log";
const EXTENSION: &str = "jsonl";

/// Logs that were set aside; beyond these the oldest is removed.
const SET_ASIDE_MAX: usize = 8;

/// A piece of what is read out.
const PIECE_BYTES: usize = 64 << 10;

/// A log as it was found.
pub(super) struct Found {
    pub(super) chain: Chain,
    /// The number of the first line of each file.
    pub(super) firsts: Vec<u64>,
    /// The bytes of the last file that are whole lines.
    pub(super) whole: u64,
    /// What a cut has left behind them.
    pub(super) torn: u64,
}

/// Why a log is not gone on with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("{}: {bad}", file.display())]
    Bad { file: PathBuf, bad: BadLine },
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// Whose signatures are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Signatures {
    /// That of the last line, which speaks for all before it: quick enough for a start.
    Last,
    /// Every one, so that the first line that was changed is the one that is named.
    All,
}

/// Reads the whole log in `data`, every line of it, and judges it; `noted` is a head that it is to hold.
pub(super) fn verify(data: &Path, me: &NodeId, key: PublicKey, noted: Option<LineHash>) -> Result<Verified, Unusable> {
    let folder = data.join(FOLDER);
    let chain = Chain::new(me.clone(), vec![key]).with_head(noted);
    let Found { chain, firsts, torn, .. } = find_with(chain, &folder, me, &[key], Signatures::All)?;
    let file = || path_of(&folder, firsts.last().copied().unwrap_or(1));
    let verified = chain.finish(None).map_err(|bad| Unusable::Bad { file: file(), bad })?;
    if torn > 0 {
        let bad = BadLine { place: verified.lines + 1, fault: Fault::NoEnd };
        return Err(Unusable::Bad { file: file(), bad });
    }
    Ok(verified)
}

pub(super) fn find(folder: &Path, me: &NodeId, keys: &[PublicKey], signatures: Signatures) -> Result<Found, Unusable> {
    find_with(Chain::new(me.clone(), keys.to_vec()), folder, me, keys, signatures)
}

fn find_with(
    mut chain: Chain,
    folder: &Path,
    me: &NodeId,
    keys: &[PublicKey],
    signatures: Signatures,
) -> Result<Found, Unusable> {
    let firsts = list(folder)?;
    let (mut whole, mut torn) = (0, 0);
    let mut last_line: Option<(PathBuf, u64, Vec<u8>)> = None;
    for (index, first) in firsts.iter().enumerate() {
        let file = path_of(folder, *first);
        let text = read_file(&file)?;
        let is_last = index + 1 == firsts.len();
        (whole, torn) = (0, 0);
        let mut place = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            place += 1;
            let bad = |fault| Unusable::Bad { file: file.clone(), bad: BadLine { place, fault } };
            let expected = chain.head().map_or(*first, |head| head.sequence.saturating_add(1));
            if place == 1 && expected != *first {
                return Err(bad(Fault::OtherNumber { expected, found: *first }));
            }
            let is_whole = line.ends_with(b"\n") && !line.contains(&0);
            if is_last && !is_whole && whole + line.len() as u64 == text.len() as u64 {
                torn = line.len() as u64;
                break;
            }
            let content = line.strip_suffix(b"\n").ok_or_else(|| bad(Fault::NoEnd))?;
            let taken = match signatures {
                Signatures::Last => chain.take_unsigned(content),
                Signatures::All => chain.take(content),
            };
            taken.map_err(bad)?;
            whole += line.len() as u64;
            last_line = Some((file.clone(), place, content.to_vec()));
        }
    }
    if let Some((file, place, line)) = last_line {
        let bad = |fault| Unusable::Bad { file, bad: BadLine { place, fault } };
        let is_ours =
            Line::decode(&line).is_ok_and(|line| line.entry.node == *me && keys.iter().any(|key| line.is_by(key)));
        if !is_ours {
            return Err(bad(Fault::NotSigned(me.clone())));
        }
        chain.finish(None).map_err(|error| bad(error.fault))?;
    }
    Ok(Found { chain, firsts, whole, torn })
}

/// Sends the lines from `from` to `head`, as they are on the disk, in pieces, until `send` says that it is enough.
pub(super) fn read(data: &Path, from: u64, head: Head, send: &mut impl FnMut(Bytes) -> bool) -> io::Result<()> {
    let folder = data.join(FOLDER);
    let firsts = list(&folder)?;
    for (index, first) in firsts.iter().enumerate() {
        let is_before = firsts.get(index + 1).is_some_and(|next| *next <= from);
        if is_before || *first > head.sequence {
            continue;
        }
        let text = read_file(&path_of(&folder, *first))?;
        let numbered = (*first..=head.sequence).zip(text.split_inclusive(|byte| *byte == b'\n'));
        let mut piece = Vec::new();
        for (_, line) in numbered.filter(|(number, _)| *number >= from) {
            if piece.len() + line.len() > PIECE_BYTES && !send(Bytes::from(std::mem::take(&mut piece))) {
                return Ok(());
            }
            piece.extend_from_slice(line);
        }
        if !piece.is_empty() && !send(Bytes::from(piece)) {
            return Ok(());
        }
    }
    Ok(())
}

/// The first line's number of each file, in order.
fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            firsts.extend(path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()));
        }
    }
    firsts.sort_unstable();
    Ok(firsts)
}

pub(super) fn path_of(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:012}.{EXTENSION}"))
}

pub(super) fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A file of the log; of one that is far longer than any only the beginning, in which a line is then not whole.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(2 * FILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// Moves the log's folder away, and makes an empty one.
pub(super) fn set_aside(data: &Path, folder: &Path) -> io::Result<PathBuf> {
    let aside = |number: u64| data.join(format!("{FOLDER}.set-aside-{number}"));
    let prefix = format!("{FOLDER}.set-aside-");
    let mut numbers = Vec::new();
    for entry in fs::read_dir(data)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_prefix(&prefix)?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    if numbers.len() >= SET_ASIDE_MAX {
        match fs::remove_dir_all(aside(numbers[0])) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let place = aside(numbers.last().map_or(1, |last| last.saturating_add(1)));
    fs::rename(folder, &place)?;
    fs::create_dir(folder)?;
    sync_folder(data)?;
    Ok(place)
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
