//! The fuzz targets: one function for each reader, from any bytes at all to what must hold of them.
//!
//! One file, because two programs share it: the fuzzers of this crate, and a test of finch that runs a bounded number
//! of mutations without them. So it uses what finch makes public, `serde_json`, `tempfile` and the standard library.
//! What is checked: nothing panics, takes long or stops a build; what is quarantined is no larger than what was there;
//! every place that a record names exists; reading twice says the same, and so does what the cache keeps; archives
//! write below their folder alone. It must not know how a reader works, nor write outside its own temporary folder.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use finch::ingest::archive::stream::{self, Bounds};
use finch::ingest::archive::unpack::{Limits, Unpacked, unpack as unpack_archive};
use finch::ingest::discover::{LogFile, Part};
use finch::ingest::mapping::{self, Mapping};
use finch::ingest::recognise::{Look, look};
use finch::ingest::shape::Shape;
use finch::ingest::{FileLog, Format, Scratch, json as lenient, pickle as pickles, prompt as prompts};
use finch_core::canon::canonical;
use finch_core::manifest::canonical_json;
use finch_core::replay::{self as replays, How, Replay};
use finch_core::{Digest, answer};

/// A target: what it is called, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("openevolve_program", openevolve_program),
    ("openevolve_trace", openevolve_trace),
    ("openevolve_hdf5", openevolve_hdf5),
    ("openevolve_bulk", openevolve_bulk),
    ("openevolve_console", openevolve_console),
    ("skydiscover", skydiscover),
    ("codeevolve", codeevolve),
    ("gepa", gepa),
    ("eoh", eoh),
    ("reevo", reevo),
    ("funsearch", funsearch),
    ("dgm", dgm),
    ("shinka_folder", shinka_folder),
    ("shinka_database", shinka_database),
    ("finch_parquet", finch_parquet),
    ("mapping_json", mapping_json),
    ("mapping_csv", mapping_csv),
    ("mapping_spec", mapping_spec),
    ("pickle", pickle),
    ("json", json),
    ("recognise", recognise),
    ("prompt", prompt),
    ("archive_tar", archive_tar),
    ("archive_zip", archive_zip),
    ("stream", stream_of_bytes),
    ("replay", replay),
];

/// What parts the pieces of an input that is several files.
pub const BREAK: &[u8] = b"\xff\x00";
/// What parts a database from its write-ahead log; the shorter mark is common in databases.
pub const BREAK_LOG: &[u8] = b"\xff\x00write-ahead\xff\x00";

/// Inputs up to this length must be done within [`LONGEST`].
const SMALL: usize = 64 << 10;
const LONGEST: Duration = Duration::from_secs(2);
/// Executions that share a scratch: its memory grows with what it has seen.
const USES: u32 = 3000;
/// One of so many executions reads its input twice.
const TWICE: u64 = 64;

/// Where inputs are written, and what readers write into.
struct Bench {
    root: tempfile::TempDir,
    scratch: Scratch,
    made: u32,
    uses: u32,
    folders: HashSet<PathBuf>,
}

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
    static RUNS: Cell<u64> = const { Cell::new(0) };
    static OUTCOME: Cell<u64> = const { Cell::new(0) };
}

/// A number for what the last input led to: inputs of different outcomes are worth keeping. Without instruments in the
/// code, this is what a fuzzer can see.
pub fn outcome() -> u64 {
    OUTCOME.get()
}

fn note(what: impl Hash) {
    let mut hasher = DefaultHasher::new();
    (OUTCOME.get(), what).hash(&mut hasher);
    OUTCOME.set(hasher.finish());
}

