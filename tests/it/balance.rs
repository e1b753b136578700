//! Caps and weights: what stays, what it weighs, and that nothing but content decides.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::project::{LABEL, Program, Project, finch_in, repository};

/// Tasks of one run each, with as many steps as the number says; every step changes something else, better each time.
fn tasks(balance: &str, sizes: &[(&str, u64)]) -> Project {
    let spec = format!("{LABEL}\n[stages.balanced]\nkind = \"balance\"\ninput = \"labelled\"\n{balance}\n");
    let project = Project::new(&spec);
    for (at, (task, steps)) in sizes.iter().enumerate() {
        project.write(&format!("logs/{task}/finch.toml"), format!("task = \"{task}\"\n"));
        for n in 0..=*steps {
            let id = 1000 * (at as u64 + 1) + n;
            let program =
                Program { iteration: n as i64, ..Program::new(id, (n > 0).then(|| id - 1), n as f64) };
            project.program(task, &program);
        }
    }
    project
}

fn ids(project: &Project) -> BTreeSet<String> {
    let rows = project.rows("SELECT transition_id AS id FROM balanced.transitions");
    rows.iter().map(|row| row["id"].as_str().expect("id").to_owned()).collect()
}

#[test]
fn a_cap_keeps_so_many_of_each_and_says_what_went() {
    let project = tasks("caps = { task = 5 }", &[("large", 30), ("small", 3)]);
    project.run().ok();
    let counts = "SELECT task, count(*) AS n, min(weight) AS low, max(weight) AS high FROM balanced.transitions GROUP BY 1 ORDER BY 1";
    let one = |task: &str, n: i64| json!({"task": task, "n": n, "low": 1.0, "high": 1.0});
    assert_eq!(json!(project.rows(counts)), json!([one("large", 5), one("small", 3)]));
    let removed = project.rows(
        "SELECT code, count(*) AS n, count(DISTINCT record_id) AS ids, min(reason) AS reason FROM removed_balanced GROUP BY 1",
    );
    let reason = "number 10 of its task, 5 are kept";
    assert_eq!(json!(removed), json!([{"code": "cap_task", "n": 25, "ids": 25, "reason": reason}]));
    assert_eq!(project.value("SELECT count(*) FROM transitions WHERE removed_by = 'balanced'"), json!(25));
}

#[test]
fn a_higher_cap_only_adds_and_threads_and_other_tasks_change_nothing() {
    let project = tasks("caps = { task = 6 }", &[("large", 40), ("small", 3)]);
    project.run().ok();
    let few = ids(&project);
    project.finch(&["run", "spec.toml", "--force", "balanced", "--threads", "5"]).ok();
    assert_eq!(ids(&project), few);
    let spec = fs::read_to_string(project.path("spec.toml")).expect("spec");
    project.write("spec.toml", spec.replace("task = 6", "task = 12"));
    project.run().ok();
    let many = ids(&project);
    assert!(many.len() == few.len() + 6 && many.is_superset(&few));
    project.program("other", &Program::new(9001, None, 1.0));
    project.program("other", &Program::new(9002, Some(9001), 2.0));
    project.run().ok();
    assert!(ids(&project).is_superset(&many));
    project.write("spec.toml", spec.replace("seed = 1", "seed = 2"));
    project.run().ok();
    assert!(!ids(&project).is_superset(&few), "the seed decides among equals");
}

