//! Scaffolds that pickle: CodeEvolve, GEPA, FunSearch.

use serde_json::{Value, json};

use super::{candidates, edges, ingested, of_run, quarantined};
use crate::pickles::pickle;
use crate::project::uuid;

fn program(n: u64, parent: Option<u64>, home: u64, epoch: u64, fitness: f64) -> Value {
    let answer = (epoch > 0).then(|| format!("```python\nx = {n}\n```"));
    json!({"class": "codeevolve.database.Program", "id": uuid(n), "code": format!("x = {n}\n"), "language": "python",
        "returncode": 0, "output": null, "error": null, "eval_metrics": {"ratio": fitness}, "fitness": fitness,
        "parent_id": parent.map(uuid), "iteration_found": epoch, "generation": epoch, "island_found": home,
        "prompt_id": "p", "inspiration_ids": [], "model_msg": answer})
}

fn checkpoint(island: u64, programs: &[Value]) -> Vec<u8> {
    let by_id: Value =
        programs.iter().map(|one| (one["id"].as_str().expect("id").to_owned(), one.clone())).collect();
    let class = "codeevolve.database.ProgramDatabase";
    let prompt =
        json!({"class": "codeevolve.database.Program", "id": "p", "code": "be good", "language": "text"});
    pickle(&json!({
        "prompt_db": {"class": class, "id": island, "programs": {"p": prompt}},
        "sol_db": {"class": class, "id": island, "programs": by_id},
        "evolve_state": {
            "errors": [
                {"epoch": 2, "motive": "sr_evolve_prog", "parent_sol": program(1, None, 0, 0, 0.1), "sol_diff": "no",
                 "error_msg": "Search block not found"},
                {"epoch": 3, "motive": "sr_meta_prompt", "prompt_diff": "no", "error_msg": "x"},
            ],
            "tok_usage": [{"epoch": 1, "motive": "generate_prog", "prompt_tok": 7, "compl_tok": 9, "model_name": "m"}],
        },
    }))
}

#[test]
fn the_first_population_of_codeevolve_descends_from_the_initial_program() {
    let mut failed = program(3, Some(2), 0, 2, 0.0);
    failed["returncode"] = json!(1);
    failed["error"] = json!("TimeoutError: Evaluation time usage exceeded maximum time limit");
    let pickle = checkpoint(0, &[program(1, None, 0, 0, 0.1), program(2, None, 0, 1, 0.9), failed]);
    let project = ingested(&[("run/0/ckpt/ckpt_2.pkl", &pickle)]);
    assert_eq!(
        edges(&project),
        [format!("{} -> {}", uuid(1), uuid(2)), format!("{} -> {}", uuid(2), uuid(3))]
    );
    assert_eq!(candidates(&project)[2], format!("{} null timeout", uuid(3)));
    let row = &project
        .rows("SELECT model, prompt_tokens, replay, system_prompt FROM transitions WHERE iteration = 1")[0];
    assert_eq!((&row["model"], &row["prompt_tokens"]), (&json!("m"), &json!(7)));
    assert_eq!((&row["replay"], &row["system_prompt"]), (&json!("exact"), &json!("be good")));
    // An answer that was to change a prompt is no proposal of a program.
    assert_eq!(project.rows("SELECT error FROM attempts"), [json!({"error": "Search block not found"})]);
}

#[test]
fn a_later_checkpoint_repeats_the_failures_of_an_earlier_one() {
    let early = checkpoint(0, &[program(1, None, 0, 0, 0.1)]);
    let late = checkpoint(0, &[program(1, None, 0, 0, 0.1), program(2, None, 0, 1, 0.9)]);
    let project = ingested(&[("run/0/ckpt/ckpt_1.pkl", &early), ("run/0/ckpt/ckpt_2.pkl", &late)]);
    assert_eq!(project.value("SELECT count(*) FROM attempts"), json!(1));
    assert_eq!(candidates(&project).len(), 2);
}

#[test]
fn a_migrant_of_codeevolve_has_the_parent_that_its_home_knows() {
    let home = checkpoint(0, &[program(1, None, 0, 0, 0.1), program(2, Some(1), 0, 5, 0.9)]);
    let away = checkpoint(
        1,
        &[program(11, None, 1, 0, 0.1), program(2, None, 0, 5, 0.9), program(12, Some(2), 1, 6, 1.0)],
    );
    let project = ingested(&[("run/0/ckpt/ckpt_9.pkl", &home), ("run/1/ckpt/ckpt_9.pkl", &away)]);
    assert_eq!(
        edges(&project),
        [format!("{} -> {}", uuid(1), uuid(2)), format!("{} -> {}", uuid(2), uuid(12))]
    );
    assert_eq!(of_run(&project, "count(*)"), 1, "the islands of an experiment are one run");
    // Without its home nobody knows whose child it is; it is not the child of a stranger's initial program.
    let project = ingested(&[("run/1/ckpt/ckpt_9.pkl", &away)]);
    assert_eq!(edges(&project), [format!("{} -> {}", uuid(2), uuid(12))]);
}

