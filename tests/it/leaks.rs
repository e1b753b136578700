//! Leaks that are no equal programs: copies inside texts, tasks under other names, and problems that nobody declared.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::project::{LABEL, Program, Project, repository};
use crate::real_logs::shared_logs;

/// A program of many lines of its own.
fn program(name: &str) -> String {
    (0..40).map(|n| format!("{name}_{n} = combine_{name}({n}, {name}_{})\n", n + 1)).collect()
}

/// Six tasks in one run each, of which the one called `held` is held out; the caller changes what it likes.
fn six_tasks(leak: &str, change: impl Fn(&str, &mut Value)) -> Project {
    let spec = format!(
        "{LABEL}\n[stages.split]\nkind = \"split\"\ninput = \"labelled\"\nhold_out = {{ tasks = [\"held\"] }}\n\
         leak = {leak}\n"
    )
    .replace("seed = 1", "seed = 1\ntasks = \"tasks.toml\"");
    let project = Project::new(&spec);
    let statement = "Choose the entries that a cache of forty places throws out so that as many requests as possible hit it again.";
    project.write("tasks.toml", format!("[tasks.held]\nstatement = \"{statement}\"\n"));
    for (at, task) in ["held", "one", "two", "three", "four", "five"].into_iter().enumerate() {
        project.write(&format!("logs/{task}/finch.toml"), format!("task = \"{task}\"\n"));
        for n in 0..3 {
            let id = 10 * at as u64 + n + 1;
            let code = program(&format!("{task}{n}"));
            let mut one = Program { code, ..Program::new(id, (n > 0).then(|| id - 1), n as f64) }.json();
            if n == 1 {
                change(task, &mut one);
            }
            let path = format!(
                "logs/{task}/checkpoints/checkpoint_10/programs/{}.json",
                one["id"].as_str().expect("id")
            );
            project.write(&path, one.to_string());
        }
    }
    project
}

const NGRAM: &str = "{ ngram = 13, near = 0.8 }";

fn user_prompt(program: &mut Value) -> &mut Value {
    &mut program["prompts"]["full_rewrite_user"]["user"]
}

#[test]
fn a_planted_copy_of_a_held_out_program_in_a_training_prompt_is_caught() {
    let project = six_tasks(NGRAM, |task, one| {
        if task == "three" {
            *user_prompt(one) = json!(format!("Look at this one:\n{}\nand improve yours.", program("held2")));
        }
    });
    project.run().ok();
    let leaks = project.rows(
        "SELECT l.kind, l.task, l.other_task, l.containment, l.evidence = t.user_prompt_id AS prompt, p.code \
         FROM leaks l JOIN labelled.transitions t USING (transition_id) JOIN labelled.programs p ON p.program_id = l.other",
    );
    let expected = json!([{"kind": "ngram", "task": "three", "other_task": "held", "containment": 1.0, "prompt": true,
        "code": program("held2")}]);
    assert_eq!(json!(leaks), expected);
    let removed = project.rows("SELECT code, reason FROM removed_split");
    assert_eq!(json!(removed), json!([{"code": "leak", "reason": "also on the held-out side: ngram"}]));
    assert_eq!(project.value("SELECT count(*) FROM split.transitions WHERE split = 'train'"), json!(9));
}

#[test]
fn a_copy_in_an_answer_or_in_part_is_seen_for_what_it_is() {
    let (most, half): (String, String) = {
        let lines: Vec<String> = program("held2").lines().map(|line| format!("{line}\n")).collect();
        (lines[..36].concat(), lines[..20].concat())
    };
    let project = six_tasks("{ ngram = 13, on_leak = \"report\" }", |task, one| match task {
        "one" => one["prompts"]["full_rewrite_user"]["responses"] = json!([format!("```python\n{most}```")]),
        "two" => *user_prompt(one) = json!(half.clone()),
        _ => {}
    });
    let output = project.run().ok();
    assert!(output.err.contains("ngram 1"), "{}", output.err);
    let leaks =
        project.rows("SELECT task, action, containment > 0.8 AND containment < 1 AS is_part FROM leaks");
    assert_eq!(json!(leaks), json!([{"task": "one", "action": "report", "is_part": true}]));
    let lower =
        fs::read_to_string(project.path("spec.toml")).expect("spec").replace("13,", "13, containment = 0.4,");
    project.write("spec.toml", lower.replace("report", "error"));
    project.run().fails(1, &["F0406", "2 transitions", "`one` and `held`"]);
}

