//! Scaffolds whose candidates are spread over the files of a folder.

use serde_json::json;

use super::{candidates, edges, ingested, of_run, quarantined};
use crate::project::Project;

#[test]
fn shinka_without_a_database_finds_parents_by_their_text() {
    let project = ingested(&[
        ("run/gen_0/main.py", b"x = 0   \n"),
        ("run/gen_0/results/metrics.json", br#"{"combined_score": 1, "public": {"hits": 3}, "private": {}}"#),
        ("run/gen_0/results/correct.json", br#"{"correct": true, "error": null}"#),
        ("run/gen_1/main.py", b"x = 1\n"),
        // As patches leave it: without blanks at the ends of lines.
        ("run/gen_1/original.py", b"x = 0\n"),
        (
            "run/gen_1/search_replace.txt",
            b"<NAME>n</NAME>\n<<<<<<< SEARCH\nx = 0\n=======\nx = 1\n>>>>>>> REPLACE\n",
        ),
        ("run/gen_1/results/metrics.json", br#"{"combined_score": 0.0}"#),
        ("run/gen_1/results/correct.json", br#"{"correct": false, "error": "ValueError: no"}"#),
        (
            "run/gen_2/attempts/novelty_1/resample_1/patch_1/metadata.json",
            br#"{"success": false, "error_msg": "no code"}"#,
        ),
        ("run/gen_2/attempts/novelty_1/resample_1/patch_1/llm_response.txt", b"sorry"),
        ("run/best/main.py", b"x = 0\n"),
    ]);
    assert_eq!(edges(&project), ["gen_0 -> gen_1"]);
    assert_eq!(candidates(&project), ["gen_0 1.0 null", "gen_1 null error"]);
    assert_eq!(project.value("SELECT replay FROM transitions"), json!("exact"));
    assert_eq!(
        project.rows("SELECT iteration, error FROM attempts"),
        [json!({"iteration": 2, "error": "no code"})]
    );
    assert_eq!(quarantined(&project), [""; 0]);
}

#[test]
fn shinka_without_evaluations_has_the_scores_of_its_summary_marked() {
    let summary = "**Program Name: A**\\n- Achieved a combined score of 2.79, demonstrating\\n**Program Identifier:** \
                   Generation 0 - Patch Name initial - Correct Program: True\\n**Program Name: B**\\n- a combined score of 9.\\n\
                   **Program Identifier:** Generation 1 - Patch Name b - Correct Program: False\\n";
    let memory = format!(r#"{{"unprocessed_programs": [], "meta_summary": "{summary}"}}"#);
    let project = ingested(&[
        ("run/gen_0/main.cpp", b"#include <x>\n"),
        ("run/gen_1/main.cpp", b"#include <y>\n"),
        ("run/gen_1/original.cpp", b"#include <x>\n"),
        ("run/gen_1/rewrite.txt", b"#include <y>\n"),
        ("run/meta_memory.json", memory.as_bytes()),
    ]);
    assert_eq!(candidates(&project), ["gen_0 2.79 null", "gen_1 null rejected"]);
    let metrics = project.value("SELECT metrics FROM candidates WHERE native_id = 'gen_0'");
    assert!(metrics.as_str().expect("JSON").contains("\"score_from_summary\":true"), "{metrics}");
    assert_eq!(project.value("SELECT operator FROM transitions"), json!("rewrite"));
}

const SAMPLES: &str = r#"[{"sample_order": 1, "operator": "i1", "algorithm": "greedy", "code": "def f(): return 1", "objective": 5.5},
    {"sample_order": 2, "operator": "e1", "algorithm": "x", "code": null, "objective": null},
    {"sample_order": 3, "operator": "m1", "algorithm": "y", "code": "def f(): return 1 + 1", "objective": 4.5},
    {"sample_order": 4, "operator": "m1", "algorithm": "z", "code": "def f(): raise", "objective": null}]"#;

const RUN_LOG: &str = "[2026-05-18 22:40:31]   #1    [i1]  5.5  best=5.5  *\n[Gen 1/20]\n[2026-05-18 22:40:43]   #2    [e1]  None \
    (generation failed)  best=5.5\n[2026-05-18 22:40:44]   #3    [m1]  4.5  best=4.5\n";

fn eoh() -> Vec<(&'static str, &'static [u8])> {
    vec![
        ("run/results/samples/samples_1~4.json", SAMPLES.as_bytes()),
        (
            "run/results/samples/samples_best.json",
            br#"{"sample_order": 3, "operator": "m1", "algorithm": "y", "code": "", "objective": 4.5}"#,
        ),
        (
            "run/results/pops/population_generation_0.json",
            br#"[{"algorithm": "greedy", "code": "def f(): return 1", "objective": 5.5, "other_inf": null}]"#,
        ),
        (
            "run/results/pops_best/population_generation_0.json",
            br#"{"algorithm": "greedy", "code": "def f(): return 1", "objective": 5.5, "other_inf": null}"#,
        ),
        ("run/results/run_log.txt", RUN_LOG.as_bytes()),
    ]
}

#[test]
fn samples_and_populations_of_eoh_are_the_same_candidates() {
    let project = ingested(&eoh());
    assert_eq!(candidates(&project), ["1 5.5 null", "3 4.5 null", "4 null error"]);
    assert_eq!(of_run(&project, "direction"), "minimize");
    assert_eq!(
        project.rows("SELECT iteration, error FROM attempts"),
        [json!({"iteration": 2, "error": "generation failed"})]
    );
    assert_eq!(project.value("SELECT count(*) FROM transitions"), json!(0), "nobody names a parent");
    assert_eq!(quarantined(&project), [""; 0]);
}

#[test]
fn parents_are_inferred_where_that_is_asked_for_and_marked() {
    let project =
        Project::new(&super::INGEST.replace("max_quarantined", "infer_parents = true\nmax_quarantined"));
    for (name, content) in eoh() {
        project.write(&format!("logs/{name}"), content);
    }
    project.run().ok();
    let rows =
        project.rows("SELECT parent_inferred > 0.2 AND parent_inferred < 1.0 AS marked FROM transitions");
    assert_eq!(rows, [json!({"marked": true}), json!({"marked": true})]);
    assert_eq!(edges(&project), ["1 -> 3", "1 -> 4"]);
}

#[test]
fn infinity_in_a_population_is_no_score() {
    let population =
        br#"[{"algorithm": "a", "code": "def f(): pass", "objective": Infinity, "other_inf": null},
        {"algorithm": "b", "code": "def f(): return 2", "objective": 2.5, "other_inf": null}]"#;
    let project = ingested(&[("eoh/population_generation_0.json", population)]);
    let rows = project.rows("SELECT score, failure FROM candidates ORDER BY score");
    assert_eq!(rows, [json!({"score": 2.5, "failure": null}), json!({"score": null, "failure": "no_score"})]);
}

#[test]
fn a_member_of_many_populations_was_made_for_the_first() {
    let member = |n: u64| {
        format!(
            r#"{{"algorithm": "a", "code": "def f(): return {n}", "objective": {n}.5, "other_inf": null}}"#
        )
    };
    let files: Vec<(String, String)> = (7..=11)
        .map(|g| (format!("pops/population_generation_{g}.json"), format!("[{}, {}]", member(7), member(g))))
        .collect();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    let project = ingested(&files);
    let rows = project.rows("SELECT score, generation FROM candidates ORDER BY score LIMIT 2");
    assert_eq!(rows, [json!({"score": 7.5, "generation": 7}), json!({"score": 8.5, "generation": 8})]);
}

#[test]
fn samples_in_several_files_are_one_run_beside_a_restart() {
    let sample = |n: u64, code: u64| {
        format!(
            r#"[{{"sample_order": {n}, "operator": "i1", "algorithm": "a", "code": "def f(): return {code}", "objective": 1.5}}]"#
        )
    };
    let project = ingested(&[
        ("results/samples/samples_1~88.json", sample(1, 1).as_bytes()),
        ("results/samples/samples_1~200.json", sample(1, 2).as_bytes()),
        ("results/samples/samples_201~400.json", sample(201, 3).as_bytes()),
    ]);
    assert_eq!(
        project.rows("SELECT candidates FROM runs ORDER BY 1"),
        [json!({"candidates": 1}), json!({"candidates": 2})]
    );
}

#[test]
fn a_restart_in_the_same_folder_is_another_run() {
    let other = SAMPLES.replace("return 1", "return 7");
    let project = ingested(&[
        ("results/samples/samples_1~4.json", SAMPLES.as_bytes()),
        ("results/samples/samples_1~9.json", other.as_bytes()),
    ]);
    assert_eq!(project.value("SELECT count(*) FROM runs"), json!(2));
    assert_eq!(project.value("SELECT count(*) FROM candidates"), json!(6));
}

#[test]
fn the_last_line_of_an_output_is_reevos_objective() {
    let project = ingested(&[
        ("run/problem_iter0_response0.txt", b"Here:\n```python\ndef h(): return 1\n```\n"),
        ("run/problem_iter0_stdout0.txt", b"[*] Average:\n10.25\n"),
        ("run/problem_iter0_response1.txt", b"```python\ndef h(): return x\n```\n"),
        ("run/problem_iter0_response1.txt_stdout.txt", b"Traceback (most recent call last):\nNameError: x\n"),
        ("run/problem_iter0_response2.txt", b"I cannot."),
        ("run/problem_iter1_short_term_reflections.txt", b"hm"),
    ]);
    assert_eq!(candidates(&project), ["iter0_response0 10.25 null", "iter0_response1 null error"]);
    assert_eq!(project.rows("SELECT error FROM attempts"), [json!({"error": "no program in the answer"})]);
    assert_eq!(of_run(&project, "direction"), "minimize");
}

#[test]
fn responses_of_funsearch_have_prompts_and_no_scores() {
    let project = ingested(&[
        ("data/1727977871/prompt_0.log", b"def priority_v0(n):\n  return 0.0\n"),
        ("data/1727977871/response_0.log", b"```python\ndef priority_v1(n):\n  return n\n```"),
        ("data/1727977871/prompt_1.log", b"p"),
        ("data/1727977871/response_1.log", b"No."),
        ("data/1727977871/sandbox0/stderr_0.log", b""),
    ]);
    assert_eq!(candidates(&project), ["0 null no_score"]);
    assert_eq!(project.value("SELECT count(*) FROM attempts"), json!(1));
    assert_eq!(of_run(&project, "scaffold"), "funsearch");
}

#[test]
fn children_of_dgm_are_chains_of_patches_under_objects_of_many_lines() {
    let child = |parent: &str, score: f64| {
        json!({"run_id": "ignored", "parent_commit": parent, "overall_performance": {"accuracy_score": score}}).to_string()
    };
    let (one, two) = (child("initial", 0.25), child("20250101_1", 0.5));
    let (one, two) = (one.replace("ignored", "20250101_1"), two.replace("ignored", "20250101_2"));
    let project = ingested(&[
        ("out/dgm_metadata.jsonl", b"{\n  \"generation\": 0,\n  \"selfimprove_entries\": [],\n  \"children\": [\"20250101_1\"]\n}\n{\n  \"generation\": 1,\n  \"selfimprove_entries\": [],\n  \"children\": [\"20250101_2\"]\n}\n"),
        // The seed has a folder of its own, with a score and without a patch.
        ("out/initial/metadata.json", br#"{"run_id": "initial", "overall_performance": {"accuracy_score": 0.125}}"#),
        ("out/20250101_3/metadata.json", br#"{"run_id": "20250101_3", "parent_commit": "20250101_3", "overall_performance": {}}"#),
        ("out/20250101_3/model_patch.diff", b"+c\n"),
        ("out/20250101_4/metadata.json", br#"{"run_id": "20250101_4", "parent_commit": "initial", "overall_performance": {}}"#),
        ("out/20250101_1/metadata.json", one.as_bytes()),
        ("out/20250101_1/model_patch.diff", b"+a\n"),
        ("out/20250101_2/metadata.json", two.as_bytes()),
        ("out/20250101_2/model_patch.diff", b"+b\n"),
    ]);
    assert_eq!(candidates(&project), ["20250101_1 0.25 null", "20250101_2 0.5 null"]);
    assert_eq!(edges(&project), ["? -> 20250101_1", "20250101_1 -> 20250101_2"]);
    let scores = project.rows(
        "SELECT parent_score, parent_score_origin AS origin FROM transitions ORDER BY iteration LIMIT 1",
    );
    assert_eq!(scores, [json!({"parent_score": 0.125, "origin": "logged"})]);
    assert_eq!(project.value("SELECT count(*) FROM attempts"), json!(2), "a patch on itself, and no patch");
    let code = project.value("SELECT code FROM programs WHERE lines > 4");
    assert_eq!(code, json!("# patch of 20250101_1\n+a\n\n# patch of 20250101_2\n+b\n"));
}
