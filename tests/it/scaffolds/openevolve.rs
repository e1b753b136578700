//! OpenEvolve and those that grew out of it: ThetaEvolve, SkyDiscover.

use std::io::Write;

use serde_json::{Value, json};

use super::{candidates, edges, ingested, ingested_with, of_run, quarantined};
use crate::project::{Project, digests, repository, uuid};

fn program(id: &str, parent: Option<&str>, score: f64, code: &str) -> Value {
    json!({"id": id, "code": code, "language": "python", "parent_id": parent, "generation": 1, "timestamp": 1e9,
        "iteration_found": 1, "metrics": {"combined_score": score}, "metadata": {"changes": "x"}})
}

const AT: &str = "run/checkpoints/checkpoint_5/programs";

#[test]
fn programs_in_bulk_are_those_of_checkpoints() {
    let (a, b) = (uuid(1), uuid(2));
    let bulk = json!({&a: program(&a, None, 1.0, "a"), &b: program(&b, Some(&a), 2.0, "b")});
    let checkpoint = program(&b, Some(&a), 2.0, "b").to_string();
    let project = ingested(&[
        ("run/programs_bulk.json", bulk.to_string().as_bytes()),
        (&format!("{AT}/{b}.json"), checkpoint.as_bytes()),
    ]);
    assert_eq!(candidates(&project), [format!("{a} 1.0 null"), format!("{b} 2.0 null")]);
    assert_eq!(edges(&project), [format!("{a} -> {b}")]);
    assert_eq!(of_run(&project, "count(*)"), 1);
}

#[test]
fn console_lines_say_how_an_evicted_parent_scored() {
    let (a, b) = (uuid(1), uuid(2));
    let console = format!(
        "2025-12-06 11:41:34,763 - openevolve.controller - INFO - Evaluated program {a} in 0.01s: combined_score=1.2148\n\
         2025-12-06 11:41:35,000 - openevolve.process_parallel - WARNING - Iteration 7 error: No valid diffs found\n\
         \u{fffd}score \u{a1}\u{fa} change\n"
    );
    let project = ingested(&[
        ("run/logs/openevolve_1.log", console.as_bytes()),
        (&format!("{AT}/{b}.json"), program(&b, Some(&a), 2.0, "b").to_string().as_bytes()),
    ]);
    assert_eq!(candidates(&project), [format!("{b} 2.0 null")]);
    let row = &project.rows("SELECT parent_score, parent_score_origin FROM transitions")[0];
    assert_eq!((&row["parent_score"], &row["parent_score_origin"]), (&json!(1.2148), &json!("logged")));
    let attempt = &project.rows("SELECT iteration, error FROM attempts")[0];
    assert_eq!((&attempt["iteration"], &attempt["error"]), (&json!(7), &json!("No valid diffs found")));
}

/// A step of a trace, with or without its texts.
fn step(iteration: u64, answer: &str, code: Option<&str>) -> Value {
    let mut step = json!({"iteration": iteration, "timestamp": 1e9, "parent_id": uuid(iteration - 1),
        "child_id": uuid(iteration), "parent_metrics": {"combined_score": 1.0}, "child_metrics": {"combined_score": 2.0},
        "prompt": {"system": "s", "user": "# Current Program\n```python\na = 1\nb = 2\n```\n\n# Task\n"},
        "llm_response": answer});
    if let Some(code) = code {
        step["parent_code"] = json!("a = 1\nb = 2\n");
        step["child_code"] = json!(code);
    }
    step
}

const DIFF: &str = "<<<<<<< SEARCH\nb = 2\n=======\nb = 3\n>>>>>>> REPLACE\n";

#[test]
fn a_trace_without_code_is_rebuilt_from_prompts_and_answers() {
    let project = ingested(&[("run/evolution_trace.jsonl", step(1, DIFF, None).to_string().as_bytes())]);
    let row = &project.rows(
        "SELECT t.replay, p.code, c.rebuilt FROM transitions t JOIN programs p \
        ON p.program_id = t.child_program JOIN candidates c ON c.candidate_id = t.child_candidate",
    )[0];
    assert_eq!((&row["replay"], &row["code"]), (&json!("rebuilt"), &json!("a = 1\nb = 3\n")));
    assert_eq!(row["rebuilt"], json!(true));
    // An answer that no scaffold would read the same way is no program.
    let vague = step(5, "I would change b.", None);
    let project = ingested(&[(
        "run/evolution_trace.jsonl",
        format!("{vague}\n{}", step(2, DIFF, Some("a = 1\nb = 3\n"))).as_bytes(),
    )]);
    assert_eq!(quarantined(&project), ["F0315"]);
}

