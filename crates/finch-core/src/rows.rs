//! The `rows` digest: what a table says, apart from how its files say it.
//!
//! Rows are taken in the order of the table's unique key and each value is written in a canonical encoding,
//! version 1, so the digest survives another compressor, another crate version and moved logs: columns named
//! `source` and `source_offset` are for people and are left out. The same encoding measures rows, so that
//! shards are cut by content and not by the batches a query happened to yield.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int32Array, Int64Array,
    LargeStringArray, ListArray, StringArray, StringViewArray, StructArray, TimestampMicrosecondArray,
    UInt8Array,
};
use arrow::datatypes::{
    DataType, Field, Float64Type, Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType, UInt8Type,
};
use arrow::record_batch::RecordBatch;

use crate::{Digest, Error, Kind};

/// Columns that say where a row came from; they never enter a digest.
pub const SOURCE_COLUMNS: [&str; 2] = ["source", "source_offset"];

/// Bytes of a field's length.
const LENGTH: usize = 8;

/// Bytes of rows that are hashed together.
const HASHED_AT_ONCE: usize = 1 << 20;

/// A table's digest in the making; rows must arrive in key order.
#[derive(Debug)]
pub struct RowsDigest {
    hasher: crate::digest::Fields,
    columns: Vec<usize>,
    /// Rows that are not hashed yet, each a field with its length.
    buffer: Vec<u8>,
}

impl RowsDigest {
    /// Starts the digest of a table with this schema: column names and types are part of it.
    pub fn new(schema: &Schema) -> Result<Self, Error> {
        let columns: Vec<usize> = (0..schema.fields().len())
            .filter(|&i| !SOURCE_COLUMNS.contains(&schema.field(i).name().as_str()))
            .collect();
        let mut hasher = Kind::Rows.fields();
        for &i in &columns {
            hasher.push(schema.field(i).name().as_bytes());
            hasher.push(type_name(schema.field(i))?.as_bytes());
        }
        Ok(Self { hasher, columns, buffer: Vec::new() })
    }

    /// Adds a batch and returns each row's size in canonical bytes.
    pub fn update(&mut self, batch: &RecordBatch) -> Result<Vec<usize>, Error> {
        let schema = batch.schema();
        let columns: Vec<Column<'_>> = self
            .columns
            .iter()
            .map(|&i| Column::new(schema.field(i), batch.column(i)))
            .collect::<Result<_, _>>()?;
        let mut sizes = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let start = self.buffer.len() + LENGTH;
            self.buffer.extend_from_slice(&[0; LENGTH]);
            for column in &columns {
                column.encode(row, &mut self.buffer);
            }
            let size = self.buffer.len() - start;
            self.buffer[start - LENGTH..start].copy_from_slice(&(size as u64).to_le_bytes());
            sizes.push(size);
            if self.buffer.len() >= HASHED_AT_ONCE {
                self.hasher.extend(&self.buffer);
                self.buffer.clear();
            }
        }
        Ok(sizes)
    }

    /// The digest of all rows.
    pub fn finish(mut self) -> Digest {
        self.hasher.extend(&self.buffer);
        self.hasher.finish()
    }
}

/// The digest of each row by itself, over the canonical encoding of all its columns: equal where rows say the same in
/// columns of the same types. It is for comparing rows and is stored nowhere.
pub fn each(batch: &RecordBatch) -> Result<Vec<Digest>, Error> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let columns: Vec<Column<'_>> =
        columns.map(|(field, array)| Column::new(field, array)).collect::<Result<_, _>>()?;
    let mut buffer = Vec::new();
    let digests = (0..batch.num_rows()).map(|row| {
        buffer.clear();
        for column in &columns {
            column.encode(row, &mut buffer);
        }
        Digest::of_bytes(&buffer)
    });
    Ok(digests.collect())
}