#[test]
fn pickles_are_never_run_and_damage_is_quarantined() {
    let whole = checkpoint(0, &[program(1, None, 0, 0, 0.1)]);
    // What Python would run when it loads this: os.system("touch ran").
    let evil = b"\x80\x02cos\nsystem\nX\x09\x00\x00\x00touch ran\x85Rcodeevolve.database\n.";
    let project = ingested(&[
        ("run/0/ckpt/ckpt_1.pkl", &whole),
        ("run/1/ckpt/ckpt_1.pkl", &whole[..whole.len() - 40]),
        ("run/2/ckpt/ckpt_1.pkl", evil),
    ]);
    assert_eq!(candidates(&project).len(), 1);
    let codes = quarantined(&project);
    assert!(codes.contains(&"F0311".to_owned()) && codes.len() == 2, "{codes:?}");
    assert!(!project.path("ran").exists());
}

fn state() -> Value {
    json!({
        "program_candidates": [{"code": "a", "note": "n"}, {"code": "b", "note": "n"}],
        "parent_program_for_candidate": [[null], [0]],
        "prog_candidate_val_subscores": [{"0": 1.0, "1": 0.0}, {"0": 1.0, "1": 1.0}],
        "num_metric_calls_by_discovery": [0, 5],
        "full_program_trace": [
            {"i": 0, "selected_program_candidate": 0, "subsample_scores": [1.0], "new_subsample_scores": [0.5]},
            {"i": 1, "selected_program_candidate": 0, "subsample_scores": [0.0], "new_subsample_scores": [1.0],
             "new_program_idx": 1},
        ],
    })
}

#[test]
fn candidates_of_gepa_have_several_components_and_a_mean_score() {
    let call = json!({"current_skills": "n", "new_skills": "b", "full_prompt": "do", "llm_response": "done"});
    let project = ingested(&[
        ("run/gepa_state.bin", &pickle(&state())),
        ("run/proposer_calls/call_001.json", call.to_string().as_bytes()),
        ("run/generated_best_outputs_valset/task_0/iter_0_prog_0.json", b"{\"score\": 1}"),
    ]);
    assert_eq!(candidates(&project), ["0 0.5 null", "1 1.0 null"]);
    assert_eq!(edges(&project), ["0 -> 1"]);
    assert_eq!(project.value("SELECT user_prompt FROM transitions"), json!("do"));
    let code = project.value(
        "SELECT code FROM programs p JOIN candidates c ON c.program_id = p.program_id WHERE native_id = '1'",
    );
    assert_eq!(code, json!("## code\n\nb\n\n## note\n\nn\n"));
    let attempt = &project.rows("SELECT iteration, error, scores FROM attempts")[0];
    assert_eq!((&attempt["iteration"], &attempt["error"]), (&json!(0), &json!("not better on its examples")));
    assert_eq!(quarantined(&project), [""; 0]);
}

#[test]
fn gepa_in_json_is_read_without_a_pickle() {
    let all = state();
    let project = ingested(&[
        ("run/candidates.json", all["program_candidates"].to_string().as_bytes()),
        ("run/run_log.json", all["full_program_trace"].to_string().as_bytes()),
    ]);
    assert_eq!(edges(&project), ["0 -> 1"]);
    assert_eq!(
        candidates(&project),
        ["0 null no_score", "1 null no_score"],
        "its scores are not in these files"
    );
    let project = ingested(&[("run/gepa_state.json", all.to_string().as_bytes())]);
    assert_eq!(candidates(&project), ["0 0.5 null", "1 1.0 null"]);
}

#[test]
fn restarts_of_gepa_with_one_seed_are_two_runs() {
    let mut seed = state();
    seed["program_candidates"] = json!([{"code": "a", "note": "n"}]);
    let project = ingested(&[
        ("0/260209_17:04:42/gepa_state.bin", &pickle(&seed)),
        ("0/260209_17:06:23/gepa_state.bin", &pickle(&state())),
    ]);
    assert_eq!(project.value("SELECT count(DISTINCT run_id) FROM runs"), json!(2));
}

#[test]
fn functions_of_a_funsearch_database_are_candidates_once() {
    let function = |body: &str| {
        json!({"class": "funsearch.code_manipulation.Function", "name": "priority", "args": "n: int",
            "body": body, "return_type": "float", "docstring": "Best."})
    };
    let cluster = |score: i64, body: &str| {
        json!({"class": "funsearch.programs_database.Cluster", "_score": score, "_programs": [function(body)],
            "_lengths": [3]})
    };
    let island =
        |clusters: Value| json!({"class": "funsearch.programs_database.Island", "_clusters": clusters});
    let database = json!({"_islands": [
        island(json!({"a": cluster(3, "  return 1.0")})),
        island(json!({"a": cluster(3, "  return 1.0"), "b": cluster(5, "  return 2.0")})),
    ]});
    let project = ingested(&[("data/backups/program_db_priority_1_0.pickle", &pickle(&database))]);
    assert_eq!(
        project.rows("SELECT score FROM candidates ORDER BY score"),
        [json!({"score": 3.0}), json!({"score": 5.0})]
    );
    let code = project.value("SELECT code FROM programs ORDER BY code LIMIT 1");
    assert_eq!(code, json!("def priority(n: int) -> float:\n  \"\"\"Best.\"\"\"\n  return 1.0\n"));
}
