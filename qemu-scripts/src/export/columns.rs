//! The types of the columns of tables, by the JSON Schema of dumps.

use std::sync::LazyLock;

use serde_json::Value;

use crate::stats::JSON_SCHEMA;

/// A column of a table, or a field of a column. Each may be null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The name.
    pub name: String,
    /// The type.
    pub kind: Kind,
}

/// The type of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Boolean,
    /// A whole number of up to 64 bits.
    Integer,
    /// Text.
    Text,
    /// A list of items of one type.
    List(Box<Kind>),
    /// An object with these fields.
    Object(Vec<Column>),
}

/// Makes columns of names and types.
pub fn columns<const N: usize>(columns: [(&str, Kind); N]) -> Vec<Column> {
    columns.map(|(name, kind)| Column { name: name.to_owned(), kind }).into()
}

static SCHEMA: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(JSON_SCHEMA).expect("the JSON Schema is JSON"));

/// Returns the columns of a table of dumps; `None` if there is no such table.
///
/// The required fields are first, in their order.
pub fn of_table(name: &str) -> Option<Vec<Column>> {
    match kind(SCHEMA["properties"].get(name)?)? {
        Kind::List(row) => match *row {
            Kind::Object(columns) => Some(columns),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the type that a schema describes. `null` may be among its types.
fn kind(schema: &Value) -> Option<Kind> {
    if let Some(reference) = schema["$ref"].as_str() {
        return kind(SCHEMA.pointer(reference.strip_prefix('#')?)?);
    }
    if let Some(kinds) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        return kinds.iter().find_map(kind);
    }
    let names = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        name => vec![name.as_str()?],
    };
    names.into_iter().find_map(|name| match name {
        "boolean" => Some(Kind::Boolean),
        "integer" => Some(Kind::Integer),
        "string" => Some(Kind::Text),
        "array" => Some(Kind::List(Box::new(kind(&schema["items"])?))),
        "object" => Some(Kind::Object(fields(schema)?)),
        _ => None,
    })
}

fn fields(schema: &Value) -> Option<Vec<Column>> {
    let properties = schema["properties"].as_object()?;
    let required: Vec<&str> =
        schema["required"].as_array()?.iter().filter_map(Value::as_str).collect();
    let others = properties.keys().map(String::as_str).filter(|name| !required.contains(name));
    let names = required.iter().copied().chain(others);
    let column =
        |name: &str| Some(Column { name: name.to_owned(), kind: kind(&properties[name])? });
    names.map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::rows::NAMES;

    #[test]
    fn columns_have_the_types_of_the_schema() {
        let ports = of_table("ports").unwrap();
        let kind = |name: &str| &ports.iter().find(|column| column.name == name).unwrap().kind;
        assert_eq!(kind("port"), &Kind::Integer);
        assert_eq!(kind("name"), &Kind::Text);
        assert_eq!(kind("served"), &Kind::Boolean);
        assert!(matches!(kind("first"), Kind::Object(fields) if fields[0].name == "rank"));
        let callers = of_table("callers").unwrap();
        let frames = callers.into_iter().find(|column| column.name == "frames").unwrap();
        assert!(matches!(frames.kind, Kind::List(frame) if matches!(*frame, Kind::Object(_))));
        assert_eq!(of_table("schema"), None);
    }

    #[test]
    fn every_table_has_columns() {
        for name in NAMES {
            assert!(of_table(name).is_some_and(|columns| columns.len() > 1), "{name}");
        }
    }
}
