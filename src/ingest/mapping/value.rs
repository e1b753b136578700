//! A value of a mapping: a place in a record, and what is done to what stands there.

use std::borrow::Cow;

use serde_json::Value as Json;

use crate::ingest::json;

/// Where a value comes from.
#[derive(Debug)]
pub(super) enum Value {
    /// A place in the record, as the parts of a JSON Pointer.
    At(Vec<String>),
    /// The first of several that is there, and no blank text.
    First(Vec<Self>),
    /// Always this.
    Constant(Json),
    /// What an object of the whole document has under a key.
    Lookup(Vec<String>, Box<Self>),
    /// The record's key, where records stand in an object.
    Key,
    /// The record's number in its file, from 0.
    Ordinal,
    /// The id of the record's program: for logs whose candidates have no ids.
    Program,
    /// A value, transformed.
    As(Box<Self>, Transform),
}

/// What can be done to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transform {
    /// Text that holds JSON becomes what it holds.
    Json,
    /// Text that holds a number becomes the number.
    Number,
    /// A number, a truth value, an object or a list becomes text.
    Text,
    /// Thousandths become seconds.
    Milliseconds,
    /// Millionths become seconds.
    Microseconds,
    /// A date and time as ISO 8601 becomes seconds since 1970; without a zone it is UTC.
    Iso8601,
    /// A number changes its sign.
    Negate,
    /// A list becomes its first item.
    First,
    /// A list becomes its last item.
    Last,
    /// A list of texts becomes one text, a line each.
    Lines,
    /// Text becomes its first fenced block.
    Fence,
}

/// The words of mapping files.
pub(super) const TRANSFORMS: [(&str, Transform); 11] = [
    ("json", Transform::Json),
    ("number", Transform::Number),
    ("text", Transform::Text),
    ("milliseconds", Transform::Milliseconds),
    ("microseconds", Transform::Microseconds),
    ("iso8601", Transform::Iso8601),
    ("negate", Transform::Negate),
    ("first", Transform::First),
    ("last", Transform::Last),
    ("lines", Transform::Lines),
    ("fence", Transform::Fence),
];

/// A record and what stands around it.
pub(super) struct Row<'a> {
    pub(super) record: &'a Json,
    /// The document that it stands in, for lookups.
    pub(super) document: Option<&'a Json>,
    pub(super) key: Option<&'a str>,
    pub(super) ordinal: u64,
    /// The id of its program, once that is known.
    pub(super) program: Option<String>,
}