#[test]
fn what_stays_is_spread_over_iterations_scores_and_changes() {
    let parts = |choose: &str| {
        let project = tasks(&format!("caps = {{ task = 10 }}\nchoose = \"{choose}\""), &[("one", 100)]);
        project.run().ok();
        let tenths = project.value("SELECT count(DISTINCT (iteration - 1) / 10) FROM balanced.transitions");
        tenths.as_i64().expect("a number")
    };
    // A cell is a tenth of the iterations and a quarter of the scores; some tenths have two.
    let (spread, hash) = (parts("spread"), parts("hash"));
    assert!(spread >= 8 && hash < 8, "{spread} tenths of ten, and {hash}");
    // Twelve steps change the same line in the same way, four something of their own.
    let spec = format!(
        "{LABEL}\n[stages.unique]\nkind = \"dedup\"\ninput = \"labelled\"\nnear = {{ threshold = 0.99 }}\n\
         [stages.balanced]\nkind = \"balance\"\ninput = \"unique\"\ncaps = {{ task = 5 }}\n"
    );
    let project = Project::new(&spec);
    let line = |n: u64| format!("line_{n} = first_{n} + second_{n} * third_{n}\n");
    let code = |base: u64, changed: &str| (0..6).map(|n| line(base * 10 + n)).collect::<String>() + changed;
    project.write("logs/run/finch.toml", "task = \"one\"\n");
    let change = "limit = tuned(limit, 0.5, 17, scale=3)\n";
    for n in 0..16_u64 {
        let own = format!("own_{n} = other_{n}(own_{n}, {n}) / part_{n}\n");
        let parent = Program { code: code(n, ""), ..Program::new(100 + n, None, 1.0) };
        project.program("run", &parent);
        let changed = if n < 12 { change } else { own.as_str() };
        project
            .program("run", &Program { code: code(n, changed), ..Program::new(200 + n, Some(100 + n), 2.0) });
    }
    project.run().ok();
    assert_eq!(project.value("SELECT count(DISTINCT change_cluster) FROM unique.transitions"), json!(5));
    assert_eq!(project.value("SELECT count(DISTINCT change_cluster) FROM balanced.transitions"), json!(5));
}

#[test]
fn weights_go_into_examples_and_packs() {
    let spec = "weights = { task = 1.0, outcome = { improvement = 1.0, self_repair = 2.0 } }\n\
        [stages.tokens]\nkind = \"tokenizer\"\ninput = \"balanced\"\nvocabulary = 300\n\
        [stages.sft]\nkind = \"render\"\ninput = \"balanced\"\ntokenizer = \"tokens\"\nmax_tokens = 5000\nover_length = \"error\"\n\
        [stages.packed]\nkind = \"pack\"\ninput = \"sft\"\nsequence_tokens = 5000";
    let project = tasks(spec, &[("large", 9), ("small", 1)]);
    let output = project.run().ok();
    assert!(output.err.contains("nothing that is balanced has the outcome `self_repair`"), "{}", output.err);
    for table in ["balanced.transitions", "sft.examples"] {
        let rows =
            project.rows(&format!("SELECT task, sum(weight) AS weight FROM {table} GROUP BY 1 ORDER BY 1"));
        let total = |at: usize| rows[at]["weight"].as_f64().expect("a number");
        assert!((total(0) - 5.0).abs() < 1e-4 && (total(1) - 5.0).abs() < 1e-4, "{table}: {rows:?}");
    }
    let rows = project.rows("SELECT weights FROM packs");
    let mut weights: Vec<f64> = rows
        .iter()
        .flat_map(|row| row["weights"].as_array().expect("a list"))
        .map(|weight| weight.as_f64().expect("a number"))
        .collect();
    weights.sort_by(f64::total_cmp);
    assert_eq!((weights.len(), weights[9]), (10, 5.0));
}