impl Bench {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let root = made.expect("a temporary folder");
        let scratch = scratch_in(root.path(), 0);
        Self { root, scratch, made: 0, uses: 0, folders: HashSet::new() }
    }

    /// Counts a use, and takes a new scratch now and then.
    fn turn(&mut self) {
        self.uses += 1;
        if self.uses.is_multiple_of(USES) {
            let old = self.root.path().join(format!("scratch{}", self.made));
            self.made += 1;
            self.scratch = scratch_in(self.root.path(), self.made);
            let _ = fs::remove_dir_all(old);
        }
    }

    /// Writes an input's file below the folder of inputs.
    fn write(&mut self, within: &str, bytes: &[u8]) -> PathBuf {
        let path = self.root.path().join("in").join(within);
        let folder = path.parent().expect("below a folder").to_path_buf();
        if !self.folders.contains(&folder) {
            fs::create_dir_all(&folder).expect("a folder for inputs");
            self.folders.insert(folder);
        }
        fs::write(&path, bytes).expect("an input is written");
        path
    }
}

fn scratch_in(root: &Path, number: u32) -> Scratch {
    let folder = root.join(format!("scratch{number}"));
    fs::create_dir_all(&folder).expect("a folder for scratch");
    Scratch::create(&folder).expect("a scratch")
}

/// Runs a body on the bench of this thread. One that panics loses it, so that nothing half-done stays.
fn on_bench<T>(body: impl FnOnce(&mut Bench) -> T) -> T {
    let mut bench = BENCH.take().unwrap_or_else(Bench::new);
    bench.turn();
    let out = body(&mut bench);
    BENCH.set(Some(bench));
    out
}

/// Runs a body in time, twice now and then; both must say the same.
fn checked<T: PartialEq + std::fmt::Debug>(length: usize, mut body: impl FnMut() -> T) -> T {
    OUTCOME.set(0);
    let mut timed = || {
        let start = Instant::now();
        let out = body();
        (out, start.elapsed())
    };
    let (out, mut taken) = timed();
    // A machine that does something else is slow once, and not three times.
    for _ in 0..2 {
        if length < SMALL && taken > LONGEST {
            taken = taken.min(timed().1);
        }
    }
    assert!(length >= SMALL || taken <= LONGEST, "{length} bytes took {taken:?}");
    RUNS.set(RUNS.get() + 1);
    if RUNS.get().is_multiple_of(TWICE) {
        assert_eq!(timed().0, out, "twice the same input, and not the same outcome");
    }
    out
}

/// How large a quarantined entry may be: as large as its log, or as what that becomes when its values are written
/// again.
#[derive(Clone, Copy)]
enum Most {
    Times(u64),
    /// What is compressed or encoded may grow.
    Anything,
}

fn check_log(log: &FileLog, file: &LogFile, most: Most) {
    let place = |part: u32, source: &str, what: &str| {
        assert!(
            (part as usize) < file.parts.len().max(1),
            "{what} is in part {part} of {}",
            file.parts.len()
        );
        assert_eq!(*source, *file.source_of(part), "{what} of part {part} is said to be elsewhere");
    };
    for record in &log.records {
        place(record.part, &record.source, "a record");
        assert!(!record.native_id.is_empty(), "a record without an id");
        assert!(record.created_at.is_none_or(|at| at.abs() < 9_000_000_000_000_000_000), "a time beyond all");
    }
    for attempt in &log.attempts {
        place(attempt.part, &attempt.source, "an attempt");
    }
    for bad in &log.quarantined {
        place(bad.part, &bad.source, "a quarantined entry");
        if let Most::Times(times) = most {
            assert!(
                bad.bytes <= file.bytes * times + 64,
                "{} of {} bytes: {}",
                bad.bytes,
                file.bytes,
                bad.reason
            );
        }
        assert!(bad.raw.len() as u64 <= bad.bytes, "more is kept than there was");
        let head = String::from_utf8_lossy(&bad.raw[..bad.raw.len().min(200)]);
        assert!(bad.raw.is_empty() || head == bad.excerpt, "an excerpt of something else");
        let told: String = bad.reason.chars().filter(|c| !c.is_ascii_digit()).take(60).collect();
        note((bad.code.to_string(), told));
    }
    // The cache keeps what was read as JSON, without the sources, unless that could not be read back.
    if log.is_deep() {
        note("deep");
        return;
    }
    let text = serde_json::to_string(log).expect("a log can be kept");
    let mut kept: FileLog = serde_json::from_str(&text).expect("what is kept can be read");
    kept.records.iter_mut().for_each(|record| record.source = file.source_of(record.part));
    kept.attempts.iter_mut().for_each(|attempt| attempt.source = file.source_of(attempt.part));
    kept.quarantined.iter_mut().for_each(|bad| bad.source = file.source_of(bad.part));
    assert_eq!(&kept, log, "what is kept is not what was read");
    note((log.records.len().ilog2_or_none(), log.attempts.len().ilog2_or_none(), log.replaced > 0));
    for record in log.records.iter().take(8) {
        note((
            record.operator,
            record.replayed.map(|replayed| replayed.exact),
            record.failure.map(finch::ingest::assess::Failure::word),
        ));
        note((
            record.metrics.len().min(4),
            record.parents.len().min(2),
            record.pool.len().min(2),
            record.stub,
        ));
        note((record.rebuilt, record.no_step, record.feedback.is_some(), record.iteration.is_some()));
    }
}