impl Value {
    /// The value of a record; null is absent.
    pub(super) fn of<'a>(&self, row: &Row<'a>) -> Option<Cow<'a, Json>> {
        let value = match self {
            Self::At(path) => Cow::Borrowed(walk(row.record, path)?),
            Self::First(all) => {
                let there = |value: &Cow<'_, Json>| value.as_str().is_none_or(|text| !text.trim().is_empty());
                return all.iter().find_map(|value| value.of(row).filter(there));
            }
            Self::Constant(value) => Cow::Owned(value.clone()),
            Self::Lookup(path, key) => {
                let key = id(key.of(row)?.as_ref())?;
                Cow::Borrowed(walk(row.document?, path)?.as_object()?.get(&key)?)
            }
            Self::Key => Cow::Owned(Json::from(row.key?)),
            Self::Ordinal => Cow::Owned(Json::from(row.ordinal)),
            Self::Program => Cow::Owned(Json::from(row.program.clone()?)),
            Self::As(value, transform) => transform.of(value.of(row)?)?,
        };
        (!value.is_null()).then_some(value)
    }

    pub(super) fn text(&self, row: &Row<'_>) -> Option<String> {
        match self.of(row)?.into_owned() {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn id(&self, row: &Row<'_>) -> Option<String> {
        id(self.of(row)?.as_ref())
    }

    /// One id, or a list of them.
    pub(super) fn ids(&self, row: &Row<'_>) -> Vec<String> {
        match self.of(row).as_deref() {
            Some(Json::Array(items)) => items.iter().filter_map(id).collect(),
            Some(value) => id(value).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// A finite number, also one that is written as text.
    pub(super) fn number(&self, row: &Row<'_>) -> Option<f64> {
        number(self.of(row)?.as_ref()).filter(|number| number.is_finite())
    }

    pub(super) fn integer(&self, row: &Row<'_>) -> Option<i64> {
        let value = self.of(row)?;
        let whole = value.as_i64();
        whole.or_else(|| number(&value).filter(|n| n.fract() == 0.0 && n.abs() < 9e15).map(|n| n as i64))
    }

    /// The columns that it needs of a table; `None` for those of the whole record.
    pub(super) fn columns<'a>(&'a self, out: &mut Vec<&'a str>) {
        match self {
            Self::At(path) => out.extend(path.first().map(String::as_str)),
            Self::First(all) => all.iter().for_each(|value| value.columns(out)),
            Self::Lookup(_, value) | Self::As(value, _) => value.columns(out),
            Self::Constant(_) | Self::Key | Self::Ordinal | Self::Program => {}
        }
    }
}

impl Transform {
    fn of(self, value: Cow<'_, Json>) -> Option<Cow<'_, Json>> {
        let scaled = |value: &Json, by: f64| number(value).map(|number| float(number * by));
        Some(match self {
            Self::Json => match &*value {
                Json::String(text) => Cow::Owned(json::parse(text.as_bytes()).ok()?),
                _ => value,
            },
            Self::Number => Cow::Owned(float(number(&value)?)),
            Self::Text => match &*value {
                Json::String(_) => value,
                other => Cow::Owned(Json::from(finch_core::manifest::canonical_json(other))),
            },
            Self::Milliseconds => Cow::Owned(scaled(&value, 1e-3)?),
            Self::Microseconds => Cow::Owned(scaled(&value, 1e-6)?),
            Self::Negate => Cow::Owned(scaled(&value, -1.0)?),
            Self::Iso8601 => Cow::Owned(float(seconds(value.as_str()?)?)),
            Self::First => Cow::Owned(value.as_array()?.first()?.clone()),
            Self::Last => Cow::Owned(value.as_array()?.last()?.clone()),
            Self::Lines => {
                let lines: Vec<&str> = value.as_array()?.iter().filter_map(Json::as_str).collect();
                Cow::Owned(Json::from(lines.join("\n")))
            }
            Self::Fence => Cow::Owned(Json::from(fence(value.as_str()?)?)),
        })
    }
}

/// The first fenced block of a text.
pub(crate) fn fence(text: &str) -> Option<String> {
    let (_, after) = text.split_once("```")?;
    let (_, body) = after.split_once('\n')?;
    Some(body.split_once("\n```").map_or(body, |(body, _)| body).to_owned())
}

/// Seconds since 1970 of a date and time; one without a zone is taken as UTC.
pub(crate) fn seconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let micros =
        chrono::DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_micros()).or_else(|_| {
            let plain = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
            let read = |form: &&str| chrono::NaiveDateTime::parse_from_str(text, form).ok();
            plain.iter().find_map(read).map(|time| time.and_utc().timestamp_micros()).ok_or(())
        });
    micros.ok().map(|micros| micros as f64 / 1e6)
}

fn walk<'a>(value: &'a Json, path: &[String]) -> Option<&'a Json> {
    path.iter().try_fold(value, |at, part| match at {
        Json::Object(object) => object.get(part),
        Json::Array(items) => items.get(part.parse::<usize>().ok()?),
        _ => None,
    })
}

fn id(value: &Json) -> Option<String> {
    match value {
        Json::String(text) if !text.is_empty() => Some(text.clone()),
        // A column of whole numbers with a gap is one of floats to many writers.
        Json::Number(number) => {
            Some(match number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15) {
                Some(whole) => (whole as i64).to_string(),
                None => number.to_string(),
            })
        }
        _ => None,
    }
}

fn number(value: &Json) -> Option<f64> {
    json::number(value).or_else(|| value.as_str()?.trim().parse().ok())
}

/// A number as JSON; one that is not finite as the word that it has everywhere here.
pub(crate) fn float(number: f64) -> Json {
    match serde_json::Number::from_f64(number) {
        Some(number) => Json::Number(number),
        None if number.is_nan() => Json::from("NaN"),
        None if number > 0.0 => Json::from("Infinity"),
        None => Json::from("-Infinity"),
    }
}
