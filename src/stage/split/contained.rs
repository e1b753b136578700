//! What is a held-out task's own, inside the texts of the other side: its statement, and its best programs.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
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
use crate::stage::side::{narrow, side_rows};

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

#[derive(Serialize)]
struct Held {
    task: String,
}

/// Binds `side.contained`: the texts outside the test split that hold what is a held-out task's own. What the user
/// should know of it comes back.
pub(super) fn find(
    config: LeakNgram,
    context: &Context<'_>,
    session: &Session<'_>,
    sides: &Sides,
    folder: &Path,
) -> Result<Vec<String>> {
    let held: Vec<Held> = sides.held_out().iter().map(|task| Held { task: (*task).to_owned() }).collect();
    side_rows(session, folder, "held", &narrow(&["task"]), &held)?;
    let room = context.store.scratch()?;
    let mut shelf = Shelf::create(room.path())?;
    let references = References::read(context, session, sides, &mut shelf)?;
    let Searched { groups, ids } = texts(context, session, &mut shelf)?;
    let texts = shelf.finish()?;
    let corpus = Sought { references: &references, groups, texts: &texts };
    let measure = Measure { ngram: config.ngram as usize, threshold: config.containment };
    let found = search(&corpus, measure, context.engine.memory_limit() / 4)?;
    let mut rows: Vec<Contained> = found
        .found
        .iter()
        .map(|found| {
            let reference = &references.0[found.reference as usize];
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
    let short = references.0.len() as u32 - found.judged;
    let warning = format!(
        "{short} of {} held-out programs and statements have too little of their own to be looked for in texts",
        references.0.len()
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
    text: Text,
}

enum Text {
    Statement(String),
    /// Its number on the shelf.
    Program(u32),
}

struct References(Vec<Reference>);

impl References {
    /// Statements first, then programs, each in the order of tasks.
    fn read(context: &Context<'_>, session: &Session<'_>, sides: &Sides, shelf: &mut Shelf) -> Result<Self> {
        let held = sides.held_out();
        let mut all = Vec::new();
        session.each("SELECT task, statement FROM input.tasks ORDER BY task", &[], |batch| {
            let cells = batch.column(0).as_string::<i32>().iter().zip(batch.column(1).as_string::<i32>());
            for (task, statement) in cells.filter_map(|(task, statement)| task.zip(statement)) {
                if held.contains(task) {
                    let (name, text) = ("statement".to_owned(), Text::Statement(statement.to_owned()));
                    all.push(Reference { name, task: task.to_owned(), text });
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
        let mut numbers: HashMap<Digest, u32> = programs.iter().map(|(_, id)| (*id, NONE)).collect();
        copy(context, Source::Programs, &mut numbers, shelf)?;
        all.extend(programs.into_iter().filter(|(_, id)| numbers[id] != NONE).map(|(task, id)| Reference {
            name: id.to_string(),
            task,
            text: Text::Program(numbers[&id]),
        }));
        Ok(Self(all))
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
        self.references.0.len() as u32
    }

    fn reference(&self, reference: u32) -> Result<(String, u32)> {
        match &self.references.0[reference as usize].text {
            Text::Statement(text) => Ok((text.clone(), LEAST_STATEMENT)),
            Text::Program(number) => Ok((self.texts.get(*number)?, LEAST_PROGRAM)),
        }
    }

    fn groups(&self) -> &[Vec<u32>] {
        &self.groups
    }

    fn text(&self, text: u32) -> Result<String> {
        self.texts.get(text)
    }
}