/// The order of magnitude of a count.
trait Magnitude {
    fn ilog2_or_none(self) -> Option<u32>;
}

impl Magnitude for usize {
    fn ilog2_or_none(self) -> Option<u32> {
        self.checked_ilog2()
    }
}

fn log_file(path: PathBuf, name: &str, format: Format, data: &[u8]) -> LogFile {
    LogFile {
        path,
        source: name.into(),
        in_unit: name.to_owned(),
        format,
        mapping: None,
        bytes: data.len() as u64,
        digest: Some(Digest::of_bytes(data)),
        settled: None,
        parts: Vec::new(),
    }
}

fn read_checked(file: &LogFile, bench: &Bench, most: Most) {
    let log = checked(file.bytes as usize, || {
        file.format.read(file, &bench.scratch).expect("no log is a reason to stop a build")
    });
    check_log(&log, file, most);
}

fn is_compressed(data: &[u8]) -> bool {
    stream::Format::of(data) != stream::Format::Plain
}

/// A log that is one file.
fn one(name: &str, format: Format, data: &[u8], most: u64) {
    on_bench(|bench| {
        let path = bench.write(name, data);
        let most = if is_compressed(data) { Most::Anything } else { Most::Times(most) };
        read_checked(&log_file(path, name, format, data), bench, most);
    });
}

/// A log that one of the built-in mappings, or another one, describes.
fn mapped(name: &str, mapping: &Arc<Mapping>, data: &[u8], most: Most) {
    on_bench(|bench| {
        let path = bench.write(name, data);
        let mut file = log_file(path, name, Format::Mapped, data);
        file.mapping = Some(mapping.clone());
        let most = if is_compressed(data) { Most::Anything } else { most };
        read_checked(&file, bench, most);
    });
}

/// The pieces of an input, without what parts them.
pub fn pieces<'a>(data: &'a [u8], mark: &[u8]) -> Vec<&'a [u8]> {
    let mut all = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(mark.len()).position(|window| window == mark) {
        all.push(&rest[..at]);
        rest = &rest[at + mark.len()..];
    }
    all.push(rest);
    all
}

/// A log that is a folder: the first byte of each piece picks a name, and the last piece of a name is its file.
fn folder(format: Format, names: &[&str], data: &[u8]) {
    let mut files: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for piece in pieces(data, BREAK) {
        let Some((pick, bytes)) = piece.split_first() else { continue };
        files.insert(names[usize::from(*pick) % names.len()], bytes);
    }
    folder_of(format, &files, data);
}

fn folder_of(format: Format, files: &BTreeMap<&str, &[u8]>, data: &[u8]) {
    on_bench(|bench| {
        let mut file = log_file(bench.root.path().join("in/run"), "run", format, data);
        file.parts = files
            .iter()
            .map(|(within, bytes)| Part {
                path: bench.write(&format!("run/{within}"), bytes),
                within: (*within).to_owned(),
                source: format!("run/{within}").into(),
                bytes: bytes.len() as u64,
                digest: Some(Digest::of_bytes(bytes)),
                settled: None,
            })
            .collect();
        file.bytes = file.parts.iter().map(|part| part.bytes).sum();
        let grows = files.values().any(|bytes| is_compressed(bytes)) || format == Format::ShinkaFolder;
        read_checked(&file, bench, if grows { Most::Anything } else { Most::Times(6) });
    });
}

