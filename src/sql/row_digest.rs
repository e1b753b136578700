//! `row_digest(…)`: the digest of its arguments, row by row, so that a statement can compare rows without carrying
//! their texts.
//!
//! Only sessions that ask for it know it: what users and stages write in SQL stays what DataFusion has.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryBuilder, RecordBatch};
use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use finch_core::rows;

use super::Session;

/// Bytes of a digest.
const BYTES: i32 = 32;

#[derive(Debug, PartialEq, Eq, Hash)]
struct RowDigest {
    signature: Signature,
}

impl Session<'_> {
    /// Lets statements of this session call `row_digest(…)`.
    pub fn with_row_digest(self) -> Self {
        let function = RowDigest { signature: Signature::variadic_any(Volatility::Immutable) };
        self.context.register_udf(ScalarUDF::from(function));
        self
    }
}

impl ScalarUDFImpl for RowDigest {
    fn name(&self) -> &'static str {
        "row_digest"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::FixedSizeBinary(BYTES))
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let arrays: Result<Vec<ArrayRef>, DataFusionError> =
            call.args.into_iter().map(|value| value.into_array(call.number_rows)).collect();
        let columns = arrays?.into_iter().enumerate().map(|(n, array)| (n.to_string(), array, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns)?;
        let digests = rows::each(&batch).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let mut column = FixedSizeBinaryBuilder::with_capacity(digests.len(), BYTES);
        for digest in &digests {
            column.append_value(digest.as_bytes())?;
        }
        Ok(ColumnarValue::Array(Arc::new(column.finish())))
    }
}