#[test]
fn a_held_out_statement_in_a_training_prompt_is_caught() {
    let project = six_tasks(NGRAM, |task, one| {
        if task == "four" {
            *user_prompt(one) = json!(
                "Your task: choose the entries, that a cache of forty places throws out so that as many requests as \
                 possible hit it again."
            );
        }
        if task == "five" {
            *user_prompt(one) = json!(
                "# Task\nChoose the entries that a cache of forty places throws out so that as many requests as \
                 possible hit it again. Only the standard library."
            );
        }
    });
    project.run().ok();
    let leaks = project.rows("SELECT kind, task, other FROM leaks");
    assert_eq!(json!(leaks), json!([{"kind": "ngram", "task": "five", "other": "statement"}]));
}

#[test]
fn a_clean_split_reports_zero_of_every_kind() {
    // What all prompts say is nobody's own, whoever says it.
    let manual = program("manual");
    let project = six_tasks(NGRAM, |_, one| *user_prompt(one) = json!(format!("The rules:\n{manual}")));
    project.run().ok();
    assert_eq!(project.value("SELECT count(*) FROM leaks"), json!(0));
    let counts = project.rows(
        "SELECT reason, records FROM meta.counts WHERE stage = 'split' AND reason LIKE 'leak%' ORDER BY reason",
    );
    let zero = |reason: &str| json!({"reason": reason, "records": 0});
    let all = ["leak", "leak_near_program", "leak_ngram", "leak_program", "leak_task"];
    assert_eq!(json!(counts), json!(all.map(zero)));
}

#[test]
fn threads_and_memory_do_not_decide_what_is_contained() {
    let project = six_tasks(NGRAM, |task, one| {
        if ["two", "four"].contains(&task) {
            *user_prompt(one) = json!(format!("{}{}", program("held1"), program(task)));
        }
    });
    let digest = |arguments: &[&str]| {
        let mut all = vec!["run", "spec.toml", "--force", "split"];
        all.extend(arguments);
        project.finch(&all).ok();
        project.rows("SELECT * FROM leaks")
    };
    let one = digest(&["--threads", "1"]);
    assert_eq!(one.len(), 2);
    assert_eq!(one, digest(&["--threads", "5", "--memory-limit", "512MiB"]));
}

#[test]
fn a_held_out_task_in_another_spelling_is_caught() {
    let project = six_tasks("{ on_leak = \"report\" }", |_, _| ());
    project.write("logs/two/finch.toml", "task = \"Held!\"\n");
    project.run().ok();
    let leaks = project.rows("SELECT DISTINCT kind, task, other_task, other FROM leaks");
    assert_eq!(
        json!(leaks),
        json!([{"kind": "task", "task": "Held!", "other_task": "held", "other": "held"}])
    );
}

