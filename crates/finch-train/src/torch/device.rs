//! The machine: CUDA if it is there and wanted, libtorch's threads, names and versions for the record.

use std::collections::BTreeMap;
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
pub(crate) fn set_up(wanted: Device, threads: u32) -> Result<Machine> {
    let missing = if wanted == Device::Cpu { None } else { load_cuda() };
    let device = match wanted {
        Device::Cpu => tch::Device::Cpu,
        _ if missing.is_none() && tch::Cuda::is_available() => tch::Device::Cuda(0),
        Device::Auto => tch::Device::Cpu,
        Device::Cuda => return Err(no_cuda(missing)),
    };
    let count = i32::try_from(threads).unwrap_or(i32::MAX);
    tch::set_num_threads(count);
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

/// The most memory that this process has held, in bytes.
pub(crate) fn peak_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
