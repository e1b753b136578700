//! The digest of a finished model's weights, in one file or several.

use super::files;
use crate::{Digest, Kind};

/// Whether a file of a checkpoint directory holds weights.
pub fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors")
}

/// The digest of a model's weights, from the names and the BLAKE3 of its files: that of `model.safetensors` itself, or
/// of the names and digests of all files of weights where there are several. None without weights.
pub fn digest_of_weights<'a>(entries: impl IntoIterator<Item = (&'a str, Digest)>) -> Option<Digest> {
    let mut weights: Vec<(&str, Digest)> = entries.into_iter().filter(|(name, _)| is_weights(name)).collect();
    weights.sort_unstable();
    match weights.as_slice() {
        [] => None,
        [(files::WEIGHTS, digest)] => Some(*digest),
        several => {
            let fields = Kind::Fingerprint.fields().text("weights");
            Some(
                several
                    .iter()
                    .fold(fields, |fields, (name, digest)| fields.text(name).digest(*digest))
                    .finish(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_is_itself_and_several_count_by_name_and_content() {
        let [a, b] = ["a", "b"].map(|text| Digest::of_bytes(text.as_bytes()));
        assert_eq!(digest_of_weights([("config.json", b), ("model.safetensors", a)]), Some(a));
        assert_eq!(digest_of_weights([("config.json", b)]), None);
        let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        let both = digest_of_weights([(shards[0], a), (shards[1], b)]);
        assert_eq!(
            both,
            digest_of_weights([(shards[1], b), ("model.safetensors.index.json", a), (shards[0], a)])
        );
        assert_ne!(both, digest_of_weights([(shards[0], b), (shards[1], a)]));
    }
}
