//! Runs fuzz targets without cargo-fuzz: it mutates seeds in its own process, and counts.
//!
//! Instruments cost a second build of every dependency. A mutator without them is blind, and fast: it keeps what had
//! a new outcome, as [`targets::outcome`] tells. Every panic is caught and its input kept, once for each place; what
//! never ends or kills the process is found in the file of the last input.
//!
//! It must not decide what is right: that is for the targets.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use finch_fuzz::mutate::{Mutator, Random};
use finch_fuzz::targets::{self, TARGETS, Target};

const USAGE: &str =
    "usage: run TARGET|all|but:TARGET,… [--seconds N] [--executions N] [--seed S] [--out FOLDER] [SEEDS…]
  SEEDS are files, or folders with one folder for each target; `seeds` when none is given.
  Without --seconds and --executions each seed runs once, as it is.";

/// What one execution may take before the whole run is given up.
const HANGS: u64 = 20_000;
/// Growth of the peak of memory that is worth a look, in kB.
const GROWS: u64 = 256 << 10;
/// Executions between two looks at memory.
const LOOKS: u64 = 128;
/// Inputs that are kept because their outcome was new.
const KEPT: usize = 4000;

/// Where the last panic was, and what it said.
static PANIC: Mutex<(String, String)> = Mutex::new((String::new(), String::new()));
/// Milliseconds since the start when the execution began; 0 between two.
static BEGAN: AtomicU64 = AtomicU64::new(0);

struct Options {
    targets: Vec<Target>,
    seconds: u64,
    executions: u64,
    seed: u64,
    out: PathBuf,
    seeds: Vec<PathBuf>,
}

fn options() -> Option<Options> {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next()?;
    let left_out: Vec<&str> =
        wanted.strip_prefix("but:").map_or_else(Vec::new, |all| all.split(',').collect());
    let all = wanted == "all" || !left_out.is_empty();
    let targets = TARGETS.iter().filter(|(name, _)| *name == wanted || (all && !left_out.contains(name)));
    let mut options = Options {
        targets: targets.copied().collect(),
        seconds: 0,
        executions: u64::MAX,
        seed: 1,
        out: PathBuf::from("crashes"),
        seeds: Vec::new(),
    };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => options.seconds = arguments.next()?.parse().ok()?,
            "--executions" => options.executions = arguments.next()?.parse().ok()?,
            "--seed" => options.seed = arguments.next()?.parse().ok()?,
            "--out" => options.out = PathBuf::from(arguments.next()?),
            _ if argument.starts_with('-') => return None,
            _ => options.seeds.push(PathBuf::from(argument)),
        }
    }
    if options.seeds.is_empty() {
        options.seeds.push(PathBuf::from("seeds"));
    }
    (!options.targets.is_empty()).then_some(options)
}

#[expect(clippy::print_stderr, clippy::print_stdout, reason = "a program for a terminal")]
fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    fs::create_dir_all(&options.out).expect("a folder for inputs that fail");
    panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
        *PANIC.lock().expect("nobody panics here") = (place, info.to_string());
    }));
    let start = Instant::now();
    let last = options.out.join("last-input");
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let began = BEGAN.load(Ordering::Relaxed);
            if began > 0 && (start.elapsed().as_millis() as u64).saturating_sub(began) > HANGS {
                eprintln!("HANG: the input is in `last-input`");
                std::process::exit(3);
            }
        }
    });
    let (mut total, mut failed) = (0, 0);
    for target in &options.targets {
        let mut session = Session::new(target, &options, start, &last);
        session.run(&options);
        let seconds = session.began.elapsed().as_secs_f64();
        let rate = session.executions as f64 / seconds.max(1e-9);
        println!(
            "{:<20} {:>10} executions {:>7.1} s {:>9.0}/s {:>5} kept {:>3} failures",
            target.0,
            session.executions,
            seconds,
            rate,
            session.kept,
            session.failures.len(),
        );
        for ((place, input), (count, message)) in &session.failures {
            println!("  {count} x {place} `{input}`\n    {}", message.replace('\n', "\n    "));
        }
        total += session.executions;
        failed += session.failures.len();
    }
    println!("{total} executions, {failed} failures");
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// One target with its inputs.
struct Session<'a> {
    target: &'a Target,
    out: &'a Path,
    inputs: Vec<Vec<u8>>,
    outcomes: HashSet<u64>,
    /// By place, and the name of the input that is kept: how often, and what was said.
    failures: HashMap<(String, String), (u64, String)>,
    executions: u64,
    kept: usize,
    start: Instant,
    began: Instant,
    current: File,
    peak: u64,
    recent: Vec<Vec<u8>>,
}

