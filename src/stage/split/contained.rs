//! What is a held-out task's own, inside the texts of the other side: its statement, and its best programs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Schema};
use finch_core::Digest;
use serde::Serialize;

use super::assign::Sides;
use crate::contain::{Corpus, Measure, search};
use crate::error::Result;
use crate::shelf::{Shelf, Texts};
use crate::spec::LeakNgram;
use crate::sql::{Session, Value};
use crate::stage::Context;
use crate::stage::alike::{NONE, Source, copy};
use crate::stage::side::side_rows;

const PROGRAMS: &str = include_str!("../../../sql/split_programs.sql");
const TEXTS: &str = include_str!("../../../sql/split_texts.sql");
/// Programs of a held-out task that are looked for, of each scaffold and metric.
const BEST: i64 = 16;
/// N-grams of its own that a program needs to be looked for, and a statement, which is shorter.
const LEAST_PROGRAM: u32 = 32;
const LEAST_STATEMENT: u32 = 8;

#[derive(Serialize)]
struct Contained {
    text_id: String,
    other: String,
    other_task: String,
    containment: f64,
}

/// Binds `side.contained`: the texts outside the test split that hold what is a held-out task's own. `known` names tasks
/// that are held out and may have no logs; `side.held` has those that have some. What the user should know comes back.
pub(super) fn find(
    config: LeakNgram,
    context: &Context<'_>,
    session: &Session<'_>,
    sides: &Sides,
    known: &BTreeSet<&str>,
    folder: &Path,
) -> Result<Vec<String>> {
    let room = context.store.scratch()?;
    let mut shelf = Shelf::create(room.path())?;
    let references = References::read(context, session, sides, known, &mut shelf)?;
    let Searched { groups, ids } = texts(context, session, &mut shelf)?;
    let texts = shelf.finish()?;
    let corpus = Sought { references: &references, groups, texts: &texts };
    let measure = Measure { ngram: config.ngram as usize, threshold: config.containment };
    let found = search(&corpus, measure, context.engine.memory_limit() / 4)?;
    let mut rows: Vec<Contained> = found
        .found
        .iter()
        .map(|found| {
            let reference = &references.all[found.reference as usize];
            Contained {
                text_id: ids[&found.text].to_string(),
                other: reference.name.clone(),
                other_task: reference.task.clone(),
                containment: found.containment,
            }
        })
        .collect();
    rows.sort_by(|a, b| a.text_id.cmp(&b.text_id));
    let columns = ["text_id", "other", "other_task"].map(|name| Field::new(name, DataType::Utf8, false));
    let columns = columns.into_iter().chain([Field::new("containment", DataType::Float64, false)]);
    side_rows(session, folder, "contained", &Arc::new(Schema::new(columns.collect::<Vec<_>>())), &rows)?;
    let short = references.all.len() as u32 - found.judged;
    let warning = format!(
        "{short} of {} held-out programs and statements have too little of their own to be looked for in texts",
        references.all.len()
    );
    Ok(if short > 0 { vec![warning] } else { vec![] })
}

/// The texts outside the test split, by their numbers on the shelf.
struct Searched {
    /// Those of each alias group.
    groups: Vec<Vec<u32>>,
    /// The id of each.
    ids: HashMap<u32, Digest>,
}

fn texts(context: &Context<'_>, session: &Session<'_>, shelf: &mut Shelf) -> Result<Searched> {
    let mut by_group: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
    let mut wanted: HashMap<Digest, u32> = HashMap::new();
    session.each(TEXTS, &[], |batch| {
        let cells = batch.column(0).as_string::<i32>().iter().zip(batch.column(1).as_string::<i32>());
        for (group, id) in cells.filter_map(|(group, id)| group.zip(id)) {
            let id: Digest = id.parse()?;
            by_group.entry(group.to_owned()).or_default().push(id);
            wanted.insert(id, NONE);
        }
        Ok(())
    })?;
    copy(context, Source::Texts, &mut wanted, shelf)?;
    let numbers =
        |ids: Vec<Digest>| ids.iter().map(|id| wanted[id]).filter(|number| *number != NONE).collect();
    let groups = by_group.into_values().map(numbers).collect();
    let ids =
        wanted.iter().filter(|(_, number)| **number != NONE).map(|(id, number)| (*number, *id)).collect();
    Ok(Searched { groups, ids })
}

