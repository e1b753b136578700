//! How `[tests]` is read: what must be true of a stage's tables.

use std::path::Path;

use serde::Serialize;

use super::diagnostic::Diagnostic;
use super::kinds::{input, is_identifier};
use super::{Input, Reader, Span};
use crate::code::Code;

/// What must be true of what a stage made.
#[derive(Clone, Debug, Serialize)]
pub struct DataTest {
    /// Its name.
    pub name: String,
    /// The stage after which it is run.
    #[serde(skip)]
    pub stage: Input,
    /// What must be true.
    #[serde(flatten)]
    pub rule: TestRule,
    /// The place of that in the spec.
    #[serde(skip)]
    pub span: Span,
}

/// What a data test demands.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TestRule {
    /// A query over the stage and those that it comes from yields no row.
    Query(String),
    /// A table has so many rows at least, and at most.
    Rows {
        /// The table; without one, the stage's own rows.
        table: Option<String>,
        /// At least.
        min: Option<i64>,
        /// At most.
        max: Option<i64>,
    },
    /// No two rows of a table have the same values in these columns.
    Unique {
        /// The table; without one, the stage's own rows.
        table: Option<String>,
        /// The columns.
        columns: Vec<String>,
    },
}

impl TestRule {
    /// The query whose rows should not be there. `own` is the stage's own table.
    pub fn query(&self, stage: &str, own: &str) -> String {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let table =
            |table: &Option<String>| format!("{}.{}", quoted(stage), quoted(table.as_deref().unwrap_or(own)));
        match self {
            Self::Query(query) => crate::stage::trimmed(query).to_owned(),
            Self::Rows { table: name, min, max } => {
                let least = min.map(|min| format!("count(*) < {min}"));
                let most = max.map(|max| format!("count(*) > {max}"));
                let wrong: Vec<String> = least.into_iter().chain(most).collect();
                format!("SELECT count(*) AS rows FROM {} HAVING {}", table(name), wrong.join(" OR "))
            }
            Self::Unique { table: name, columns } => {
                let columns: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
                let columns = columns.join(", ");
                let (table, order) = (table(name), &columns);
                format!(
                    "SELECT {columns}, count(*) AS rows FROM {table} GROUP BY {columns} HAVING count(*) > 1 ORDER BY {order}"
                )
            }
        }
    }
}

/// Reads all tests, in the order of the file.
pub(super) fn read_all(mut table: Reader<'_>, base: &Path) -> Vec<DataTest> {
    let mut tests = Vec::new();
    for (name, mut reader) in table.tables(|name| format!("test `{name}`")) {
        if !is_identifier(&name) {
            let message = format!("test name `{name}` cannot be a file's name");
            let hint = "use lower-case letters, digits and `_`, and start with a letter".to_owned();
            let problem = Diagnostic::new(Code::BadValue, reader.span(), message).with_hint(hint);
            reader.problems().push(problem);
        }
        let stage = input(&mut reader, "stage");
        let found = rule(&mut reader, base);
        reader.finish();
        if let (Some(stage), Some((rule, span))) = (stage, found) {
            tests.push(DataTest { name, stage, rule, span });
        }
    }
    tests
}

fn rule(reader: &mut Reader<'_>, base: &Path) -> Option<(TestRule, Span)> {
    let table = reader.text("table");
    let query = reader.query("query", base);
    let unique = reader.texts("unique");
    let rows = reader.table("rows");
    let given = ["query", "unique", "rows"].into_iter().filter(|key| reader.has(key)).collect::<Vec<_>>();
    let [key] = given.as_slice() else {
        let message = match given.as_slice() {
            [] => format!("{} says nothing that must be true", reader.what()),
            _ => format!("{} is more than one test", reader.what()),
        };
        let hint = "give one of `query`, `rows` and `unique`".to_owned();
        let problem = Diagnostic::new(Code::MissingKey, reader.span(), message).with_hint(hint);
        reader.problems().push(problem);
        return None;
    };
    let span = reader.span_of(key);
    if *key == "query" && table.is_some() {
        reader.reject("table", Code::BadValue, "a query names its tables itself", "remove the key `table`");
    }
    let rule = match (query, unique, rows) {
        (Some(query), ..) => TestRule::Query(query),
        (_, Some(columns), _) => {
            if columns.is_empty() {
                reader.reject("unique", Code::BadValue, "`unique` names no column", None);
                return None;
            }
            TestRule::Unique { table, columns: columns.into_iter().map(|(column, _)| column).collect() }
        }
        (.., Some(mut rows)) => {
            let (min, max) = (rows.integer("min", 0..=i64::MAX), rows.integer("max", 0..=i64::MAX));
            let wrong = match (min, max) {
                (None, None) => Some("`rows` needs `min` or `max`"),
                (Some(min), Some(max)) if min > max => Some("`min` is more than `max`"),
                _ => None,
            };
            rows.finish();
            if let Some(wrong) = wrong {
                reader.reject("rows", Code::BadValue, wrong, None);
                return None;
            }
            TestRule::Rows { table, min, max }
        }
        _ => return None,
    };
    Some((rule, span))
}
