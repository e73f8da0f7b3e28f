//! Reads typed values out of a parsed TOML table and keeps going after a fault.
//!
//! `serde` stops at the first wrong value, and the person at the keyboard then needs one run per mistake. A
//! [`TableReader`] reports what it cannot read to the [`FaultLog`] and gives nothing for that one value.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::faults::{FaultLog, Problem};
use crate::suggestion::{did_you_mean, nearest};

/// A key that a table may have, and an example value that remedies can show.
pub(crate) type Key = (&'static str, &'static str);

/// A value that can stand in a topology file.
pub(crate) trait FromToml: Sized {
    /// Reads the value, or says what is wrong with it.
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem>;
}

/// One table of the document, with the keys that are allowed in it.
pub(crate) struct TableReader<'a> {
    heading: &'static str,
    keys: &'static [Key],
    table: &'a DeTable<'a>,
    place: Range<usize>,
    log: &'a FaultLog<'a>,
}

impl<'a> TableReader<'a> {
    /// Takes a table to read and reports the keys that nobody will ask for.
    pub(crate) fn open(
        heading: &'static str,
        keys: &'static [Key],
        table: &'a DeTable<'a>,
        place: Range<usize>,
        log: &'a FaultLog<'a>,
    ) -> Self {
        let names = || keys.iter().map(|(name, _)| *name);
        for key in table.keys().filter(|key| !names().any(|name| name == key.get_ref().as_ref())) {
            let rest = format!("remove it; {heading} has {}", names().collect::<Vec<_>>().join(", "));
            let remedy = did_you_mean(key.get_ref(), names(), rest);
            log.report(key.span(), Problem::new(format!("unknown key `{}` in {heading}", key.get_ref()), remedy));
        }
        Self { heading, keys, table, place, log }
    }

    /// Where the table begins: its heading, or its braces.
    pub(crate) fn place(&self) -> Range<usize> {
        self.place.clone()
    }

    /// A value that must be there.
    pub(crate) fn required<T: FromToml>(&self, key: &'static str) -> Option<Spanned<T>> {
        self.demand(key);
        self.optional(key)
    }

    /// A value that may be left out.
    pub(crate) fn optional<T: FromToml>(&self, key: &'static str) -> Option<Spanned<T>> {
        let value = self.table.get(key)?;
        self.read(key, value)
    }

    /// The items of an array that must be there and hold something; items that cannot be read are left out.
    pub(crate) fn required_list<T: FromToml>(&self, key: &'static str) -> Vec<Spanned<T>> {
        self.demand(key);
        if let Some(value) = self.table.get(key)
            && value.get_ref().as_array().is_some_and(|items| items.is_empty())
        {
            let remedy = format!("write at least one, such as `{key} = {}`", self.example(key));
            self.log.report(value.span(), Problem::new(format!("`{key}` is empty"), remedy));
        }
        self.optional_list(key)
    }

    /// The two items of an array that must be there; fewer than two if one cannot be read.
    pub(crate) fn required_pair<T: FromToml>(&self, key: &'static str) -> Vec<Spanned<T>> {
        self.demand(key);
        if let Some(value) = self.table.get(key)
            && let Some(items) = value.get_ref().as_array()
            && items.len() != 2
        {
            let remedy = format!("name exactly two, such as `{key} = {}`", self.example(key));
            self.log
                .report(value.span(), Problem::new(format!("`{key}` has {} items instead of 2", items.len()), remedy));
            return Vec::new();
        }
        self.optional_list(key)
    }

    /// The items of an array that may be left out; items that cannot be read are left out.
    pub(crate) fn optional_list<T: FromToml>(&self, key: &'static str) -> Vec<Spanned<T>> {
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "an array");
            return Vec::new();
        };
        items.iter().filter_map(|item| self.read(key, item)).collect()
    }

    /// A table inside this one that may be left out: names, each with an array. What cannot be read is left out.
    pub(crate) fn named_lists<K: FromToml, T: FromToml>(
        &self,
        key: &'static str,
    ) -> Vec<(Spanned<K>, Vec<Spanned<T>>)> {
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value, "a table");
            return Vec::new();
        };
        let mut lists = Vec::new();
        for (name, items) in table {
            let text = Spanned::new(name.span(), DeValue::String(name.get_ref().clone()));
            match (self.read(key, &text), items.get_ref().as_array()) {
                (Some(name), Some(array)) => {
                    lists.push((name, array.iter().filter_map(|item| self.read(key, item)).collect()));
                }
                (_, Some(_)) => {}
                (_, None) => self.wrong_type(key, items, "an array for each name"),
            }
        }
        lists
    }

    /// True if the key is left out or an empty array.
    pub(crate) fn is_blank(&self, key: &str) -> bool {
        self.table.get(key).is_none_or(|value| value.get_ref().as_array().is_some_and(|items| items.is_empty()))
    }

    /// A table inside this one that may be left out.
    pub(crate) fn table(&self, key: &'static str, keys: &'static [Key]) -> Option<TableReader<'a>> {
        let value = self.table.get(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value, "a table");
            return None;
        };
        Some(TableReader::open(key, keys, table, value.span(), self.log))
    }

    /// The `[[key]]` tables of the document, none if there are none.
    pub(crate) fn tables(
        &self,
        key: &'static str,
        heading: &'static str,
        keys: &'static [Key],
    ) -> Vec<TableReader<'a>> {
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            let what = format!("`{key}` is {} instead of a list of tables", kind_of(value.get_ref()));
            let remedy = format!("begin each one with a line `{heading}` (two brackets)");
            self.log.report(value.span(), Problem::new(what, remedy));
            // Read all the same: a lone `[hub]` says clearly enough which hub is meant.
            let lone = value.get_ref().as_table();
            return lone
                .map(|table| TableReader::open(heading, keys, table, value.span(), self.log))
                .into_iter()
                .collect();
        };
        let mut readers = Vec::new();
        for item in items {
            match item.get_ref().as_table() {
                Some(table) => readers.push(TableReader::open(heading, keys, table, item.span(), self.log)),
                None => self.wrong_type(key, item, "a table"),
            }
        }
        readers
    }

    fn read<T: FromToml>(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Spanned<T>> {
        match T::from_toml(value.get_ref()) {
            Ok(read) => Some(Spanned::new(value.span(), read)),
            Err(Problem { what, remedy }) => {
                self.log.report(value.span(), Problem::new(format!("`{key}`: {what}"), remedy));
                None
            }
        }
    }

    /// Reports a key that is missing, unless one that is nearly the same was reported as unknown.
    fn demand(&self, key: &str) {
        let names = || self.keys.iter().map(|(name, _)| *name);
        let is_misspelt =
            |written: &str| !names().any(|name| name == written) && nearest(written, names()) == Some(key);
        if self.table.contains_key(key) || self.table.keys().any(|written| is_misspelt(written.get_ref())) {
            return;
        }
        let what = format!("{} has no `{key}`", self.heading);
        let remedy = format!("add a line such as `{key} = {}`", self.example(key));
        self.log.report(self.place(), Problem::new(what, remedy));
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        let what = format!("`{key}` is {} instead of {expected}", kind_of(value.get_ref()));
        let remedy = format!("write it as `{key} = {}`", self.example(key));
        self.log.report(value.span(), Problem::new(what, remedy));
    }

    fn example(&self, key: &str) -> &'static str {
        let found = self.keys.iter().find(|(name, _)| *name == key);
        found.expect("only keys that the table may have are asked for").1
    }
}

/// The kind of a TOML value in words, with its article.
pub(crate) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
