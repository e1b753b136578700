//! `code_key(code, language)`: the digest of a program without its comments and blank lines.
//!
//! Only sessions that ask for it know it.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use finch_core::Kind;
use rayon::prelude::*;

use super::Session;
use crate::bare::Strip;

#[derive(Debug, PartialEq, Eq, Hash)]
struct CodeKey {
    signature: Signature,
}

impl Session<'_> {
    /// Lets statements of this session call `code_key(…)`.
    pub fn with_code_key(self) -> Self {
        let function = CodeKey { signature: Signature::any(2, Volatility::Immutable) };
        self.context.register_udf(ScalarUDF::from(function));
        self
    }
}

impl ScalarUDFImpl for CodeKey {
    fn name(&self) -> &'static str {
        "code_key"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let rows = call.number_rows;
        let texts = call.args.into_iter().map(|value| cast(&value.into_array(rows)?, &DataType::Utf8));
        let texts: Vec<_> = texts.collect::<Result<_, _>>()?;
        let [codes, languages] = texts.as_slice() else {
            return Err(DataFusionError::Plan("code_key takes a program and its language".to_owned()));
        };
        let (codes, languages) = (codes.as_string::<i32>(), languages.as_string::<i32>());
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
}
