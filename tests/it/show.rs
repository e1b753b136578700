//! `show`: every stage's word on a thing, and nothing that a terminal would obey.

use serde_json::{Value, json};

use crate::pack;
use crate::project::{LABEL, Program, Project, uuid};

const SPEC: &str = r#"
[pipeline]
name = "told"
store = "store"
seed = 1

[stages.logs]
kind = "ingest"
sources = ["logs"]

[stages.unique]
kind = "dedup"
input = "logs"

[stages.labelled]
kind = "label"
input = "unique"

[stages.kept]
kind = "filter"
input = "labelled"
where = "outcome = 'improvement'"

[stages.split]
kind = "split"
input = "kept"
hold_out = { tasks = [] }
"#;

fn built() -> Project {
    let project = Project::new(SPEC);
    project.write("logs/run/finch.toml", "task = \"a\"\n");
    for (n, parent, score) in [(1, None, 1.0), (2, Some(1), 2.0), (3, Some(1), 0.5), (4, Some(2), 3.0)] {
        project.program("run", &Program::new(n, parent, score));
    }
    // The same step as the second one, made twice.
    let mut again = Program::new(5, Some(1), 2.0);
    again.code = "def f():\n    return 2\n".to_owned();
    again.answer = Program::new(2, Some(1), 2.0).answer;
    project.program("run", &again);
    project.run().ok();
    project
}

fn show(project: &Project, id: &str) -> Value {
    let output = project.finch(&["show", id, "--store", "store", "--json"]).ok();
    serde_json::from_str(&output.out).expect("JSON")
}

/// What stages did, as `stage: did`.
fn steps(history: &Value) -> Vec<String> {
    let paths = history["paths"].as_array().expect("paths").iter();
    let steps = paths.flat_map(|path| path["steps"].as_array().expect("steps"));
    let word = |value: &Value| value.as_str().expect("text").to_owned();
    steps.map(|step| format!("{}: {}", word(&step["stage"]), word(&step["did"]))).collect()
}

fn facts<'a>(history: &'a Value, stage: &str) -> &'a Value {
    let paths = history["paths"].as_array().expect("paths").iter();
    let mut steps = paths.flat_map(|path| path["steps"].as_array().expect("steps"));
    &steps.find(|step| step["stage"] == stage).expect("the stage")["facts"]
}

fn related<'a>(history: &'a Value, role: &str) -> &'a Value {
    let all = history["related"].as_array().expect("related");
    all.iter().find(|related| related["role"] == role).unwrap_or(&Value::Null)
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// The transition into the `n`th program.
fn into(project: &Project, n: u64) -> String {
    text(&project.value(&format!(
        "SELECT transition_id FROM logs.transitions t JOIN logs.candidates c ON c.candidate_id = t.child_candidate \
         WHERE native_id = '{}'",
        uuid(n)
    )))
}

#[test]
fn a_transition_that_was_kept_says_what_each_stage_added() {
    let project = built();
    let id = into(&project, 4);
    let history = show(&project, &id[..12]);
    assert_eq!((text(&history["id"]), text(&history["kind"])), (id, "transition".to_owned()));
    assert_eq!(
        steps(&history),
        ["logs: read", "unique: kept", "labelled: kept", "kept: kept", "split: kept"]
    );
    assert_eq!(facts(&history, "unique"), &json!({"multiplicity": 1}));
    let labelled = facts(&history, "labelled");
    assert_eq!((&labelled["outcome"], &labelled["label"]), (&json!("improvement"), &json!("improved")));
    assert_eq!(facts(&history, "split")["split"], "train");
    assert!(facts(&history, "split")["reason"].is_string(), "{history}");
    assert_eq!(related(&history, "parent")["first"][0]["facts"]["native_id"], uuid(2));
    assert_eq!(related(&history, "child")["first"][0]["facts"]["score"], 3.0);
    assert!(related(&history, "user_prompt")["first"][0]["facts"]["bytes"].as_i64() > Some(20));
    assert!(text(&history["places"][0]["source"]).ends_with(&format!("{}.json", uuid(4))), "{history}");
    // Every text that is told can be queried as it says.
    let query = text(&history["query"]);
    assert!(project.value(&format!("SELECT count(*) FROM ({query})")) == 1);
}

