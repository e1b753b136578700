//! Finds libtorch, checks its version, and becomes the program that is linked with it.
//!
//! `finch-train` links no libtorch, so a machine without it gets an error that says what was looked for. The
//! process is replaced, not forked: signals, exit codes and streams are the trainer's own.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use finch_core::Code;
use finch_core::training::Device;

use crate::error::{Error, Result};

/// The release of libtorch that tch 0.24 is made for; its C++ interface has no other.
pub const RELEASE: &str = "2.11";

/// The library without which nothing runs.
const CPU: &str = "libtorch_cpu.so";
/// The library that brings CUDA.
const CUDA: &str = "libtorch_cuda.so";
/// The program that is linked with them, beside `finch-train`.
const LINKED: &str = "finch-train-torch";

/// What `scripts/libtorch.py` leaves beside the libraries when it is done.
const SET_UP: &str = "finch-setup.json";

/// Settings of glibc's malloc for training on the CPU: what a step frees, the next one gets again. By default most of it
/// goes back to the kernel, which clears every page before it gives it out again, at the cost of a pass over each tensor.
/// Blocks of 32 MiB, the most that every glibc can be told, still come and go alone: in one heap with small ones they
/// would leave gaps that nothing fits.
const MALLOC: &str = "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=2147483648";

/// How to get one.
const HINT: &str = "`python3 scripts/libtorch.py` in finch's repository sets up libtorch for the CPU; for CUDA, \
                    `pip install torch==2.11.0`; or let FINCH_LIBTORCH name the folder of another one";

/// A libtorch on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    /// The folder of the libraries.
    folder: PathBuf,
    /// Who named it.
    by: &'static str,
    /// Its version, as it says itself.
    version: Option<String>,
    /// Whether it has CUDA.
    cuda: bool,
}

/// Replaces this process by the one that trains, with the same arguments. Returns only if that fails.
pub fn become_trainer(device: Device) -> Error {
    match command(device) {
        Ok(mut command) => {
            let source = command.exec();
            Error::Machine {
                reason: format!("cannot start `{}`: {source}", command.get_program().to_string_lossy()),
                code: Code::NoTrainer,
                hint: "install finch-train again, with its feature `torch`".to_owned(),
            }
        }
        Err(error) => error,
    }
}

fn command(device: Device) -> Result<Command> {
    let own = std::env::current_exe().map_err(Error::io("find", "the running program"))?;
    let linked = own.with_file_name(LINKED);
    if !linked.is_file() {
        return Err(Error::Machine {
            reason: format!(
                "`{}` is not there: this finch-train was built without libtorch",
                linked.display()
            ),
            code: Code::NoTrainer,
            hint: "build it with `cargo install --path crates/finch-train --features torch`".to_owned(),
        });
    }
    // A card without a driver is no card; then the plain libtorch does, and loads faster.
    let wants_cuda = match device {
        Device::Cuda => true,
        Device::Auto => Path::new("/dev/nvidiactl").exists(),
        Device::Cpu => false,
    };
    let found = choose(candidates(), wants_cuda)?;
    let mut path = found.folder.clone().into_os_string();
    // pip puts NVIDIA's libraries beside torch; libtorch finds most of them by itself, but not NVRTC's builtins.
    for folder in [found.folder.join("../../nvidia/cu13/lib")].iter().filter(|folder| folder.is_dir()) {
        path.push(":");
        path.push(folder);
    }
    if let Some(earlier) = std::env::var_os("LD_LIBRARY_PATH").filter(|earlier| !earlier.is_empty()) {
        path.push(":");
        path.push(earlier);
    }
    let start = || {
        let mut command = Command::new(&linked);
        command.env("LD_LIBRARY_PATH", &path);
        command
    };
    // Our own set-up is whole or absent. Another one may lack a library, which only its loader can tell.
    if !found.folder.with_file_name(SET_UP).is_file() {
        loads(start().arg("--version"), &found)?;
    }
    let mut command = start();
    if wants_cuda {
        // Both are read when CUDA starts. Segments that grow waste less of the card; and cuBLAS gives the same result every
        // time with a workspace of a fixed size alone (NVIDIA's documentation, "Results reproducibility").
        for (name, value) in
            [("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True"), ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")]
        {
            // `PYTORCH_ALLOC_CONF` is the newer name, over which the older one would win.
            let newer = name.replace("CUDA_ALLOC", "ALLOC");
            if std::env::var_os(name).is_none() && std::env::var_os(newer).is_none() {
                command.env(name, value);
            }
        }
    } else if std::env::vars_os().all(|(name, _)| !sets_malloc(&name)) {
        command.env("GLIBC_TUNABLES", MALLOC);
    }
    command.args(std::env::args_os().skip(1));
    Ok(command)
}

/// Whether a variable of the environment sets malloc, or another malloc.
fn sets_malloc(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    name == "GLIBC_TUNABLES" || name == "LD_PRELOAD" || name.starts_with("MALLOC_")
}

/// Checks that a program can be loaded with a libtorch.
fn loads(command: &mut Command, found: &Found) -> Result<()> {
    let tried = command.output().map_err(Error::io("start", command.get_program()))?;
    if tried.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&tried.stderr);
    let said: String = said.lines().last().unwrap_or("nothing is said of it").chars().take(300).collect();
    Err(Error::Machine {
        reason: format!(
            "the libtorch in `{}` cannot be loaded: {}",
            found.folder.display(),
            said.escape_debug()
        ),
        code: Code::NoLibtorch,
        hint: HINT.to_owned(),
    })
}

