//! Splits, leaks and limits: what may be on which side, and what happens to the rest.

use serde_json::json;

use crate::project::{LABEL, Program, Project};

/// Two tasks in one run each; the second task's child has the code that the caller chooses.
fn two_tasks(leak: &str, code: &str) -> Project {
    let spec = format!(
        "{LABEL}\n[stages.split]\nkind = \"split\"\ninput = \"labelled\"\nhold_out = {{ tasks = [\"held\"] }}\n{leak}\n"
    );
    let project = Project::new(&spec);
    for (run, task, base) in [("a", "trained", 10), ("b", "held", 20)] {
        project.write(&format!("logs/{run}/finch.toml"), format!("task = \"{task}\"\n"));
        project.program(run, &Program::new(base, None, 1.0));
        project.program(run, &Program::new(base + 1, Some(base), 2.0));
    }
    project.program("b", &Program { code: code.to_owned(), ..Program::new(22, Some(20), 3.0) });
    project
}

/// The program of the training side, up to canonical form.
const SHARED: &str = "def f():\r\n    return 11   \n\n";

#[test]
fn a_program_on_both_sides_is_dropped_from_training() {
    let project = two_tasks("", SHARED);
    project.run().ok();
    let sides = project.rows("SELECT task, split, count(*) AS n FROM split.transitions GROUP BY 1, 2");
    assert_eq!(json!(sides), json!([{"task": "held", "split": "test", "n": 2}]));
    let leak = project.rows("SELECT kind, task, other_task, action FROM leaks");
    assert_eq!(
        json!(leak),
        json!([{"kind": "program", "task": "trained", "other_task": "held", "action": "drop"}])
    );
    assert_eq!(project.value("SELECT code FROM removed_split"), json!("leak"));
    assert_eq!(project.value("SELECT count(*) FROM transitions WHERE removed_by = 'split'"), json!(1));
}

#[test]
fn a_leak_can_be_an_error_or_only_be_reported() {
    let project = two_tasks("leak = { on_leak = \"error\" }", SHARED);
    project.run().fails(1, &["F0406", "1 transitions", "`trained` and `held`"]);
    let project = two_tasks("leak = { on_leak = \"report\" }", SHARED);
    let output = project.run().ok();
    assert!(output.err.contains("1 transitions outside the test split"), "{}", output.err);
    assert_eq!(project.value("SELECT count(*) FROM split.transitions"), json!(3));
    assert_eq!(project.value("SELECT action FROM leaks"), json!("report"));
}

#[test]
fn a_clean_split_has_no_leak() {
    let project = two_tasks("leak = { on_leak = \"error\" }", "def f():\n    return 22\n");
    project.run().ok();
    assert_eq!(project.value("SELECT count(*) FROM leaks"), json!(0));
}

/// A program of 60 lines, of which the caller's number are others.
fn long(changed: u64) -> String {
    let line =
        |n: u64| format!("    value_{n} = combine(value_{n}, {})\n", if n < changed { n + 1000 } else { n });
    format!("def search():\n{}", (0..60).map(line).collect::<String>())
}

#[test]
fn a_program_that_is_almost_one_of_the_held_out_side_is_a_leak_when_asked() {
    for (leak, left) in [("", 2), ("leak = { near = 0.97 }", 2), ("leak = { near = 0.7 }", 1)] {
        let project = two_tasks(leak, &long(0));
        let near = Program { code: long(3), ..Program::new(12, Some(10), 4.0) };
        project.program("a", &near);
        project.run().ok();
        let trained = "SELECT count(*) FROM split.transitions WHERE split = 'train'";
        assert_eq!(project.value(trained), json!(left), "{leak}");
        let leaks = project.rows("SELECT kind, task, other_task, evidence = other AS same FROM leaks");
        let expected = match left {
            1 => json!([{"kind": "near_program", "task": "trained", "other_task": "held", "same": false}]),
            _ => json!([]),
        };
        assert_eq!(json!(leaks), expected, "{leak}");
    }
}

#[test]
fn a_domain_is_held_out_whole_with_the_aliases_of_its_tasks() {
    let split = |domain: &str| {
        format!("{LABEL}\n[stages.split]\nkind = \"split\"\ninput = \"labelled\"\nhold_out = {{ domains = [\"{domain}\"] }}\n")
            .replace("seed = 1", "seed = 1\ntasks = \"tasks.toml\"")
    };
    let project = Project::new(&split("Routes"));
    project.write(
        "tasks.toml",
        "[tasks.tour]\ndomain = \"Routes\"\nalias_group = \"tsp\"\n[tasks.salesman]\nalias_group = \"tsp\"\n\
         [tasks.packing]\ndomain = \"Packing\"\n",
    );
    for (at, task) in ["tour", "salesman", "packing"].into_iter().enumerate() {
        let first = 10 * at as u64 + 1;
        project.write(&format!("logs/{task}/finch.toml"), format!("task = \"{task}\"\n"));
        project.program(task, &Program::new(first, None, 1.0));
        project.program(task, &Program::new(first + 1, Some(first), 2.0));
    }
    project.run().ok();
    let sides = project.rows("SELECT task, split, reason FROM splits ORDER BY task");
    assert_eq!(
        json!(sides),
        json!([
            {"task": "packing", "split": "train", "reason": "train"},
            {"task": "salesman", "split": "test", "reason": "held_out_alias"},
            {"task": "tour", "split": "test", "reason": "held_out_domain"},
        ])
    );
    project.write("spec.toml", split("Route"));
    project.run().fails(2, &["F0405", "no task is of the held-out domain `Route`", "did you mean `Routes`?"]);
}

