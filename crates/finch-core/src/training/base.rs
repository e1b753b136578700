//! What a base says, wherever it lies: the digest of its content.

use super::{Base, files};
use crate::{Digest, Error, Kind, digest};

/// The digest of a base: of a config file, or of the names and contents of a checkpoint directory's files that a
/// training reads. Weights are read whole for it.
pub fn digest_of_base(base: &Base) -> Result<Digest, Error> {
    let folder = match base {
        Base::Config { config, .. } => return digest::of_file(config),
        Base::Checkpoint(folder) => folder,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let name = entry.map_err(Error::io("list", folder))?.file_name().to_string_lossy().into_owned();
        let weights = name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
        let named = [files::CONFIG, files::TOKENIZER, files::TOKENIZER_CONFIG].contains(&name.as_str());
        if weights || named || files::COMPANIONS.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort();
    let mut fields = Kind::Fingerprint.fields().text("base");
    for name in names {
        fields = fields.text(&name).digest(digest::of_file(&folder.join(&name))?);
    }
    Ok(fields.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_counts_and_place_does_not() {
        let folders = [0, 1].map(|_| tempfile::tempdir().expect("temp dir"));
        let digest = |n: usize| digest_of_base(&Base::Checkpoint(folders[n].path().into())).expect("digest");
        for folder in &folders {
            std::fs::write(folder.path().join("config.json"), "{}").expect("write");
            std::fs::write(folder.path().join("model.safetensors"), "w").expect("write");
        }
        std::fs::write(folders[1].path().join("README.md"), "no part of it").expect("write");
        assert_eq!(digest(0), digest(1));
        std::fs::write(folders[1].path().join("model.safetensors"), "v").expect("write");
        assert_ne!(digest(0), digest(1));
    }
}