#[test]
fn one_that_was_removed_says_where_and_why() {
    let project = built();
    let history = show(&project, &into(&project, 3));
    assert_eq!(steps(&history), ["logs: read", "unique: kept", "labelled: kept", "kept: removed"]);
    assert_eq!(facts(&history, "kept")["code"], "where");
    // Of two equal steps each says what became of the other.
    let (first, second) = (into(&project, 2), into(&project, 5));
    let (kept, merged) = (show(&project, &first), show(&project, &second));
    assert_eq!(steps(&merged), ["logs: read", "unique: removed"]);
    assert_eq!(facts(&merged, "unique")["code"], "duplicate");
    assert!(text(&facts(&merged, "unique")["reason"]).contains(&first));
    assert_eq!(facts(&kept, "unique"), &json!({"multiplicity": 2, "stands for": [second]}));
}

#[test]
fn candidates_programs_runs_and_texts_are_told() {
    let project = built();
    let candidate = |n: u64| {
        text(&project.value(&format!("SELECT candidate_id FROM candidates WHERE native_id = '{}'", uuid(n))))
    };
    let history = show(&project, &candidate(2));
    assert_eq!(history["kind"], "candidate");
    assert_eq!(related(&history, "parents")["first"][0]["id"], candidate(1));
    assert_eq!(related(&history, "children")["first"][0]["id"], candidate(4));
    assert_eq!(related(&history, "run")["first"][0]["facts"]["task"], "a");
    assert_eq!(steps(&history).last().expect("a step"), "split: kept");
    let root = show(&project, &candidate(1));
    assert_eq!((related(&root, "parents"), &related(&root, "children")["total"]), (&Value::Null, &json!(3)));
    assert_eq!(steps(&root), ["logs: read"]);

    // Two candidates share the program.
    let program = text(&related(&history, "program")["first"][0]["id"]);
    let history = show(&project, &program);
    assert_eq!((&history["kind"], &related(&history, "candidates")["total"]), (&json!("program"), &json!(2)));
    assert_eq!(facts(&history, "logs"), &json!({"transitions to it": 2, "from it": 1}));
    assert_eq!(
        facts(&history, "unique"),
        &json!({"transitions to it": 1, "from it": 1, "removed as duplicate": 1})
    );

    let run = text(&project.value("SELECT run_id FROM runs"));
    let history = show(&project, &run);
    assert_eq!((&history["kind"], &related(&history, "candidates")["total"]), (&json!("run"), &json!(5)));
    assert_eq!(facts(&history, "kept"), &json!({"transitions of it": 2, "removed as where": 1}));

    let prompt = text(&project.value("SELECT min(user_prompt_id) FROM logs.transitions"));
    let history = show(&project, &prompt);
    assert_eq!(history["kind"], "text");
    assert_eq!(related(&history, "transitions")["first"][0]["facts"]["role"], "user_prompt");
}

#[test]
fn examples_and_packs_are_told_with_their_transitions() {
    let project = pack::project(&pack::packing());
    project.run().ok();
    let pack = text(&project.rows("SELECT pack_id FROM packs ORDER BY pack_id LIMIT 1")[0]["pack_id"]);
    let history = show(&project, &pack);
    assert_eq!((&history["kind"], &steps(&history)[..]), (&json!("pack"), &["packed: made".to_owned()][..]));
    let example = text(&related(&history, "examples")["first"][0]["id"]);
    let history = show(&project, &example);
    assert_eq!(history["kind"], "example");
    assert_eq!(
        steps(&history),
        ["logs: read", "labelled: kept", "split: kept", "sft: rendered", "packed: packed"]
    );
    assert_eq!(facts(&history, "sft")["example_id"], example);
    assert_eq!(
        (&facts(&history, "packed")["pack_id"], &facts(&history, "packed")["place"]),
        (&json!(pack), &json!(1))
    );
    // The same from the transition's side, with the file where the spec knows it.
    let transition = text(&related(&history, "transition")["first"][0]["id"]);
    let output = project.finch(&["show", &transition, "--spec", "spec.toml"]).ok().out;
    assert!(output.contains(&example) && output.contains(&pack), "{output}");
    let files = output.lines().filter_map(|line| line.strip_prefix("  "));
    let found: Vec<&str> = files.filter(|file| project.root().join(file).is_file()).collect();
    assert!(found.len() == 1 && found[0].contains("logs/"), "{output}");
}

