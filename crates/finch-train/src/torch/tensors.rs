//! Tensors in safetensors files, in Hugging Face names; read from a memory map, one copy a tensor.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use finch_core::Code;
use finch_core::training::files;
use safetensors::{Dtype, SafeTensors, View};
use tch::{Device, Kind, Tensor};

use finch_train::error::{Error, Result};

use super::torch;

/// The index of a checkpoint that is cut into several files.
const INDEX: &str = "model.safetensors.index.json";

/// Every tensor of a checkpoint directory, on the CPU.
pub(crate) fn read_checkpoint(folder: &Path) -> Result<BTreeMap<String, Tensor>> {
    let mut tensors = BTreeMap::new();
    for path in weight_files(folder)? {
        for (name, tensor) in read(&path)? {
            tensors.insert(name, tensor);
        }
    }
    Ok(tensors)
}

/// The files of a checkpoint directory's weights.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let index = folder.join(INDEX);
    let text = match std::fs::read(&index) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(vec![folder.join(files::WEIGHTS)]);
        }
        Err(error) => return Err(Error::io("read", index)(error)),
    };
    let error = |reason: &str| Error::Model {
        path: index.clone(),
        reason: reason.to_owned(),
        code: Code::BadCheckpoint,
        hint: None,
    };
    let json: serde_json::Value =
        serde_json::from_slice(&text).map_err(|source| error(&source.to_string()))?;
    let map = json["weight_map"].as_object().ok_or_else(|| error("it has no `weight_map`"))?;
    let names: BTreeSet<&str> = map.values().filter_map(serde_json::Value::as_str).collect();
    // A name with a folder in it could lead anywhere.
    if let Some(name) =
        names.iter().find(|name| Path::new(name).file_name().is_none_or(|last| last != **name))
    {
        return Err(error(&format!("it names the file `{}`", name.escape_debug())));
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// Every tensor of a file, on the CPU.
#[allow(unsafe_code)]
pub(crate) fn read(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let error = |reason: String| Error::Model {
        path: path.to_path_buf(),
        reason,
        code: Code::BadCheckpoint,
        hint: None,
    };
    let file = File::open(path).map_err(Error::io("open", path))?;
    // SAFETY: the map is read once, here, and not kept; a file that shrinks meanwhile would end the process with
    // SIGBUS, which is no worse than any other way of losing a checkpoint while it is being read.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io("map", path))?;
    let tensors = SafeTensors::deserialize(&map).map_err(|source| error(source.to_string()))?;
    let mut found = Vec::new();
    for (name, view) in tensors.tensors() {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::F16 => Kind::Half,
            other => {
                return Err(error(format!("`{name}` has the type {other:?}; F32, BF16 and F16 are read")));
            }
        };
        let size: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        found.push((name, Tensor::f_from_data_size(view.data(), &size, kind).map_err(torch)?));
    }
    Ok(found)
}

/// Copies a file's tensors into others of the same names and shapes; every one must be there.
pub(crate) fn read_into(path: &Path, targets: &[(String, Tensor)]) -> Result<()> {
    let mut found: BTreeMap<String, Tensor> = read(path)?.into_iter().collect();
    for (name, target) in targets {
        let source = found.remove(name).filter(|source| source.size() == target.size());
        let source = source.ok_or_else(|| Error::Model {
            path: path.to_path_buf(),
            reason: format!("`{name}` is missing, or has another shape"),
            code: Code::BadCheckpoint,
            hint: None,
        })?;
        tch::no_grad(|| target.detach().f_copy_(&source)).map_err(torch)?;
    }
    Ok(())
}

/// Writes tensors to a file and syncs it. The file must not exist; whoever calls this renames it into place.
pub(crate) fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    // `transformers` asks for this entry before it reads a file.
    let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let views = tensors.iter().map(|(name, tensor)| Ok((name.as_str(), Stored::new(tensor)?)));
    let views: Vec<(&str, Stored<'_>)> = views.collect::<Result<_>>()?;
    safetensors::serialize_to_file(views, Some(about), path).map_err(|source| match source {
        safetensors::SafeTensorError::IoError(source) => Error::io("write", path)(source),
        other => Error::Torch(format!("cannot write `{}`: {other}", path.display())),
    })?;
    // The library makes files for their owner alone; a model is for whoever may read its folder.
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(path, readable).map_err(Error::io("write", path))?;
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("sync", path))
}

/// A tensor as safetensors sees it; its bytes are copied to the host when they are written, one tensor at a time.
struct Stored<'a> {
    tensor: &'a Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl<'a> Stored<'a> {
    fn new(tensor: &'a Tensor) -> Result<Self> {
        let dtype = match tensor.kind() {
            Kind::Float => Dtype::F32,
            Kind::BFloat16 => Dtype::BF16,
            other => return Err(Error::Torch(format!("a tensor of type {other:?} is not stored"))),
        };
        Ok(Self { tensor, dtype, shape: tensor.size().iter().map(|&size| size as usize).collect() })
    }
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        let host = self.tensor.detach().to_device(Device::Cpu).contiguous();
        host.copy_data_u8(&mut bytes, self.tensor.numel());
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * if self.dtype == Dtype::F32 { 4 } else { 2 }
    }
}