/// A text of the held-out side.
struct Reference {
    /// The program's id, or `statement`.
    name: String,
    task: String,
    /// The number of its alias group.
    group: u32,
    text: Text,
}

enum Text {
    Statement(String),
    /// Its number on the shelf.
    Program(u32),
}

struct References {
    all: Vec<Reference>,
    /// The initial programs of all tasks, by their numbers on the shelf, each with its group.
    given: Vec<(u32, u32)>,
}

impl References {
    /// Statements first, then programs, each in the order of tasks.
    fn read(
        context: &Context<'_>,
        session: &Session<'_>,
        sides: &Sides,
        known: &BTreeSet<&str>,
        shelf: &mut Shelf,
    ) -> Result<Self> {
        let held = sides.held_out();
        let mut groups: BTreeMap<String, u32> = BTreeMap::new();
        let mut group_of = |task: &str| {
            let next = groups.len() as u32;
            *groups.entry(context.catalog.alias_group(task).to_owned()).or_insert(next)
        };
        let mut statements: BTreeMap<String, String> = BTreeMap::new();
        for task in known {
            let statement = context.catalog.tasks.get(*task).and_then(|known| known.statement.clone());
            statements.extend(statement.map(|statement| ((*task).to_owned(), statement)));
        }
        let mut initial: Vec<(String, Digest)> = Vec::new();
        let query = "SELECT task, statement, initial_program_id FROM input.tasks ORDER BY task";
        session.each(query, &[], |batch| {
            let cell = |column: usize, row: usize| {
                let column = batch.column(column).as_string::<i32>();
                column.is_valid(row).then(|| column.value(row))
            };
            for row in 0..batch.num_rows() {
                let Some(task) = cell(0, row) else { continue };
                if let Some(statement) = cell(1, row).filter(|_| held.contains(task)) {
                    statements.insert(task.to_owned(), statement.to_owned());
                }
                if let Some(id) = cell(2, row) {
                    initial.push((task.to_owned(), id.parse()?));
                }
            }
            Ok(())
        })?;
        let mut programs: Vec<(String, Digest)> = Vec::new();
        session.each(PROGRAMS, &[("best", Value::Int(BEST))], |batch| {
            let cells = batch.column(0).as_string::<i32>().iter().zip(batch.column(1).as_string::<i32>());
            for (task, id) in cells.filter_map(|(task, id)| task.zip(id)) {
                programs.push((task.to_owned(), id.parse()?));
            }
            Ok(())
        })?;
        let ids = programs.iter().chain(&initial).map(|(_, id)| (*id, NONE));
        let mut numbers: HashMap<Digest, u32> = ids.collect();
        copy(context, Source::Programs, &mut numbers, shelf)?;
        let number = |id: &Digest| numbers.get(id).copied().filter(|number| *number != NONE);
        let mut all: Vec<Reference> = Vec::new();
        for (task, statement) in statements {
            let group = group_of(&task);
            all.push(Reference {
                name: "statement".to_owned(),
                task,
                group,
                text: Text::Statement(statement),
            });
        }
        for (task, id) in programs {
            let Some(text) = number(&id).map(Text::Program) else { continue };
            all.push(Reference { name: id.to_string(), group: group_of(&task), task, text });
        }
        let given = initial.iter().filter_map(|(task, id)| Some((number(id)?, group_of(task)))).collect();
        Ok(Self { all, given })
    }
}

/// What is looked for, and where.
struct Sought<'a> {
    references: &'a References,
    groups: Vec<Vec<u32>>,
    texts: &'a Texts,
}

impl Corpus for Sought<'_> {
    fn references(&self) -> u32 {
        self.references.all.len() as u32
    }

    fn reference(&self, reference: u32) -> Result<(String, u32)> {
        match &self.references.all[reference as usize].text {
            Text::Statement(text) => Ok((text.clone(), LEAST_STATEMENT)),
            Text::Program(number) => Ok((self.texts.get(*number)?, LEAST_PROGRAM)),
        }
    }

    fn owner(&self, reference: u32) -> u32 {
        self.references.all[reference as usize].group
    }

    fn given(&self) -> &[(u32, u32)] {
        &self.references.given
    }

    fn groups(&self) -> &[Vec<u32>] {
        &self.groups
    }

    fn text(&self, text: u32) -> Result<String> {
        self.texts.get(text)
    }
}