impl<'a> Session<'a> {
    fn new(target: &'a Target, options: &'a Options, start: Instant, last: &Path) -> Self {
        let mut inputs = Vec::new();
        for path in &options.seeds {
            let folder = path.join(target.0);
            if path.is_file() {
                inputs.extend(fs::read(path));
            } else if folder.is_dir() {
                let mut files: Vec<PathBuf> = fs::read_dir(folder)
                    .expect("seeds are listed")
                    .filter_map(|entry| Some(entry.ok()?.path()))
                    .collect();
                files.sort();
                inputs.extend(files.iter().filter_map(|file| fs::read(file).ok()));
            }
        }
        if inputs.is_empty() {
            inputs.push(Vec::new());
        }
        Self {
            target,
            out: &options.out,
            inputs,
            outcomes: HashSet::new(),
            failures: HashMap::new(),
            executions: 0,
            kept: 0,
            start,
            began: Instant::now(),
            current: File::create(last).expect("a file for the last input"),
            peak: 0,
            recent: Vec::new(),
        }
    }

    fn run(&mut self, options: &Options) {
        for at in 0..self.inputs.len() {
            let input = self.inputs[at].clone();
            self.execute(&input);
            self.outcomes.insert(targets::outcome());
        }
        if options.seconds == 0 && options.executions == u64::MAX {
            return;
        }
        self.peak = peak();
        let mut mutator = Mutator::new(Random::new(options.seed));
        let seconds = if options.seconds == 0 { u64::MAX } else { options.seconds };
        while self.executions < options.executions && self.began.elapsed().as_secs() < seconds {
            let input = mutator.mutate(&self.inputs);
            self.execute(&input);
            if self.kept < KEPT && input.len() <= 16 << 10 && self.outcomes.insert(targets::outcome()) {
                self.kept += 1;
                self.inputs.push(input.clone());
            }
            self.recent.push(input);
            if self.recent.len() as u64 == LOOKS {
                self.look();
            }
        }
    }

    fn execute(&mut self, input: &[u8]) {
        // Whatever happens now, the input can be found.
        self.current
            .write_all_at(input, 0)
            .and_then(|()| self.current.set_len(input.len() as u64))
            .expect("written");
        self.current.rewind().and_then(|()| self.current.flush()).expect("written");
        BEGAN.store((self.start.elapsed().as_millis() as u64).max(1), Ordering::Relaxed);
        let result = panic::catch_unwind(AssertUnwindSafe(|| (self.target.1)(input)));
        BEGAN.store(0, Ordering::Relaxed);
        self.executions += 1;
        if result.is_err() {
            let (place, message) = PANIC.lock().expect("nobody panics there").clone();
            self.fail(place, message, input);
        }
    }

    fn fail(&mut self, place: String, message: String, input: &[u8]) {
        let short = place.rsplit('/').next().unwrap_or("").replace([':', '.'], "-");
        let name = format!("{}-{short}", self.target.0);
        let known = self.failures.entry((place, name.clone())).or_insert((0, message));
        known.0 += 1;
        let path = self.out.join(name);
        // The shortest is easiest to understand.
        let shorter = fs::metadata(&path).map_or(true, |meta| meta.len() > input.len() as u64);
        if shorter {
            let _ = fs::write(path, input);
        }
    }

    /// Which of the recent inputs made the peak of memory grow.
    fn look(&mut self) {
        let recent = std::mem::take(&mut self.recent);
        let grown = peak();
        if grown <= self.peak + GROWS {
            // Slow growth is the scratch's.
            self.peak = grown;
            return;
        }
        for input in recent {
            let _ = fs::write("/proc/self/clear_refs", "5");
            let before = peak();
            self.execute(&input);
            let after = peak();
            if after > before + GROWS / 2 {
                self.fail(
                    "memory".to_owned(),
                    format!("{} MB for {} bytes", (after - before) >> 10, input.len()),
                    &input,
                );
            }
        }
        self.peak = peak();
    }
}

/// The most memory that the process ever had, in kB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
