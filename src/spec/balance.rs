//! The parameters of `balance`, and how its table is read.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::kinds::input;
use super::stages::Config;
use super::{Diagnostic, Input, Reader};
use crate::code::Code;

/// What transitions are counted by, in the order in which caps are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// The run.
    Run,
    /// The task.
    Task,
    /// The alias group.
    AliasGroup,
    /// The domain; a task without one is one for itself.
    Domain,
    /// The outcome.
    Outcome,
}

impl Of {
    const ALL: [Self; 5] = [Self::Run, Self::Task, Self::AliasGroup, Self::Domain, Self::Outcome];

    /// The word of specs and reasons.
    pub fn key(self) -> &'static str {
        match self {
            Self::Run => "run",
            other => other.column(),
        }
    }

    /// The column.
    pub fn column(self) -> &'static str {
        match self {
            Self::Run => "run_id",
            Self::Task => "task",
            Self::AliasGroup => "alias_group",
            Self::Domain => "domain",
            Self::Outcome => "outcome",
        }
    }
}

/// At most so many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Cap {
    /// Of each.
    Each(i64),
    /// Of those that are named; others have no cap.
    Named(BTreeMap<String, i64>),
}

/// What transitions weigh.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Weight {
    /// By the number of their kind, to the power of minus this: 0 changes nothing, 1 makes all kinds weigh the same.
    Power(f64),
    /// Those that are named; others weigh 1.
    Named(BTreeMap<String, f64>),
}

/// Which transitions stay under a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Choose {
    /// Different changes first, spread over iterations and scores.
    Spread,
    /// By hash alone.
    Hash,
}

/// `kind = "balance"`.
#[derive(Clone, Debug, Serialize)]
pub struct Balance {
    /// The dataset it reads.
    #[serde(skip)]
    pub input: Input,
    /// At most so many of each.
    pub caps: BTreeMap<Of, Cap>,
    /// What each weighs; they multiply.
    pub weights: BTreeMap<Of, Weight>,
    /// Which stay under a cap.
    pub choose: Choose,
}

impl Balance {
    /// The names that the spec gives to caps and weights.
    pub fn named(&self) -> Vec<(Of, Vec<String>)> {
        let of_caps = self.caps.iter().filter_map(|(of, cap)| match cap {
            Cap::Named(named) => Some((*of, named.keys().cloned().collect())),
            Cap::Each(_) => None,
        });
        let of_weights = self.weights.iter().filter_map(|(of, weight)| match weight {
            Weight::Named(named) => Some((*of, named.keys().cloned().collect())),
            Weight::Power(_) => None,
        });
        of_caps.chain(of_weights).collect()
    }
}

pub(super) fn balance(reader: &mut Reader<'_>, _base: &Path) -> Option<Config> {
    let input = input(reader, "input");
    let caps = each(reader, "caps", |table, key| match table.is_table(key) {
        true => named(table, key, |inner, name| inner.integer(name, 1..=i64::MAX)).map(Cap::Named),
        false => table.integer(key, 1..=i64::MAX).map(Cap::Each),
    });
    let weights = each(reader, "weights", |table, key| match table.is_table(key) {
        true => named(table, key, amount).map(Weight::Named),
        false => table.fraction(key).map(Weight::Power),
    });
    let choose = match reader.has("choose") {
        true => reader.choice("choose", &[("spread", Choose::Spread), ("hash", Choose::Hash)]),
        false => Some(Choose::Spread),
    };
    if !reader.has("caps") && !reader.has("weights") {
        let message = format!("{} has neither `caps` nor `weights`: it would change nothing", reader.what());
        reader.problems().push(Diagnostic::new(Code::MissingKey, reader.span(), message));
    }
    Some(Config::Balance(Balance { input: input?, caps, weights, choose: choose? }))
}

/// A weight: 0, or between a millionth and a million, so that products and sums stay numbers.
fn amount(reader: &mut Reader<'_>, key: &str) -> Option<f64> {
    let weight = reader.amount(key)?;
    if weight == 0.0 || (1e-6..=1e6).contains(&weight) {
        return Some(weight);
    }
    let message = format!("`{key}` in {} must be 0, or between 1e-6 and 1e6", reader.what());
    reader.reject(key, Code::BadValue, message, None);
    None
}

/// The values of a table whose keys are what transitions are counted by.
fn each<T>(
    reader: &mut Reader<'_>,
    key: &str,
    mut read: impl FnMut(&mut Reader<'_>, &str) -> Option<T>,
) -> BTreeMap<Of, T> {
    let Some(mut table) = reader.table(key) else { return BTreeMap::new() };
    not_empty(reader, &table, key);
    let there = |of: &Of| table.has(of.key());
    let given: Vec<Of> = Of::ALL.into_iter().filter(there).collect();
    let values = given.into_iter().filter_map(|of| Some((of, read(&mut table, of.key())?))).collect();
    table.finish();
    values
}

/// A table that says nothing is a mistake.
fn not_empty(reader: &Reader<'_>, table: &Reader<'_>, key: &str) {
    if table.keys().is_empty() {
        reader.reject(key, Code::BadValue, format!("{} is empty", table.what()), None);
    }
}

/// A table of any keys.
fn named<T>(
    reader: &mut Reader<'_>,
    key: &str,
    mut read: impl FnMut(&mut Reader<'_>, &str) -> Option<T>,
) -> Option<BTreeMap<String, T>> {
    let mut table = reader.table(key)?;
    not_empty(reader, &table, key);
    let names = table.keys();
    let values =
        names.into_iter().filter_map(|name| Some((name.clone(), read(&mut table, &name)?))).collect();
    table.finish();
    Some(values)
}
