//! `failure_rule(rules, metrics, feedback)`: the first rule that matches what an evaluation printed.
//!
//! Rules are JSON, so that a statement says all that it depends on. What was printed is the text under `error` of the
//! metrics, and the feedback. Only sessions that ask for it know it.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use rayon::prelude::*;
use serde_json::Value;

use super::Session;
use crate::rules::{Rule, Rules};

#[derive(Debug, PartialEq, Eq, Hash)]
struct FailureRule {
    signature: Signature,
}

impl Session<'_> {
    /// Lets statements of this session call `failure_rule(…)`.
    pub fn with_failure_rule(self) -> Self {
        let function = FailureRule { signature: Signature::any(3, Volatility::Immutable) };
        self.context.register_udf(ScalarUDF::from(function));
        self
    }
}

impl ScalarUDFImpl for FailureRule {
    fn name(&self) -> &'static str {
        "failure_rule"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let rows = call.number_rows;
        let Some((ColumnarValue::Scalar(ScalarValue::Utf8(Some(rules))), texts)) = call.args.split_first()
        else {
            return Err(DataFusionError::Plan("failure_rule takes its rules as one text".to_owned()));
        };
        let bad = |problem: String| DataFusionError::Plan(format!("failure_rule: {problem}"));
        let rules: Vec<Rule> = serde_json::from_str(rules).map_err(|error| bad(error.to_string()))?;
        let rules = Rules::new(rules).map_err(bad)?;
        let texts = texts.iter().map(|value| cast(&value.clone().into_array(rows)?, &DataType::Utf8));
        let texts: Vec<_> = texts.collect::<Result<_, _>>()?;
        let text = |column: usize, row: usize| {
            let texts = texts.get(column).and_then(|column| column.as_string_opt::<i32>());
            texts.filter(|texts| texts.is_valid(row)).map_or("", |texts| texts.value(row))
        };
        let found: Vec<Option<&str>> = (0..rows)
            .into_par_iter()
            .map(|row| {
                let metrics: Option<Value> = serde_json::from_str(text(0, row)).ok();
                let said = metrics.as_ref().and_then(|metrics| metrics.get("error")?.as_str());
                let rule = rules.find(said.unwrap_or_default()).or_else(|| rules.find(text(1, row)))?;
                Some(rule.name.as_str())
            })
            .collect();
        Ok(ColumnarValue::Array(Arc::new(StringArray::from(found))))
    }
}
