//! Pickled data as JSON, for readers that want values and no graph.
//!
//! A pickle's graph may have cycles, and one text may be mentioned a million times. So what is taken out of it has a
//! depth and a size that cannot be passed; beyond them is null.

use serde_json::{Map, Value as Json};

use crate::ingest::mapping::float;
use crate::ingest::pickle::{Kind, Value};

/// How deep data is followed. States of searches are a handful of levels deep.
const DEPTH: u32 = 12;

/// Bytes that are taken out of one pickle, those of the values that hold them included: at most so many, and of a small
/// one no more than it can mean honestly. A pickle of 300 bytes can mention one list a billion times.
const BUDGET: usize = 512 << 20;
/// Bytes out for each byte in, and those that are free.
const TIMES: usize = 64;
const SLACK: usize = 16 << 20;

/// Takes data out of a pickle, within a budget.
pub(super) struct Taker {
    left: usize,
}

impl Taker {
    /// For a pickle of so many bytes.
    pub(super) fn new(pickled: usize) -> Self {
        Self { left: BUDGET.min(pickled.saturating_mul(TIMES).saturating_add(SLACK)) }
    }

    /// A value as JSON; keys of dicts become text, and what is no data becomes null.
    pub(super) fn json(&mut self, value: Value<'_>) -> Json {
        self.at(value, DEPTH)
    }

    /// A dict as an object; empty when it is something else.
    pub(super) fn object(&mut self, value: Option<Value<'_>>) -> Map<String, Json> {
        match value.map(|value| self.json(value)) {
            Some(Json::Object(object)) => object,
            _ => Map::new(),
        }
    }

    /// A text.
    pub(super) fn text(&mut self, value: Option<Value<'_>>) -> Option<String> {
        let value = value?;
        // What there is no budget for is not even looked at: one text may be mentioned a million times.
        let enough = self.spend(size_of::<String>() + value.text_bytes()?);
        if enough { value.as_text().map(std::borrow::Cow::into_owned) } else { None }
    }

    /// The texts of a list.
    pub(super) fn texts(&mut self, list: Option<Value<'_>>) -> Vec<String> {
        let mut texts = Vec::new();
        for item in list.into_iter().flat_map(Value::items) {
            if self.left == 0 {
                break;
            }
            texts.extend(self.text(Some(item)));
        }
        texts
    }

    /// Whether there was more than the budget has.
    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    fn spend(&mut self, bytes: usize) -> bool {
        let enough = bytes <= self.left;
        self.left = self.left.saturating_sub(bytes);
        enough
    }

    fn at(&mut self, value: Value<'_>, depth: u32) -> Json {
        if depth == 0 || !self.spend(size_of::<Json>()) {
            return Json::Null;
        }
        if let Some(flag) = value.as_bool() {
            return Json::from(flag);
        }
        if let Some(number) = value.as_i64() {
            return Json::from(number);
        }
        if let Some(number) = value.as_f64() {
            return float(number);
        }
        match value.kind() {
            Kind::Text => self.text(Some(value)).map_or(Json::Null, Json::from),
            Kind::List | Kind::Tuple | Kind::Set | Kind::FrozenSet => {
                let mut items = Vec::new();
                for item in value.items() {
                    if self.left == 0 {
                        break;
                    }
                    items.push(self.at(item, depth - 1));
                }
                Json::Array(items)
            }
            Kind::Dict | Kind::Object => {
                let mut object = Map::new();
                for (key, item) in value.entries() {
                    if self.left == 0 {
                        break;
                    }
                    if let Some(key) = self.key(key) {
                        object.insert(key, self.at(item, depth - 1));
                    }
                }
                match object.is_empty() && value.kind() == Kind::Object {
                    true => Json::Null,
                    false => Json::Object(object),
                }
            }
            _ => Json::Null,
        }
    }

    fn key(&mut self, key: Value<'_>) -> Option<String> {
        let number = key.as_i64().map(|number| number.to_string());
        number.or_else(|| self.text(Some(key)))
    }
}
