//! What SQL sees of datasets: their tables, with prompts and responses joined in where a query asks for them.
//!
//! Tables on disk hold the ids of long texts. `transitions` and `candidates` look as if they held the texts
//! themselves; a join for each text is added only when the query's words name its column, so that counting
//! outcomes does not read prompts.

use std::collections::{BTreeMap, BTreeSet};

use super::{Session, Width, words};
use crate::error::Result;
use crate::store::{BuildRecord, Dataset, StageRecord, Store};

/// Text columns: the table, the column that SQL shows, and the column that holds its id.
const TEXTS: [(&str, &str, &str); 5] = [
    ("transitions", "system_prompt", "system_prompt_id"),
    ("transitions", "user_prompt", "user_prompt_id"),
    ("transitions", "reasoning", "reasoning_id"),
    ("transitions", "response", "response_id"),
    ("candidates", "feedback", "feedback_id"),
];

/// The text columns that a query can need.
#[derive(Clone, Debug)]
pub struct Needed {
    words: BTreeSet<String>,
    /// A `*` that may stand for all columns.
    all: bool,
}

impl Needed {
    /// What a query speaks of. A `*` counts as all columns, except in `count(*)`.
    pub fn by(query: &str) -> Self {
        let dense: String = super::without_comments(query)
            .chars()
            .filter(|c| !c.is_whitespace())
            .collect::<String>()
            .to_lowercase();
        let words = words(query);
        let all = dense.replace("count(*)", "").contains('*') || words.contains("describe");
        Self { words, all }
    }

    /// Whether any text is needed. Own statements select `*` of keys and scalars, and are bound without texts.
    pub fn texts(&self) -> bool {
        TEXTS.iter().any(|(_, column, _)| self.words.contains(*column)) || self.words.contains("messages")
    }

    /// Whether rows hold programs, prompts or messages, where `*` means keys and scalars.
    pub fn wide(&self) -> bool {
        self.texts() || ["code", "text"].iter().any(|word| self.words.contains(*word))
    }

    /// The width of rows that a user's query handles, where `*` means everything.
    pub fn width(&self) -> Width {
        if self.wide() || self.all { Width::Wide } else { Width::Narrow }
    }

    fn of(&self, table: &str, star_is_all: bool) -> Vec<(&'static str, &'static str)> {
        TEXTS
            .iter()
            .filter(|(owner, column, _)| {
                *owner == table && (self.words.contains(*column) || (star_is_all && self.all))
            })
            .map(|(_, column, id)| (*column, *id))
            .collect()
    }
}

/// Binds all tables of a dataset to a schema, for a stage's statement: `*` means keys and scalars, a text column
/// is there when it is named.
pub fn bind(session: &Session<'_>, schema: Option<&str>, dataset: &Dataset, needed: &Needed) -> Result<()> {
    bind_tables(session, schema, dataset, needed, false)
}

fn bind_tables(
    session: &Session<'_>,
    schema: Option<&str>,
    dataset: &Dataset,
    needed: &Needed,
    star_is_all: bool,
) -> Result<()> {
    for name in dataset.manifest.tables.keys() {
        let (columns, key) = (dataset.schema(name)?, dataset.key(name));
        let mut texts = match dataset.table("texts") {
            Some(_) => needed.of(name, star_is_all),
            None => vec![],
        };
        // A query may have remade the table, with the text itself or without its id.
        texts.retain(|(text, id)| {
            columns.column_with_name(text).is_none() && columns.column_with_name(id).is_some()
        });
        if texts.is_empty() {
            session.bind(schema, name, &dataset.files(name)?, columns, key)?;
            continue;
        }
        let keys = format!("{name}_keys");
        session.bind(schema, &keys, &dataset.files(name)?, columns, key)?;
        let side = format!("{name}_texts");
        session.bind(
            schema,
            &side,
            &dataset.files("texts")?,
            dataset.schema("texts")?,
            dataset.key("texts"),
        )?;
        session.view(
            schema,
            name,
            &with_texts(&qualified(schema, &keys), &qualified(schema, &side), &texts),
        )?;
    }
    Ok(())
}

/// Declares the tables that a stage would see, without rows: for checking statements before there is data.
pub fn declare(
    session: &Session<'_>,
    schema: &str,
    tables: &BTreeMap<String, arrow::datatypes::SchemaRef>,
    needed: &Needed,
) -> Result<()> {
    for (name, columns) in tables {
        let texts = needed
            .of(name, false)
            .into_iter()
            .filter(|(column, _)| columns.column_with_name(column).is_none());
        let texts = texts.map(|(column, _)| {
            std::sync::Arc::new(arrow::datatypes::Field::new(column, arrow::datatypes::DataType::Utf8, true))
        });
        let fields: Vec<_> = columns.fields().iter().cloned().chain(texts).collect();
        session.bind_empty(Some(schema), name, std::sync::Arc::new(arrow::datatypes::Schema::new(fields)))?;
    }
    Ok(())
}

fn qualified(schema: Option<&str>, table: &str) -> String {
    schema.map_or_else(|| table.to_owned(), |schema| format!("\"{schema}\".{table}"))
}

fn with_texts(keys: &str, texts: &str, columns: &[(&str, &str)]) -> String {
    let shown: Vec<String> =
        columns.iter().map(|(column, _)| format!("text_of_{column}.text AS {column}")).collect();
    let joins: Vec<String> = columns
        .iter()
        .map(|(column, id)| {
            format!("LEFT JOIN {texts} text_of_{column} ON text_of_{column}.text_id = k.{id}")
        })
        .collect();
    format!("SELECT k.*, {} FROM {keys} k {}", shown.join(", "), joins.join(" "))
}

