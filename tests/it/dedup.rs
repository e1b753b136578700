//! Which transitions are one: equal under a key, or almost the same in what they changed.

use serde_json::{Value, json};

use crate::project::{LABEL, Program, Project, digests};

/// A project that removes duplicates of what is in `logs`, with keys of the caller's.
fn deduplicating(keys: &str) -> Project {
    Project::new(&format!("{LABEL}\n[stages.unique]\nkind = \"dedup\"\ninput = \"logs\"\n{keys}\n"))
}

/// A program of so many lines, of which some are others.
fn code(lines: usize, changed: &[(usize, &str)]) -> String {
    let line = |n: usize| {
        let other = changed.iter().find(|(at, _)| *at == n).map(|(_, text)| format!("    {text}\n"));
        other.unwrap_or_else(|| format!("    value_{n} = combine(value_{n}, {}, scale={n})\n", n * 7))
    };
    format!("def search():\n{}    return value_0\n", (0..lines).map(line).collect::<String>())
}

/// A long line that `small` makes another one of, in one token of many.
fn change(small: &str) -> String {
    format!(
        "step = anneal(best, temperature=0.5, cooling=0.99, seed=7, limit=1000, tabu=12, moves=[1, 2, 3], rate={small})"
    )
}

fn child(n: u64, parent: u64, score: f64, code: String) -> Program {
    Program { code, answer: Some(format!("answer {n}")), ..Program::new(n, Some(parent), score) }
}

/// Iterations of the transitions that are left, with what they stand for.
fn left(project: &Project) -> Vec<Value> {
    project.rows(
        "SELECT iteration AS n, multiplicity AS equal, near_multiplicity AS alike FROM unique.transitions ORDER BY 1",
    )
}

#[test]
fn comments_and_blank_lines_are_no_difference_under_the_key_code() {
    for (exact, rows) in [("canonical", 3), ("code", 2)] {
        let project = deduplicating(&format!("exact = \"{exact}\""));
        project.program("run", &Program::new(1, None, 1.0));
        let answer = Some("the same".to_owned());
        let texts = ["x = 1\ny = 2\n", "x = 1  # one\n\n# two\ny = 2\n", "x = 1\ny = '# two'\n"];
        for (n, code) in (2..).zip(texts) {
            let program =
                Program { code: code.to_owned(), answer: answer.clone(), ..Program::new(n, Some(1), 2.0) };
            project.program("run", &program);
        }
        project.run().ok();
        assert_eq!(project.value("SELECT count(*) FROM unique.transitions"), json!(rows), "{exact}");
        assert_eq!(project.value("SELECT count(*) FROM programs"), json!(4), "ids are of canonical texts");
    }
}

#[test]
fn of_almost_the_same_change_the_best_stays() {
    let project = deduplicating("near = { threshold = 0.6 }");
    project.program("run", &Program { code: code(40, &[]), ..Program::new(1, None, 1.0) });
    // Almost one change, twice better and once worse; then another change.
    project.program("run", &child(2, 1, 2.0, code(40, &[(5, &change("0.1"))])));
    project.program("run", &child(3, 1, 3.0, code(40, &[(5, &change("0.2"))])));
    project.program("run", &child(4, 1, 0.5, code(40, &[(5, &change("0.3"))])));
    project.program("run", &child(5, 1, 2.5, code(40, &[(20, "value_20 = 0")])));
    let output = project.run().ok();
    assert!(!output.err.contains("removed nothing"), "{}", output.err);
    assert_eq!(
        json!(left(&project)),
        json!([
            {"n": 3, "equal": 1, "alike": 2},
            {"n": 4, "equal": 1, "alike": 1},
            {"n": 5, "equal": 1, "alike": 1},
        ]),
        "a worse child is no duplicate of a better one"
    );
    let removed = project.rows("SELECT r.code, t.iteration AS n FROM removed_unique r JOIN transitions t ON t.transition_id = r.record_id");
    assert_eq!(json!(removed), json!([{"code": "near_duplicate", "n": 2}]));
    let clusters = "SELECT count(DISTINCT change_cluster) FROM unique.transitions";
    assert_eq!(project.value(clusters), json!(2));
    // Programs are almost the same, all of them, and none is gone.
    let sizes = project.rows("SELECT DISTINCT size FROM clusters");
    assert_eq!(json!(sizes), json!([{"size": 5}]));
}

/// In real runs most children are almost their parents; compared with those, nothing would be left of a run.
#[test]
fn a_child_that_is_almost_its_parent_stays() {
    let project = deduplicating("near = {}");
    project.program("run", &Program { code: code(60, &[]), ..Program::new(1, None, 1.0) });
    let mut lines: Vec<(usize, String)> = Vec::new();
    for n in 2..8 {
        lines.push((n as usize * 7, format!("value_{n} = improve_{n}(value_{n}, by={n}, until=limit_{n})")));
        let changed: Vec<(usize, &str)> = lines.iter().map(|(at, line)| (*at, line.as_str())).collect();
        project.program("run", &child(n, n - 1, n as f64, code(60, &changed)));
    }
    let output = project.run().ok();
    assert_eq!(project.value("SELECT count(*) FROM unique.transitions"), json!(6));
    assert!(output.err.contains("removed nothing"), "{}", output.err);
}