/// OpenEvolve and ThetaEvolve: one program.
pub fn openevolve_program(data: &[u8]) {
    one("programs/a.json", Format::OpenEvolveProgram, data, 1);
}

/// OpenEvolve: a trace, as lines or as one document.
pub fn openevolve_trace(data: &[u8]) {
    let document = data.windows(8).any(|window| window == b"\"traces\"");
    let name = if document { "evolution_trace.json" } else { "evolution_trace.jsonl" };
    one(name, Format::OpenEvolveTrace, data, 6);
}

/// OpenEvolve: a trace in HDF5.
pub fn openevolve_hdf5(data: &[u8]) {
    const NAME: &str = "evolution_trace.hdf5";
    on_bench(|bench| {
        let path = bench.write(NAME, data);
        // Steps may share a text, which stands in the file once.
        read_checked(&log_file(path, NAME, Format::OpenEvolveHdf5, data), bench, Most::Anything);
    });
}

/// OpenEvolve and ThetaEvolve: programs in bulk.
pub fn openevolve_bulk(data: &[u8]) {
    one("programs_bulk.json", Format::ThetaDatabase, data, 6);
}

/// OpenEvolve: what was printed.
pub fn openevolve_console(data: &[u8]) {
    one("openevolve.log", Format::OpenEvolveConsole, data, 1);
}

/// SkyDiscover: one program.
pub fn skydiscover(data: &[u8]) {
    one("programs/b.json", Format::SkyDiscoverProgram, data, 1);
}

/// CodeEvolve: the checkpoint of an island.
pub fn codeevolve(data: &[u8]) {
    one("ckpt_5.pkl", Format::CodeEvolvePickle, data, 1);
}

/// GEPA: a run's folder.
pub fn gepa(data: &[u8]) {
    const NAMES: &[&str] = &[
        "gepa_state.bin",
        "gepa_state.json",
        "candidates.json",
        "run_log.json",
        "proposer_calls/call_001.json",
        "proposer_calls/call_002.json",
    ];
    folder(Format::GepaFolder, NAMES, data);
}

/// EoH: samples and populations.
pub fn eoh(data: &[u8]) {
    const NAMES: &[&str] = &[
        "samples/samples_1~4.json",
        "samples/samples_5~8.json",
        "samples/samples_1~2.json",
        "samples/samples_0~18446744073709551615.json",
        "pops/population_generation_0.json",
        "pops/population_generation_1.json",
        "pops/population_generation_9223372036854775807.json",
        "run_log.txt",
    ];
    folder(Format::EohFolder, NAMES, data);
}

/// ReEvo: a working folder.
pub fn reevo(data: &[u8]) {
    const NAMES: &[&str] = &[
        "problem_iter0_response0.txt",
        "problem_iter0_stdout0.txt",
        "problem_iter0_code0.py",
        "problem_iter1_response0.txt",
        "problem_iter1_response0.txt_stdout.txt",
        "problem_iter1_response1.txt",
        "config.yaml",
        ".hydra/config.yaml",
    ];
    folder(Format::ReevoFolder, NAMES, data);
}

/// FunSearch: a folder of prompts and responses, or the database of programs.
pub fn funsearch(data: &[u8]) {
    const NAMES: &[&str] =
        &["prompt_0.log", "response_0.log", "prompt_1.log", "response_1.log", "response_12.log"];
    if data.first() == Some(&0x80) {
        one("program_db.pickle", Format::FunsearchPickle, data, 1);
    } else {
        folder(Format::FunsearchFolder, NAMES, data);
    }
}

