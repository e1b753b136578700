//! `code_key(code, language)`: the digest of a program without its comments and blank lines.
//!
//! Only sessions that ask for it know it.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use finch_core::Kind;
use rayon::prelude::*;

use super::Session;
use crate::bare::Strip;

impl Session<'_> {
    /// Lets statements of this session call `code_key(…)`.
    pub fn with_code_key(self) -> Self {
        let types = vec![DataType::Utf8, DataType::Utf8];
        let function =
            create_udf("code_key", types, DataType::Utf8, Volatility::Immutable, Arc::new(code_key));
        self.context.register_udf(function);
        self
    }
}

fn code_key(arguments: &[ColumnarValue]) -> Result<ColumnarValue, DataFusionError> {
    let texts = ColumnarValue::values_to_arrays(arguments)?;
    let (codes, languages) = (texts[0].as_string::<i32>(), texts[1].as_string::<i32>());
    let keys: Vec<Option<String>> = (0..codes.len())
        .into_par_iter()
        .map_init(Strip::default, |strip, row| {
            let language = if languages.is_valid(row) { languages.value(row) } else { "" };
            let bare = codes.is_valid(row).then(|| strip.bare(codes.value(row), language))?;
            Some(Kind::Bare.of_text(&bare).to_string())
        })
        .collect();
    Ok(ColumnarValue::Array(Arc::new(StringArray::from(keys))))
}