#[test]
fn a_program_that_a_later_prompt_shows_is_marked_as_rebuilt() {
    // Child 1 has no program of its own; the prompt of step 2 shows it as the one to improve.
    let lines = format!("{}\n{}\n", step(1, "I would change b.", None), step(2, DIFF, None));
    let project = ingested(&[("run/evolution_trace.jsonl", lines.as_bytes())]);
    let rows = project.rows("SELECT rebuilt FROM candidates");
    assert!(rows.len() >= 2 && rows.iter().all(|row| row["rebuilt"] == json!(true)), "{rows:?}");
}

#[test]
fn answers_are_replayed_and_operators_come_from_them() {
    let mut unchanged = step(4, "I give up.", Some("a = 1\nb = 2\n"));
    unchanged["parent_id"] = json!(uuid(0));
    let lines = [
        step(1, DIFF, Some("a = 1\nb = 3\n")),
        step(2, DIFF, Some("something else\n")),
        step(3, "```python\nc = 1\n```\n", Some("c = 1\n")),
        unchanged,
        step(5, "See `<<<<<<< SEARCH` above.\n```python\nd = 1\n```", Some("d = 1\n")),
    ];
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    let project = ingested(&[("run/evolution_trace.jsonl", text.join("\n").as_bytes())]);
    let rows = project.rows("SELECT operator, replay, replay_how, no_op FROM transitions ORDER BY iteration");
    let said: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {} {} {}", row["operator"], row["replay"], row["replay_how"], row["no_op"]))
        .collect();
    assert_eq!(
        said,
        [
            r#""diff" "exact" "lines" false"#,
            r#""diff" "inexact" null false"#,
            r#""rewrite" "exact" "first_fence" false"#,
            r#""unknown" "none" null true"#,
            r#""rewrite" "exact" "first_fence" false"#,
        ]
    );
    let count =
        |reason: &str| project.value(&format!("SELECT records FROM meta.counts WHERE reason = '{reason}'"));
    assert_eq!((count("no_op"), count("marker_like")), (json!(1), json!(1)));
}

/// What h5py wrote.
fn hdf5(name: &str) -> Vec<u8> {
    std::fs::read(repository().join("fuzz/seeds/openevolve_hdf5").join(name)).expect("a seed")
}

#[test]
fn a_trace_in_hdf5_is_the_one_in_lines() {
    let program = "# EVOLVE-BLOCK-START\ndef f(x):\n    return x\n# EVOLVE-BLOCK-END\n";
    for name in ["steps", "newest"] {
        let project = ingested(&[("run/evolution_trace.hdf5", &hdf5(name))]);
        assert_eq!(quarantined(&project), [""; 0], "{name}");
        let of_first = "SELECT * FROM transitions WHERE iteration = 1 ORDER BY replay";
        let first = &project.rows(of_first)[0];
        assert_eq!(
            (&first["replay"], &first["parent_score"], &first["child_score"]),
            (&json!("exact"), &json!(0.1), &json!(0.2)),
            "{name}: dicts are JSON, and numbers are numbers"
        );
        let parent = project
            .value("SELECT code FROM programs JOIN candidates USING (program_id) WHERE native_id = 'p0'");
        assert_eq!(parent, json!(program), "{name}");
        let said = project.rows(
            "SELECT c.native_id, u.text FROM transitions t JOIN candidates c ON c.candidate_id = t.child_candidate \
             JOIN texts u ON u.text_id = t.user_prompt_id ORDER BY c.native_id",
        );
        assert!(
            said.iter().all(|row| row["text"].as_str().is_some_and(|text| text.contains("# Current"))),
            "{name}"
        );
    }
    // Not a number is no score, and no failure to read.
    let project = ingested(&[("run/evolution_trace.hdf5", &hdf5("steps"))]);
    assert_eq!(candidates(&project)[2], "p2 null no_score");
}

#[test]
fn an_hdf5_file_that_is_damaged_or_another_is_put_into_quarantine() {
    let whole = hdf5("steps");
    for (name, bytes) in
        [("cut", &whole[..whole.len() / 2]), ("head", &whole[..100]), ("other", &hdf5("elsewhere"))]
    {
        let trace = step(1, DIFF, Some("a = 1\nb = 3\n")).to_string();
        let project = ingested(&[
            ("run/evolution_trace.hdf5", bytes),
            ("other/evolution_trace.jsonl", trace.as_bytes()),
        ]);
        assert!(quarantined(&project).contains(&"F0314".to_owned()), "{name}: {:?}", quarantined(&project));
    }
}