/// DGM: an output folder.
pub fn dgm(data: &[u8]) {
    const NAMES: &[&str] = &[
        "dgm_metadata.jsonl",
        "a/metadata.json",
        "a/model_patch.diff",
        "b/metadata.json",
        "b/model_patch.diff",
        "c/metadata.json",
        "c/model_patch.diff",
    ];
    folder(Format::DgmFolder, NAMES, data);
}

/// ShinkaEvolve without its database.
pub fn shinka_folder(data: &[u8]) {
    const NAMES: &[&str] = &[
        "gen_0/main.py",
        "gen_0/results/metrics.json",
        "gen_0/results/correct.json",
        "gen_1/main.py",
        "gen_1/original.py",
        "gen_1/results/metrics.json",
        "gen_1/results/correct.json",
        "gen_1/search_replace.txt",
        "gen_1/attempts/novelty_1/resample_1/patch_1/metadata.json",
        "gen_1/attempts/novelty_1/resample_1/patch_1/llm_response.txt",
        "gen_2/main.cpp",
        "gen_2/original.cpp",
        "gen_2/rewrite.txt",
        "meta_memory.json",
    ];
    folder(Format::ShinkaFolder, NAMES, data);
}

/// ShinkaEvolve's database with its write-ahead log. SQLite is C, and apart from the other targets.
pub fn shinka_database(data: &[u8]) {
    let mut files = BTreeMap::new();
    for (name, piece) in ["programs.sqlite", "programs.sqlite-wal"].into_iter().zip(pieces(data, BREAK_LOG)) {
        files.insert(name, piece);
    }
    folder_of(Format::ShinkaFolder, &files, data);
}

fn built_in(scaffold: &str) -> &'static Arc<Mapping> {
    mapping::built_in().iter().find(|mapping| mapping.scaffold == scaffold).expect("a mapping of this name")
}

/// The published collection, in Parquet.
pub fn finch_parquet(data: &[u8]) {
    mapped("train.parquet", built_in("finch"), data, Most::Anything);
}

/// A mapping that uses what a mapping can say.
const WIDE: &str = r#"
scaffold = "wide"
[run]
of = "folder"
id = "run"
task = { at = "task", as = "text" }
[score]
key = "loss"
maximize = "up"
[candidate]
id = ["/n", "id", "$key", "$program"]
parents = ["from", { at = "all", as = "json" }]
copy_of = "copy"
code = [{ at = "answer", as = "fence" }, "code"]
language = "language"
iteration = "$ordinal"
island = { at = "island", as = "number" }
generation = "generation"
metrics = { at = "more", as = "json" }
score = { at = "loss", as = "negate" }
error = { at = "errors", as = "last" }
feedback = { at = "errors", as = "lines" }
eval_seconds = { at = "ms", as = "milliseconds" }
created_at = [{ at = "when", as = "iso8601" }, { at = "us", as = "microseconds" }]
system_prompt = { value = "system" }
user_prompt = { lookup = "/prompts", key = "prompt" }
reasoning = "thoughts"
response = "answer"
model = { at = "models", as = "first" }
temperature = "temperature"
prompt_tokens = "tokens"
cost = "cost"
inspirations = "seen"
[parent]
code = "before"
score = "loss_before"
[[failure]]
at = "loss"
above = 1000
failure = "rejected"
[[failure]]
at = "errors"
present = true
"#;

fn parsed(text: &[u8]) -> Option<Mapping> {
    on_bench(|bench| Mapping::read(&bench.write("mapping.toml", text)).ok())
}

fn wide() -> Arc<Mapping> {
    thread_local! {
        static MAPPING: Arc<Mapping> = Arc::new(parsed(WIDE.as_bytes()).expect("a mapping"));
    }
    MAPPING.with(Arc::clone)
}

/// Mapped records in JSON; the first byte picks the mapping and the file's name.
pub fn mapping_json(data: &[u8]) {
    let (pick, data) = data.split_first().map_or((0, data), |(pick, rest)| (*pick, rest));
    let most = Most::Times(6);
    match pick % 6 {
        0 => mapped("journal.json", built_in("aide"), data, most),
        1 => mapped("samples_1~4.json", built_in("llm4ad"), data, most),
        2 => mapped("samples_1.json", built_in("llmsr"), data, most),
        3 => mapped("puct_sampler_step_1.json", built_in("tttdiscover"), data, most),
        4 => mapped("log.json", &wide(), data, most),
        _ => mapped("log.jsonl", &wide(), data, most),
    }
}

