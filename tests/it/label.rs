//! How steps are judged: tolerances and bounds of single tasks, and failures that are no program's fault.

use serde_json::{Value, json};

use crate::project::{LABEL, Program, Project};

/// Two tasks with one step each, from 100 to 101, labelled with keys of the caller's.
fn two_tasks(keys: &str) -> Project {
    let project = Project::new(&format!("{LABEL}{keys}\n"));
    for (at, task) in ["exact", "noisy"].into_iter().enumerate() {
        project.write(&format!("logs/{task}/finch.toml"), format!("task = \"{task}\"\n"));
        let first = 10 * at as u64 + 1;
        project.program(task, &Program::new(first, None, 100.0));
        project.program(task, &Program::new(first + 1, Some(first), 101.0));
    }
    project
}

fn failed(n: u64, parent: u64, error: &str) -> Program {
    Program { metrics: json!({"combined_score": 0.0, "error": error}), ..Program::new(n, Some(parent), 0.0) }
}

/// Outcome and rule of each transition, by iteration.
fn outcomes(project: &Project) -> Value {
    json!(
        project
            .rows("SELECT iteration AS n, outcome, systematic AS rule FROM transitions ORDER BY iteration")
    )
}

#[test]
fn a_task_may_have_a_tolerance_of_its_own() {
    let project = two_tasks("[stages.labelled.tasks.noisy]\ntolerance = { absolute = 2.0 }\n");
    project.run().ok();
    let rows = project.rows("SELECT task, outcome, label FROM transitions ORDER BY task");
    assert_eq!(
        json!(rows),
        json!([
            {"task": "exact", "outcome": "improvement", "label": "improved"},
            {"task": "noisy", "outcome": "unchanged", "label": "unchanged"},
        ])
    );
}

#[test]
fn a_score_beyond_the_bound_is_flagged_and_kept() {
    let project = two_tasks("[stages.labelled.tasks.noisy]\nbound = 100.5\n");
    let output = project.run().ok();
    assert!(
        output.err.contains("1 transitions have a score that is better than their task's bound"),
        "{}",
        output.err
    );
    let rows = project.rows("SELECT task, outcome, beyond_bound AS beyond FROM transitions ORDER BY task");
    assert_eq!(
        json!(rows),
        json!([
            {"task": "exact", "outcome": "improvement", "beyond": null},
            {"task": "noisy", "outcome": "improvement", "beyond": true},
        ])
    );
    let count = "SELECT sum(records) FROM meta.counts WHERE reason = 'beyond_bound'";
    assert_eq!(project.value(count), json!(1));
}

#[test]
fn bounds_of_the_catalogue_hold_for_minimised_scores_too() {
    let project = Project::new(&LABEL.replace("seed = 1", "seed = 1\ntasks = \"tasks.toml\""));
    project
        .write("tasks.toml", "[tasks.tour]\nscore_key = \"length\"\ndirection = \"minimize\"\nbound = 4.0\n");
    project.write("logs/run/finch.toml", "task = \"tour\"\n");
    for (n, parent, length) in [(1, None, 10.0), (2, Some(1), 4.0), (3, Some(2), 3.5), (4, Some(3), 6.0)] {
        let metrics = json!({"combined_score": -length, "length": length});
        project.program("run", &Program { metrics, ..Program::new(n, parent, 0.0) });
    }
    project.run().ok();
    let beyond = project.rows("SELECT iteration AS n, beyond_bound AS b FROM transitions ORDER BY 1");
    assert_eq!(json!(beyond), json!([{"n": 2, "b": false}, {"n": 3, "b": true}, {"n": 4, "b": true}]));
}

#[test]
fn a_failure_of_the_machine_is_named_by_its_rule() {
    let project = Project::new(LABEL);
    project.program("run", &Program::new(1, None, 1.0));
    let messages = [
        "Evaluation timed out after 600s",
        "No module named 'scipy'",
        "Error code: 429 - rate limit reached",
        "[Errno 28] No space left on device",
        "worker exited with exit code 137",
        "ValueError: not a packing",
    ];
    for (n, message) in (2..).zip(messages) {
        project.program("run", &failed(n, 1, message));
    }
    project.program("run", &Program::new(8, Some(3), 2.0));
    project.run().ok();
    let row = |n: u64, rule: &str| json!({"n": n, "outcome": "systematic_error", "rule": rule});
    assert_eq!(
        outcomes(&project),
        json!([
            row(2, "timeout"),
            row(3, "missing_module"),
            row(4, "rate_limit"),
            row(5, "no_space"),
            row(6, "killed"),
            {"n": 7, "outcome": "breakage", "rule": null},
            row(8, "missing_module"),
        ]),
        "the last one's parent is what failed"
    );
}

#[test]
fn a_spec_adds_rules_of_its_own() {
    let project = Project::new(&format!("{LABEL}rules = \"rules.toml\"\n"));
    let rules =
        "[[rule]]\nname = \"licence\"\nfailure = \"infrastructure\"\npatterns = ['licen[cs]e server']\n";
    project.write("rules.toml", rules);
    project.program("run", &Program::new(1, None, 1.0));
    project.program("run", &failed(2, 1, "the License Server is away"));
    project.program("run", &failed(3, 1, "No module named 'scipy'"));
    project.program("run", &failed(4, 1, "division by zero"));
    project.run().ok();
    assert_eq!(
        outcomes(&project),
        json!([
            {"n": 2, "outcome": "systematic_error", "rule": "licence"},
            {"n": 3, "outcome": "systematic_error", "rule": "missing_module"},
            {"n": 4, "outcome": "breakage", "rule": null},
        ])
    );
    // The rules count by what they say.
    project.write("rules.toml", format!("# A comment.\n{rules}"));
    let plan = project.finch(&["plan", "spec.toml"]).ok().out;
    assert!(plan.contains("nothing to do"), "a comment changes nothing\n{plan}");
    project.write("rules.toml", rules.replace("licen", "leasin"));
    let plan = project.finch(&["plan", "spec.toml"]).ok().out;
    assert!(plan.contains("`parameter.rules` changed"), "{plan}");
}

#[test]
fn a_task_that_nobody_knows_is_a_mistake() {
    let project = two_tasks("[stages.labelled.tasks.noisi]\nbound = 1.0\n");
    project.run().fails(2, &["F0405", "spec.toml:13:24", "`noisi`", "did you mean `noisy`?"]);
}
