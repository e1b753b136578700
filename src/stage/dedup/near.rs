//! The near form: clusters of transitions that changed almost the same, and of programs that are almost the same.
//!
//! A child is almost its parent, so no two of those are compared for what they are; a step is compared by the lines that
//! it changed, or by its answer. Programs are clustered to know which parents count as one, and for whoever asks.

use std::collections::HashMap;
use std::path::Path;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use finch_core::Digest;
use finch_core::shard::TableWriter;

use super::{bind, narrow, side, writer};
use crate::contract::{Contract, conform};
use crate::error::Result;
use crate::near::{Items, Likeness, change, search, tokens};
use crate::shelf::{Shelf, Texts};
use crate::spec::{Near, NearOf};
use crate::sql::{Session, Width, views};
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

    let programs = Programs { texts: &texts, order: steps.programs_in_order(), ngram: likeness.ngram };
    let room = context.store.scratch()?;
    let (lowest, _) = search(&programs, &likeness, budget, room.path())?;
    let schema = Contract::of("clusters").schema(&[]);
    let mut clusters = draft.writer("clusters", &schema)?;
    write_clusters(&programs, &lowest, &schema, &mut clusters)?;
    draft.finish("clusters", clusters)?;
    session.bind(Some("side"), "clusters", &draft.files("clusters"), schema, &["program_id".to_owned()])?;

    let changes = Changes { texts: &texts, steps: &steps.rows, ngram: likeness.ngram };
    let room = context.store.scratch()?;
    let (lowest, _) = search(&changes, &likeness, budget, room.path())?;
    let columns = narrow(&["transition_id", "change_cluster"]);
    let mut writer = writer(folder, "changes", &columns)?;
    for start in (0..lowest.len()).step_by(ROWS_AT_ONCE) {
        let rows = start..lowest.len().min(start + ROWS_AT_ONCE);
        let id = |at: usize| steps.ids[at].to_string();
        let ids = StringArray::from_iter_values(rows.clone().map(id));
        let clusters = StringArray::from_iter_values(lowest[rows].iter().map(|&low| id(low as usize)));
        writer.write(&batch(
            "changes",
            &columns,
            vec![std::sync::Arc::new(ids), std::sync::Arc::new(clusters)],
        )?)?;
    }
    bind(session, folder, "changes", columns, writer)?;

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
    programs: &Programs<'_>,
    lowest: &[u32],
    schema: &arrow::datatypes::SchemaRef,
    writer: &mut TableWriter,
) -> Result<()> {
    let mut sizes = vec![0_i64; lowest.len()];
    lowest.iter().for_each(|&low| sizes[low as usize] += 1);
    for start in (0..lowest.len()).step_by(ROWS_AT_ONCE) {
        let rows = start..lowest.len().min(start + ROWS_AT_ONCE);
        let id = |at: usize| programs.order[at].0.to_string();
        let low = |at: usize| lowest[at] as usize;
        let ids = StringArray::from_iter_values(rows.clone().map(id));
        let clusters = StringArray::from_iter_values(rows.clone().map(|at| id(low(at))));
        let sizes = Int64Array::from_iter_values(rows.map(|at| sizes[low(at)]));
        let columns: Vec<ArrayRef> =
            vec![std::sync::Arc::new(ids), std::sync::Arc::new(clusters), std::sync::Arc::new(sizes)];
        writer.write(&batch("clusters", schema, columns)?)?;
    }
    Ok(())
}

/// A text that is none.
const NONE: u32 = u32::MAX;

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
        for (query, places) in [
            ("SELECT program_id, code FROM input.programs", &mut self.programs),
            ("SELECT text_id, text FROM input.texts", &mut self.responses),
        ] {
            let mut numbers = vec![NONE; places.len()];
            let session = context.engine.session(Width::Wide);
            views::bind(&session, Some("input"), &context.inputs[0], &views::Needed::by(query))?;
            if !places.is_empty() {
                session.each(query, &[], |batch| {
                    let (ids, texts) =
                        (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
                    for (id, text) in ids.iter().zip(texts).filter_map(|(id, text)| id.zip(text)) {
                        if let Some(&place) = places.get(&id.parse()?) {
                            numbers[place as usize] = shelf.add(text)?;
                        }
                    }
                    Ok(())
                })?;
            }
            places.values_mut().for_each(|place| *place = numbers[*place as usize]);
            let number = |place: u32| if place == NONE { NONE } else { numbers[place as usize] };
            for step in &mut self.rows {
                if query.ends_with("programs") {
                    (step.parent, step.child) = (number(step.parent), number(step.child));
                } else {
                    step.response = number(step.response);
                }
            }
        }
        shelf.finish()
    }

    fn programs_in_order(&self) -> Vec<(Digest, u32)> {
        let mut order: Vec<(Digest, u32)> = self.programs.iter().map(|(id, number)| (*id, *number)).collect();
        order.sort_unstable();
        order
    }
}

/// Whole programs, of all tasks.
struct Programs<'a> {
    texts: &'a Texts,
    order: Vec<(Digest, u32)>,
    ngram: usize,
}

impl Items for Programs<'_> {
    fn count(&self) -> u32 {
        self.order.len() as u32
    }

    fn group(&self, _: u32) -> u32 {
        0
    }

    fn hashes(&self, item: u32, out: &mut Vec<u64>) -> Result<()> {
        whole(self.texts, self.order[item as usize].1, self.ngram, out)
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

fn whole(texts: &Texts, number: u32, ngram: usize, out: &mut Vec<u64>) -> Result<()> {
    if number != NONE {
        let mut words = Vec::new();
        tokens::tokens(&texts.get(number)?, &mut words);
        tokens::shingles(&words, ngram, 0, out);
    }
    Ok(())
}
