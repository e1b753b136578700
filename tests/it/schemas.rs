//! Real manifests and build records satisfy the JSON Schemas in `schemas/`.
//!
//! Enough of JSON Schema is here for these schemas; a keyword that is not understood fails the test, so nothing is
//! passed over.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::pack::{packing, project};
use crate::project::repository;

fn schema(name: &str) -> Value {
    let text = fs::read(repository().join("schemas").join(name)).expect("a schema");
    serde_json::from_slice(&text).expect("JSON")
}

/// What of a value the schema does not allow.
fn complaints(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let Some(rules) = schema.as_object() else {
        return if schema == &json!(false) { vec![format!("{at}: nothing may be here")] } else { vec![] };
    };
    let mut found = Vec::new();
    for (keyword, rule) in rules {
        let fine = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "format" => true,
            "$ref" => {
                let name =
                    rule.as_str().and_then(|name| name.strip_prefix("#/$defs/")).expect("a definition");
                found.extend(complaints(root, &root["$defs"][name], value, at));
                true
            }
            "type" => {
                let words = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                words.iter().any(|word| is_of(value, word.as_str().expect("a type")))
            }
            "const" => rule == value,
            "enum" => rule.as_array().expect("a list").contains(value),
            "anyOf" | "oneOf" => {
                let fits = |rule: &&Value| complaints(root, rule, value, at).is_empty();
                let fitting = rule.as_array().expect("a list").iter().filter(fits).count();
                if keyword == "oneOf" { fitting == 1 } else { fitting > 0 }
            }
            "minimum" => value.as_f64().is_none_or(|value| Some(value) >= rule.as_f64()),
            "maximum" => value.as_f64().is_none_or(|value| Some(value) <= rule.as_f64()),
            "pattern" => {
                assert_eq!(rule, "^[0-9a-f]{64}$");
                let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                value.as_str().is_none_or(|text| text.len() == 64 && hex(text))
            }
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(complaints(root, rule, item, &format!("{at}/{n}")));
                }
                true
            }
            "required" => {
                let keys = rule.as_array().expect("a list").iter().filter_map(Value::as_str);
                value.as_object().is_none_or(|fields| keys.into_iter().all(|key| fields.contains_key(key)))
            }
            "properties" => {
                for (key, rule) in rule.as_object().expect("properties") {
                    if let Some(field) = value.get(key) {
                        found.extend(complaints(root, rule, field, &format!("{at}/{key}")));
                    }
                }
                true
            }
            "additionalProperties" => {
                for (key, field) in value.as_object().into_iter().flatten() {
                    if rules.get("properties").is_none_or(|known| known.get(key).is_none()) {
                        found.extend(complaints(root, rule, field, &format!("{at}/{key}")));
                    }
                }
                true
            }
            other => panic!("the keyword `{other}` is not understood here"),
        };
        if !fine {
            found.push(format!("{at}: `{keyword}` is {rule}, the value {value}"));
        }
    }
    found
}

fn is_of(value: &Value, word: &str) -> bool {
    match word {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("unknown type `{other}`"),
    }
}

#[track_caller]
fn valid(schema: &Value, file: &Path) {
    let value: Value = serde_json::from_slice(&fs::read(file).expect("read")).expect("JSON");
    let found = complaints(schema, schema, &value, "");
    assert!(found.is_empty(), "{}:\n{}", file.display(), found.join("\n"));
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).expect("list").map(|entry| entry.expect("entry").path()).collect()
}

#[test]
fn what_a_build_writes_satisfies_the_schemas() {
    let project = project(&packing());
    project.run().ok();
    project.finch(&["run", "spec.toml", "--only", "sft"]).ok();
    // A build that fails is recorded too.
    project.write(
        "spec.toml",
        packing().replace("over_length = \"drop\"", "over_length = \"error\"\n").replace("= 10000", "= 20"),
    );
    project.run().fails(1, &["F0404"]);
    let builds = entries(&project.path("store/builds"));
    assert_eq!(builds.len(), 3);
    for build in builds {
        valid(&schema("build.schema.json"), &build);
    }
    let datasets = entries(&project.path("store/datasets"));
    assert!(datasets.len() >= 6, "{datasets:?}");
    for dataset in datasets {
        valid(&schema("manifest.schema.json"), &dataset.join("manifest.json"));
    }
}

#[test]
fn the_schemas_refuse_what_finch_would_not_write() {
    let project = project(&packing());
    project.run().ok();
    let schema = schema("manifest.schema.json");
    let dataset = &entries(&project.path("store/datasets"))[0];
    let whole: Value =
        serde_json::from_slice(&fs::read(dataset.join("manifest.json")).expect("read")).expect("JSON");
    let spoilt: [fn(&mut Value); 7] = [
        |manifest| manifest["host"] = json!("here"),
        |manifest| manifest["fingerprint"] = json!("ABC"),
        |manifest| manifest["version"] = json!("1"),
        |manifest| manifest["counts"]["used"] = json!(-1),
        |manifest| manifest["counts"]["conserved"] = json!(null),
        |manifest| manifest["artifacts"] = json!([{ "name": "x" }]),
        |manifest| {
            manifest.as_object_mut().expect("an object").remove("tables");
        },
    ];
    for (n, spoil) in spoilt.iter().enumerate() {
        let mut manifest = whole.clone();
        spoil(&mut manifest);
        assert!(!complaints(&schema, &schema, &manifest, "").is_empty(), "{n}");
    }
}

#[test]
fn the_schema_of_training_configs_knows_what_a_person_writes() {
    let schema = schema("training-config.schema.json");
    let good = json!({ "base": "models/base", "epochs": 1, "batch_packs": 1, "lr": 1e-5 });
    assert_eq!(complaints(&schema, &schema, &good, ""), Vec::<String>::new());
    for (key, value) in [("lr", json!("fast")), ("learning_rate", json!(1.0)), ("dtype", json!("f16"))] {
        let mut bad = good.clone();
        bad[key] = value;
        assert!(!complaints(&schema, &schema, &bad, "").is_empty(), "{key}");
    }
}
