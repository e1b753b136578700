//! `failure_rule(rules, metrics, feedback)`: the first rule that matches what an evaluation printed.
//!
//! Rules are JSON, so that a statement says all that it depends on. What was printed is the text under `error` of the
//! metrics, and the feedback. Only sessions that ask for it know it.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use rayon::prelude::*;
use serde_json::Value;

use super::Session;
use crate::rules::{Rule, Rules};

/// The rules of a statement, by their JSON: they are compiled once, and not for each batch.
type Compiled = Mutex<Vec<(String, Arc<Rules>)>>;

impl Session<'_> {
    /// Lets statements of this session call `failure_rule(…)`.
    pub fn with_failure_rule(self) -> Self {
        let compiled = Compiled::default();
        let call = move |arguments: &[ColumnarValue]| failure_rule(arguments, &compiled);
        let types = vec![DataType::Utf8; 3];
        let function =
            create_udf("failure_rule", types, DataType::Utf8, Volatility::Immutable, Arc::new(call));
        self.context.register_udf(function);
        self
    }
}

fn failure_rule(arguments: &[ColumnarValue], compiled: &Compiled) -> Result<ColumnarValue, DataFusionError> {
    let Some((ColumnarValue::Scalar(ScalarValue::Utf8(Some(rules))), texts)) = arguments.split_first() else {
        return Err(DataFusionError::Plan("failure_rule takes its rules as one text".to_owned()));
    };
    let rules = compile(rules, compiled)?;
    let texts = ColumnarValue::values_to_arrays(texts)?;
    let (metrics, feedback) = (texts[0].as_string::<i32>(), texts[1].as_string::<i32>());
    let found: Vec<Option<&str>> = (0..metrics.len())
        .into_par_iter()
        .map(|row| {
            let metrics: Option<Value> = serde_json::from_str(text(metrics, row)).ok();
            let said = metrics.as_ref().and_then(|metrics| metrics.get("error")?.as_str());
            let by_metrics = said.and_then(|said| rules.find(said));
            let rule = by_metrics.or_else(|| rules.find(text(feedback, row)))?;
            Some(rule.name.as_str())
        })
        .collect();
    Ok(ColumnarValue::Array(Arc::new(StringArray::from(found))))
}

fn compile(json: &str, compiled: &Compiled) -> Result<Arc<Rules>, DataFusionError> {
    let mut compiled = compiled.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, rules)) = compiled.iter().find(|(known, _)| known == json) {
        return Ok(Arc::clone(rules));
    }
    let bad = |problem: String| DataFusionError::Plan(format!("failure_rule: {problem}"));
    let rules: Vec<Rule> = serde_json::from_str(json).map_err(|error| bad(error.to_string()))?;
    let rules = Arc::new(Rules::new(rules).map_err(bad)?);
    compiled.push((json.to_owned(), Arc::clone(&rules)));
    Ok(rules)
}

fn text(texts: &StringArray, row: usize) -> &str {
    if texts.is_valid(row) { texts.value(row) } else { "" }
}