/// Mapped records in CSV.
pub fn mapping_csv(data: &[u8]) {
    // Each row is written with the names of its columns.
    mapped("log.csv", &wide(), data, Most::Times(12));
}

/// A mapping, and what it is used on.
pub fn mapping_spec(data: &[u8]) {
    let pieces = pieces(data, BREAK);
    let spec = checked(pieces[0].len(), || parsed(pieces[0]).map(|mapping| mapping.digest));
    note(spec.is_some());
    let Some(mapping) = parsed(pieces[0]).map(Arc::new) else { return };
    let usual: &[u8] = br#"[{"id": 1, "code": "a = 1", "score": 2}, {"id": "2", "code": null}]"#;
    let data = pieces.get(1).copied().unwrap_or(usual);
    for name in ["log.json", "log.jsonl", "log.csv"] {
        mapped(name, &mapping, data, Most::Anything);
    }
}

/// A pickle, and everything that can be asked of each of its nodes.
pub fn pickle(data: &[u8]) {
    let seen = checked(data.len(), || {
        let decoded = match pickles::decode(data) {
            Ok(decoded) => decoded,
            Err(error) => {
                assert!(error.offset <= data.len(), "{error}");
                return Err(error.kind);
            }
        };
        assert!(decoded.trailing() <= data.len());
        assert!((decoded.root().id() as usize) < decoded.nodes());
        // What one node gives is as long as its text; a text can be an argument of every object.
        let mut budget: usize = 8 << 20;
        let mut hasher = DefaultHasher::new();
        for node in decoded.walk() {
            let (text, bytes) = if budget > 0 { (node.as_text(), node.as_bytes()) } else { (None, None) };
            budget = budget.saturating_sub(text.as_ref().map_or(0, |text| text.len()));
            budget = budget.saturating_sub(bytes.as_ref().map_or(data.len() / 64, |bytes| bytes.len()));
            (node.kind(), node.as_bool(), node.as_i64(), node.as_f64().map(f64::to_bits)).hash(&mut hasher);
            (text, bytes, node.class()).hash(&mut hasher);
            for item in node.items().chain(node.args()) {
                assert!((item.id() as usize) < decoded.nodes());
            }
            for (key, value) in node.entries().take(64) {
                // What is no UTF-8 is told apart by its bytes, and read as the same text.
                let clear = |name: &std::borrow::Cow<'_, str>| name.len() < 64 && !name.contains('\u{fffd}');
                let Some(name) = key.as_text().filter(clear) else { continue };
                let found = node.get(&name).expect("a key that is there has a value");
                assert!(value.id() != found.id() || value.kind() == found.kind());
                note((value.kind(), found.kind()));
            }
            let all = [node.callable(), node.keywords(), node.state(), node.attribute("id"), node.get("id")];
            all.map(|other| other.map(finch::ingest::pickle::Value::id)).hash(&mut hasher);
        }
        Ok(hasher.finish())
    });
    note(format!("{:?}", seen.map(|_| ())));
}

/// JSON as scaffolds write it.
pub fn json(data: &[u8]) {
    let mut replaced = 0;
    let value = checked(data.len(), || {
        replaced = 0;
        lenient::parse_counting(data, &mut replaced).map_err(|error| (error.message, error.truncated))
    });
    match &value {
        Ok(value) => {
            let text = canonical_json(value);
            let again: serde_json::Value = serde_json::from_str(&text).expect("what was read can be written");
            assert_eq!(&again, value, "what is written is not what was read");
            assert_eq!(canonical_json(&again), text);
            assert_eq!(lenient::parse(text.as_bytes()).ok().as_ref(), Some(value));
            assert!(replaced <= data.len() as u64);
            let number = lenient::number(value).map(f64::is_finite);
            note((
                number,
                replaced > 0,
                text.len().checked_ilog2(),
                text.bytes().filter(|b| *b == b'[').count().min(4),
            ));
        }
        Err(error) => note(error),
    }
}

