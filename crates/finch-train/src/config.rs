//! Reads a training config: JSON as finch writes it, or TOML as people do.
//!
//! The parameters themselves are `finch_core::training::Config`, which both programs share. Paths in a file that
//! a person wrote are relative to that file.

use std::path::{Path, PathBuf};

use finch_core::training::{Base, Config};

use crate::error::{Error, Result};

/// Reads and checks a config; its base becomes an absolute or at least a resolved path.
pub fn read(path: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let error = |reason: String| Error::Config { path: path.to_path_buf(), reason: reason.trim().to_owned() };
    let json = path.extension().is_some_and(|extension| extension == "json");
    let mut config: Config = match json {
        true => serde_json::from_str(&text).map_err(|source| error(source.to_string()))?,
        false => toml::from_str(&text).map_err(|source| error(source.to_string()))?,
    };
    config.validate().map_err(|(key, reason)| error(format!("`{key}` {reason}")))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let resolve = |path: &mut PathBuf| *path = folder.join(&*path);
    match &mut config.base {
        Base::Checkpoint(path) => resolve(path),
        Base::Config { config, .. } => resolve(config),
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str) -> Result<Config> {
        let folder = tempfile::tempdir().expect("temp dir");
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("write");
        let mut config = read(&path)?;
        if let Base::Checkpoint(base) = &mut config.base {
            *base = base.strip_prefix(folder.path()).expect("beside the config").to_path_buf();
        }
        Ok(config)
    }

    #[test]
    fn toml_and_json_say_the_same() {
        let toml = check(
            "a.toml",
            "base = \"m\"\nepochs = 2\nbatch_examples = 128\nlr = 1e-5\nschedule = { kind = \"linear\", warmup = 0.03 }",
        );
        let json = check(
            "a.json",
            r#"{"base": "m", "epochs": 2, "batch_examples": 128, "lr": 1e-5, "schedule": {"kind": "linear", "warmup": 0.03}}"#,
        );
        assert_eq!(toml.expect("toml"), json.expect("json"));
    }

    #[test]
    fn mistakes_are_usage_errors_that_name_the_key() {
        for (text, word) in [
            ("base = \"m\"\nepochs = 1\nbatch_packs = 1\nlr = -1.0", "`lr`"),
            ("base = \"m\"\nepochs = 1\nbatch_packs = 1\nlr = 1.0\nwarmup = 3", "warmup"),
            ("base = \"m\"\nepochs = 1\nlr = 1.0", "`batch_examples`"),
            ("base = \"m", "1"),
        ] {
            let error = check("a.toml", text).expect_err(text);
            assert_eq!(error.exit(), 2, "{error}");
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
