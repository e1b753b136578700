//! Tensors in safetensors files, in Hugging Face names; read from memory maps, one copy a tensor.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use finch_core::Code;
use finch_core::training::files;
use memmap2::Mmap;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors, View};
use tch::{Device, Kind, Tensor};

use finch_train::error::{Error, Result};

use super::torch;

/// Safetensors files whose tensors are read when they are asked for.
pub(crate) struct Files {
    files: Vec<(PathBuf, Mmap, usize)>,
    /// The file and the place in it of every tensor.
    tensors: BTreeMap<String, (usize, TensorInfo)>,
}

/// A tensor's bytes as they lie in a file.
#[derive(Clone)]
pub(crate) struct Raw<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: &'a [u8],
}

impl<'a> Raw<'a> {
    /// The bytes.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl Files {
    /// The files of a checkpoint directory's weights.
    pub(crate) fn of_checkpoint(folder: &Path) -> Result<Self> {
        let (paths, named) = weight_files(folder)?;
        let opened = Self::open(paths)?;
        match named.iter().find(|name| !opened.tensors.contains_key(*name)) {
            Some(name) => Err(opened.missing(name)),
            None => Ok(opened),
        }
    }

    /// One file.
    pub(crate) fn of_file(path: &Path) -> Result<Self> {
        Self::open(vec![path.to_path_buf()])
    }

    #[allow(unsafe_code)]
    fn open(paths: Vec<PathBuf>) -> Result<Self> {
        let mut opened = Self { files: Vec::new(), tensors: BTreeMap::new() };
        for path in paths {
            let file = File::open(&path).map_err(Error::io("open", &path))?;
            // SAFETY: nobody writes to a file that was published; one that shrinks all the same would end the process
            // with SIGBUS, which is no worse than any other way of losing a model while it is being read.
            let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", &path))?;
            let (header, metadata): (usize, Metadata) =
                SafeTensors::read_metadata(&map).map_err(|source| bad(&path, source.to_string()))?;
            for (name, info) in metadata.tensors() {
                opened.tensors.insert(name, (opened.files.len(), info.clone()));
            }
            // The header's length stands before it, in eight bytes.
            opened.files.push((path, map, header + 8));
        }
        Ok(opened)
    }

    /// Names of all tensors, in their order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor's shape, if it is there.
    pub(crate) fn shape(&self, name: &str) -> Option<Vec<i64>> {
        self.tensors.get(name).map(|(_, info)| info.shape.iter().map(|&size| size as i64).collect())
    }

    /// A tensor's bytes.
    pub(crate) fn raw(&self, name: &str) -> Result<Raw<'_>> {
        let (file, info) = self.tensors.get(name).ok_or_else(|| self.missing(name))?;
        let (path, map, start) = &self.files[*file];
        let range = start + info.data_offsets.0..start + info.data_offsets.1;
        let bytes =
            map.get(range).ok_or_else(|| bad(path, format!("`{name}` lies beyond the file's end")))?;
        Ok(Raw { dtype: info.dtype, shape: info.shape.clone(), bytes })
    }

    /// Copies a tensor into another of its shape, which may lie on a device and be of another type.
    #[allow(unsafe_code)]
    pub(crate) fn read_into(&self, name: &str, target: &Tensor) -> Result<()> {
        let raw = self.raw(name)?;
        let path = &self.files[self.tensors[name].0].0;
        let size: Vec<i64> = raw.shape.iter().map(|&size| size as i64).collect();
        if size != target.size() {
            return Err(bad(
                path,
                format!("`{name}` has the shape {size:?}, and {:?} is wanted", target.size()),
            ));
        }
        let kind = match raw.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::F16 => Kind::Half,
            // Halves of an optimizer's state; a weight is never one.
            Dtype::I16 if target.kind() == Kind::Int16 => Kind::Int16,
            other => {
                return Err(bad(
                    path,
                    format!("`{name}` has the type {other:?}; F32, BF16 and F16 are read"),
                ));
            }
        };
        if raw.bytes.is_empty() {
            return Ok(());
        }
        let aligned = (raw.bytes.as_ptr() as usize).is_multiple_of(kind.elt_size_in_bytes());
        let view = if aligned {
            let mut strides = vec![1; size.len()];
            for i in (0..size.len().saturating_sub(1)).rev() {
                strides[i] = strides[i + 1] * size[i + 1];
            }
            // SAFETY: the bytes hold as many elements as the shape says, which the reader of metadata has checked, and
            // outlive the view, which ends with this function and is only read.
            unsafe { Tensor::f_from_blob(raw.bytes.as_ptr(), &size, &strides, kind, Device::Cpu) }
        } else {
            Tensor::f_from_data_size(raw.bytes, &size, kind)
        };
        let view = view.map_err(torch)?;
        target.detach().f_copy_(&view).map_err(torch)
    }

    fn missing(&self, name: &str) -> Error {
        let path = self.files.first().map_or(Path::new(""), |(path, ..)| path);
        bad(path, format!("the tensor `{name}` is missing"))
    }
}