/// What a file is, by its head and its name, which the first byte picks.
pub fn recognise(data: &[u8]) {
    const NAMES: &[&str] = &[
        "a.json",
        "a.jsonl",
        "metadata.json",
        "a.pkl",
        "a.parquet",
        "a.csv",
        "a.log",
        "a.json.gz",
        "a.jsonl.zst",
        "a.tar",
        "a.zip",
        "a.tar.gz",
        "evolution_trace.hdf5",
        "a.db",
        "a.txt",
        "a.gz",
    ];
    let (pick, data) = data.split_first().map_or((0, data), |(pick, rest)| (*pick, rest));
    let name = NAMES[usize::from(pick) % NAMES.len()];
    let path = on_bench(|bench| bench.write(&format!("look/{name}"), data));
    let found = checked(data.len(), || {
        let shape = Shape::of(data);
        let found = match look(&path, None) {
            Look::Log(finding) => {
                assert!((0.5..=1.0).contains(&finding.certainty), "{}", finding.certainty);
                format!("{:?} {}", finding.format, finding.evidence)
            }
            Look::Known(why) => why.to_owned(),
            other => format!("{other:?}"),
        };
        (found, shape)
    });
    if let Some(shape) = &found.1 {
        assert!(shape.keys.len() <= 200 && shape.inner.len() <= 200);
        note((shape.container as u8, shape.keys.len().min(4), shape.inner.len().min(4)));
    }
    note(found.0);
}

/// The program that a prompt shows.
pub fn prompt(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let shown = checked(data.len(), || prompts::current_program(&text).map(str::to_owned));
    assert!(shown.as_ref().is_none_or(|shown| text.contains(shown.as_str())));
    note(shown.map(|shown| shown.len().checked_ilog2()));
}

/// A tar, compressed or not.
pub fn archive_tar(data: &[u8]) {
    unpack("a.tar", data);
}

/// A zip.
pub fn archive_zip(data: &[u8]) {
    unpack("a.zip", data);
}

fn unpack(name: &str, data: &[u8]) {
    let limits =
        Limits { bytes: 4 << 20, entries: 400, bounds: Bounds { times: 1000, slack: 1 << 20 }, listed: 20 };
    let (archive, outer) = on_bench(|bench| (bench.write(name, data), bench.root.path().join("out")));
    let into = outer.join("into");
    let done = checked(data.len(), || {
        let _ = fs::remove_dir_all(&outer);
        fs::create_dir_all(&into).expect("an empty folder");
        let done = match unpack_archive(&archive, &into, &limits, &|| false) {
            Ok(done) => done,
            Err(finch::ingest::archive::unpack::Error::NotAnArchive(_)) => return None,
            Err(error) => panic!("no archive is a reason to stop a build: {error}"),
        };
        let mut found = Vec::new();
        list(&into, &mut found);
        assert_eq!(
            fs::read_dir(&outer).expect("listed").count(),
            1,
            "something was written beside the folder"
        );
        Some((done, found))
    });
    let Some((done, found)) = done else { return };
    check_unpacked(&done, &found, &limits);
}

/// The files below a folder with their sizes. Nothing else may be there but folders.
fn list(folder: &Path, found: &mut Vec<(PathBuf, u64)>) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).expect("listed").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        let meta = path.symlink_metadata().expect("it is there");
        if meta.is_dir() {
            list(&path, found);
        } else {
            assert!(meta.is_file(), "neither a file nor a folder: {}", path.display());
            found.push((path, meta.len()));
        }
    }
}