#[test]
fn what_is_held_out_is_neither_capped_nor_weighed() {
    let spec = format!(
        "{LABEL}\n[stages.split]\nkind = \"split\"\ninput = \"labelled\"\nhold_out = {{ tasks = [\"held\"] }}\n\
         [stages.balanced]\nkind = \"balance\"\ninput = \"split\"\ncaps = {{ run = 4, alias_group = 3 }}\nweights = {{ task = 0.5 }}\n"
    );
    let project = tasks("caps = { task = 1 }", &[("held", 8), ("one", 8), ("two", 2)]);
    project.write("spec.toml", spec);
    project.run().ok();
    let rows = project.rows(
        "SELECT task, split, count(*) AS n, max(weight) = 1.0 AS is_one FROM balanced.transitions GROUP BY 1, 2 ORDER BY 1",
    );
    let row = |task: &str, split: &str, n: i64, is_one: bool| json!({"task": task, "split": split, "n": n, "is_one": is_one});
    let expected =
        [row("held", "test", 8, true), row("one", "train", 3, false), row("two", "train", 2, false)];
    assert_eq!(json!(rows), json!(expected));
    let removed = project.rows("SELECT code, count(*) AS n FROM removed_balanced GROUP BY 1 ORDER BY 1");
    assert_eq!(json!(removed), json!([{"code": "cap_alias_group", "n": 1}, {"code": "cap_run", "n": 4}]));
}

#[test]
fn a_named_cap_is_for_that_one_alone_and_a_misspelt_name_is_told() {
    let project = tasks("[stages.balanced.caps.task]\nlarge = 2\nsmal = 1", &[("large", 6), ("small", 4)]);
    let output = project.run().ok();
    assert!(
        output.err.contains("nothing that is balanced has the task `smal` (did you mean `small`?)"),
        "{}",
        output.err
    );
    let rows = project.rows("SELECT task, count(*) AS n FROM balanced.transitions GROUP BY 1 ORDER BY 1");
    assert_eq!(json!(rows), json!([{"task": "large", "n": 2}, {"task": "small", "n": 4}]));
    let project = tasks("caps = { domain = 100 }", &[("large", 6)]);
    assert!(project.run().ok().err.contains("it changed nothing: no cap was reached"));
}

#[test]
fn weights_of_nothing_are_an_error() {
    let project = tasks("weights = { outcome = { improvement = 0.0 } }", &[("one", 3)]);
    project.run().fails(2, &["F0106", "all that is balanced weighs nothing"]);
}

#[test]
fn steps_without_scores_iterations_or_all_equal_are_balanced_too() {
    let project = tasks("caps = { task = 3 }\nweights = { domain = 1.0 }", &[("equal", 8)]);
    for n in 0..6_u64 {
        let id = 5000 + n;
        let program =
            Program { metrics: json!({}), iteration: 0, ..Program::new(id, (n > 0).then_some(5000), 0.0) };
        project.program("none", &program);
    }
    project.run().ok();
    let rows = project.rows("SELECT task, count(*) AS n FROM balanced.transitions GROUP BY 1 ORDER BY 2");
    assert_eq!(rows.iter().map(|row| row["n"].clone()).collect::<Vec<Value>>(), [json!(3), json!(3)]);
    // Iterations of a hostile log are numbers like any other.
    for (n, iteration) in [i64::MIN, i64::MAX, 0].into_iter().enumerate() {
        let program = Program { iteration: 0, ..Program::new(6001 + n as u64, Some(5000), 1.0) };
        let mut hostile = program.json();
        hostile["iteration_found"] = json!(iteration);
        let path = format!("logs/none/checkpoints/checkpoint_10/programs/{}.json", program.id);
        project.write(&path, hostile.to_string());
    }
    project.run().ok();
    // Nothing to balance is no mistake.
    let spec = format!(
        "{LABEL}\n[stages.none]\nkind = \"filter\"\ninput = \"labelled\"\nwhere = \"FALSE\"\nallow_empty = true\n\
         [stages.balanced]\nkind = \"balance\"\ninput = \"none\"\ncaps = {{ task = 3 }}\nweights = {{ task = 1.0 }}\n"
    );
    project.write("spec.toml", spec);
    project.run().ok();
    assert_eq!(project.value("SELECT count(*) FROM balanced.transitions"), json!(0));
}