/// The first libtorch of the right release; one with CUDA where it is wanted and there.
fn choose(candidates: Vec<Found>, wants_cuda: bool) -> Result<Found> {
    let fits = |found: &&Found| {
        found
            .version
            .as_deref()
            .is_some_and(|version| version.strip_prefix(RELEASE).is_some_and(|rest| rest.starts_with('.')))
    };
    let fitting: Vec<&Found> = candidates.iter().filter(fits).collect();
    let best = fitting.iter().find(|found| found.cuda && wants_cuda).or(fitting.first());
    if let Some(best) = best {
        return Ok((*best).clone());
    }
    let named = std::env::var_os("FINCH_LIBTORCH").filter(|folder| !folder.is_empty());
    let reason = match candidates.first() {
        Some(other) => format!(
            "libtorch {RELEASE} is needed, and `{}` (from {}) holds {}",
            other.folder.display(),
            other.by,
            other
                .version
                .as_deref()
                .map_or("one of unknown version".to_owned(), |version| format!("libtorch {version}")),
        ),
        None if named.is_some() => format!(
            "libtorch {RELEASE} was not found: FINCH_LIBTORCH names `{}`, and no `{CPU}` is there or in its `lib`",
            named.unwrap_or_default().to_string_lossy()
        ),
        None => format!(
            "libtorch {RELEASE} was not found: no `{CPU}` where LD_LIBRARY_PATH, LIBTORCH, the build or \
             python3's torch say"
        ),
    };
    Err(Error::Machine { reason, code: Code::NoLibtorch, hint: HINT.to_owned() })
}

/// Every libtorch that somebody names, the most explicit first.
fn candidates() -> Vec<Found> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let inside = |folder: OsString| [PathBuf::from(&folder), PathBuf::from(folder).join("lib")];
    let mut places: Vec<(PathBuf, &'static str)> = Vec::new();
    if let Some(folder) = variable("FINCH_LIBTORCH") {
        // Whoever names one wants that one, or an error.
        return looked_at(inside(folder).map(|folder| (folder, "FINCH_LIBTORCH")).to_vec());
    }
    if let Some(list) = variable("LD_LIBRARY_PATH") {
        places.extend(std::env::split_paths(&list).map(|folder| (folder, "LD_LIBRARY_PATH")));
    }
    places.extend(variable("LIBTORCH").into_iter().flat_map(inside).map(|folder| (folder, "LIBTORCH")));
    places.extend(option_env!("FINCH_LIBTORCH_BUILT").map(|folder| (PathBuf::from(folder), "the build")));
    let mut found = looked_at(places);
    if found.is_empty() || found.iter().all(|found| !found.cuda) {
        found.extend(looked_at(python().map(|folder| (folder, "python3's torch")).into_iter().collect()));
    }
    found
}

