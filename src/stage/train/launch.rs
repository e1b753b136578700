//! How the trainer is found and started: its program, its arguments, and the launcher's words around them.
//!
//! No shell takes part: a template is split into words once, when the spec is read.

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::code::Code;
use crate::error::{Error, Result};
use crate::spec::{COMMAND, Launcher};

/// The program's name.
const PROGRAM: &str = "finch-train";

/// Names the program where it is neither beside finch nor on the search path.
const VARIABLE: &str = "FINCH_TRAIN";

/// The trainer's program, for a stage.
pub(crate) fn find_trainer(stage: &str) -> Result<PathBuf> {
    let missing = |reason: String| Error::Stage {
        stage: stage.to_owned(),
        reason,
        code: Code::NoTrainer,
        hint: Some(format!(
            "`make demo` builds it; `cargo install --path crates/finch-train --features torch` installs it; \
             `{VARIABLE}` may name another one"
        )),
    };
    if let Some(named) = env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        let path = std::path::absolute(&named).map_err(Error::io("resolve", &named))?;
        return match is_program(&path) {
            true => Ok(path),
            false => Err(missing(format!("`{VARIABLE}` names `{}`, which is not a program", path.display()))),
        };
    }
    let own = env::current_exe().ok().and_then(|finch| finch.parent().map(Path::to_path_buf));
    let search = env::var_os("PATH").unwrap_or_default();
    let mut folders =
        own.iter().cloned().chain(env::split_paths(&search).filter(|folder| folder.is_absolute()));
    let found = folders.find_map(|folder| Some(folder.join(PROGRAM)).filter(|path| is_program(path)));
    found.ok_or_else(|| {
        let beside = own.map_or("finch".to_owned(), |own| own.display().to_string());
        missing(format!("the trainer `{PROGRAM}` is neither in `{beside}` nor on the search path"))
    })
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The words that start a training.
pub(super) fn command(
    launcher: &Launcher,
    trainer: &Path,
    config: &Path,
    data: &Path,
    out: &Path,
) -> Vec<OsString> {
    let words = [
        trainer.as_os_str(),
        "run".as_ref(),
        config.as_os_str(),
        "--data".as_ref(),
        data.as_os_str(),
        "--out".as_ref(),
        out.as_os_str(),
        "--json".as_ref(),
    ];
    let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    let Launcher::Template(template) = launcher else { return words };
    let quoted = shell_words::join(words.iter().map(|word| word.to_string_lossy()));
    template
        .iter()
        .flat_map(|word| match word.as_str() {
            COMMAND => words.clone(),
            word => vec![OsString::from(word.replace(COMMAND, &quoted))],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launched(launcher: &Launcher) -> Vec<String> {
        let path = Path::new;
        let words =
            command(launcher, path("/b/finch-train"), path("/w/c.json"), path("/s/a b"), path("/w/out"));
        words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_launcher_wraps_the_command_without_a_shell() {
        let plain = ["/b/finch-train", "run", "/w/c.json", "--data", "/s/a b", "--out", "/w/out", "--json"]
            .map(str::to_owned);
        assert_eq!(launched(&Launcher::Local), plain);
        let words = |text: &str| Launcher::Template(shell_words::split(text).expect("words"));
        let srun = launched(&words("srun --gres=gpu:1 {command}"));
        assert_eq!(srun[..2], ["srun", "--gres=gpu:1"]);
        assert_eq!(srun[2..], plain);
        let shell = launched(&words("ssh node 'cd /x && {command}'"));
        assert_eq!(shell[..2], ["ssh", "node"]);
        assert_eq!(shell[2], "cd /x && /b/finch-train run /w/c.json --data '/s/a b' --out /w/out --json");
    }
}