#[test]
fn declaring_an_alias_moves_no_held_out_task_into_training() {
    let spec = format!(
        "{LABEL}\n[stages.split]\nkind = \"split\"\ninput = \"labelled\"\nhold_out = {{ fraction = 0.4 }}\n"
    )
    .replace("seed = 1", "seed = 1\ntasks = \"tasks.toml\"");
    let project = Project::new(&spec);
    for at in 0..16_u64 {
        project.write(&format!("logs/r{at}/finch.toml"), format!("task = \"t{at}\"\n"));
        project.program(&format!("r{at}"), &Program::new(2 * at + 1, None, 1.0));
        project.program(&format!("r{at}"), &Program::new(2 * at + 2, Some(2 * at + 1), 2.0));
    }
    let sides = |catalogue: &str| {
        project.write("tasks.toml", catalogue);
        let output = project.run().ok();
        let rows = project.rows("SELECT task, split, reason FROM splits ORDER BY task");
        let test = |row: &Value| row["split"] == "test";
        let all: Vec<(String, bool)> =
            rows.iter().map(|row| (row["task"].as_str().expect("task").to_owned(), test(row))).collect();
        (all, rows, output.err)
    };
    let (before, _, said) = sides("[tasks.t0]\n");
    assert!(!said.contains("alias groups are held out"), "{said}");
    let (held, trained): (Vec<_>, Vec<_>) = before.iter().partition(|(_, held)| *held);
    assert!(held.len() >= 2 && trained.len() >= 4, "{before:?}");
    // Every held-out task gets the name of a group that would be trained on, with a trained task in it.
    let pairs: String = held
        .iter()
        .zip(&trained)
        .map(|((a, _), (b, _))| format!("[tasks.{a}]\nalias_group = \"{b}\"\n"))
        .collect();
    let (after, rows, said) = sides(&pairs);
    let joined: Vec<&String> = held.iter().zip(&trained).map(|(_, (task, _))| task).collect();
    for ((task, was), (_, is)) in before.iter().zip(&after) {
        assert_eq!(*is, *was || joined.contains(&task), "{task}");
    }
    let reason = |task: &str| rows.iter().find(|row| row["task"] == task).expect("row")["reason"].clone();
    assert_eq!(reason(joined[0]), "held_out_alias");
    assert!(said.contains("alias groups are held out whole because one of their names is"), "{said}");
}

/// A spec that splits logs with a catalogue that declares no alias group.
fn without_aliases(sources: &[&Path]) -> Project {
    let catalogue = fs::read_to_string(repository().join("data/tasks.toml")).expect("catalogue");
    let bare: Vec<&str> = catalogue.lines().filter(|line| !line.starts_with("alias_group")).collect();
    let spec = format!(
        "{LABEL}\n[stages.split]\nkind = \"split\"\ninput = \"labelled\"\nhold_out = {{ tasks = [\"circle_packing_26\"] }}\n\
         leak = {{ on_leak = \"report\" }}\n"
    )
    .replace("seed = 1", "seed = 1\ntasks = \"tasks.toml\"")
    .replace("sources = [\"logs\"]", &format!("sources = {sources:?}\nmax_quarantined = 1.0"));
    let project = Project::new(&spec);
    project.write("tasks.toml", bare.join("\n"));
    project
}

#[test]
fn the_samples_two_names_of_one_problem_are_proposed_and_other_sizes_are_not() {
    let logs = repository().join("data/logs");
    let project = without_aliases(&[&logs]);
    let output = project.run().ok();
    let proposed = project
        .rows("SELECT task, other_task, proposed_group, split, other_split, sizes FROM alias_proposals");
    assert_eq!(
        json!(proposed),
        json!([{"task": "circle_packing_26", "other_task": "unit_square_26_circles",
            "proposed_group": "circle_packing_26", "split": "test", "other_split": "train", "sizes": ["26"]}])
    );
    assert!(
        output.err.contains("1 pairs of tasks on different sides look like one problem"),
        "{}",
        output.err
    );
    // Nothing is merged by a proposal, and a declared group is not proposed.
    assert_eq!(
        project.value("SELECT count(DISTINCT alias_group) FROM tasks"),
        project.value("SELECT count(*) FROM tasks")
    );
    project.write("tasks.toml", fs::read_to_string(repository().join("data/tasks.toml")).expect("catalogue"));
    project.run().ok();
    assert_eq!(project.value("SELECT count(*) FROM alias_proposals"), json!(0));
}

