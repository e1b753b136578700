//! The specs of this repository: each is sound, as far as what it names is here.

use std::fs;
use std::path::PathBuf;

use crate::project::{finch_in, repository};

fn pipelines() -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join("pipelines")).expect("pipelines");
    let paths = entries.map(|entry| entry.expect("entry").path());
    let mut specs: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    specs.sort();
    assert!(specs.len() >= 3, "{specs:?}");
    specs
}

/// Models are not in the repository. Whoever has them there gets no complaint at all.
#[test]
fn every_spec_is_sound_but_for_models_that_are_not_here() {
    for spec in pipelines() {
        let output = finch_in(repository(), &["check", spec.to_str().expect("UTF-8")]);
        if output.code == 0 {
            continue;
        }
        let output = output.fails(2, &["error F0301"]);
        let text = fs::read_to_string(&spec).expect("spec");
        let named = text.lines().filter(|line| line.contains(" = \"models/")).count();
        let errors = |word: &str| output.err.matches(word).count();
        let said = output.err.lines().filter(|line| line.contains("/models/") && line.contains(" is not a "));
        let counts = [said.count(), errors("error F0301"), errors("error F")];
        assert_eq!(counts, [named; 3], "{}", output.err);
    }
}

#[test]
fn the_training_recipe_curates_like_the_papers_recipe() {
    let read = |name: &str| {
        let path = repository().join("pipelines").join(name);
        finch::spec::read(&path).expect("a sound spec")
    };
    let (paper, training) = (read("finch-paper.toml"), read("train-qwen3-8b.toml"));
    let catalogue = |spec: &finch::spec::Pipeline| spec.tasks.as_ref().map(|(path, _)| path.clone());
    assert_eq!((paper.seed, catalogue(&paper)), (training.seed, catalogue(&training)));
    for stage in paper.stages.iter().filter(|stage| stage.config.kind() != "tokenizer") {
        let same = training.stage(&stage.name).expect("the stage is there too");
        let json = |config: &finch::spec::Config| serde_json::to_value(config).expect("JSON");
        assert_eq!(json(&stage.config), json(&same.config), "{}", stage.name);
        let inputs = |stage: &finch::spec::Stage| -> Vec<String> {
            stage.config.inputs().iter().map(|input| input.stage.clone()).collect()
        };
        assert_eq!(inputs(stage), inputs(same), "{}", stage.name);
    }
}
