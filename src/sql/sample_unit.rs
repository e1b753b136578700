//! `sample_unit(seed, purpose, key)`: the place of a key in [0, 1), by hash; what `finch_core::sample` says.
//!
//! Only sessions that ask for it know it.

use std::sync::Arc;

use arrow::array::{AsArray, Float64Array};
use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use finch_core::sample;

use super::Session;

impl Session<'_> {
    /// Lets statements of this session call `sample_unit(…)`. The seed is text: SQL has no unsigned literals.
    pub fn with_sample_unit(self) -> Self {
        let types = vec![DataType::Utf8; 3];
        let function =
            create_udf("sample_unit", types, DataType::Float64, Volatility::Immutable, Arc::new(sample_unit));
        self.context.register_udf(function);
        self
    }
}

fn sample_unit(arguments: &[ColumnarValue]) -> Result<ColumnarValue, DataFusionError> {
    let texts = ColumnarValue::values_to_arrays(arguments)?;
    let [seeds, purposes, keys] = [0, 1, 2].map(|at| texts[at].as_string::<i32>());
    let rows = seeds.iter().zip(purposes).zip(keys);
    let places = rows.map(|((seed, purpose), key)| {
        // A seed that is no number is no seed; the result is null, as for any value that is not there.
        Some(sample::unit(seed?.parse().ok()?, purpose?, key?))
    });
    Ok(ColumnarValue::Array(Arc::new(places.collect::<Float64Array>())))
}
