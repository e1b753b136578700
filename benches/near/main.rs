//! Near-duplicates of the programs in a Parquet file, found as the stage `dedup` finds them: for benchmarks.
//!
//! `near programs.parquet clusters.parquet --threads 2 --memory-limit 1GiB` reads the columns `program_id` and `code`,
//! and writes a row a program with the lowest id of its cluster.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use clap::Parser;
use finch::near::{Items, Likeness, search, tokens};
use finch::shelf::{Shelf, Texts};
use finch_core::shard::{Cuts, TableWriter, read};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "Cluster the programs of a Parquet file by near-duplication", version)]
struct Arguments {
    /// A Parquet file with `program_id` and `code`
    programs: PathBuf,
    /// A folder for the clusters, which must exist
    out: PathBuf,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long, value_parser = finch::spec::parse_bytes, default_value = "1GiB")]
    memory_limit: u64,
    #[arg(long, default_value_t = 5)]
    ngram: usize,
    #[arg(long, default_value_t = 128)]
    permutations: usize,
    #[arg(long, default_value_t = 0.85)]
    threshold: f64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(3),
        },
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(3)
        }
    }
}

fn run(arguments: &Arguments) -> Result<String, Failure> {
    rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build_global()?;
    let begun = Instant::now();
    let scratch = tempfile::tempdir_in(&arguments.out)?;
    let programs = Programs::read(&arguments.programs, arguments.ngram, scratch.path())?;
    let reading = begun.elapsed().as_secs_f64();
    let likeness = Likeness {
        ngram: arguments.ngram,
        permutations: arguments.permutations,
        threshold: arguments.threshold,
    };
    let (lowest, effort) = search(&programs, &likeness, arguments.memory_limit / 4, scratch.path())?;
    let searching = begun.elapsed().as_secs_f64() - reading;
    let clusters = lowest.iter().enumerate().filter(|(at, low)| *at == **low as usize).count();
    programs.write(&lowest, &arguments.out)?;
    Ok(format!(
        "{{\"programs\": {}, \"clusters\": {clusters}, \"compared\": {}, \"alike\": {}, \"reading\": {reading:.3}, \
         \"searching\": {searching:.3}, \"seconds\": {:.3}}}\n",
        lowest.len(),
        effort.compared,
        effort.alike,
        begun.elapsed().as_secs_f64()
    ))
}

struct Programs {
    /// Ids with the numbers of their texts, in order, so that the lowest of a cluster has the lowest id.
    order: Vec<(String, u32)>,
    texts: Texts,
    ngram: usize,
}

impl Programs {
    fn read(path: &Path, ngram: usize, scratch: &Path) -> Result<Self, Failure> {
        let (mut shelf, mut order) = (Shelf::create(scratch)?, Vec::new());
        for batch in read(path)? {
            let batch = batch?;
            let column = |name: &str| {
                let column = batch.column_by_name(name).and_then(AsArray::as_string_opt::<i32>);
                column.ok_or_else(|| format!("`{}` has no texts `{name}`", path.display()))
            };
            for (id, code) in column("program_id")?.iter().zip(column("code")?) {
                order.push((id.unwrap_or_default().to_owned(), shelf.add(code.unwrap_or_default())?));
            }
        }
        order.sort_unstable();
        order.dedup_by(|a, b| a.0 == b.0);
        Ok(Self { order, texts: shelf.finish()?, ngram })
    }

    fn write(&self, lowest: &[u32], out: &Path) -> Result<(), Failure> {
        let column = |name: &str| Field::new(name, DataType::Utf8, false);
        let schema = Arc::new(Schema::new(vec![column("program_id"), column("cluster_id")]));
        let mut writer =
            TableWriter::new(out, "clusters", schema.clone(), &["program_id".to_owned()], Cuts::default())?;
        let id = |at: u32| &self.order[at as usize].0;
        for (start, lowest) in (0..).step_by(8192).zip(lowest.chunks(8192)) {
            let ids = StringArray::from_iter_values((start..).zip(lowest).map(|(at, _)| id(at)));
            let clusters = StringArray::from_iter_values(lowest.iter().map(|&low| id(low)));
            writer.write(&RecordBatch::try_new(schema.clone(), vec![Arc::new(ids), Arc::new(clusters)])?)?;
        }
        writer.finish()?;
        Ok(())
    }
}

impl Items for Programs {
    fn count(&self) -> u32 {
        self.order.len() as u32
    }

    fn group(&self, _: u32) -> u32 {
        0
    }

    fn hashes(&self, item: u32, out: &mut Vec<u64>) -> finch::Result<()> {
        let mut words = Vec::new();
        tokens::tokens(&self.texts.get(self.order[item as usize].1)?, &mut words);
        tokens::shingles(&words, self.ngram, 0, out);
        Ok(())
    }
}