fn bad(path: &Path, reason: String) -> Error {
    Error::Model { path: path.to_path_buf(), reason, code: Code::BadCheckpoint, hint: None }
}

/// The files of a checkpoint directory's weights, and the tensors that an index says are in them.
fn weight_files(folder: &Path) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let index = folder.join(files::WEIGHTS_INDEX);
    let text = match std::fs::read(&index) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok((vec![folder.join(files::WEIGHTS)], Vec::new()));
        }
        Err(error) => return Err(Error::io("read", index)(error)),
    };
    let error = |reason: &str| bad(&index, reason.to_owned());
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
    Ok((names.into_iter().map(|name| folder.join(name)).collect(), map.keys().cloned().collect()))
}

/// A tensor to be written: its type and shape are known, its bytes are made when they are asked for, so that one tensor
/// at a time is in the host's memory.
pub(crate) struct Stored<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    source: Source<'a>,
}

/// Where a tensor's bytes come from.
enum Source<'a> {
    /// A tensor, wherever it lies.
    Tensor(Tensor),
    /// A tensor that is computed when it is written.
    Made(Box<dyn Fn() -> Tensor + 'a>),
    /// Bytes of another file.
    Bytes(&'a [u8]),
}

impl<'a> Stored<'a> {
    /// A tensor, wherever it lies.
    pub(crate) fn tensor(tensor: Tensor) -> Result<Self> {
        let (dtype, shape) = (dtype(tensor.kind())?, sizes(&tensor.size()));
        Ok(Self { dtype, shape, source: Source::Tensor(tensor) })
    }

    /// A tensor of another's type and shape that is computed when it is written.
    pub(crate) fn made(like: &Tensor, make: impl Fn() -> Tensor + 'a) -> Result<Self> {
        let (dtype, shape) = (dtype(like.kind())?, sizes(&like.size()));
        Ok(Self { dtype, shape, source: Source::Made(Box::new(make)) })
    }

    /// A tensor as it lies in another file.
    pub(crate) fn raw(raw: Raw<'a>) -> Self {
        Self { dtype: raw.dtype, shape: raw.shape, source: Source::Bytes(raw.bytes) }
    }

    /// Its size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match &self.source {
            Source::Bytes(bytes) => bytes.len(),
            _ => self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8,
        }
    }
}

fn sizes(size: &[i64]) -> Vec<usize> {
    size.iter().map(|&size| size as usize).collect()
}

/// safetensors' name of a type.
fn dtype(kind: Kind) -> Result<Dtype> {
    match kind {
        Kind::Float => Ok(Dtype::F32),
        Kind::BFloat16 => Ok(Dtype::BF16),
        Kind::Int16 => Ok(Dtype::I16),
        other => Err(Error::Torch(format!("a tensor of type {other:?} is not stored"))),
    }
}

impl View for &Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let tensor = match &self.source {
            Source::Bytes(bytes) => return Cow::Borrowed(bytes),
            Source::Tensor(tensor) => tensor.shallow_clone(),
            Source::Made(make) => make(),
        };
        let mut bytes = vec![0; self.bytes()];
        let host = tensor.detach().to_device(Device::Cpu).contiguous();
        host.copy_data_u8(&mut bytes, tensor.numel());
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes()
    }
}

/// Writes tensors to a file and syncs it. The file must not exist; whoever calls this renames it into place.
pub(crate) fn write<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a Stored<'a>)>,
) -> Result<()> {
    // `transformers` asks for this entry before it reads a file.
    let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(tensors, Some(about), path).map_err(|source| match source {
        safetensors::SafeTensorError::IoError(source) => Error::io("write", path)(source),
        other => Error::Torch(format!("cannot write `{}`: {other}", path.display())),
    })?;
    // The library makes files for their owner alone; a model is for whoever may read its folder.
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(path, readable).map_err(Error::io("write", path))?;
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("sync", path))
}
