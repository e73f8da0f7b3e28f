//! A change of a city's topology by a program: into `topology.toml`, under a higher version, and signed.
//!
//! What people wrote in the file stays as it is, comments and order included. Nothing is written that has faults or could
//! not be signed, and nothing is signed unawares that somebody has edited. One program at a time changes a city's folder.

use std::fmt::Display;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use estafet_tls::read_key;
use estafet_topology::{Faults, SignedTopology, Topology, parse};
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value, value};

use crate::city::{CityFolder, OPERATOR_KEY, TOPOLOGY_SIGNED, TOPOLOGY_SOURCE};
use crate::commands::sign::{owner, sign};
use crate::failure::Failure;
use crate::output::Output;
use crate::safe_file;

/// A change that has begun.
#[derive(Clone)]
pub(crate) struct Amendment<'a> {
    city: &'a CityFolder,
    /// The lock on the folder.
    _alone: Arc<File>,
    source: PathBuf,
    topology: Topology,
    document: DocumentMut,
}

impl<'a> Amendment<'a> {
    /// Reads the city's `topology.toml`, which has to be what is signed, and raises its version.
    pub(crate) fn begin(city: &'a CityFolder) -> Result<Self, Failure> {
        let source = city.dir().join(TOPOLOGY_SOURCE);
        // The folder itself: the files in it are replaced.
        let alone = File::open(city.dir()).map_err(Failure::read(city.dir()))?;
        alone.lock().map_err(Failure::read(city.dir()))?;
        let text = fs::read_to_string(&source).map_err(Failure::read(&source))?;
        // Its faults in our own words, with lines and remedies.
        let topology = parse(&source.display().to_string(), &text)?;
        // Another program may have changed it since the folder was opened.
        let signed = CityFolder::open(city.dir())?;
        if topology != *signed.topology() {
            return Err(Failure::Unsigned { path: source, signed: signed.topology().version });
        }
        let document = text.parse::<DocumentMut>();
        let document =
            document.map_err(|error| Failure::Uneditable { path: source.clone(), what: error.message().to_owned() })?;
        let mut amendment = Self { city, _alone: Arc::new(alone), source, topology, document };
        amendment.raise_version()?;
        Ok(amendment)
    }

    fn raise_version(&mut self) -> Result<(), Failure> {
        let version = i64::try_from(self.topology.version).unwrap_or(i64::MAX).saturating_add(1);
        let Some(written) = self.document.get_mut("version").and_then(Item::as_value_mut) else {
            return Err(self.uneditable("it has no version"));
        };
        set(written, Value::from(version));
        Ok(())
    }

    /// The topology before the change.
    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The `[[name]]` tables, to be changed. There may be none yet.
    pub(crate) fn tables(&mut self, name: &str) -> Result<&mut ArrayOfTables, Failure> {
        let path = &self.source;
        let tables = self.document.entry(name).or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        let what = || format!("it does not write `{name}` as [[{name}]] tables");
        tables.as_array_of_tables_mut().ok_or_else(|| Failure::Uneditable { path: path.clone(), what: what() })
    }

    /// The `[[name]]` table whose `key` is `is`.
    pub(crate) fn table(&mut self, name: &str, key: &str, is: &str) -> Result<&mut Table, Failure> {
        let missing = self.uneditable(&format!("it has no [[{name}]] with {key} = \"{is}\""));
        let found = self.tables(name)?.iter_mut().find(|table| text(table, key) == Some(is));
        found.ok_or(missing)
    }

    pub(crate) fn uneditable(&self, what: &str) -> Failure {
        Failure::Uneditable { path: self.source.clone(), what: what.to_owned() }
    }

    /// The topology after the change, as it is read back. What is wrong with it was not there before.
    pub(crate) fn changed(&self) -> Result<Topology, Failure> {
        let not_fitting =
            |faults: Faults| Failure::NotFitting { path: self.source.clone(), faults: faults.faults().to_vec() };
        parse(&self.source.display().to_string(), &self.document.to_string()).map_err(not_fitting)
    }

    /// The changed topology, checked and signed with the operator's key. Nothing is written.
    pub(crate) fn signed(&self) -> Result<SignedTopology, Failure> {
        let changed = self.changed()?;
        let key = self.city.dir().join(OPERATOR_KEY);
        let signing_key = read_key(&key)?;
        let operator = owner(&changed, &signing_key, &self.source, &key)?;
        SignedTopology::sign(changed, &operator, &signing_key).map_err(|error| Failure::Sign(Box::new(error)))
    }

    /// Checks the changed file, writes it, and signs it with the operator's key. Says so as `topology sign` does.
    pub(crate) fn finish(mut self, output: &mut Output<'_>) -> Result<(), Failure> {
        let emptied = |item: &Item| item.as_array_of_tables().is_some_and(ArrayOfTables::is_empty);
        self.document.as_table_mut().retain(|_, item| !emptied(item));
        self.signed()?;
        let key = self.city.dir().join(OPERATOR_KEY);
        safe_file::replace(&self.source, &self.document.to_string())?;
        sign(&self.source, &key, None, Some(&self.city.dir().join(TOPOLOGY_SIGNED)), None, output).map(drop)
    }
}

/// The text under a key of a table.
pub(crate) fn text<'t>(table: &'t Table, key: &str) -> Option<&'t str> {
    table.get(key).and_then(Item::as_str)
}

/// The texts of a list under a key of a table.
pub(crate) fn texts<'t>(table: &'t Table, key: &str) -> impl Iterator<Item = &'t str> {
    table.get(key).and_then(Item::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// A list of texts.
pub(crate) fn list<T: Display>(values: &[T]) -> Item {
    value(values.iter().map(ToString::to_string).collect::<Array>())
}

/// Puts another value in a key's place. What stands around it on the line, such as a comment, stays.
pub(crate) fn set(written: &mut Value, other: impl Into<Value>) {
    let decor = written.decor().clone();
    *written = other.into();
    *written.decor_mut() = decor;
}
