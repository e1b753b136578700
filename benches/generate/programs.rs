//! Programs alone, in families: what the search for near-duplicates is timed on.
//!
//! A family begins with a new program; each of its others is the one before with up to an eighth of its lines replaced,
//! so that some are above every threshold in use and some below. Families are of 1 to 9, so one program in five is new.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::text::{Random, line, lines};

/// Bytes of a program, at a scale of 1.
const BYTES: f64 = 4096.0;
/// Programs of a family, at most.
const FAMILY: usize = 9;
/// Programs of a row group.
const BATCH: usize = 4096;

/// Writes `programs.parquet`, sorted by nothing, and says how many bytes of text it holds.
pub(crate) fn write(out: &Path, count: u64, seed: u64, scale: f64) -> io::Result<u64> {
    let column = |name: &str| Field::new(name, DataType::Utf8, false);
    let schema = Arc::new(Schema::new(vec![column("program_id"), column("code")]));
    let level = ZstdLevel::try_new(3).map_err(io::Error::other)?;
    let properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(level)).set_dictionary_enabled(false);
    let file = File::create_new(out.join("programs.parquet"))?;
    let mut writer =
        ArrowWriter::try_new(file, schema.clone(), Some(properties.build())).map_err(io::Error::other)?;
    let mut random = Random::new(seed, "programs", 0);
    let (mut family, mut left, mut bytes, mut made) = (Vec::new(), 0, 0, 0);
    while made < count {
        let rows = BATCH.min((count - made) as usize);
        let codes: Vec<String> = (0..rows)
            .map(|_| {
                if left == 0 {
                    family = lines(&mut random, (BYTES * scale) as usize);
                    left = 1 + random.below(FAMILY);
                } else {
                    for _ in 0..random.below(family.len() / 8 + 1) {
                        let at = random.below(family.len());
                        family[at] = line(&mut random);
                    }
                }
                left -= 1;
                family.join("\n") + "\n"
            })
            .collect();
        bytes += codes.iter().map(|code| code.len() as u64).sum::<u64>();
        let ids = codes.iter().map(|code| finch_core::canon::program_id(code).to_string());
        let columns = vec![
            Arc::new(StringArray::from_iter_values(ids)) as _,
            Arc::new(StringArray::from_iter_values(&codes)) as _,
        ];
        let batch = RecordBatch::try_new(schema.clone(), columns).map_err(io::Error::other)?;
        writer.write(&batch).and_then(|()| writer.flush()).map_err(io::Error::other)?;
        made += rows as u64;
    }
    writer.close().map_err(io::Error::other)?;
    Ok(bytes)
}