/// The name of a column's type in the canonical encoding. Text is text however Arrow lays it out.
fn type_name(field: &Field) -> Result<String, Error> {
    Ok(match field.data_type() {
        DataType::Boolean => "bool".to_owned(),
        DataType::Int64 | DataType::Int32 | DataType::UInt8 => "int".to_owned(),
        DataType::Float64 => "float".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Binary => "bytes".to_owned(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => "timestamp".to_owned(),
        DataType::List(item) => format!("list<{}>", type_name(item)?),
        DataType::Struct(fields) => {
            let names: Result<Vec<String>, Error> =
                fields.iter().map(|field| Ok(format!("{}:{}", field.name(), type_name(field)?))).collect();
            format!("struct<{}>", names?.join(","))
        }
        other => {
            return Err(Error::ColumnType { column: field.name().clone(), data_type: other.clone() });
        }
    })
}

/// A column seen through its concrete type, so that the type is matched once a batch and not once a value.
enum Column<'a> {
    Bool(&'a BooleanArray),
    Int64(&'a Int64Array),
    Int32(&'a Int32Array),
    UInt8(&'a UInt8Array),
    Float(&'a Float64Array),
    Text(&'a StringArray),
    LargeText(&'a LargeStringArray),
    TextView(&'a StringViewArray),
    Bytes(&'a BinaryArray),
    Timestamp(&'a TimestampMicrosecondArray),
    List(&'a ListArray, Box<Self>),
    Struct(&'a StructArray, Vec<Self>),
}

impl<'a> Column<'a> {
    fn new(field: &Field, array: &'a ArrayRef) -> Result<Self, Error> {
        Ok(match array.data_type() {
            DataType::Boolean => Self::Bool(array.as_boolean()),
            DataType::Int64 => Self::Int64(array.as_primitive::<Int64Type>()),
            DataType::Int32 => Self::Int32(array.as_primitive::<Int32Type>()),
            DataType::UInt8 => Self::UInt8(array.as_primitive::<UInt8Type>()),
            DataType::Float64 => Self::Float(array.as_primitive::<Float64Type>()),
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::LargeUtf8 => Self::LargeText(array.as_string()),
            DataType::Utf8View => Self::TextView(array.as_string_view()),
            DataType::Binary => Self::Bytes(array.as_binary()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::Timestamp(array.as_primitive::<TimestampMicrosecondType>())
            }
            DataType::List(item) => {
                let list: &ListArray = array.as_list();
                Self::List(list, Box::new(Self::new(item, list.values())?))
            }
            DataType::Struct(fields) => {
                let array = array.as_struct();
                let columns: Result<Vec<_>, Error> = fields
                    .iter()
                    .zip(array.columns())
                    .map(|(field, column)| Self::new(field, column))
                    .collect();
                Self::Struct(array, columns?)
            }
            other => {
                return Err(Error::ColumnType { column: field.name().clone(), data_type: other.clone() });
            }
        })
    }

    fn array(&self) -> &dyn Array {
        match self {
            Self::Bool(a) => *a,
            Self::Int64(a) => *a,
            Self::Int32(a) => *a,
            Self::UInt8(a) => *a,
            Self::Float(a) => *a,
            Self::Text(a) => *a,
            Self::LargeText(a) => *a,
            Self::TextView(a) => *a,
            Self::Bytes(a) => *a,
            Self::Timestamp(a) => *a,
            Self::List(a, _) => *a,
            Self::Struct(a, _) => *a,
        }
    }

    /// Appends one value: a marker (0 null, 1 present), then the value; lengths are 64-bit little-endian.
    fn encode(&self, row: usize, out: &mut Vec<u8>) {
        if self.array().is_null(row) {
            out.push(0);
            return;
        }
        out.push(1);
        let mut bytes = |bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        };
        match self {
            Self::Bool(a) => out.push(u8::from(a.value(row))),
            Self::Int64(a) => out.extend_from_slice(&a.value(row).to_le_bytes()),
            Self::Int32(a) => out.extend_from_slice(&i64::from(a.value(row)).to_le_bytes()),
            Self::UInt8(a) => out.extend_from_slice(&i64::from(a.value(row)).to_le_bytes()),
            Self::Float(a) => out.extend_from_slice(&float_bits(a.value(row)).to_le_bytes()),
            Self::Text(a) => bytes(a.value(row).as_bytes()),
            Self::LargeText(a) => bytes(a.value(row).as_bytes()),
            Self::TextView(a) => bytes(a.value(row).as_bytes()),
            Self::Bytes(a) => bytes(a.value(row)),
            Self::Timestamp(a) => out.extend_from_slice(&a.value(row).to_le_bytes()),
            Self::List(a, items) => {
                let offsets = a.value_offsets();
                let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                out.extend_from_slice(&((end - start) as u64).to_le_bytes());
                for item in start..end {
                    items.encode(item, out);
                }
            }
            Self::Struct(_, columns) => {
                for column in columns {
                    column.encode(row, out);
                }
            }
        }
    }
}

/// A float's bits with one zero and one NaN.
fn float_bits(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn digest(columns: Vec<(&str, ArrayRef)>) -> Digest {
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, true)),
        )
        .expect("batch");
        let mut digest = RowsDigest::new(&batch.schema()).expect("types");
        digest.update(&batch).expect("update");
        digest.finish()
    }

    #[test]
    fn zeros_and_nans_are_one_and_layouts_do_not_count() {
        let floats = |v: Vec<f64>| digest(vec![("x", Arc::new(Float64Array::from(v)) as ArrayRef)]);
        assert_eq!(floats(vec![0.0, f64::NAN]), floats(vec![-0.0, -f64::NAN]));
        assert_ne!(floats(vec![0.0]), floats(vec![1.0]));
        let plain = digest(vec![("x", Arc::new(StringArray::from(vec!["a", "b"])))]);
        let view = digest(vec![("x", Arc::new(StringViewArray::from(vec!["a", "b"])))]);
        assert_eq!(plain, view);
    }

    #[test]
    fn source_columns_do_not_count_but_names_nulls_and_order_do() {
        let ids = || Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef;
        let base = digest(vec![("id", ids())]);
        assert_eq!(base, digest(vec![("id", ids()), ("source", ids())]));
        assert_ne!(base, digest(vec![("name", ids())]));
        assert_ne!(base, digest(vec![("id", Arc::new(StringArray::from(vec!["b", "a"])))]));
        let empty = digest(vec![("id", Arc::new(StringArray::from(vec![Some("")])))]);
        let null = digest(vec![("id", Arc::new(StringArray::from(vec![None::<&str>])))]);
        assert_ne!(empty, null);
    }

    #[test]
    fn each_row_has_its_own_digest() {
        let texts = |v: Vec<Option<&str>>| Arc::new(StringArray::from(v)) as ArrayRef;
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("a", texts(vec![Some("x"), Some("xy"), None, Some("x")]), true),
            ("b", texts(vec![Some("yz"), Some("z"), Some("x"), Some("yz")]), true),
        ])
        .expect("batch");
        let digests = each(&batch).expect("types");
        assert_eq!(digests[0], digests[3]);
        assert!(digests[0] != digests[1] && digests[1] != digests[2], "boundaries and nulls count");
        assert_eq!(each(&batch.slice(1, 2)).expect("types"), digests[1..3]);
    }

    #[test]
    fn sliced_lists_hash_as_their_copies() {
        let list = || {
            ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
                Some(vec![Some(1), Some(2)]),
                None,
                Some(vec![]),
                Some(vec![Some(3), None]),
            ])
        };
        let whole = Arc::new(list()) as ArrayRef;
        let tail = digest(vec![("x", whole.slice(2, 2))]);
        let copy =
            ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![]), Some(vec![Some(3), None])]);
        assert_eq!(tail, digest(vec![("x", Arc::new(copy))]));
    }

    #[test]
    fn a_type_without_encoding_is_refused_by_name() {
        let schema = Schema::new(vec![Field::new("d", DataType::Date32, true)]);
        let error = RowsDigest::new(&schema).expect_err("dates have no encoding").to_string();
        assert!(error.contains("`d`") && error.contains("Date32"), "{error}");
    }
}
