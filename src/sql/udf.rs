//! finch's own SQL functions: pure, immutable, and never panicking.
//!
//! When what a function computes changes, its name changes, because stored results depend on it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::cast::{as_int64_array, as_string_array};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::SessionContext;

/// Makes the functions known to a session.
pub(super) fn register(context: &SessionContext) {
    context.register_udf(ScalarUDF::from(HashUnit::new()));
}

/// `hash_unit(seed, purpose, key)`: the key's place in [0, 1) under a seed and a purpose, see
/// [`finch_core::sample::unit`].
#[derive(Debug, PartialEq, Eq, Hash)]
struct HashUnit {
    signature: Signature,
}

impl HashUnit {
    fn new() -> Self {
        let types = vec![DataType::Int64, DataType::Utf8, DataType::Utf8];
        Self { signature: Signature::exact(types, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for HashUnit {
    fn name(&self) -> &'static str {
        "hash_unit"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let seeds = as_int64_array(&arrays[0])?;
        let purposes: &StringArray = as_string_array(&arrays[1])?;
        let keys: &StringArray = as_string_array(&arrays[2])?;
        let places: Float64Array = (0..keys.len())
            .map(|row| {
                let present = seeds.is_valid(row) && purposes.is_valid(row) && keys.is_valid(row);
                present.then(|| {
                    finch_core::sample::unit(seeds.value(row) as u64, purposes.value(row), keys.value(row))
                })
            })
            .collect();
        Ok(ColumnarValue::Array(Arc::new(places) as ArrayRef))
    }
}