/// A filter with a budget of tokens, on steps whose answers have as many words as the number says.
fn budget(filter: &str) -> Project {
    let spec = format!(
        "{LABEL}\n[stages.tokens]\nkind = \"tokenizer\"\ninput = \"labelled\"\nvocabulary = 400\n\
         [stages.kept]\nkind = \"filter\"\ninput = \"labelled\"\nwhere = \"TRUE\"\n{filter}\n\
         [stages.sft]\nkind = \"render\"\ninput = \"kept\"\ntokenizer = \"tokens\"\nmax_tokens = 1000000\nover_length = \"error\"\n"
    );
    let project = Project::new(&spec);
    project.program("run", &Program::new(1, None, 1.0));
    for (n, words) in [(2, 10), (3, 200), (4, 4000)] {
        let answer = Some("some words ".repeat(words));
        project.program("run", &Program { answer, ..Program::new(n, Some(1), n as f64) });
    }
    let broken = json!({"combined_score": 0.0, "error": "SyntaxError"});
    project.program("run", &Program { metrics: broken, ..Program::new(5, Some(1), 0.0) });
    project
}

#[test]
fn a_token_budget_keeps_what_fits_and_counts_as_examples_do() {
    let project = budget("tokens = { min = 100, max = 2000, tokenizer = \"tokens\" }");
    project.run().ok();
    let kept = project.rows(
        "SELECT t.iteration, e.system_tokens + e.user_tokens + e.reasoning_tokens + e.response_tokens AS n \
         FROM kept.transitions t JOIN examples e USING (transition_id) ORDER BY 1",
    );
    assert!(kept.iter().all(|row| (100..=2000).contains(&row["n"].as_i64().expect("n"))), "{kept:?}");
    assert!(kept.iter().any(|row| row["iteration"] == 3), "{kept:?}");
    let removed = project.rows(
        "SELECT r.code, r.reason, t.iteration FROM removed_kept r JOIN labelled.transitions t ON t.transition_id = r.record_id \
         ORDER BY 3",
    );
    assert!(removed.iter().all(|row| row["code"] == "tokens"), "{removed:?}");
    let long = removed.iter().find(|row| row["iteration"] == 4).expect("the long one");
    let tokens: i64 = long["reason"]
        .as_str()
        .and_then(|reason| reason.strip_suffix(" tokens"))
        .expect("tokens")
        .parse()
        .expect("a number");
    assert!(tokens > 2000);
    assert_eq!(kept.len() + removed.len(), 4);
}

#[test]
fn only_valid_programs_stay_where_that_is_asked() {
    let project = budget("valid = \"child\"");
    project.run().ok();
    let removed = project.rows("SELECT code, reason FROM removed_kept");
    assert_eq!(json!(removed), json!([{"code": "invalid", "reason": "a program of it is not valid"}]));
    // A repair has a parent that is not.
    project.program("run", &Program::new(6, Some(5), 2.0));
    project.run().ok();
    assert_eq!(project.value("SELECT count(*) FROM removed_kept"), json!(1));
    let spec = fs::read_to_string(project.path("spec.toml")).expect("spec");
    project.write("spec.toml", spec.replace("\"child\"", "\"both\""));
    project.run().ok();
    assert_eq!(project.value("SELECT count(*) FROM removed_kept"), json!(2));
}

#[test]
fn the_papers_recipe_runs_on_the_samples() {
    let folder = tempfile::tempdir().expect("folder");
    let store = folder.path().join("store");
    let store = store.to_str().expect("UTF-8");
    let output = finch_in(repository(), &["run", "pipelines/finch-paper.toml", "--store", store]).ok();
    assert!(output.err.contains("balance"), "{}", output.err);
    let query =
        "SELECT count(*) > 500 AS many, bool_and(label = 'improved') AS improved FROM balanced.transitions";
    let rows = finch_in(folder.path(), &["query", "--store", store, "--format", "json", query]).ok().out;
    assert_eq!(
        serde_json::from_str::<Value>(&rows).expect("JSON"),
        json!([{"many": true, "improved": true}])
    );
}
