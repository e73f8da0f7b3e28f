//! What the counters hand in: made-up forms, or the user's own files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use estafet_model::PAYLOAD_BYTES_MAX;
use estafet_topology::{Role, Template};

use super::error::DemoFailure;
use super::options::DemoOptions;

/// One record to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Paper {
    /// Bytes that are different for each form, cannot be compressed, and can be made again.
    Form { office: String, number: u32 },
    /// A file as it is.
    File(PathBuf),
}

impl Paper {
    pub(super) async fn read(&self) -> Result<Bytes, DemoFailure> {
        match self {
            Self::Form { office, number } => Ok(form(office, *number)),
            Self::File(path) => tokio::fs::read(path).await.map(Bytes::from).map_err(unreadable(path)),
        }
    }
}

impl std::fmt::Display for Paper {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Form { office, number } => write!(formatter, "form {number} of {office}"),
            Self::File(path) => path.display().fmt(formatter),
        }
    }
}

fn form(office: &str, number: u32) -> Bytes {
    let mut bytes = vec![0; FORM_BYTES];
    blake3::Hasher::new().update(office.as_bytes()).update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

/// The papers that wait at each office's counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stacks {
    by_office: BTreeMap<String, Vec<Paper>>,
    /// Files that are too large to be a record.
    left_out: Vec<PathBuf>,
}

impl Stacks {
    /// What the options ask for, for every office of the city.
    pub(super) fn of(options: &DemoOptions, template: Template) -> Result<Self, DemoFailure> {
        let offices = template.plan().nodes.into_iter().filter(|node| node.role == Role::Relay);
        let mut offices: Vec<String> = offices.map(|node| node.id.to_string()).collect();
        // The two that the cut concerns come first, so that few files are enough to see it.
        offices.sort_by_key(|office| !office.starts_with("rumbai"));
        match &options.input {
            Some(folder) => Self::of_files(&offices, folder),
            None => Ok(Self::of_forms(&offices, options.records)),
        }
    }

    fn of_forms(offices: &[String], each: u32) -> Self {
        let forms = |office: &String| (1..=each).map(|number| Paper::Form { office: office.clone(), number }).collect();
        let by_office = offices.iter().map(|office| (office.clone(), forms(office))).collect();
        Self { by_office, left_out: Vec::new() }
    }

    /// Deals the files out, one to each office in turn.
    fn of_files(offices: &[String], folder: &Path) -> Result<Self, DemoFailure> {
        let mut files = files_within(folder)?;
        let left_out = files.extract_if(.., |(_, bytes)| *bytes > u64::from(PAYLOAD_BYTES_MAX)).map(|(path, _)| path);
        let left_out = left_out.collect();
        if files.is_empty() {
            return Err(DemoFailure::NoInput(folder.to_owned()));
        }
        let mut by_office: BTreeMap<_, Vec<Paper>> =
            offices.iter().map(|office| (office.clone(), Vec::new())).collect();
        for ((file, _), office) in files.into_iter().zip(offices.iter().cycle()) {
            by_office.entry(office.clone()).or_default().push(Paper::File(file));
        }
        Ok(Self { by_office, left_out })
    }

    pub(super) fn offices(&self) -> impl Iterator<Item = (&String, &Vec<Paper>)> {
        self.by_office.iter()
    }

    /// How many papers there are.
    pub(super) fn total(&self) -> usize {
        self.by_office.values().map(Vec::len).sum()
    }

    /// What the user should know beforehand.
    pub(super) fn remark(&self) -> Option<String> {
        let first = self.left_out.first()?;
        Some(format!(
            "{} over 16 MiB will not be sent: {}{}",
            if self.left_out.len() == 1 { "a file".to_owned() } else { format!("{} files", self.left_out.len()) },
            first.display(),
            if self.left_out.len() == 1 { "" } else { " …" },
        ))
    }
}

/// All plain files below a folder with their sizes, in the order of their paths. Links are not followed.
fn files_within(folder: &Path) -> Result<Vec<(PathBuf, u64)>, DemoFailure> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(unreadable(&folder))? {
            let entry = entry.map_err(unreadable(&folder))?;
            let path = entry.path();
            let about = entry.metadata().map_err(unreadable(&path))?;
            if about.is_dir() {
                folders.push(path);
            } else if about.is_file() {
                files.push((path, about.len()));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> DemoFailure {
    move |error| DemoFailure::Input { path: path.to_owned(), error }
}

/// A small scanned form.
const FORM_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_dealt_out_and_large_ones_left_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["a.pdf", "b/deep.png", "c"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let large = fs::File::create(folder.path().join("d.iso")).unwrap();
        large.set_len(u64::from(PAYLOAD_BYTES_MAX) + 1).unwrap();

        let offices = ["rumbai".to_owned(), "sail".to_owned()];
        let stacks = Stacks::of_files(&offices, folder.path()).unwrap();
        let file = |name: &str| Paper::File(folder.path().join(name));
        assert_eq!(stacks.by_office["rumbai"], [file("a.pdf"), file("c")]);
        assert_eq!(stacks.by_office["sail"], [file("b/deep.png")]);
        assert!(stacks.remark().unwrap().contains("d.iso"));
    }

    #[test]
    fn an_empty_folder_is_a_mistake() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Stacks::of_files(&["sail".to_owned()], folder.path()), Err(DemoFailure::NoInput(_))));
    }

    #[test]
    fn forms_differ_and_can_be_made_again() {
        assert_eq!(form("sail", 1), form("sail", 1));
        assert_ne!(form("sail", 1), form("sail", 2));
        assert_ne!(form("sail", 1), form("tampan", 1));
    }
}
