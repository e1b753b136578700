//! Mistakes in a spec: exit 2 with file, line, column, code and hint, before anything runs.

use crate::project::{LABEL, Program, Project};

const STAGES: &str = r#"[pipeline]
store = "store"

[stages.logs]
kind = "ingest"
sources = ["logs"]

[stages.labelled]
kind = "label"
input = "logs"

[stages.kept]
kind = "filter"
input = "labelled"
where = "outcome = 'improvement'"
"#;

/// One change to a good spec: where the error points, its code, and words of its text.
#[track_caller]
fn check(from: &str, to: &str, place: &str, code: &str, words: &[&str]) {
    assert!(STAGES.contains(from), "{from}");
    let project = Project::new(&STAGES.replacen(from, to, 1));
    project.program("run", &Program::new(1, None, 1.0));
    let place = format!("spec.toml:{place}: error {code}");
    let words: Vec<&str> = [place.as_str()].into_iter().chain(words.iter().copied()).collect();
    for command in ["check", "plan", "run"] {
        project.finch(&[command, "spec.toml"]).fails(2, &words);
    }
    assert!(!project.path("store").exists(), "something was written");
}

#[test]
fn keys_types_and_words() {
    check(
        "input = \"logs\"",
        "inptu = \"logs\"",
        "10:1",
        "F0102",
        &["unknown key `inptu`", "did you mean `input`?"],
    );
    check("input = \"logs\"", "", "8:9", "F0104", &["stage `labelled` lacks the key `input`"]);
    check("\"label\"", "\"labl\"", "9:8", "F0105", &["did you mean `label`?"]);
    check("kind = \"label\"", "", "8:9", "F0104", &["lacks the key `kind`"]);
    check("\"label\"", "7", "9:8", "F0103", &["`kind` in stage `labelled` must be text, not a whole number"]);
    check("[\"logs\"]", "\"logs\"", "6:11", "F0103", &["a list"]);
    check("[\"logs\"]", "[3]", "6:12", "F0103", &["a source must be a path"]);
    check("[\"logs\"]", "[]", "6:11", "F0106", &["`sources` is empty"]);
    check("[\"logs\"]", "[{ pth = \"logs\" }]", "6:14", "F0102", &["did you mean `path`?"]);
    check("[\"logs\"]", "[\"s3://bucket/../logs\"]", "6:12", "F0106", &["an address must not"]);
    check("store = \"store\"", "store = \"https://b/x\"", "2:9", "F0106", &["a folder or a bucket"]);
    check("store = \"store\"", "", "1:1", "F0104", &["`pipeline` of the spec lacks the key `store`"]);
    check("store = \"store\"", "store = \"store\"\nseed = -1", "3:8", "F0106", &["`seed`"]);
    check("store = \"store\"", "store = \"store\"\nsample = 1.5", "3:10", "F0106", &["between 0 and 1"]);
    check("store = \"store\"", "store = \"store\"\nsample = nan", "3:10", "F0106", &["finite"]);
    check("[pipeline]", "[pipelin]", "1:2", "F0102", &["did you mean `pipeline`?"]);
    check("[stages.logs]", "[stages.Logs]", "4:9", "F0106", &["cannot be a SQL schema"]);
    check("\"label\"", "\"export\"", "9:8", "F0107", &["`export` is not built yet"]);
    check("where = \"outcome", "per_task = { max = 0 }\nwhere = \"outcome", "15:20", "F0106", &["`max`"]);
    check(
        "where = \"outcome",
        "allow_empty = \"yes\"\nwhere = \"outcome",
        "15:15",
        "F0103",
        &["true or false"],
    );
    check("input = \"labelled\"", "input = \"labelled", "14:18", "F0101", &[]);
}

#[test]
fn graph_and_sources() {
    check(
        "input = \"logs\"",
        "input = \"log\"",
        "10:9",
        "F0201",
        &["`log`, which is not a stage", "did you mean `logs`?"],
    );
    check("input = \"logs\"", "input = \"kept\"", "10:9", "F0202", &["labelled -> kept -> labelled"]);
    check("input = \"logs\"", "input = \"labelled\"", "10:9", "F0202", &["labelled -> labelled"]);
    check("[\"logs\"]", "[\"lgs\"]", "6:12", "F0301", &["source `lgs` does not exist"]);
    check(
        "store = \"store\"",
        "store = \"store\"\ntasks = \"nosuch.toml\"",
        "3:9",
        "F0301",
        &["nosuch.toml"],
    );
}

