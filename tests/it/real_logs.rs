//! Published logs of other people's searches, where they are at hand: `../shared/logs`, or `FINCH_REAL_LOGS`.
//!
//! They are not part of this repository. Without them the test says so in one line and passes.

use std::path::PathBuf;

use crate::project::{Project, repository};

/// Candidates and copies per folder of OpenEvolve logs, counted independently from the raw files: distinct program
/// ids, as the collection of logs lists them.
const OPENEVOLVE: [(&str, i64); 10] = [
    ("algorithmicsuperintelligence+openevolve/examples/arc_benchmark/outputs/evaluation_task_0", 2),
    ("archie-brown3+noema-evolve/examples/bin_packing/runs/phase-c-p1/null-islands-s42", 201),
    ("archie-brown3+noema-evolve/examples/circle_packing/openevolve_output", 71),
    ("archie-brown3+noema-evolve/examples/custom/cache replacement policy/openevolve_output", 609),
    ("foamliu+openevolve/examples/function_minimization/openevolve_output", 93),
    ("luxunxiansheng+openevolve/examples/circle_packing_with_artifacts/openevolve_output", 21),
    ("marcheanin+openevolve/examples/llm_prompt_optimization/wilds_active_learn_approach/results_1", 104),
    ("marcheanin+openevolve/examples/llm_prompt_optimization/wilds_active_learn_approach/results_smoke", 10),
    ("marcheanin+openevolve/examples/llm_prompt_optimization/wilds_active_learn_approach/results_v2", 79),
    ("ypwang61+MyOpenEvolve/examples/circle_packing/openevolve_output", 84),
];

/// Database rows per folder of ShinkaEvolve logs, island copies included.
const SHINKA: [(&str, i64); 3] = [
    ("SakanaAI+ShinkaEvolve/results/shinka_novelty_generator_llm_judge", 8),
    ("gapaza+ShinkaEvolve/examples/sds/sds_dataset_output/problem_0", 11),
    ("gapaza+ShinkaEvolve/examples/sds/test_output/problem_0", 6),
];

#[allow(clippy::print_stderr)]
fn logs() -> Option<PathBuf> {
    let named = std::env::var_os("FINCH_REAL_LOGS").map(PathBuf::from);
    let logs = named.unwrap_or_else(|| repository().join("../shared/logs"));
    if logs.join("openevolve").is_dir() {
        return Some(logs);
    }
    eprintln!("SKIPPED real_logs: no published logs at `{}`; set FINCH_REAL_LOGS", logs.display());
    None
}

#[test]
fn counts_of_real_logs_are_those_of_their_files() {
    let Some(logs) = logs() else { return };
    for (scaffold, folders) in [("openevolve", &OPENEVOLVE[..]), ("shinka", &SHINKA[..])] {
        let spec = format!(
            "[pipeline]\nstore = \"store\"\n[stages.logs]\nkind = \"ingest\"\nsources = [{:?}]\n\
             [stages.unique]\nkind = \"dedup\"\ninput = \"logs\"\n[stages.labelled]\nkind = \"label\"\ninput = \"unique\"\n",
            logs.join(scaffold).display().to_string()
        );
        let project = Project::new(&spec);
        project.run().ok();
        for (folder, expected) in folders {
            let sql =
                format!("SELECT sum(candidates + copies) FROM runs WHERE starts_with(source, '{folder}')");
            assert_eq!(project.value(&sql).as_i64(), Some(*expected), "{folder}");
        }
        let all: i64 = folders.iter().map(|(_, n)| n).sum();
        assert_eq!(project.value("SELECT sum(candidates + copies) FROM runs").as_i64(), Some(all));
        project.finch(&["verify", "--store", "store"]).ok();
    }
}