#[test]
fn a_long_trace_gives_the_same_rows_for_every_number_of_threads() {
    // Six megabytes, so that lines are parsed in several pieces, with broken ones among them.
    let mut lines = String::new();
    for n in 1..=60 {
        let mut one = step(n, DIFF, Some(&format!("a = 1\nb = {n}\n")));
        one["prompt"]["system"] = json!(format!("{n} ").repeat(40_000));
        lines.push_str(&format!("{one}\n"));
        if n % 7 == 0 {
            lines.push_str("{\"iteration\": broken\n");
        }
    }
    let project = Project::new(super::INGEST);
    project.write("logs/run/evolution_trace.jsonl", lines.as_bytes());
    let of = |threads: &str| {
        project.finch(&["run", "spec.toml", "--store", threads, "--threads", threads]).ok();
        digests(&project.path(threads))
    };
    let alone = of("1");
    assert_eq!(alone, of("2"));
    assert_eq!(alone, of("5"));
}

#[test]
fn thousands_of_bad_steps_are_told_one_by_one_and_a_torn_end_before_them_does_no_harm() {
    let good = step(1, DIFF, Some("a = 1\nb = 3\n"));
    // A document: places are ordinals, and no two are neighbours.
    let steps: Vec<Value> =
        std::iter::once(good.clone()).chain((0..1500).map(|n| json!({"child_id": n}))).collect();
    let project = ingested_with(
        "max_quarantined = 1.0",
        &[("run/evolution_trace.json", json!({"traces": steps}).to_string().as_bytes())],
    );
    assert_eq!(quarantined(&project), vec!["F0314"; 1500]);
    // Lines, compressed and cut: the end is known to be torn while lines before it still wait to be read.
    let mut lines = format!("{good}\n");
    (0..1500).for_each(|n| lines.push_str(&format!("{{\"iteration\":{n}, {{\"iteration\":{n}, \"x\n")));
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    packed.write_all(lines.as_bytes()).expect("in memory");
    let packed = packed.finish().expect("in memory");
    let project = ingested_with(
        "max_quarantined = 1.0",
        &[("run/evolution_trace.jsonl.gz", &packed[..packed.len() - 40])],
    );
    assert_eq!(project.value("SELECT count(*) FROM quarantine WHERE bytes < 0"), json!(0));
    assert!(quarantined(&project).len() > 2900);
    assert_eq!(candidates(&project).len(), 2);
}

#[test]
fn an_answer_without_an_edit_that_looks_like_one_is_counted() {
    let text = step(1, "I would put `<<<<<<< SEARCH` before it.", Some("a = 1\nb = 3\n")).to_string();
    let project = ingested(&[("run/evolution_trace.jsonl", text.as_bytes())]);
    assert_eq!(project.value("SELECT replay FROM transitions"), json!("none"));
    assert_eq!(project.value("SELECT records FROM meta.counts WHERE reason = 'marker_like'"), json!(1));
}

#[test]
fn a_line_too_long_to_hold_is_passed_over_and_the_next_is_read() {
    let mut text = format!("{}\n", step(1, DIFF, Some("a = 1\nb = 3\n"))).into_bytes();
    text.extend(b"{\"iteration\": 2, \"long\": \"");
    text.extend(std::iter::repeat_n(b'x', 33 << 20));
    text.extend(format!("\"}}\n{}\n", step(3, DIFF, Some("a = 1\nb = 3\n"))).bytes());
    let project = ingested(&[("run/evolution_trace.jsonl", &text)]);
    assert_eq!(project.value("SELECT count(*) FROM transitions"), json!(2));
    let bad = &project.rows("SELECT code, bytes FROM quarantine")[0];
    assert_eq!((&bad["code"], bad["bytes"].as_u64()), (&json!("F0317"), Some((33 << 20) + 29)));
}

#[test]
fn traces_are_read_by_their_content_however_compressed() {
    let text = step(1, DIFF, Some("a = 1\nb = 3\n")).to_string();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).expect("compressed");
    let gzip = gzip.finish().expect("compressed");
    let zstd = zstd::encode_all(text.as_bytes(), 3).expect("compressed");
    for (name, bytes) in [("evolution_trace.jsonl.gz", &gzip), ("steps.jsonl.zst", &zstd), ("a.jsonl", &zstd)]
    {
        let project = ingested(&[(&format!("run/{name}"), bytes)]);
        assert_eq!(project.value("SELECT count(*) FROM transitions"), json!(1), "{name}");
    }
    // Lines under the name of a document.
    let project =
        ingested(&[("run/evolution_trace.json", format!("{text}\n{}\n", step(2, DIFF, None)).as_bytes())]);
    assert_eq!(project.value("SELECT count(*) FROM transitions"), json!(2));
    // Cut inside the compressed data: what there is of it is kept, and said.
    let project = ingested(&[("run/a.jsonl.gz", &gzip[..gzip.len() - 9]), ("run/b.jsonl", text.as_bytes())]);
    assert_eq!(quarantined(&project), ["F0311"]);
}

