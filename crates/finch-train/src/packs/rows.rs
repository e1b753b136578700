//! Rows of the table `packs`: their columns, and what must be true of each.

use std::fs::File;
use std::path::Path;

use arrow::array::{
    Array, AsArray, BooleanArray, Float64Array, Int32Array, ListArray, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Float64Type, Int32Type};
use finch_core::Code;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::{Document, projection};
use crate::error::{Error, Result};

/// Rows that are decoded together.
const BATCH: usize = 256;

/// Reads one row group of a shard.
pub(super) fn open(
    builder: ParquetRecordBatchReaderBuilder<File>,
    path: &Path,
    group: usize,
    columns: Option<&[&str]>,
) -> Result<ParquetRecordBatchReader> {
    let mask = projection(&builder, columns);
    builder
        .with_row_groups(vec![group])
        .with_projection(mask)
        .with_batch_size(BATCH)
        .build()
        .map_err(|source| Error::packs(format!("`{}`", path.display()), source.to_string()))
}

/// A batch of packs.
pub(super) struct Rows<'a> {
    pack_id: &'a StringArray,
    split: &'a StringArray,
    input_ids: &'a ListArray,
    loss_mask: &'a ListArray,
    position_ids: &'a ListArray,
    cu_seqlens: &'a ListArray,
    example_ids: &'a ListArray,
    tasks: &'a ListArray,
    /// Packs that were made before there were outcomes have none.
    outcomes: Option<&'a ListArray>,
    weights: &'a ListArray,
    trained_tokens: &'a ListArray,
}

impl<'a> Rows<'a> {
    /// The columns of a batch; one that is missing or of another type is an error in words.
    pub(super) fn new(batch: &'a RecordBatch) -> Result<Self, String> {
        let column =
            |name: &str| batch.column_by_name(name).ok_or_else(|| format!("the column `{name}` is missing"));
        let text = |name: &str| {
            column(name)?.as_string_opt::<i32>().ok_or_else(|| format!("the column `{name}` is not text"))
        };
        let list = |name: &str, item: DataType| {
            let list = column(name)?.as_list_opt::<i32>().filter(|list| list.value_type() == item);
            let list = list.ok_or_else(|| format!("the column `{name}` is not a list of {item}"))?;
            match list.null_count() + list.values().null_count() {
                0 => Ok(list),
                _ => Err(format!("the column `{name}` holds nulls")),
            }
        };
        Ok(Self {
            pack_id: text("pack_id")?,
            split: text("split")?,
            input_ids: list("input_ids", DataType::Int32)?,
            loss_mask: list("loss_mask", DataType::Boolean)?,
            position_ids: list("position_ids", DataType::Int32)?,
            cu_seqlens: list("cu_seqlens", DataType::Int32)?,
            example_ids: list("example_ids", DataType::Utf8)?,
            tasks: list("tasks", DataType::Utf8)?,
            outcomes: batch
                .column_by_name("outcomes")
                .map(|_| list("outcomes", DataType::Utf8))
                .transpose()?,
            weights: list("weights", DataType::Float64)?,
            trained_tokens: list("trained_tokens", DataType::Int32)?,
        })
    }

    pub(super) fn pack_id(&self, row: usize) -> &str {
        self.pack_id.value(row)
    }

    pub(super) fn split(&self, row: usize) -> Option<String> {
        self.split.is_valid(row).then(|| self.split.value(row).to_owned())
    }