#[test]
fn unknown_and_ambiguous_ids_and_builds_say_what_there_is() {
    let project = built();
    for bad in ["abc", "xyz12345", "", "../../etc", &"a".repeat(65)] {
        project.finch(&["show", "--store", "store", "--", bad]).fails(2, &["4 to 64 hexadecimal digits"]);
    }
    project.finch(&["show", &"f".repeat(64), "--store", "store"]).fails(1, &["F0508", "nothing in build"]);
    let build = |id: &str| project.finch(&["show", &into(&project, 2), "--store", "store", "--build", id]);
    build("1999").fails(1, &["F0508", "no build's id"]);
    build("20").ok();
    project.write("spec.toml", SPEC.replace("improvement", "unchanged"));
    project.run().fails(1, &["kept nothing"]);
    build("20").fails(1, &["F0508", "2 builds"]);
    project.finch(&["show", "abcd", "--store", "nowhere"]).fails(2, &["F0504"]);
}

#[test]
fn a_beginning_of_several_ids_lists_them() {
    // Of 300 programs and what belongs to them, some ids share four digits: the sixteen bits collide.
    let project = Project::new(LABEL);
    for n in 1..=300 {
        project.program("run", &Program::new(n, (n > 1).then_some(n / 2), n as f64));
    }
    project.run().ok();
    let rows = project.rows(
        "WITH ids AS (SELECT program_id AS id FROM programs UNION ALL SELECT candidate_id FROM candidates \
         UNION ALL SELECT transition_id FROM logs.transitions UNION ALL SELECT text_id FROM texts) \
         SELECT substr(id, 1, 4) AS start, min(id) AS a, max(id) AS b FROM ids GROUP BY 1 HAVING count(*) = 2 \
         ORDER BY 1 LIMIT 1",
    );
    let start = text(&rows[0]["start"]);
    let (a, b) = (text(&rows[0]["a"]), text(&rows[0]["b"]));
    project.finch(&["show", &start, "--store", "store"]).fails(1, &["F0508", &a[..], &b[..], "more digits"]);
    assert_eq!(show(&project, &a.to_uppercase())["id"], a);
}

#[test]
fn control_characters_of_a_log_do_not_reach_the_terminal() {
    let project = Project::new(LABEL);
    let hostile = "\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\r\nx";
    let mut program = Program::new(1, None, 1.0);
    program.metrics = json!({"combined_score": 1.0, hostile: hostile});
    project.program("run", &program);
    let mut child = Program::new(2, Some(1), 2.0).json();
    child["id"] = json!(format!("bad{hostile}"));
    child["language"] = json!(hostile);
    project.write("logs/run/checkpoints/checkpoint_10/programs/bad.json", child.to_string());
    project.run().ok();
    for table in ["candidate", "program", "run"] {
        let sql = format!("SELECT {table}_id AS id FROM {table}s ORDER BY 1");
        let rows = project.rows(&sql);
        assert!(!rows.is_empty());
        for row in rows {
            for more in [&[][..], &["--json"]] {
                let id = text(&row["id"]);
                let output = project.finch(&[&["show", &id, "--store", "store"], more].concat()).ok().out;
                let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
                assert!(!output.contains(bad), "{output:?}");
            }
        }
    }
    // They are told all the same.
    let rows = project.rows("SELECT candidate_id FROM candidates WHERE native_id LIKE 'bad%'");
    if let Some(row) = rows.first() {
        let output = project.finch(&["show", &text(&row["candidate_id"]), "--store", "store"]).ok().out;
        assert!(output.contains("bad\\u{1b}]0;owned\\u{7}"), "{output}");
    }
}
