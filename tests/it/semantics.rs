//! What rows mean: outcomes, copies, directions, identity.

use serde_json::{Value, json};

use crate::project::{LABEL, Program, Project, uuid};

/// Outcome of each child, by its number.
fn outcomes(project: &Project) -> Vec<(String, Value, Value)> {
    project
        .rows(
            "SELECT c.native_id, t.outcome, t.delta FROM transitions t \
             JOIN candidates c ON c.candidate_id = t.child_candidate ORDER BY c.native_id",
        )
        .into_iter()
        .map(|row| {
            let id = row["native_id"].as_str().expect("id");
            (
                id.trim_start_matches("00000000-0000-4000-8000-").to_owned(),
                row["outcome"].clone(),
                row["delta"].clone(),
            )
        })
        .collect()
}

fn broken(n: u64, parent: u64) -> Program {
    let metrics = json!({"combined_score": 0.0, "error": "ValueError: no"});
    Program { metrics, ..Program::new(n, Some(parent), 0.0) }
}

#[test]
fn every_outcome_of_the_design() {
    let project = Project::new(LABEL);
    let timeout = |n, parent| Program {
        metrics: json!({"error": 0.0, "timeout": true}),
        ..Program::new(n, Some(parent), 0.0)
    };
    for program in [
        Program::new(1, None, -2.0),
        Program::new(2, Some(1), -1.0),
        Program::new(3, Some(1), -2.0),
        Program::new(4, Some(1), -3.0),
        broken(5, 1),
        broken(6, 5),
        Program::new(7, Some(5), -1.5),
        timeout(8, 1),
        Program::new(9, Some(99), 1.0),
        Program { parent_metrics: json!({"combined_score": -4.0}), ..Program::new(10, Some(98), -1.0) },
    ] {
        project.program("run", &program);
    }
    project.run().ok();
    let row = |n: &str, outcome: &str, delta: Value| (format!("{n:0>12}"), json!(outcome), delta);
    assert_eq!(
        outcomes(&project),
        [
            row("2", "improvement", json!(1.0)),
            row("3", "unchanged", json!(0.0)),
            row("4", "regression", json!(-1.0)),
            row("5", "breakage", Value::Null),
            row("6", "unrecoverable", Value::Null),
            row("7", "self_repair", Value::Null),
            row("8", "systematic_error", Value::Null),
            row("9", "systematic_error", Value::Null),
            row("a", "improvement", json!(3.0)),
        ]
    );
    let origins =
        project.rows("SELECT parent_score_origin, count(*) AS n FROM transitions GROUP BY 1 ORDER BY 1");
    assert_eq!(
        json!(origins),
        json!([
            {"parent_score_origin": "candidate", "n": 7},
            {"parent_score_origin": "logged", "n": 1},
            {"parent_score_origin": "none", "n": 1},
        ])
    );
}

#[test]
fn a_raw_metric_is_judged_by_the_catalogues_direction() {
    let project = Project::new(&LABEL.replace("seed = 1", "seed = 1\ntasks = \"tasks.toml\""));
    project.write(
        "tasks.toml",
        "[tasks.tour]\ndomain = \"Routes\"\nscore_key = \"length\"\ndirection = \"minimize\"\nbound = 4.0\n",
    );
    project.write("logs/run/finch.toml", "task = \"tour\"\n");
    for (n, parent, length) in [(1, None, 10.0), (2, Some(1), 8.0), (3, Some(2), 9.0), (4, Some(2), 3.0)] {
        let metrics = json!({"combined_score": -length, "length": length});
        project.program("run", &Program { metrics, ..Program::new(n, parent, 0.0) });
    }
    // The fitness alone, where others report more: the evaluator's fallback, although 0.0 beats them all.
    project.program("run", &Program::new(5, Some(1), 0.0));
    project.run().ok();
    let words: Vec<Value> = outcomes(&project).into_iter().map(|(_, outcome, _)| outcome).collect();
    assert_eq!(words, ["improvement", "regression", "improvement", "breakage"]);
    assert_eq!(project.value("SELECT domain FROM tasks"), json!("Routes"));
    assert_eq!(project.value("SELECT native_id FROM candidates WHERE bound_violation"), json!(uuid(4)));
}

#[test]
fn a_metric_without_a_direction_gets_no_label_and_says_so() {
    let project = Project::new(LABEL);
    project.write("logs/run/finch.toml", "task = \"x\"\nscore_key = \"length\"\n");
    for (n, parent) in [(1, None), (2, Some(1))] {
        project.program("run", &Program { metrics: json!({"length": n}), ..Program::new(n, parent, 0.0) });
    }
    let output = project.run().ok();
    assert!(output.err.contains("1 transitions have no label"), "{}", output.err);
    assert_eq!(outcomes(&project)[0].1, Value::Null);
}

#[test]
fn migrants_are_copies_and_their_children_hang_on_the_source() {
    let project = Project::new(LABEL);
    project.program("run", &Program::new(1, None, 1.0));
    project.program("run", &Program::new(2, Some(1), 2.0));
    let mut migrant =
        Program { code: "def f():\n    return 2\n".into(), ..Program::new(3, Some(2), 2.0) }.json();
    migrant["metadata"]["migrant"] = json!(true);
    migrant["prompts"] = Value::Null;
    project.write("logs/run/checkpoints/checkpoint_10/programs/migrant.json", migrant.to_string());
    project.program("run", &Program::new(4, Some(3), 3.0));
    project.run().ok();
    let run = &project.rows("SELECT candidates, copies FROM runs")[0];
    assert_eq!(run, &json!({"candidates": 3, "copies": 1}));
    let parent = "SELECT p.native_id FROM transitions t \
                  JOIN candidates p ON p.candidate_id = t.parent_candidate \
                  JOIN candidates c ON c.candidate_id = t.child_candidate WHERE c.iteration = 4";
    assert_eq!(project.value(parent), json!(uuid(2)));
}

