//! The near form: clusters of transitions that changed almost the same, and of programs that are almost the same.
//!
//! A child is almost its parent, so no two of those are compared for what they are; a step is compared by the lines that
//! it changed, or by its answer. Programs are clustered to know which parents count as one, and for whoever asks.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use finch_core::Digest;
use finch_core::shard::TableWriter;

use crate::contract::{Contract, conform};
use crate::error::{Error, Result};
use crate::near::{Items, Likeness, change, search};
use crate::shelf::{Shelf, Texts};
use crate::spec::{Near, NearOf};
use crate::sql::Session;
use crate::stage::alike::{NONE, Programs, Source, copy, whole};
use crate::stage::side::{side, side_pairs};
use crate::stage::{Context, label};
use crate::store::Draft;

const STEPS: &str = include_str!("../../../sql/dedup_steps.sql");
const STANDS: &str = include_str!("../../../sql/dedup_near.sql");

/// Rows of a table that are written together.
const ROWS_AT_ONCE: usize = 8192;

/// Finds which transition stands for each of those that are left, and writes `clusters`. `side.stands` is bound.
pub(super) fn find(
    config: &Near,
    context: &Context<'_>,
    session: &Session<'_>,
    folder: &Path,
    draft: &mut Draft,
) -> Result<()> {
    let mut steps = Steps::read(session, config.of)?;
    let texts = steps.texts(context, folder)?;
    let likeness = Likeness {
        ngram: config.ngram as usize,
        permutations: config.permutations as usize,
        threshold: config.threshold,
    };
    let budget = context.engine.memory_limit() / 4;

    let room = context.store.scratch()?;
    let programs = Programs::new(&texts, &steps.programs, likeness.ngram);
    let found = programs.clusters(&likeness, budget, room.path())?;
    let schema = Contract::of("clusters").schema(&[]);
    let mut clusters = draft.writer("clusters", &schema)?;
    write_clusters(&found, &schema, &mut clusters)?;
    draft.finish("clusters", clusters)?;
    session.bind(Some("side"), "clusters", &draft.files("clusters"), schema, &["program_id".to_owned()])?;

    let changes = Changes { texts: &texts, steps: &steps.rows, ngram: likeness.ngram };
    let room = context.store.scratch()?;
    let (lowest, _) = search(&changes, &likeness, budget, room.path())?;
    let pairs = lowest.iter().enumerate().map(|(at, &low)| (steps.ids[at], steps.ids[low as usize]));
    side_pairs(session, folder, "changes", &["transition_id", "change_cluster"], pairs)?;

    let statement = statement(context.transitions_schema()?.column_with_name("outcome").is_some());
    side(session, folder, "near_stands", &["transition_id", "change_cluster", "kept_id"], &statement)
}

/// The statement that finds which transition stands for each: by the outcomes that they have, or by those that a label
/// stage without parameters would give them.
pub(super) fn statement(is_judged: bool) -> String {
    let judged = match is_judged {
        true => "SELECT * FROM input.transitions".to_owned(),
        false => label::judged_plainly(),
    };
    STANDS.replace("{judged}", &judged)
}

fn batch(table: &str, schema: &arrow::datatypes::SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    let batch = RecordBatch::try_new(schema.clone(), columns)
        .map_err(|source| finch_core::Error::Arrow { table: table.to_owned(), source })?;
    conform(table, schema, &batch)
}

fn write_clusters(
    found: &[(Digest, Digest)],
    schema: &arrow::datatypes::SchemaRef,
    writer: &mut TableWriter,
) -> Result<()> {
    let mut sizes: HashMap<Digest, i64> = HashMap::new();
    found.iter().for_each(|(_, cluster)| *sizes.entry(*cluster).or_default() += 1);
    for rows in found.chunks(ROWS_AT_ONCE) {
        let ids = StringArray::from_iter_values(rows.iter().map(|(id, _)| id.to_string()));
        let clusters = StringArray::from_iter_values(rows.iter().map(|(_, cluster)| cluster.to_string()));
        let sizes = Int64Array::from_iter_values(rows.iter().map(|(_, cluster)| sizes[cluster]));
        let columns: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(clusters), Arc::new(sizes)];
        writer.write(&batch("clusters", schema, columns)?)?;
    }
    Ok(())
}

