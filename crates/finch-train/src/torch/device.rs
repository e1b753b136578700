//! The machine: CUDA if it is there and wanted, libtorch's threads and modes, memory, names and versions for the record.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::path::{Path, PathBuf};

use finch_core::Code;
use finch_core::training::{Device, Environment};

use finch_train::error::{Error, Result};
use finch_train::libtorch;

/// Where a training happens.
pub(crate) struct Machine {
    /// libtorch's device.
    pub(crate) device: tch::Device,
    /// What is recorded of it.
    pub(crate) environment: Environment,
}

/// Chooses a device and sets libtorch's threads. Must come before any other use of libtorch: it looks for CUDA's
/// hooks once and remembers that there are none.
pub(crate) fn set_up(wanted: Device, threads: u32, deterministic: bool) -> Result<Machine> {
    let missing = if wanted == Device::Cpu { None } else { load_cuda() };
    let device = match wanted {
        Device::Cpu => tch::Device::Cpu,
        _ if missing.is_none() && tch::Cuda::is_available() => tch::Device::Cuda(0),
        Device::Auto => tch::Device::Cpu,
        Device::Cuda => return Err(no_cuda(missing)),
    };
    let count = i32::try_from(threads).unwrap_or(i32::MAX);
    tch::set_num_threads(count);
    if device.is_cuda() && deterministic {
        be_deterministic();
    }
    let libtorch = libraries().as_deref().and_then(libtorch::version);
    let versions = [
        ("finch-train", Some(env!("CARGO_PKG_VERSION").to_owned())),
        ("tch", Some("0.24.0".to_owned())),
        ("libtorch", libtorch),
    ];
    let environment = Environment {
        versions: versions
            .into_iter()
            .map(|(name, version)| (name.to_owned(), version.unwrap_or_else(|| "unknown".to_owned())))
            .collect::<BTreeMap<_, _>>(),
        device: if device.is_cuda() { "cuda:0".to_owned() } else { "cpu".to_owned() },
        device_name: if device.is_cuda() { card() } else { processor() },
        threads,
        driver: device.is_cuda().then(driver).flatten(),
        deterministic: deterministic || !device.is_cuda(),
    };
    Ok(Machine { device, environment })
}

/// Loads libtorch_cuda.so, whose static initialisers register CUDA's kernels; what the loader said when it cannot.
#[allow(unsafe_code)]
fn load_cuda() -> Option<String> {
    // SAFETY: the name is a C string, and the library's initialisers are those of libtorch itself.
    let handle = unsafe { libc::dlopen(c"libtorch_cuda.so".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return None;
    }
    // SAFETY: after a failed dlopen, dlerror returns a C string that is valid until the next dl call.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return Some("libtorch_cuda.so cannot be loaded".to_owned());
    }
    // SAFETY: as above; it is copied at once.
    Some(unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// What was looked for, and what to do.
fn no_cuda(missing: Option<String>) -> Error {
    let place = libraries().map_or("unknown".to_owned(), |folder| folder.display().to_string());
    let driver = ["/dev/nvidiactl", "/proc/driver/nvidia/version"].map(|path| {
        let state = if Path::new(path).exists() { "is there" } else { "is not there" };
        format!("`{path}` {state}")
    });
    let reason = match missing {
        Some(text) => format!(
            "`device` is \"cuda\", and libtorch_cuda.so cannot be loaded ({text}); libtorch_cpu.so is from `{place}`; {}",
            driver.join(", ")
        ),
        None => format!(
            "`device` is \"cuda\", libtorch_cuda.so is loaded from `{place}`, and it finds no device; {}",
            driver.join(", ")
        ),
    };
    Error::Machine {
        reason,
        code: Code::NoCuda,
        hint: "`pip install torch==2.11.0` brings the library, NVIDIA's driver the device; or set `device = \"cpu\"`"
            .to_owned(),
    }
}

/// The folder that libtorch_cpu.so was loaded from.
fn libraries() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().find_map(|line| {
        let path = line.split_whitespace().last()?;
        path.ends_with("/libtorch_cpu.so").then(|| PathBuf::from(path))
    })?;
    path.parent().map(Path::to_path_buf)
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        text.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split(':').nth(1));
    name.map_or_else(|| "unknown processor".to_owned(), |name| name.trim().to_owned())
}

