//! The JSON Schema of a dump, made from the types and compared with the file and the documentation.

use std::collections::BTreeSet;

use expect_test::expect_file;
use pvio_x86::{InsnForm, PortForm, Width};
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::Snapshot;

pub fn address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^0x[0-9a-f]{1,16}$" })
}

pub fn optional_address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "pattern": "^0x[0-9a-f]{1,16}$" })
}

pub fn bytes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^([0-9a-f]{2}){1,15}$" })
}

pub fn form(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": PortForm::ALL.map(PortForm::name) })
}

pub fn insn_form(_: &mut SchemaGenerator) -> Schema {
    let mut names: Vec<_> = PortForm::ALL.map(PortForm::name).into();
    names.extend(InsnForm::all_undecided().map(InsnForm::name).filter(|name| name.contains('|')));
    json_schema!({ "type": "string", "enum": names })
}

pub fn direction(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["in", "out"] })
}

pub fn size(_: &mut SchemaGenerator) -> Schema {
    let [byte, word, dword] = Width::ALL.map(Width::bytes);
    json_schema!({ "type": ["integer", "null"], "enum": [byte, word, dword, null] })
}

pub fn mode(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "enum": ["16", "32", "64", null] })
}

/// The schema of what pvio writes: every field is there unless the type skips it.
fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Snapshot>();
    schema.insert("title".into(), crate::SCHEMA.into());
    schema.to_value()
}

fn collect_fields(schema: &Value, fields: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                fields.extend(properties.keys().cloned());
            }
            object.values().for_each(|value| collect_fields(value, fields));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_fields(value, fields)),
        _ => {}
    }
}

/// After a change of the types: `UPDATE_EXPECT=1 cargo test -p pvio-stats` writes the file.
#[test]
fn schema_file_equals_the_types() {
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    expect_file!["../schema/pvio.stats-1.schema.json"].assert_eq(&text);
}

#[test]
fn documentation_defines_every_field() {
    let page = include_str!("../../../docs/statistics.md");
    let mut fields = BTreeSet::new();
    collect_fields(&schema(), &mut fields);
    assert!(fields.len() > 40, "{fields:?}");
    fields.retain(|field| !page.contains(&format!("`{field}`")));
    assert!(fields.is_empty(), "docs/statistics.md lacks {fields:?}");
}
