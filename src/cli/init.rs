//! `init`: a small project that runs, from the bare binary.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::output::print;
use crate::error::{Error, Result};

#[derive(Args)]
pub(super) struct Init {
    /// The folder to make the project in; files that are there stay
    folder: PathBuf,
}

macro_rules! embedded {
    ($($target:literal <- $source:literal,)+) => {
        /// The project's files: where they go, and what is in them.
        const FILES: &[(&str, &[u8])] = &[$(($target, include_bytes!($source)),)+];
    };
}

embedded! {
    "finch.toml" <- "../../data/init/finch.toml",
    "pipeline.toml" <- "../../data/init/pipeline.toml",
    "tasks.toml" <- "../../data/init/tasks.toml",
    "sql/outcomes.sql" <- "../../data/init/sql/outcomes.sql",
    "logs/cache-small/finch.toml" <- "../../data/init/logs/cache-small/finch.toml",
    "logs/cache-small/evolution_trace.jsonl" <- "../../data/init/logs/cache-small/evolution_trace.jsonl",
    "logs/growth-small/finch.toml" <- "../../data/init/logs/growth-small/finch.toml",
    "logs/growth-small/programs.sqlite" <- "../../data/init/logs/growth-small/programs.sqlite",
    "logs/rulers-small/finch.toml" <- "../../data/init/logs/rulers-small/finch.toml",
    "logs/rulers-small/evolution_trace.jsonl" <- "../../data/init/logs/rulers-small/evolution_trace.jsonl",
}

impl Init {
    pub(super) fn run(self) -> Result<ExitCode> {
        let taken: Vec<&str> =
            FILES.iter().map(|(name, _)| *name).filter(|name| self.folder.join(name).exists()).collect();
        if !taken.is_empty() {
            return Err(Error::Usage(format!(
                "`{}` already holds `{}`; name an empty folder",
                self.folder.display(),
                taken.join("`, `")
            )));
        }
        for (name, bytes) in FILES {
            let path = self.folder.join(name);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
            }
            let file = OpenOptions::new().write(true).create_new(true).open(&path);
            file.and_then(|mut file| file.write_all(bytes)).map_err(Error::io("write", &path))?;
        }
        let folder = self.folder.display();
        print(&format!(
            "{folder}: {} files\n\n  cd {folder}\n  finch run pipeline.toml\n  finch query --spec pipeline.toml @outcomes\n",
            FILES.len()
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_embedded_project_is_small() {
        let bytes: usize = super::FILES.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes < 1_000_000, "{bytes}");
    }
}
