//! The names of a dataset's files: what a manifest may say becomes a path.

use finch_core::manifest::Manifest;
use finch_core::training::files;

/// A table or file name that finch itself would not write: a manifest is a file that anybody may have edited, and
/// names in it become paths.
pub(super) fn suspicious_name(manifest: &Manifest) -> Option<&str> {
    let plain = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    for (table, entry) in &manifest.tables {
        if !plain(table) {
            return Some(table);
        }
        for (n, file) in entry.files.iter().enumerate() {
            if file.name != format!("{table}/{table}-{n:05}.parquet") {
                return Some(&file.name);
            }
        }
    }
    manifest.artifacts.iter().map(|file| file.name.as_str()).find(|name| !is_artifact(name))
}

/// Whether finch would write an artifact of this name: a file of the dataset's folder, or of a model's below it.
pub(crate) fn is_artifact(name: &str) -> bool {
    let (stem_signs, file) = match name.strip_prefix("model/") {
        // The one name with two points.
        Some(files::WEIGHTS_INDEX) => return true,
        Some(file) => ("_-", file),
        None => ("_", name),
    };
    let plain = |part: &str, signs: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || signs.contains(c))
    };
    file.split_once('.').is_some_and(|(stem, extension)| plain(stem, stem_signs) && plain(extension, "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_lie_in_the_dataset_or_in_its_model() {
        for good in [
            "tokenizer.json",
            "model/model.safetensors",
            "model/model-00001-of-00003.safetensors",
            "model/model.safetensors.index.json",
            "model/tokenizer_config.json",
            "model/m-1.bin",
        ] {
            assert!(is_artifact(good), "{good}");
        }
        for bad in [
            "",
            "x",
            "../x.json",
            "/x.json",
            "model/",
            "model/x",
            "model/../x.json",
            "model/a/b.json",
            "model//x.json",
            "other/x.json",
            "model/.json",
            "model/x.",
            "a-b.json",
            "model/X.json",
            "model/x.a.b",
            "model.safetensors.index.json",
            "model/x.safetensors.index.json",
            "model/..",
        ] {
            assert!(!is_artifact(bad), "{bad}");
        }
    }
}
