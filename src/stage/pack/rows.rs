//! Rows of the table `packs`, built column by column: a pack's tokens are read back when its row is made.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BooleanBuilder, Float64Builder, Int32Builder, Int64Builder, ListBuilder,
    RecordBatch, StringBuilder,
};
use arrow::datatypes::{DataType, Field, SchemaRef};

use super::Packed;
use super::tokens::Index;
use crate::error::{Error, Result};

/// Rows in the making.
pub(super) struct Rows {
    schema: SchemaRef,
    tokens_made: u64,
    pack_id: StringBuilder,
    split: StringBuilder,
    tokens: Int64Builder,
    input_ids: ListBuilder<Int32Builder>,
    loss_mask: ListBuilder<BooleanBuilder>,
    position_ids: ListBuilder<Int32Builder>,
    cu_seqlens: ListBuilder<Int32Builder>,
    example_ids: ListBuilder<StringBuilder>,
    tasks: ListBuilder<StringBuilder>,
    outcomes: ListBuilder<StringBuilder>,
    weights: ListBuilder<Float64Builder>,
    trained_tokens: ListBuilder<Int32Builder>,
}

/// A list whose items are never null, as the contract has it.
fn list<B: ArrayBuilder + Default>(item: DataType) -> ListBuilder<B> {
    ListBuilder::new(B::default()).with_field(Field::new("item", item, false))
}

impl Rows {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        Self {
            schema: schema.clone(),
            tokens_made: 0,
            pack_id: StringBuilder::new(),
            split: StringBuilder::new(),
            tokens: Int64Builder::new(),
            input_ids: list(DataType::Int32),
            loss_mask: list(DataType::Boolean),
            position_ids: list(DataType::Int32),
            cu_seqlens: list(DataType::Int32),
            example_ids: list(DataType::Utf8),
            tasks: list(DataType::Utf8),
            outcomes: list(DataType::Utf8),
            weights: list(DataType::Float64),
            trained_tokens: list(DataType::Int32),
        }
    }

    /// Tokens in the rows that were not taken yet.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens_made
    }

    /// Adds a pack. Token counts of a pack fit 32 bits, because `sequence_tokens` does.
    pub(super) fn push(&mut self, pack: &Packed, index: &Index) -> Result<()> {
        self.pack_id.append_value(pack.pack_id.to_string());
        self.split.append_option(pack.split.map(|split| index.words.name(split)));
        let mut end: i32 = 0;
        self.cu_seqlens.values().append_value(end);
        for &place in &pack.examples {
            let entry = &index.examples[place];
            let (ids, mask) = (self.input_ids.values(), self.loss_mask.values());
            let positions = self.position_ids.values();
            let mut position = 0;
            index.read(place, |id, trained| {
                // Vocabularies have less than 2^31 entries.
                ids.append_value(id as i32);
                mask.append_value(trained);
                positions.append_value(position);
                position += 1;
            })?;
            end += position;
            self.cu_seqlens.values().append_value(end);
            self.example_ids.values().append_value(entry.example_id.to_string());
            self.tasks.values().append_value(index.words.name(entry.task));
            self.outcomes.values().append_value(index.words.name(entry.outcome));
            self.weights.values().append_value(entry.weight);
            self.trained_tokens.values().append_value(entry.trained as i32);
        }
        self.tokens.append_value(i64::from(end));
        self.tokens_made += u64::from(end.unsigned_abs());
        self.input_ids.append(true);
        self.loss_mask.append(true);
        self.position_ids.append(true);
        self.cu_seqlens.append(true);
        self.example_ids.append(true);
        self.tasks.append(true);
        self.outcomes.append(true);
        self.weights.append(true);
        self.trained_tokens.append(true);
        Ok(())
    }

    /// The rows so far, as a batch.
    pub(super) fn take(&mut self) -> Result<RecordBatch> {
        self.tokens_made = 0;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.pack_id.finish()),
            Arc::new(self.split.finish()),
            Arc::new(self.tokens.finish()),
            Arc::new(self.input_ids.finish()),
            Arc::new(self.loss_mask.finish()),
            Arc::new(self.position_ids.finish()),
            Arc::new(self.cu_seqlens.finish()),
            Arc::new(self.example_ids.finish()),
            Arc::new(self.tasks.finish()),
            Arc::new(self.outcomes.finish()),
            Arc::new(self.weights.finish()),
            Arc::new(self.trained_tokens.finish()),
        ];
        RecordBatch::try_new(self.schema.clone(), columns)
            .map_err(|source| Error::Core(finch_core::Error::Arrow { table: "packs".to_owned(), source }))
    }
}
