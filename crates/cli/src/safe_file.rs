//! Files that are whole after a cut.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::failure::Failure;

/// Writes a file that everybody may read, in place of what was there: after a cut it is the old one or the new one.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || {
        let mut file =
            tempfile::Builder::new().permissions(Permissions::from_mode(0o644)).tempfile_in(folder_of(path))?;
        file.write_all(text.as_bytes())?;
        finish(file, path)
    };
    write().map_err(Failure::write(path))
}

/// A file beside `path` that takes its name by [`finish`], and vanishes if that never comes.
pub(crate) fn begin(path: &Path) -> std::io::Result<NamedTempFile> {
    NamedTempFile::new_in(folder_of(path))
}

/// Syncs a temporary file and gives it its name.
pub(crate) fn finish(file: NamedTempFile, path: &Path) -> std::io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