/// Tasks of the shared logs and the samples that are one problem, by hand: parts of a run's path, a line each.
const ONE_PROBLEM: [&[&str]; 9] = [
    // 26 circles in the unit square.
    &[
        "packing-diff",
        "discs-in-square",
        "examples/circle_packing",
        "outputs/adaevolve/circle_packing",
        "domains/circle_packing",
    ],
    &["Prob2_TSP_GLS/run1", "Prob2_TSP_GLS/run2", "Prob2_TSP_GLS/run3"],
    &["Prob3_FSS_PGLS/run1", "Prob3_FSS_PGLS/run2"],
    // Two folders of one name are two tasks: their initial programs differ.
    &["examples/admissible_set"],
    &[
        "backtest-test/eoh/2025-07-10",
        "backtest-test/eoh/2025-07-13_23-34",
        "backtest-test/eoh/2025-07-13_23-45",
    ],
    // The prompt of a classifier, improved in rounds that start from other prompts.
    &["wilds_active_learn_approach"],
    &["coq_proof/all_less_than"],
    &["cache replacement policy"],
    &["kitft+funsearch"],
];

#[test]
fn proposals_over_published_logs_agree_with_a_list_made_by_hand() {
    let Some(shared) = shared_logs("proposals of alias groups") else { return };
    let logs = repository().join("data/logs");
    let project = without_aliases(&[&logs, &shared]);
    project.run().ok();
    let group_of =
        |source: &str| ONE_PROBLEM.iter().position(|group| group.iter().any(|part| source.contains(part)));
    let mut truth = std::collections::BTreeMap::new();
    for row in project.rows("SELECT task, min(source) AS source FROM runs GROUP BY task") {
        let (task, source) = (row["task"].as_str().expect("task"), row["source"].as_str().expect("source"));
        truth.insert(task.to_owned(), group_of(source));
    }
    let tasks: Vec<&String> = truth.keys().collect();
    let pairs = tasks.iter().enumerate().flat_map(|(at, a)| tasks[at + 1..].iter().map(move |b| (*a, *b)));
    let is_one = |a: &str, b: &str| truth[a].is_some() && truth[a] == truth[b];
    let all: Vec<(&String, &String)> = pairs.filter(|(a, b)| is_one(a, b)).collect();
    // By the groups that proposals make, as a person would declare them.
    let mut group = std::collections::BTreeMap::new();
    for row in project.rows("SELECT task, other_task, proposed_group FROM alias_proposals") {
        for side in ["task", "other_task"] {
            group.insert(row[side].as_str().expect("task").to_owned(), row["proposed_group"].clone());
        }
    }
    let names: Vec<&String> = group.keys().collect();
    let proposed: Vec<(&String, &String)> = names
        .iter()
        .enumerate()
        .flat_map(|(at, a)| names[at + 1..].iter().map(move |b| (*a, *b)))
        .filter(|(a, b)| group[*a] == group[*b])
        .collect();
    let right = proposed.iter().filter(|(a, b)| is_one(a, b)).count();
    println!(
        "alias proposals: {} pairs in {} tasks are one problem; {} proposed, {right} of them right",
        all.len(),
        tasks.len(),
        proposed.len()
    );
    for (a, b) in proposed.iter().filter(|(a, b)| !is_one(a, b)) {
        println!("alias proposals: not in the list: {a} and {b}");
    }
    assert!(right as f64 >= 0.9 * proposed.len() as f64, "precision");
    assert!(right as f64 >= 0.9 * all.len() as f64, "recall");
}

/// Twelve programs whose fitness rises as their error falls, with a catalogue that says the caller's words of the task.
fn catalogued(words: &str) -> Project {
    let project = Project::new(&LABEL.replace("seed = 1", "seed = 1\ntasks = \"tasks.toml\""));
    project.write("tasks.toml", format!("[tasks.fit]\n{words}\n"));
    project.write("logs/run/finch.toml", "task = \"fit\"\n");
    for n in 0..12 {
        let metrics = json!({"combined_score": n as f64, "rmse": 20.0 - n as f64, "nan": "nan", "same": 1.0});
        project.program("run", &Program { metrics, ..Program::new(n + 1, (n > 0).then_some(n), 0.0) });
    }
    project
}

