//! OpenEvolve's evolution trace in HDF5: a group `traces/trace_000000` a step, its fields as attributes, dicts among
//! them as JSON. The steps are those of the other forms of the trace, which [`super::trace`] reads.
//!
//! Behind the feature `hdf5`. A file is read in places, by a reader written in Rust; what it stumbles over is put into
//! quarantine, a panic included.

use crate::code::Code;
use crate::error::Result;
use crate::ingest::record::{FileLog, Quarantined};
use crate::ingest::{LogFile, Scratch};

#[cfg(not(feature = "hdf5"))]
pub(in crate::ingest) fn read(file: &LogFile, _: &Scratch) -> Result<FileLog> {
    let reason = "an evolution trace in HDF5: this finch was built without the feature `hdf5`";
    let quarantined = vec![Quarantined::file(Code::UnsupportedLog, reason, file)];
    Ok(FileLog { quarantined, ..FileLog::default() })
}

#[cfg(feature = "hdf5")]
pub(in crate::ingest) use with_library::read;

#[cfg(feature = "hdf5")]
mod with_library {
    use std::io::ErrorKind;

    use hdf5_pure::{AttrValue, Error as Hdf5Error, File, Group};
    use serde_json::{Map, Number, Value};

    use super::super::trace::{LINES_AT_ONCE, Trace};
    use super::{Code, FileLog, LogFile, Quarantined, Result, Scratch};
    use crate::error::Error;
    use crate::ingest::json;
    use crate::ingest::open::{self, Guard};

    /// Steps that are read together, at most.
    const AT_ONCE: usize = 256;

    /// Fields that are dicts, and JSON in the file.
    const DICTS: [&str; 6] =
        ["parent_metrics", "child_metrics", "prompt", "improvement_delta", "artifacts", "metadata"];

    const PANIC: &str = "it is damaged in a way that its reader does not survive";

    /// Reads one trace. A file whose list of steps is damaged is kept out as a whole.
    pub(in crate::ingest) fn read(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
        let guard = Guard::of(file)?;
        let mut trace = Trace::new(file, scratch);
        match attempt(file, || groups(file))? {
            Ok(groups) => read_groups(groups, file, &mut trace)?,
            Err(reason) => trace.keep_out(Quarantined::file(Code::BadRecord, reason, file)),
        }
        guard.check(file)?;
        Ok(trace.finish())
    }

    fn read_groups(groups: Vec<(String, Group)>, file: &LogFile, trace: &mut Trace<'_>) -> Result<()> {
        let (mut steps, mut bytes) = (Vec::new(), 0);
        for (ordinal, (name, group)) in (0..).zip(groups) {
            match attempt(file, || fields(&group))?.and_then(|fields| fields) {
                Ok(fields) => {
                    bytes += fields.values().map(size).sum::<usize>();
                    steps.push((ordinal, Value::Object(fields)));
                }
                Err(reason) => {
                    let reason = format!("the step `{}`: {reason}", name.escape_debug());
                    let bad = Quarantined::new(Code::BadRecord, reason, file, ordinal, name.as_bytes());
                    trace.keep_out(bad);
                }
            }
            // Steps may share a text, which stands in the file once.
            if steps.len() == AT_ONCE || bytes >= LINES_AT_ONCE {
                trace.read_values(&steps)?;
                (steps, bytes) = (Vec::new(), 0);
            }
        }
        trace.read_values(&steps)
    }

    /// Asks the library; the inner error says what is wrong with the file, and the outer one with the machine.
    fn attempt<T>(file: &LogFile, work: impl FnOnce() -> Result<T, Hdf5Error>) -> Result<Result<T, String>> {
        match open::guarded(work) {
            Some(Err(Hdf5Error::Io(error))) if file.digest.is_some() && !is_damage(&error) => {
                Err(Error::io("read", &file.path)(error))
            }
            Some(result) => Ok(result.map_err(|error| error.to_string())),
            None => Ok(Err(PANIC.to_owned())),
        }
    }

    /// Whether the file points beyond its end, and the like.
    fn is_damage(error: &std::io::Error) -> bool {
        matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput)
    }

    /// The steps, in the order of their names.
    fn groups(file: &LogFile) -> Result<Vec<(String, Group)>, Hdf5Error> {
        let traces = File::open_streaming(&file.path)?.group("traces")?;
        let mut groups: Vec<(String, Group)> = traces.iter_groups()?.collect();
        // Numbers grow beyond their six digits.
        groups.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
        Ok(groups)
    }

    /// A step's fields as they stand in the JSON forms. The inner error names one that cannot be read: the library
    /// leaves those out.
    fn fields(group: &Group) -> Result<Result<Map<String, Value>, String>, Hdf5Error> {
        let mut values = group.attrs()?;
        let mut fields = Map::new();
        for name in group.attr_datatypes()?.into_keys() {
            let Some(value) = values.remove(&name).and_then(|value| field(&name, value)) else {
                return Ok(Err(format!("its field `{}` cannot be read", name.escape_debug())));
            };
            fields.insert(name, value);
        }
        Ok(Ok(fields))
    }

    /// What OpenEvolve writes: texts and numbers.
    fn field(name: &str, value: AttrValue) -> Option<Value> {
        Some(match value {
            AttrValue::String(text)
            | AttrValue::AsciiString(text)
            | AttrValue::VarLenString(text)
            | AttrValue::VarLenAsciiString(text)
            | AttrValue::StringSized { value: text, .. }
            | AttrValue::AsciiStringSized { value: text, .. } => {
                let dict = DICTS.contains(&name).then(|| json::parse(text.as_bytes()).ok()).flatten();
                dict.unwrap_or(Value::String(text))
            }
            AttrValue::F64(number) => float(number),
            AttrValue::F32(number) => float(f64::from(number)),
            AttrValue::I64(number) => number.into(),
            AttrValue::I32(number) => number.into(),
            AttrValue::I16(number) => number.into(),
            AttrValue::I8(number) => number.into(),
            AttrValue::U64(number) => number.into(),
            AttrValue::U32(number) => number.into(),
            AttrValue::U16(number) => number.into(),
            AttrValue::U8(number) => number.into(),
            _ => return None,
        })
    }

    /// Numbers that are none are words, as everywhere behind the JSON reader.
    fn float(number: f64) -> Value {
        let word = if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        Number::from_f64(number).map_or_else(|| Value::String(word.to_owned()), Value::Number)
    }

    fn size(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(size).sum(),
            Value::Object(fields) => fields.values().map(size).sum(),
            _ => 8,
        }
    }
}