fn check_unpacked(done: &Unpacked, found: &[(PathBuf, u64)], limits: &Limits) {
    assert_eq!(done.files, found.len() as u64, "files");
    assert_eq!(done.bytes, found.iter().map(|(_, bytes)| bytes).sum::<u64>(), "bytes");
    assert!(
        done.bytes <= limits.bytes && done.entries <= limits.entries && done.skipped.len() <= limits.listed
    );
    for skipped in &done.skipped {
        assert!(skipped.name.len() <= 512);
        note(skipped.why.chars().filter(|c| !c.is_ascii_digit()).take(40).collect::<String>());
    }
    note(done.files.min(4));
    let damage = done.damage.as_ref();
    note(damage.map(|fault| fault.why.chars().filter(|c| !c.is_ascii_digit()).take(40).collect::<String>()));
}

/// A file that is decompressed, in reads of any size.
pub fn stream_of_bytes(data: &[u8]) {
    let path = on_bench(|bench| bench.write("stream", data));
    let bounds = Bounds { times: 1000, slack: 1 << 20 };
    let read = |step: usize| {
        let mut plain = stream::open_with(&path, bounds, true).expect("it can be opened");
        let (mut out, mut buffer) = (Vec::new(), vec![0; step]);
        let end = loop {
            match plain.read(&mut buffer) {
                Ok(0) => break None,
                Ok(length) => out.extend_from_slice(&buffer[..length]),
                Err(error) => break Some(stream::fault(&error).expect("only a fault ends reading").clone()),
            }
        };
        let hash = plain.finish().expect("the rest can be read").expect("it was hashed");
        assert_eq!(
            Digest::from_bytes(*hash.as_bytes()),
            Digest::of_bytes(data),
            "the hash of something else"
        );
        assert!(out.len() as u64 <= data.len() as u64 * bounds.times + bounds.slack);
        (out, end)
    };
    let (out, end) = checked(data.len(), || read(64 << 10));
    if out.len() < 1 << 16 {
        let (slow, slow_end) = read(7);
        assert_eq!(slow_end.is_some(), end.is_some(), "small reads end otherwise: {slow_end:?} and {end:?}");
        assert!(end.is_some() || slow == out, "small reads give something else");
        assert!(
            slow.starts_with(&out[..out.len().min(slow.len())]),
            "small reads give something else before the fault"
        );
    }
    if !is_compressed(data) {
        assert!(out == data && end.is_none(), "what is not compressed is not itself");
    }
    note((out.len().checked_ilog2(), end.map(|end| (end.damage as u8, end.why))));
}

/// An answer on its parent.
pub fn replay(data: &[u8]) {
    let pieces = pieces(data, BREAK);
    let texts: Vec<_> = pieces.iter().map(|piece| String::from_utf8_lossy(piece)).collect();
    let (parent, said) = match texts.as_slice() {
        [parent, said, ..] => (Some(&**parent), &**said),
        [said] => (None, &**said),
        [] => return,
    };
    let readings = checked(data.len(), || replays::readings(parent, said));
    // Each is found by making all of them again.
    for reading in readings.iter().take(4) {
        assert_eq!(canonical(&reading.text), reading.text, "{:?} is no canonical text", reading.how);
        let found = replays::replay(parent, said, |text| text == reading.text);
        assert!(matches!(found.replay, Replay::Exact(_)), "{:?} is not found again", reading.how);
        note((reading.how, reading.applied.min(3), reading.missed.min(3)));
    }
    assert!(readings.iter().any(|reading| reading.how == How::Whole));
    let parts = answer::split(said);
    assert!(said.ends_with(parts.response) || said.contains(parts.response));
    let edit = replays::edit(said);
    let none = replays::replay(parent, said, |_| false);
    assert!(!matches!(none.replay, Replay::Exact(_)) && none.edit == edit);
    note((edit, none.no_op, none.marker_like, parts.reasoning.is_some()));
    if let Some(parent) = parent
        && let Some(text) = replays::rebuild(parent, said)
    {
        assert_eq!(canonical(&text), text, "what is rebuilt is no canonical text");
        assert!(readings.iter().any(|reading| reading.text == text), "what is rebuilt is no reading");
        assert_eq!(replays::rebuild_by_lines(parent, said).as_ref(), Some(&text));
        note("rebuilt");
    }
}