/// Binds everything that a build made: each stage as a schema, and unqualified names for the whole.
///
/// Unqualified, `transitions` shows every ingested row with what all stages on the way to the last one added,
/// and `removed_by`, the stage that kept it out (null when it survived); other tables are the last stage's that
/// has them. `removed_<stage>` is what that stage kept out.
pub fn bind_build(session: &Session<'_>, store: &Store, build: &BuildRecord, query: &str) -> Result<()> {
    let needed = Needed::by(query);
    let mut datasets = Vec::new();
    for stage in &build.stages {
        let dataset = store.expect(stage.fingerprint)?;
        bind_tables(session, Some(&stage.name), &dataset, &needed, true)?;
        if dataset.table("removed").is_some_and(|table| table.from.is_none()) {
            let name = format!("removed_{}", stage.name);
            session.bind(None, &name, &dataset.files("removed")?, dataset.schema("removed")?, &[])?;
        }
        datasets.push((stage, dataset));
    }
    // Unqualified, a table is the last stage's that wrote it.
    let mut last: BTreeMap<&str, (&StageRecord, &Dataset)> = BTreeMap::new();
    for (stage, dataset) in &datasets {
        for (name, table) in &dataset.manifest.tables {
            if table.from.is_none() && !["transitions", "removed"].contains(&name.as_str()) {
                last.insert(name, (*stage, dataset));
            }
        }
    }
    for (name, (stage, dataset)) in last {
        if name == "candidates" {
            session.view(None, name, &format!("SELECT * FROM \"{}\".candidates", stage.name))?;
        } else {
            session.bind(None, name, &dataset.files(name)?, dataset.schema(name)?, dataset.key(name))?;
        }
    }
    let names = main_chain(build, &datasets);
    let of =
        |name: &&str| datasets.iter().find(|(stage, _)| stage.name == **name).map(|(_, dataset)| dataset);
    let chain: Vec<&Dataset> = names.iter().filter_map(of).collect();
    if let Some(view) = all_transitions(&chain, &names, &needed) {
        session.view(None, "transitions", &view)?;
        session.view(None, "trajectories", "SELECT * FROM transitions")?;
    }
    Ok(())
}

/// The stages from an ingest to the last one that wrote a row table, along first inputs. Side branches, such as a
/// query that adds a table, do not bend it.
fn main_chain<'a>(build: &'a BuildRecord, datasets: &[(&'a StageRecord, Dataset)]) -> Vec<&'a str> {
    let wrote_rows = |dataset: &Dataset| {
        dataset.table(&dataset.manifest.row_table).is_some_and(|table| table.from.is_none())
    };
    let mut at = datasets.iter().rev().find(|(_, dataset)| wrote_rows(dataset)).map(|(stage, _)| *stage);
    let mut chain: Vec<&str> = Vec::new();
    while let Some(stage) = at.filter(|stage| !chain.contains(&stage.name.as_str())) {
        chain.push(&stage.name);
        at = stage.inputs.first().and_then(|input| build.stage(input));
    }
    chain.reverse();
    chain
}

/// The query behind the unqualified `transitions`.
fn all_transitions(chain: &[&Dataset], names: &[&str], needed: &Needed) -> Option<String> {
    let first = chain.iter().position(|dataset| dataset.table("transitions").is_some())?;
    let own = |dataset: &Dataset, table: &str| dataset.table(table).is_some_and(|table| table.from.is_none());
    let mut known: BTreeSet<String> = columns(chain[first]);
    known.extend(needed.of("transitions", true).iter().map(|(column, _)| (*column).to_owned()));
    let (mut shown, mut joins, mut removed) = (vec!["t.*".to_owned()], Vec::new(), Vec::new());
    for (dataset, name) in chain.iter().zip(names).skip(first + 1) {
        if own(dataset, "transitions") {
            let added: Vec<String> =
                columns(dataset).into_iter().filter(|column| !known.contains(column)).collect();
            if !added.is_empty() {
                let alias = format!("of_{name}");
                shown.extend(added.iter().map(|column| format!("{alias}.\"{column}\"")));
                // The keys alone: texts of the stage's own view are not needed twice.
                let picked: Vec<String> = added.iter().map(|column| format!("\"{column}\"")).collect();
                joins.push(format!(
                    "LEFT JOIN (SELECT transition_id, {} FROM \"{name}\".{}) {alias} ON {alias}.transition_id = t.transition_id",
                    picked.join(", "),
                    if needed.of("transitions", true).is_empty() { "transitions" } else { "transitions_keys" },
                ));
                known.extend(added);
            }
        }
        if own(dataset, "removed") {
            removed.push(format!("SELECT record_id, '{name}' AS removed_by FROM \"{name}\".removed"));
        }
    }
    if removed.is_empty() {
        shown.push("CAST(NULL AS VARCHAR) AS removed_by".to_owned());
    } else {
        shown.push("out.removed_by".to_owned());
        joins.push(format!(
            "LEFT JOIN ({}) out ON out.record_id = t.transition_id",
            removed.join(" UNION ALL ")
        ));
    }
    Some(format!("SELECT {} FROM \"{}\".transitions t {}", shown.join(", "), names[first], joins.join(" ")))
}

fn columns(dataset: &Dataset) -> BTreeSet<String> {
    let table = dataset.table("transitions");
    table.into_iter().flat_map(|table| &table.schema).map(|column| column.name.clone()).collect()
}