/// The transitions that are left, in the order of their ids.
#[derive(Default)]
struct Steps {
    ids: Vec<Digest>,
    rows: Vec<Step>,
    /// Programs by id: first their place in the order of coming, later the number of their text.
    programs: HashMap<Digest, u32>,
    /// Answers that are compared, in the same way.
    responses: HashMap<Digest, u32>,
}

/// A transition by the numbers of its texts.
#[derive(Clone, Copy)]
struct Step {
    task: u32,
    parent: u32,
    child: u32,
    /// The answer, where it is what the step is compared by.
    response: u32,
}

impl Steps {
    fn read(session: &Session<'_>, of: NearOf) -> Result<Self> {
        let mut steps = Self::default();
        let mut tasks: HashMap<String, u32> = HashMap::new();
        session.each(STEPS, &[], |batch| {
            let text = |column: usize| batch.column(column).as_string::<i32>();
            let digest = |column: usize, row: usize| -> Result<Option<Digest>> {
                let ids = text(column);
                let is_there = arrow::array::Array::is_valid(ids, row);
                Ok(is_there.then(|| ids.value(row).parse()).transpose()?)
            };
            for row in 0..batch.num_rows() {
                let next = tasks.len() as u32;
                let task = *tasks.entry(text(1).value(row).to_owned()).or_insert(next);
                let place = |of: &mut HashMap<Digest, u32>, id: Option<Digest>| {
                    let next = of.len() as u32;
                    id.map_or(NONE, |id| *of.entry(id).or_insert(next))
                };
                let parent = digest(2, row)?;
                // Without its parent's program nobody can say what a step changed; its answer says something of it.
                let response = digest(4, row)?.filter(|_| of == NearOf::Response || parent.is_none());
                steps.rows.push(Step {
                    task,
                    parent: place(&mut steps.programs, parent),
                    child: place(&mut steps.programs, digest(3, row)?),
                    response: place(&mut steps.responses, response),
                });
                steps.ids.extend(digest(0, row)?);
            }
            Ok(())
        })?;
        Ok(steps)
    }

    /// Copies the texts that are compared, and numbers the steps by them.
    fn texts(&mut self, context: &Context<'_>, folder: &Path) -> Result<Texts> {
        let mut shelf = Shelf::create(folder)?;
        let mut numbers = |source, places: &mut HashMap<Digest, u32>| {
            let mut ids: Vec<Digest> = vec![Digest::of_bytes(b""); places.len()];
            places.iter().for_each(|(id, place)| ids[*place as usize] = *id);
            copy(context, source, places, &mut shelf)?;
            Ok::<Vec<u32>, Error>(ids.iter().map(|id| places[id]).collect())
        };
        let programs = numbers(Source::Programs, &mut self.programs)?;
        let responses = numbers(Source::Texts, &mut self.responses)?;
        let number = |of: &[u32], place: u32| if place == NONE { NONE } else { of[place as usize] };
        for step in &mut self.rows {
            (step.parent, step.child) = (number(&programs, step.parent), number(&programs, step.child));
            step.response = number(&responses, step.response);
        }
        shelf.finish()
    }
}

/// What steps changed, by task.
struct Changes<'a> {
    texts: &'a Texts,
    steps: &'a [Step],
    ngram: usize,
}

impl Items for Changes<'_> {
    fn count(&self) -> u32 {
        self.steps.len() as u32
    }

    fn group(&self, item: u32) -> u32 {
        self.steps[item as usize].task
    }

    fn hashes(&self, item: u32, out: &mut Vec<u64>) -> Result<()> {
        let step = self.steps[item as usize];
        if step.response != NONE {
            return whole(self.texts, step.response, self.ngram, out);
        }
        if step.parent != NONE && step.child != NONE {
            let (parent, child) = (self.texts.get(step.parent)?, self.texts.get(step.child)?);
            change::hashes(&parent, &child, self.ngram, out);
        }
        Ok(())
    }
}