    /// Checks that a row is a pack; its documents and its largest token id.
    pub(super) fn check(&self, row: usize) -> Result<(Vec<Document>, i32), (Code, String)> {
        let bad = |reason: String| (Code::BadPacks, reason);
        let ids = ints(self.input_ids, row);
        let mask = bools(self.loss_mask, row);
        let positions = ints(self.position_ids, row);
        let ends = ints(self.cu_seqlens, row);
        let (examples, tasks) = (texts(self.example_ids, row), texts(self.tasks, row));
        let (weights, trained) = (floats(self.weights, row), ints(self.trained_tokens, row));
        let tokens = ids.len();
        if mask.len() != tokens || positions.len() != tokens {
            let reason = format!("{tokens} ids, {} mask entries, {} positions", mask.len(), positions.len());
            return Err(bad(reason));
        }
        let outcomes = self.outcomes.map(|outcomes| texts(outcomes, row));
        let documents = examples.len();
        if [tasks.len() + 1, weights.len() + 1, trained.len() + 1, ends.len()] != [documents + 1; 4]
            || outcomes.as_ref().is_some_and(|outcomes| outcomes.len() != documents)
            || documents == 0
        {
            return Err(bad(format!("{documents} examples do not fit {} ends in `cu_seqlens`", ends.len())));
        }
        let (ids, ends) = (ids.values(), ends.values());
        let ascending = ends[0] == 0 && ends.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || usize::try_from(ends[documents]) != Ok(tokens) {
            return Err(bad(format!("`cu_seqlens` does not ascend from 0 to {tokens}")));
        }
        if let Some(id) = ids.iter().find(|&&id| id < 0) {
            return Err(bad(format!("{id} is no token id")));
        }
        let mut found = Vec::with_capacity(documents);
        for (d, pair) in ends.windows(2).enumerate() {
            let (start, end) = (pair[0] as usize, pair[1] as usize);
            let example_id = examples.value(d).to_owned();
            if !positions.values()[start..end].iter().copied().eq(0..(end - start) as i32) {
                return Err(bad(format!("the positions of example {example_id} do not count from 0")));
            }
            let count = (start..end).filter(|&t| mask.value(t)).count();
            if mask.value(start) || i64::from(trained.value(d)) != count as i64 {
                return Err(bad(format!(
                    "the mask of example {example_id} does not fit its count of trained tokens"
                )));
            }
            if count == 0 {
                return Err((Code::NothingTrained, format!("example {example_id} has no trained token")));
            }
            let weight = weights.value(d);
            // The loss is in f32, where a weight must still be a number that divides.
            let single = weight as f32;
            if weight < 0.0 || !(weight == 0.0 || single.is_normal()) {
                return Err(bad(format!("example {example_id} has the weight {weight}")));
            }
            found.push(Document {
                example_id,
                task: tasks.value(d).to_owned(),
                outcome: outcomes
                    .as_ref()
                    .map(|outcomes| outcomes.value(d))
                    .filter(|outcome| !outcome.is_empty())
                    .map(str::to_owned),
                weight,
                start,
                tokens: end - start,
                trained: count,
            });
        }
        Ok((found, ids.iter().copied().max().unwrap_or(-1)))
    }
}

/// Ids and masks of a batch, row by row.
pub(super) fn tokens(
    batch: &RecordBatch,
) -> Result<impl Iterator<Item = (Vec<i32>, Vec<bool>)> + '_, String> {
    let list = |name: &str| {
        batch
            .column_by_name(name)
            .and_then(|column| column.as_list_opt::<i32>())
            .ok_or_else(|| format!("the column `{name}` is not a list"))
    };
    let (ids, mask) = (list("input_ids")?, list("loss_mask")?);
    if (ids.value_type(), mask.value_type()) != (DataType::Int32, DataType::Boolean) {
        return Err("`input_ids` and `loss_mask` are not lists of int32 and bool".to_owned());
    }
    Ok((0..batch.num_rows()).map(move |row| {
        let ids = ints(ids, row).values().to_vec();
        let mask = bools(mask, row);
        (ids, (0..mask.len()).map(|t| mask.value(t)).collect())
    }))
}

fn ints(list: &ListArray, row: usize) -> Int32Array {
    list.value(row).as_primitive::<Int32Type>().clone()
}

fn floats(list: &ListArray, row: usize) -> Float64Array {
    list.value(row).as_primitive::<Float64Type>().clone()
}

fn bools(list: &ListArray, row: usize) -> BooleanArray {
    list.value(row).as_boolean().clone()
}

fn texts(list: &ListArray, row: usize) -> StringArray {
    list.value(row).as_string::<i32>().clone()
}