#[test]
fn databases_of_thetaevolve_are_a_scaffold_of_its_own() {
    let mut one = program("p1", None, -1000.0, "a");
    one["code_hash"] = json!("00");
    let mut two = program("p2", Some("p1"), 0.5, "b");
    two["code_hash"] = json!("01");
    let database = json!({"programs": {"p1": one, "p2": &two}, "last_iteration": 4, "training_step": 2});
    let project = ingested(&[
        ("run/checkpoints/checkpoint_step_2/database.json", database.to_string().as_bytes()),
        (&format!("{AT}/p2.json"), two.to_string().as_bytes()),
    ]);
    assert_eq!(of_run(&project, "min(scaffold)"), "thetaevolve");
    assert_eq!(of_run(&project, "count(*)"), 1);
    assert_eq!(edges(&project), ["p1 -> p2"]);
}

fn solution(id: &str, parent: Option<&str>, code: &str) -> Value {
    json!({"id": id, "solution": code, "language": "coq", "metrics": {"combined_score": 0.5}, "iteration_found": 1,
        "parent_id": parent, "other_context_ids": [uuid(9)], "timestamp": 1e9, "metadata": {"changes": "x"},
        "artifacts": {"feedback": "fine"}, "generation": 0})
}

#[test]
fn migrants_of_skydiscover_are_copies_and_their_children_the_sources() {
    let ids: Vec<String> = (1..5).map(uuid).collect();
    let mut migrant = solution(&ids[2], Some(&ids[1]), "b");
    migrant["metadata"] = json!({"migrated_from": 0, "migrated_to": 1});
    let mut child = solution(&ids[3], Some(&ids[2]), "Theorem t.");
    // A whole program under a diff's key.
    child["prompts"] =
        json!({"diff_user_message": {"system": "s", "user": "u", "responses": ["```coq\nTheorem t.\n```"]}});
    let all = [solution(&ids[0], None, "a"), solution(&ids[1], Some(&ids[0]), "b"), migrant, child];
    let files: Vec<(String, String)> =
        all.iter().zip(&ids).map(|(one, id)| (format!("{AT}/{id}.json"), one.to_string())).collect();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    let project = ingested(&files);
    assert_eq!(edges(&project), [format!("{} -> {}", ids[0], ids[1]), format!("{} -> {}", ids[1], ids[3])]);
    assert_eq!(of_run(&project, "copies"), 1);
    assert_eq!(of_run(&project, "scaffold"), "skydiscover");
    let row =
        &project.rows("SELECT operator, replay, inspirations FROM transitions WHERE response IS NOT NULL")[0];
    assert_eq!((&row["operator"], &row["replay"]), (&json!("rewrite"), &json!("exact")));
    assert_eq!(row["inspirations"], json!([uuid(9)]));
    assert_eq!(
        project.value("SELECT DISTINCT language FROM programs WHERE code = 'Theorem t.\n'"),
        json!("coq")
    );
}

#[test]
fn scaffolds_may_share_a_folder() {
    let (a, b) = (uuid(1), uuid(2));
    let project = ingested(&[
        (&format!("{AT}/a.json"), program(&a, None, 1.0, "a").to_string().as_bytes()),
        (&format!("{AT}/b.json"), solution(&b, None, "b").to_string().as_bytes()),
    ]);
    let rows = project.rows("SELECT scaffold FROM runs ORDER BY scaffold");
    assert_eq!(rows, [json!({"scaffold": "openevolve"}), json!({"scaffold": "skydiscover"})]);
}

#[test]
fn millions_of_lines_of_something_else_are_a_few_stretches() {
    let mut text = format!("{}\n", step(1, DIFF, Some("a = 1\nb = 3\n")));
    text.push_str(&"x\n".repeat(100_000));
    let project = ingested_with("max_quarantined = 1.0", &[("run/evolution_trace.jsonl", text.as_bytes())]);
    assert_eq!(project.value("SELECT count(*) FROM transitions"), json!(1));
    let row = &project.rows("SELECT count(*) AS n, max(source_offset + bytes) AS till FROM quarantine")[0];
    assert_eq!((&row["n"], row["till"].as_u64()), (&json!(1000), Some(text.len() as u64 - 1)));
}