fn looked_at(places: Vec<(PathBuf, &'static str)>) -> Vec<Found> {
    let holds = |folder: &Path, name: &str| folder.join(name).is_file();
    places
        .into_iter()
        .filter(|(folder, _)| holds(folder, CPU))
        .map(|(folder, by)| Found { version: version(&folder), cuda: holds(&folder, CUDA), folder, by })
        .collect()
}

/// What a libtorch says of itself: `build-version` in the archive's layout, `version.py` in Python's.
pub fn version(libraries: &Path) -> Option<String> {
    let root = libraries.parent()?;
    if let Ok(text) = std::fs::read_to_string(root.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let text = std::fs::read_to_string(root.join("version.py")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(line.trim_matches(['\'', '"']).to_owned())
}

/// The libraries of the torch that python3 would import; nothing of it is run.
fn python() -> Option<PathBuf> {
    let question =
        "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0])";
    let answer =
        Command::new("python3").args(["-c", question]).stderr(std::process::Stdio::null()).output().ok()?;
    let folder = String::from_utf8(answer.stdout).ok()?;
    answer.status.success().then(|| Path::new(folder.trim()).join("lib"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_sets_malloc_has_set_it() {
        for name in ["GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "LD_PRELOAD"] {
            assert!(sets_malloc(name.as_ref()), "{name}");
        }
        assert!(!sets_malloc("PATH".as_ref()) && !sets_malloc("LD_LIBRARY_PATH".as_ref()));
    }

    fn found(by: &'static str, version: Option<&str>, cuda: bool) -> Found {
        Found { folder: by.into(), by, version: version.map(str::to_owned), cuda }
    }

    #[test]
    fn the_first_of_the_right_release_is_taken_and_cuda_only_where_wanted() {
        let all = vec![
            found("LIBTORCH", Some("2.13.0"), true),
            found("the build", Some("2.11.0+cu130"), false),
            found("python3's torch", Some("2.11.0+cu130"), true),
        ];
        assert_eq!(choose(all.clone(), false).expect("found").by, "the build");
        assert_eq!(choose(all, true).expect("found").by, "python3's torch");
    }

    #[test]
    fn another_release_is_named_and_none_says_where_it_was_looked_for() {
        let other = choose(vec![found("LIBTORCH", Some("2.110.0"), true)], true).expect_err("other release");
        assert!(other.to_string().contains("holds libtorch 2.110.0"), "{other}");
        let none = choose(Vec::new(), true).expect_err("none");
        assert!(none.to_string().contains("LD_LIBRARY_PATH") && none.exit() == 3, "{none}");
        let unknown = choose(vec![found("LIBTORCH", None, false)], false).expect_err("unknown");
        assert!(unknown.to_string().contains("unknown version"), "{unknown}");
    }

    #[test]
    fn versions_are_read_from_both_layouts() {
        let folder = tempfile::tempdir().expect("temp dir");
        let lib = folder.path().join("lib");
        std::fs::create_dir(&lib).expect("lib");
        assert_eq!(version(&lib), None);
        std::fs::write(folder.path().join("version.py"), "from x import y\n__version__ = '2.11.0+cpu'\n")
            .expect("write");
        assert_eq!(version(&lib).as_deref(), Some("2.11.0+cpu"));
        std::fs::write(folder.path().join("build-version"), "2.11.0+cu130\n").expect("write");
        assert_eq!(version(&lib).as_deref(), Some("2.11.0+cu130"));
    }
}