#[test]
fn sql_is_planned_before_anything_runs() {
    check(
        "outcome = ",
        "outcom = ",
        "15:9",
        "F0204",
        &["no column is named `outcom`", "did you mean `outcome`?"],
    );
    check("outcome = 'improvement'", "outcome = ", "15:9", "F0204", &[]);
    check("outcome = 'improvement'", "1) OR (1 = 1", "15:9", "F0204", &[]);
    check(
        "input = \"labelled\"\nwhere = \"outcome = 'improvement'\"",
        "input = \"logs\"",
        "14:9",
        "F0203",
        &["`outcome`"],
    );
    let sql = "[stages.made]\nkind = \"sql\"\ninputs = [\"kept\"]\nquery = ";
    let with = |query: &str| format!("outcome = 'improvement'\"\n{sql}\"{query}");
    let from = "outcome = 'improvement'";
    check(
        from,
        &with("SELECT nosuch FROM kept.transitions"),
        "19:9",
        "F0204",
        &["no column is named `nosuch`"],
    );
    check(
        from,
        &with("SELECT 1 FROM logs.transitions"),
        "19:9",
        "F0204",
        &["no table is named `logs.transitions`"],
    );
    check(
        from,
        &with("SELECT transition_id, now() AS t FROM kept.transitions"),
        "19:9",
        "F0204",
        &["now()", "pure"],
    );
    check(
        from,
        &with("SELECT transition_id, random() AS t FROM kept.transitions"),
        "19:9",
        "F0204",
        &["random()"],
    );
    check(from, &with("DROP TABLE kept.transitions"), "19:9", "F0204", &[]);
    check(from, &with("nosuch.sql"), "19:9", "F0301", &["nosuch.sql"]);
    let key = "SELECT transition_id FROM kept.transitions\"\nkey = [\"transition\"]#";
    check(from, &with(key), "20:7", "F0203", &["`transition`", "did you mean `transition_id`?"]);
}

#[test]
fn all_mistakes_are_reported_together() {
    let project = Project::new(&STAGES.replace("input = \"logs\"", "inptu = 1").replace("sources", "source"));
    let output = project.run().fails(2, &["6:1: error F0102", "10:1: error F0102"]);
    insta::assert_snapshot!(output.err, @r#"
    spec.toml:6:1: error F0102
      × unknown key `source` in stage `logs`
       ╭─[spec.toml:6:1]
     5 │ kind = "ingest"
     6 │ source = ["logs"]
       · ──────
     7 │ 
       ╰────
      help: did you mean `sources`?

    spec.toml:10:1: error F0102
      × unknown key `inptu` in stage `labelled`
        ╭─[spec.toml:10:1]
      9 │ kind = "label"
     10 │ inptu = 1
        · ─────
     11 │ 
        ╰────
      help: did you mean `input`?
    "#);
}

#[test]
fn a_bad_catalogue_and_a_bad_sidecar_are_pointed_at() {
    let project = Project::new(&LABEL.replace("seed = 1", "seed = 1\ntasks = \"tasks.toml\""));
    project.program("run", &Program::new(1, None, 1.0));
    project.write("tasks.toml", "[tasks.a]\nscore_key = \"x\"\n");
    project.run().fails(2, &["tasks.toml:2:13: error F0104", "needs `direction`"]);
    project.write("tasks.toml", "[tasks.a]\ndirection = \"down\"\n");
    project.run().fails(2, &["tasks.toml:2:13: error F0106", "`minimize`"]);
    project.write("tasks.toml", "[tasks.a]\n");
    project.write("logs/run/finch.toml", "tsk = \"a\"\n");
    project.run().fails(2, &["finch.toml:1:1: error F0102", "did you mean `task`?"]);
    project.write("logs/run/finch.toml", "task = \"\"\n");
    project.run().fails(2, &["finch.toml:1:8: error F0106", "`task` is empty"]);
}

#[test]
fn a_hold_out_that_names_nothing_is_an_error() {
    let spec = format!(
        "{LABEL}\n[stages.split]\nkind = \"split\"\ninput = \"logs\"\nhold_out = {{ tasks = [\"tuor\"] }}\n"
    );
    let project = Project::new(&spec);
    project.write("logs/run/finch.toml", "task = \"tour\"\n");
    for (n, parent) in [(1, None), (2, Some(1))] {
        project.program("run", &Program::new(n, parent, 1.0));
    }
    project.run().fails(2, &["spec.toml:17:23: error F0405", "did you mean `tour`?"]);
}

#[test]
fn a_filter_that_keeps_nothing_fails_unless_that_is_fine() {
    let filter = "\n[stages.kept]\nkind = \"filter\"\ninput = \"labelled\"\nwhere = \"FALSE\"\n";
    let project = Project::new(&format!("{LABEL}{filter}"));
    for (n, parent) in [(1, None), (2, Some(1))] {
        project.program("run", &Program::new(n, parent, 1.0));
    }
    project.run().fails(1, &["F0403", "allow_empty"]);
    project.write("spec.toml", format!("{LABEL}{filter}allow_empty = true\n"));
    project.run().ok();
}

#[test]
fn a_spec_that_is_not_there() {
    let project = Project::new(LABEL);
    project.finch(&["run", "nosuch.toml"]).fails(2, &["nosuch.toml:1:1: error F0108"]);
    project.finch(&["run"]).fails(2, &["Usage"]);
    project.finch(&["fly"]).fails(2, &["unrecognized subcommand"]);
}