#[test]
fn a_held_out_task_without_rows_is_still_held_out() {
    let spec = format!(
        "{LABEL}\n[stages.kept]\nkind = \"filter\"\ninput = \"labelled\"\nwhere = \"task = 'trained'\"\n\
         [stages.split]\nkind = \"split\"\ninput = \"kept\"\nhold_out = {{ tasks = [\"held\"] }}\n"
    );
    let project = two_tasks("", SHARED);
    project.write("spec.toml", spec);
    let output = project.run().ok();
    assert!(output.err.contains("held-out task `held` has no transitions"), "{}", output.err);
    let tasks = project.rows("SELECT task, held_out FROM tasks ORDER BY task");
    assert_eq!(
        json!(tasks),
        json!([{"task": "held", "held_out": true}, {"task": "trained", "held_out": false}])
    );
}

#[test]
fn validation_takes_whole_runs_and_adding_tasks_moves_none() {
    let spec = format!(
        "{LABEL}\n[stages.split]\nkind = \"split\"\ninput = \"labelled\"\nvalidation = {{ runs = 0.3 }}\n"
    );
    let project = Project::new(&spec);
    let add = |runs: std::ops::Range<u64>| {
        for run in runs {
            project.write(&format!("logs/r{run}/finch.toml"), format!("task = \"t{}\"\n", run % 3));
            for n in 0..3 {
                let id = run * 10 + n;
                project.program(&format!("r{run}"), &Program::new(id, (n > 0).then(|| id - 1), n as f64));
            }
        }
    };
    let sides = || {
        let rows = project.rows("SELECT run_id, min(split) AS low, max(split) AS high FROM split.transitions GROUP BY 1 ORDER BY 1");
        assert!(rows.iter().all(|row| row["low"] == row["high"]), "a run is on two sides");
        rows.into_iter().map(|row| (row["run_id"].clone(), row["low"].clone())).collect::<Vec<_>>()
    };
    add(0..20);
    project.run().ok();
    let before = sides();
    assert!((1..15).contains(&before.iter().filter(|(_, side)| side == "validation").count()));
    add(20..30);
    project.run().ok();
    let after = sides();
    assert_eq!(after.len(), 30);
    assert!(before.iter().all(|side| after.contains(side)));
}

/// A pipeline that renders, with limits of the caller's.
fn rendered(render: &str) -> Project {
    let spec = format!(
        "{LABEL}\n[stages.tokens]\nkind = \"tokenizer\"\ninput = \"labelled\"\nvocabulary = 300\n\
         [stages.sft]\nkind = \"render\"\ninput = \"labelled\"\ntokenizer = \"tokens\"\n{render}\n"
    );
    let project = Project::new(&spec);
    project.program("run", &Program::new(1, None, 1.0));
    project.program("run", &Program::new(2, Some(1), 2.0));
    let long = Program { answer: Some("```python\nx = 1\n```".repeat(400)), ..Program::new(3, Some(1), 2.0) };
    project.program("run", &long);
    project.program("run", &Program { answer: None, ..Program::new(4, Some(1), 3.0) });
    project
}

#[test]
fn what_cannot_be_rendered_is_removed_with_its_reason() {
    let project = rendered("max_tokens = 1000\nover_length = \"drop\"");
    project.run().ok();
    let removed = project.rows("SELECT code, count(*) AS n FROM removed_sft GROUP BY 1 ORDER BY 1");
    assert_eq!(json!(removed), json!([{"code": "no_prompt", "n": 1}, {"code": "over_length", "n": 1}]));
    let tokens = "SELECT total_tokens > system_tokens + user_tokens + response_tokens AND total_tokens <= 1000 FROM examples";
    assert_eq!(project.value(tokens), json!(true));
    let project = rendered("max_tokens = 1000\nover_length = \"error\"");
    project.run().fails(1, &["F0404", "1000 are allowed", "over_length"]);
}

#[test]
fn caps_keep_the_best_of_each_task() {
    let spec = format!(
        "{LABEL}\n[stages.kept]\nkind = \"filter\"\ninput = \"labelled\"\nper_task = {{ max = 2, order_by = \"delta DESC\" }}\n"
    );
    let project = Project::new(&spec);
    project.program("run", &Program::new(1, None, 1.0));
    for (n, score) in [(2, 5.0), (3, 3.0), (4, 9.0), (5, 2.0)] {
        project.program("run", &Program::new(n, Some(1), score));
    }
    project.run().ok();
    let kept = project.rows("SELECT iteration FROM kept.transitions ORDER BY iteration");
    assert_eq!(json!(kept), json!([{"iteration": 2}, {"iteration": 4}]));
    assert_eq!(json!(project.rows("SELECT DISTINCT code FROM removed_kept")), json!([{"code": "per_task"}]));
}

#[test]
fn raw_dedup_tells_spaces_apart_and_canonical_does_not() {
    let kept = |exact: &str| {
        let spec =
            format!("{LABEL}\n[stages.unique]\nkind = \"dedup\"\ninput = \"logs\"\nexact = \"{exact}\"\n");
        let project = Project::new(&spec);
        project.program("run", &Program::new(1, None, 1.0));
        for (n, code) in [(2, "x = 1\n"), (3, "x = 1  \r\n")] {
            project.program(
                "run",
                &Program { code: code.into(), answer: Some("a".into()), ..Program::new(n, Some(1), 2.0) },
            );
        }
        project.run().ok();
        project.value("SELECT count(*) FROM unique.transitions")
    };
    assert_eq!((kept("raw"), kept("canonical")), (json!(2), json!(1)));
}