#[test]
fn equal_changes_of_parents_that_differ_are_two() {
    let project = deduplicating("near = { threshold = 0.8 }");
    let other: Vec<(usize, String)> = (0..30).map(|n| (n, format!("other_{n} = {n}"))).collect();
    let other: Vec<(usize, &str)> = other.iter().map(|(at, line)| (*at, line.as_str())).collect();
    let with = |lines: &[(usize, &str)]| {
        let mut all = lines.to_vec();
        all.push((39, "value_39 = final(value_39, deeper=True, wider=False)"));
        code(40, &all)
    };
    project.program("run", &Program { code: code(40, &[]), ..Program::new(1, None, 1.0) });
    project.program("run", &child(2, 1, 1.0, code(40, &other)));
    project.program("run", &child(3, 1, 2.0, with(&[])));
    project.program("run", &child(4, 2, 2.0, with(&other)));
    project.program("run", &child(5, 1, 2.0, with(&[(38, "value_38 = value_38")])));
    project.run().ok();
    let of = |n: u64| {
        project.value(&format!("SELECT change_cluster FROM unique.transitions WHERE iteration = {n}"))
    };
    assert_eq!(of(3), of(4), "one change, and both are left because their parents are far apart");
}

#[test]
fn nothing_but_content_decides_what_is_almost_the_same() {
    let build = |order: &[u64], arguments: &[&str]| {
        let project = deduplicating("near = { ngram = 3, threshold = 0.5 }");
        project.program("run", &Program { code: code(40, &[]), ..Program::new(1, None, 1.0) });
        for &n in order {
            let (line, rate) = ((n % 5) as usize * 3, format!("{n}"));
            project.program("run", &child(n, 1, (n % 3) as f64, code(40, &[(line, &change(&rate))])));
        }
        project.finch(&[&["run", "spec.toml"], arguments].concat()).ok();
        let digests = digests(&project.path("store"));
        (
            digests["unique.transitions"].clone(),
            digests["unique.clusters"].clone(),
            digests["unique.removed"].clone(),
        )
    };
    let order: Vec<u64> = (2..40).collect();
    let expected = build(&order, &["--threads", "1"]);
    let other: Vec<u64> = order.iter().rev().copied().collect();
    assert_eq!(build(&other, &["--threads", "5", "--memory-limit", "512MiB"]), expected);
}

#[test]
fn one_stays_of_each_cluster_outcome_and_cluster_of_parents_and_none_is_lost() {
    let spec = format!(
        "{LABEL}\n[stages.unique]\nkind = \"dedup\"\ninput = \"labelled\"\nnear = {{ ngram = 3, threshold = 0.5 }}\n"
    );
    let project = Project::new(&spec);
    project.program("run", &Program { code: code(40, &[]), ..Program::new(1, None, 1.0) });
    for n in 2..80 {
        let (line, rate) = ((n % 5) as usize * 3, format!("{}", n % 20));
        let parent = if n < 10 { 1 } else { n % 7 + 2 };
        let program = child(n, parent, (n % 4) as f64, code(40, &[(line, &change(&rate))]));
        project.program("run", &Program { answer: Some(format!("answer {}", n % 40)), ..program });
    }
    project.run().ok();
    let kept = "SELECT u.change_cluster, u.outcome, coalesce(c.cluster_id, u.parent_candidate) AS parents, count(*) AS n \
                FROM unique.transitions u LEFT JOIN unique.clusters c ON c.program_id = u.parent_program GROUP BY 1, 2, 3";
    let of_input = project.value("SELECT count(*) FROM labelled.transitions");
    assert!(project.rows(kept).iter().all(|row| row["n"] == 1));
    assert!(project.rows(kept).len() > 5, "there is something to choose from");
    assert_eq!(project.value("SELECT sum(near_multiplicity) FROM unique.transitions"), of_input);
    let none = "SELECT count(*) FROM unique.clusters WHERE size < 1 OR cluster_id > program_id";
    assert_eq!(project.value(none), json!(0));
    project.finch(&["verify", "--store", "store"]).ok();
}

#[test]
fn answers_can_be_compared_instead() {
    let project = deduplicating("near = { of = \"response\", threshold = 0.7 }");
    project.program("run", &Program::new(1, None, 1.0));
    for n in 2..6 {
        // Programs have nothing in common; two answers are almost one, two are not.
        let words: Vec<String> =
            (0..60).map(|at| format!("word{}", if n < 4 { at } else { at * n })).collect();
        let program = child(n, 1, 2.0, format!("def f_{n}():\n    return {}\n", n * 1000));
        project.program("run", &Program { answer: Some(format!("{} {n}", words.join(" "))), ..program });
    }
    project.run().ok();
    assert_eq!(project.value("SELECT count(*) FROM unique.transitions"), json!(3));
}
