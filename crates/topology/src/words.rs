//! The words that roles and media are written with, each in one place for reading and writing.

use std::fmt;

use estafet_model::Medium;
use toml::de::DeValue;

use crate::faults::Problem;
use crate::reader::FromToml;
use crate::suggestion::did_you_mean;
use crate::topology::{OperatorRole, Role};
use crate::values::text;

/// A word out of a fixed list.
trait Word: Copy + 'static {
    /// What the list is of, with its article.
    const KIND: &'static str;
    /// Every word with what it stands for.
    const WORDS: &'static [(&'static str, Self)];
}

impl Word for Role {
    const KIND: &'static str = "a role";
    const WORDS: &'static [(&'static str, Self)] = &[("hub", Self::Hub), ("relay", Self::Relay)];
}

impl Word for Medium {
    const KIND: &'static str = "a medium";
    const WORDS: &'static [(&'static str, Self)] = &{
        let mut words = [("", Self::ALL[0]); Self::ALL.len()];
        let mut place = 0;
        while place < words.len() {
            words[place] = (Self::ALL[place].as_str(), Self::ALL[place]);
            place += 1;
        }
        words
    };
}

impl Word for OperatorRole {
    const KIND: &'static str = "an operator's role";
    const WORDS: &'static [(&'static str, Self)] =
        &[("viewer", Self::Viewer), ("operator", Self::Operator), ("admin", Self::Admin)];
}

macro_rules! word {
    ($($word:ty),*) => {$(
        impl fmt::Display for $word {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                let (word, _) = Self::WORDS.iter().find(|(_, value)| value == self).expect("every value has a word");
                formatter.pad(word)
            }
        }
    )*};
}

macro_rules! read_word {
    ($($word:ty),*) => {$(
        impl FromToml for $word {
            fn from_toml(value: &DeValue<'_>) -> Result<Self, Problem> {
                one_of(value)
            }
        }
    )*};
}

word!(Role, OperatorRole);
read_word!(Role, Medium, OperatorRole);

fn one_of<T: Word>(value: &DeValue<'_>) -> Result<T, Problem> {
    let text = text(value, T::KIND)?;
    let found = T::WORDS.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words = || T::WORDS.iter().map(|(word, _)| *word);
        let rest = format!("use one of {}", words().collect::<Vec<_>>().join(", "));
        Problem::new(format!("`{text}` is not {}", T::KIND), did_you_mean(text, words(), rest))
    })
}
