//! JSON Schemas of what is written for other programs, generated from the types into `schemas/`.
//!
//! Only tests generate: the programs carry neither the schemas nor the generator. `FINCH_REWRITE=1` writes the
//! files anew.

use std::path::Path;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::Digest;
use crate::manifest::Manifest;
use crate::training::{Config, Event};

impl JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
    }
}

/// Compares a type's schema with its file. What finch writes has all its keys; what a person writes has the
/// required ones.
#[track_caller]
fn check<T: JsonSchema>(name: &str, settings: SchemaSettings) {
    let schema = settings.into_generator().into_root_schema_for::<T>();
    // Links of the code's documentation mean nothing here, nor do its line ends.
    let text = format!("{:#}\n", schema.as_value()).replace("[`", "`").replace("`]", "`").replace("\\n", " ");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas").join(name);
    if std::env::var_os("FINCH_REWRITE").is_some_and(|asked| !asked.is_empty()) {
        std::fs::write(&file, text).expect("write");
        return;
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == text, "schemas/{name} is not current: run this test with FINCH_REWRITE=1\n{text}");
}

#[test]
fn the_schema_of_manifests_is_current() {
    check::<Manifest>("manifest.schema.json", SchemaSettings::draft2020_12().for_serialize());
}

#[test]
fn the_schema_of_training_configs_is_current() {
    check::<Config>("training-config.schema.json", SchemaSettings::draft2020_12());
}

#[test]
fn the_schema_of_training_events_is_current() {
    check::<Event>("training-event.schema.json", SchemaSettings::draft2020_12().for_serialize());
}