#[test]
fn a_catalogue_that_contradicts_the_logs_is_told() {
    let told = |words: &str, expected: &str| {
        let output = catalogued(words).run().ok();
        assert!(output.err.contains(expected), "`{expected}` is not in\n{}", output.err);
    };
    told(
        "score_key = \"rmse\"\ndirection = \"maximize\"",
        "says `maximize` for the metric `rmse` of `fit`, but in 66 of 66 pairs of programs of a run the better one has the worse",
    );
    told(
        "direction = \"minimize\"",
        "says `minimize` for the metric `combined_score` of `fit`, but its scaffold goes by `maximize`",
    );
    told(
        "score_key = \"rsme\"\ndirection = \"minimize\"",
        "reports the metric `rsme` that the catalogue names",
    );
    for fine in [
        "score_key = \"rmse\"\ndirection = \"minimize\"",
        "score_key = \"same\"\ndirection = \"maximize\"",
        "",
    ] {
        let output = catalogued(fine).run().ok();
        assert!(!output.err.contains("warn"), "{}", output.err);
    }
}

#[test]
fn one_task_alone_equal_scores_and_no_rows_are_split_too() {
    let spec = format!(
        "{LABEL}\n[stages.kept]\nkind = \"filter\"\ninput = \"labelled\"\nwhere = \"NONE\"\nallow_empty = true\n\
         [stages.split]\nkind = \"split\"\ninput = \"kept\"\nhold_out = {{ tasks = [\"only\"] }}\nleak = {NGRAM}\n"
    );
    for (condition, rows, said) in [
        ("TRUE", 3, "no transition is left for training"),
        ("FALSE", 0, "held-out task `only` has no transitions"),
    ] {
        let project = Project::new(&spec.replace("NONE", condition));
        project.write("logs/only/finch.toml", "task = \"only\"\n");
        for n in 0..4 {
            project.program("only", &Program::new(n + 1, (n > 0).then_some(n), 1.0));
        }
        let output = project.run().ok();
        assert!(output.err.contains(said), "{}", output.err);
        assert_eq!(project.value("SELECT count(*) FROM split.transitions"), json!(rows));
        assert_eq!(project.value("SELECT count(*) FROM alias_proposals"), json!(0));
        assert_eq!(project.value("SELECT count(*) FROM leaks"), json!(0));
    }
}

/// Tasks of one family: each has the harness in its initial program and in every program, and a line or more of its own.
fn family(tasks: &[&str], leak: &str) -> Project {
    let spec = format!(
        "{LABEL}\n[stages.split]\nkind = \"split\"\ninput = \"labelled\"\nhold_out = {{ tasks = [\"held\"] }}\nleak = {leak}\n"
    );
    let project = Project::new(&spec);
    let harness = program("harness");
    for (at, task) in tasks.iter().enumerate() {
        project.write(&format!("logs/{task}/finch.toml"), format!("task = \"{task}\"\n"));
        for n in 0..4 {
            let id = 10 * at as u64 + n + 1;
            let code = format!("{harness}own_{task} = {n}\n");
            let mut one =
                Program { code: code.clone(), ..Program::new(id, (n > 0).then(|| id - 1), n as f64) }.json();
            *user_prompt(&mut one) = json!(format!("# Current program\n{code}"));
            let path = format!(
                "logs/{task}/checkpoints/checkpoint_10/programs/{}.json",
                one["id"].as_str().expect("id")
            );
            project.write(&path, one.to_string());
        }
    }
    project
}

/// With two tasks, and with a family among others, all of training went.
#[test]
fn the_harness_of_a_family_is_nobodys_leak() {
    for tasks in [&["held", "one"][..], &["held", "one", "two", "three", "four", "five", "six"]] {
        let project = family(tasks, "{ ngram = 13 }");
        project.run().ok();
        assert_eq!(project.value("SELECT count(*) FROM leaks"), json!(0), "{tasks:?}");
    }
    // As programs they are almost the same, which is another question, and a task that loses all is told.
    let output = family(&["held", "one"], "{ near = 0.8 }").run().ok();
    assert!(
        output.err.contains("every transition of 1 tasks outside the test split leaks: `one`"),
        "{}",
        output.err
    );
}