fn card() -> String {
    let cards = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let mut names: Vec<String> = cards
        .filter_map(|card| std::fs::read_to_string(card.path().join("information")).ok())
        .filter_map(|text| Some(text.lines().find_map(|line| line.strip_prefix("Model:"))?.trim().to_owned()))
        .collect();
    names.sort();
    names.into_iter().next().unwrap_or_else(|| "unknown card".to_owned())
}

/// The version of NVIDIA's driver.
fn driver() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    // Such as `NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep ...`.
    let digits = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.lines().next()?.split_whitespace().find(digits).map(str::to_owned)
}

/// Tells libtorch to take the operations that give the same result every time.
///
/// tch has no switch for it. The symbols are those of `at::globalContext()`, `at::Context::setDeterministicAlgorithms` and
/// `at::Context::setDeterministicFillUninitializedMemory`; the last is on by default then, and fills every new tensor.
#[allow(unsafe_code)]
fn be_deterministic() {
    unsafe extern "C" {
        #[link_name = "_ZN2at13globalContextEv"]
        fn global_context() -> *mut c_void;
        #[link_name = "_ZN2at7Context26setDeterministicAlgorithmsEbb"]
        fn set_deterministic(context: *mut c_void, on: bool, warn_only: bool);
        #[link_name = "_ZN2at7Context39setDeterministicFillUninitializedMemoryEb"]
        fn set_fill(context: *mut c_void, on: bool);
    }
    // SAFETY: the context is a static of libtorch; both calls set a flag of it.
    unsafe {
        let context = global_context();
        set_deterministic(context, true, false);
        set_fill(context, false);
    }
}

/// Waits until a device has done what it was told; the CPU has always.
pub(crate) fn wait(device: tch::Device) {
    if let tch::Device::Cuda(card) = device {
        tch::Cuda::synchronize(card as i64);
    }
}

/// Memory of a device that a training may plan with, in bytes: most of what is free; the rest is the allocator's to waste.
pub(crate) fn plannable_memory(device: tch::Device) -> Option<u64> {
    let free = match device.is_cuda() {
        true => card_memory().map(|(free, _)| free),
        false => kibibytes(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:"),
    };
    free.map(|free| free / 20 * 19)
}

/// Memory of a card that is in use, by whomever, in bytes; none on the CPU.
pub(crate) fn used_memory(device: tch::Device) -> Option<u64> {
    device.is_cuda().then(card_memory).flatten().map(|(free, total)| total.saturating_sub(free))
}

/// Free and total bytes of the card, from CUDA's own library, which libtorch has loaded.
#[allow(unsafe_code)]
pub(crate) fn card_memory() -> Option<(u64, u64)> {
    type MemGetInfo = unsafe extern "C" fn(*mut usize, *mut usize) -> i32;
    let (mut free, mut total) = (0, 0);
    // SAFETY: the name is a C string; a symbol of this name has this signature in every release of CUDA; both pointers are
    // of live integers.
    let code = unsafe {
        let symbol = libc::dlsym(libc::RTLD_DEFAULT, c"cudaMemGetInfo".as_ptr());
        if symbol.is_null() {
            return None;
        }
        let call = std::mem::transmute::<*mut c_void, MemGetInfo>(symbol);
        call(&raw mut free, &raw mut total)
    };
    (code == 0).then_some((free as u64, total as u64))
}

/// The most memory that this process has held, in bytes.
pub(crate) fn peak_memory() -> u64 {
    status("VmHWM:")
}

/// Memory of this process that no file stands behind, now, in bytes.
pub(crate) fn anonymous_memory() -> u64 {
    status("RssAnon:")
}

/// The most memory without a file behind it that this process has held, in bytes. The system tells the peak of all
/// memory alone; of files it maps more with time and never less, so what it maps now is taken off.
pub(crate) fn peak_anonymous_memory() -> u64 {
    peak_memory().saturating_sub(status("RssFile:"))
}

fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    kibibytes(&text, key).unwrap_or(0)
}

/// A number of KiB behind a key at the start of a line, in bytes.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}