#[test]
fn a_run_that_grows_keeps_its_ids() {
    let project = Project::new(LABEL);
    project.program("run", &Program::new(1, None, 1.0));
    project.program("run", &Program::new(2, Some(1), 2.0));
    project.run().ok();
    let ids = "SELECT transition_id FROM transitions WHERE iteration = 2";
    let before = project.value(ids);
    let later = "logs/run/checkpoints/checkpoint_20/programs";
    for program in [Program::new(2, Some(1), 2.0), Program::new(3, Some(2), 3.0)] {
        project.write(&format!("{later}/{}.json", program.id), program.json().to_string());
    }
    project.run().ok();
    assert_eq!(project.value(ids), before);
    assert_eq!(project.value("SELECT records FROM candidates WHERE iteration = 2"), json!(2));
}

#[test]
fn thinking_is_split_from_the_response_and_put_back_for_training() {
    let spec = format!(
        "{LABEL}\n[stages.tokens]\nkind = \"tokenizer\"\ninput = \"labelled\"\nvocabulary = 300\n\
         [stages.sft]\nkind = \"render\"\ninput = \"labelled\"\ntokenizer = \"tokens\"\nmax_tokens = 1000\nover_length = \"drop\"\n"
    );
    let project = Project::new(&spec);
    project.program("run", &Program::new(1, None, 1.0));
    let answer = "<think>\nby hand, in /home/alice\n</think>\n\n```python\nx = 1\n```".to_owned();
    project.program("run", &Program { answer: Some(answer), ..Program::new(2, Some(1), 2.0) });
    project.run().ok();
    let row = &project.rows("SELECT reasoning, response, operator FROM transitions")[0];
    assert_eq!(row["reasoning"], json!("by hand, in /home/alice\n"));
    assert_eq!(row["response"], json!("\n\n```python\nx = 1\n```"));
    assert_eq!(row["operator"], json!("rewrite"));
    let example =
        &project.rows("SELECT messages, reasoning_tokens > 0 AS thought, desirable FROM examples")[0];
    let roles: Vec<_> =
        example["messages"].as_array().expect("messages").iter().map(|m| m["role"].clone()).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert_eq!(
        example["messages"][2]["content"],
        json!("<think>\nby hand, in /home/user\n</think>\n\n```python\nx = 1\n```")
    );
    assert_eq!((&example["thought"], &example["desirable"]), (&json!(true), &json!(true)));
}

#[test]
fn equal_transitions_of_a_task_become_one_with_their_number() {
    let project = Project::new(&format!("{LABEL}\n[stages.unique]\nkind = \"dedup\"\ninput = \"logs\"\n"));
    let same = |n, score| Program {
        code: "def f():\n    return 0  \r\n".into(),
        answer: Some("```python\nreturn 0\n```".into()),
        ..Program::new(n, Some(1), score)
    };
    project.program("run", &Program::new(1, None, 1.0));
    project.program("run", &same(2, 2.0));
    project.program("run", &same(3, 5.0));
    project.program("run", &Program { code: "def f():\n    return 0\n".into(), ..same(4, 3.0) });
    project.program("run", &Program::new(5, Some(1), 2.0));
    project.run().ok();
    let kept = project.rows("SELECT iteration, multiplicity FROM unique.transitions ORDER BY iteration");
    assert_eq!(
        json!(kept),
        json!([{"iteration": 3, "multiplicity": 3}, {"iteration": 5, "multiplicity": 1}])
    );
    let removed = project.rows("SELECT code, count(*) AS n FROM removed_unique GROUP BY 1");
    assert_eq!(json!(removed), json!([{"code": "duplicate", "n": 2}]));
}

#[test]
fn a_sample_of_runs_is_a_subset_and_the_rest_has_a_reason() {
    let sampled = |fraction: &str| {
        let project = Project::new(&LABEL.replace("seed = 1", &format!("seed = 1\nsample = {fraction}")));
        for run in 0..20 {
            for n in 0..2 {
                let id = run * 10 + n;
                project.program(&format!("run{run}"), &Program::new(id, (n > 0).then(|| id - 1), n as f64));
            }
        }
        project.run().ok();
        let ids = |sql| -> Vec<String> {
            project.rows(sql).iter().map(|row| row["id"].as_str().expect("id").to_owned()).collect()
        };
        (
            ids("SELECT run_id AS id FROM runs ORDER BY 1"),
            ids("SELECT record_id AS id FROM removed_logs WHERE code = 'not_sampled'"),
        )
    };
    let (all, none) = sampled("1.0");
    let (some, rest) = sampled("0.4");
    assert_eq!((all.len(), none.len()), (20, 0));
    assert!((3..15).contains(&some.len()), "{}", some.len());
    assert_eq!(some.len() + rest.len(), 20);
    assert!(some.iter().all(|run| all.contains(run)));
}