#[test]
fn a_held_out_task_without_logs_is_looked_for_by_its_name_and_statement() {
    let words = "Fold a chain of forty beads on a square grid so that as many neighbours as possible touch each other.";
    let project = six_tasks("{ ngram = 13, on_leak = \"report\" }", |task, one| {
        if task == "one" {
            *user_prompt(one) = json!(format!("# Task\n{words}\n"));
        }
    });
    let catalogue = format!(
        "[tasks.ghost]\nalias_group = \"folding\"\n[tasks.fold]\nalias_group = \"folding\"\nstatement = \"{words}\"\n"
    );
    project.write("tasks.toml", &catalogue);
    project.write("logs/two/finch.toml", "task = \"Ghost\"\n");
    let spec = fs::read_to_string(project.path("spec.toml")).expect("spec");
    project.write("spec.toml", spec.replace("\"held\"", "\"folding\""));
    project.run().ok();
    let leaks = project.rows("SELECT DISTINCT kind, task, other_task, other FROM leaks ORDER BY kind");
    let ngram = json!({"kind": "ngram", "task": "one", "other_task": "fold", "other": "statement"});
    let task = json!({"kind": "task", "task": "Ghost", "other_task": "ghost", "other": "ghost"});
    assert_eq!(json!(leaks), json!([ngram, task]));
    // A statement of a held-out task is part of what the split is made of.
    project.write("tasks.toml", catalogue.replace("beads", "pearls"));
    project.run().ok();
    assert_eq!(project.value("SELECT count(*) FROM leaks WHERE kind = 'ngram'"), json!(0));
}

#[test]
fn a_program_whose_step_a_filter_removed_is_still_a_held_out_one() {
    let spec = format!(
        "{LABEL}\n[stages.kept]\nkind = \"filter\"\ninput = \"labelled\"\nwhere = \"outcome = 'improvement'\"\n\
         [stages.split]\nkind = \"split\"\ninput = \"kept\"\nhold_out = {{ tasks = [\"held\"] }}\n"
    );
    let project = Project::new(&spec);
    for (run, first, second) in [("held", 5.0, 4.0), ("trained", 1.0, 2.0)] {
        project.write(&format!("logs/{run}/finch.toml"), format!("task = \"{run}\"\n"));
        let id = if run == "held" { 10 } else { 20 };
        project.program(run, &Program::new(id, None, first));
        let code = "def shared():\n    return 7\n".to_owned();
        project.program(run, &Program { code, ..Program::new(id + 1, Some(id), second) });
        project.program(run, &Program::new(id + 2, Some(id), 9.0));
    }
    project.run().ok();
    let leaks = project.rows("SELECT kind, task, other_task FROM leaks");
    assert_eq!(json!(leaks), json!([{"kind": "program", "task": "trained", "other_task": "held"}]));
}

#[test]
fn a_proposal_names_the_group_that_is_there_and_an_answered_question_is_not_asked() {
    let logs = repository().join("data/logs");
    let project = without_aliases(&[&logs]);
    let bare = fs::read_to_string(project.path("tasks.toml")).expect("catalogue");
    let grouped = |task: &str, group: &str| format!("[tasks.{task}]\nalias_group = \"{group}\"");
    let one = bare.replace("[tasks.circle_packing_26]", &grouped("circle_packing_26", "discs"));
    project.write("tasks.toml", &one);
    project.run().ok();
    assert_eq!(project.value("SELECT proposed_group FROM alias_proposals"), json!("discs"));
    let two = one.replace("[tasks.unit_square_26_circles]", &grouped("unit_square_26_circles", "another"));
    project.write("tasks.toml", two);
    project.run().ok();
    assert_eq!(project.value("SELECT count(*) FROM alias_proposals"), json!(0));
}
