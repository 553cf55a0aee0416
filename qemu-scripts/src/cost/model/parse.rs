//! Reads a model. A mistake is one line with its place, and says what would be right.

use std::ops::Range;

use pvio_x86::PortRange;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{CostKind, Figure, Model, SCHEMA, Source, Strings};
use crate::cost::amount::{Decimal, Unit};
use crate::stats::nearest::suggestion_or;
use crate::stats::toml_file::{Key, Mistake, TomlFile, Value, in_order};

/// The source of figures that one has measured oneself. It needs no table of its own.
const MEASURED: &str = "measured";

/// The keys of a model.
const KEYS: [&str; 11] = [
    "schema",
    "name",
    "title",
    "notes",
    "mhz",
    "strings",
    "string-bytes",
    "sources",
    "costs",
    "kernel-ports",
    "coalesced-ports",
];

type Result<T> = std::result::Result<T, Mistake>;

/// Parses a model. `file` is its name in messages.
///
/// # Errors
///
/// The text is not TOML, lacks a key, or has a key or a value that no model has.
pub(super) fn parse(file: &str, text: &str) -> Result<Model> {
    Reader { file: TomlFile { name: file, text } }.model()
}

struct Reader<'a> {
    file: TomlFile<'a>,
}

/// A figure that was read, and the unit that it is in.
struct Read {
    figure: Figure,
    unit: &'static str,
    span: Range<usize>,
}

impl Reader<'_> {
    fn model(&self) -> Result<Model> {
        let table = self.file.parse()?;
        let table = table.get_ref();
        self.only(table, "a model", &KEYS)?;
        self.schema(table)?;
        let sources = self.sources(get(table, "sources"))?;
        let mhz = get(table, "mhz").map(|value| self.decimal("mhz", value)).transpose()?;
        let (figures, unit) = self.costs(get(table, "costs"), &sources, mhz)?;
        Ok(Model {
            name: self.name(table)?,
            title: self.required(table, "title", "\"KVM on an Intel processor\"")?,
            notes: self.optional(table, "notes")?.unwrap_or_default(),
            unit,
            strings: self.strings(table)?,
            string_bytes: self.string_bytes(table)?,
            sources: sources.list,
            figures,
            kernel_ports: self.ports(table, "kernel-ports")?,
            coalesced_ports: self.ports(table, "coalesced-ports")?,
        })
    }

    fn schema(&self, table: &DeTable<'_>) -> Result<()> {
        let schema = self.required(table, "schema", &format!("{SCHEMA:?}"))?;
        let span = get(table, "schema").map_or(0..0, Spanned::span);
        match schema == SCHEMA {
            true => Ok(()),
            false => {
                Err(self.file.mistake(span, format!("schema is {schema:?}; write {SCHEMA:?}")))
            }
        }
    }

    fn name(&self, table: &DeTable<'_>) -> Result<String> {
        let name = self.required(table, "name", "\"my-machine\"")?;
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if !name.is_empty() && name.bytes().all(is_word) {
            return Ok(name);
        }
        let span = get(table, "name").map_or(0..0, Spanned::span);
        let text = format!("name is {name:?}; write one word of letters, digits, - and _");
        Err(self.file.mistake(span, text))
    }

    fn strings(&self, table: &DeTable<'_>) -> Result<Strings> {
        let name = self.required(table, "strings", "\"element\"")?;
        let known = Strings::ALL.into_iter().find(|(known, _)| *known == name);
        let names = Strings::ALL.map(|(name, _)| name);
        known.map(|(_, strings)| strings).ok_or_else(|| {
            let remedy = suggestion_or(&name, names, || format!("; write {}", names.join(", ")));
            let span = get(table, "strings").map_or(0..0, Spanned::span);
            self.file.mistake(span, format!("strings is {name:?}{remedy}"))
        })
    }

    fn string_bytes(&self, table: &DeTable<'_>) -> Result<u32> {
        /// A page.
        const DEFAULT: u32 = 4096;
        let Some(value) = get(table, "string-bytes") else { return Ok(DEFAULT) };
        let number = match value.get_ref() {
            DeValue::Integer(integer) => u32::from_str_radix(integer.as_str(), integer.radix()),
            _ => return Err(self.file.wrong_type("string-bytes", value, "an integer")),
        };
        match number {
            Ok(bytes) if (4..=1 << 20).contains(&bytes) => Ok(bytes),
            _ => Err(self.file.mistake(value.span(), "string-bytes is not between 4 and 1048576")),
        }
    }

    fn sources(&self, value: Option<&Value<'_>>) -> Result<Sources> {
        let mut sources = Sources { list: Vec::new() };
        let Some(value) = value else { return Ok(sources.with_measured()) };
        for (key, value) in in_order(self.table("sources", value, "[sources.NAME]")?) {
            let name = key.get_ref().clone().into_owned();
            let what = format!("sources.{name}");
            let table = self.table(&what, value, &format!("[{what}]"))?;
            self.only(table, &what, &["title", "url", "date"])?;
            let title = self.optional(table, "title")?;
            let (url, date) = (self.optional(table, "url")?, self.optional(table, "date")?);
            let is_measured = name == MEASURED;
            let lacks = match (&title, &url, &date) {
                (None, ..) => Some("title = \"what it is\""),
                (_, None, _) if !is_measured => Some("url = \"where it is\""),
                (_, _, None) if !is_measured => Some("date = \"2024-05\""),
                _ => None,
            };
            if let Some(lacks) = lacks {
                let key_name = lacks.split(' ').next().unwrap_or_default();
                let text = format!("{what} has no {key_name}; add {lacks}");
                return Err(self.file.mistake(key.span(), text));
            }
            sources.list.push(Source { name, title: title.unwrap_or_default(), url, date });
        }
        Ok(sources.with_measured())
    }

    fn costs(
        &self,
        value: Option<&Value<'_>>,
        sources: &Sources,
        mhz: Option<Decimal>,
    ) -> Result<([Option<Figure>; CostKind::ALL.len()], Unit)> {
        let mut figures = [const { None }; CostKind::ALL.len()];
        let mut first: Option<&'static str> = None;
        let Some(value) = value else { return Ok((figures, Unit::Nanoseconds)) };
        let table = self.table("costs", value, "[costs.in]")?;
        self.only(table, "costs", &CostKind::ALL.map(CostKind::name))?;
        for (key, value) in in_order(table) {
            let kind = CostKind::ALL.into_iter().find(|kind| kind.name() == &**key.get_ref());
            let Some(kind) = kind else { continue };
            let Read { figure, unit, span } = self.figure(kind.name(), key, value, sources)?;
            let first = *first.get_or_insert(unit);
            if first != unit {
                let text =
                    format!("this is in {unit}, the figures before in {first}; use one unit");
                return Err(self.file.mistake(span, text));
            }
            figures[kind as usize] = Some(figure);
        }
        let unit = match (first, mhz) {
            (Some("cycles"), Some(mhz)) => Unit::CyclesAt(mhz),
            (Some("cycles"), None) => Unit::Cycles,
            _ => Unit::Nanoseconds,
        };
        Ok((figures, unit))
    }

    fn figure(
        &self,
        kind: &str,
        key: &Key<'_>,
        value: &Value<'_>,
        sources: &Sources,
    ) -> Result<Read> {
        let what = format!("costs.{kind}");
        let table = self.table(&what, value, &format!("[{what}]"))?;
        self.only(table, &what, &["ns", "cycles", "source", "derived", "at-least"])?;
        let (unit, value) = match (get(table, "ns"), get(table, "cycles")) {
            (Some(ns), None) => ("ns", ns),
            (None, Some(cycles)) => ("cycles", cycles),
            (None, None) => {
                let text = format!("{what} has no figure; add ns = N or cycles = N, or remove it");
                return Err(self.file.mistake(key.span(), text));
            }
            (Some(_), Some(cycles)) => {
                let text = format!("{what} has ns and cycles; keep one");
                return Err(self.file.mistake(cycles.span(), text));
            }
        };
        let source = self.optional(table, "source")?.ok_or_else(|| {
            self.file.mistake(key.span(), format!("{what} has no source; add source = \"NAME\""))
        })?;
        let position = sources.list.iter().position(|known| known.name == source);
        let span = get(table, "source").map_or(0..0, Spanned::span);
        let source = position.ok_or_else(|| {
            let known = || sources.list.iter().map(|known| &*known.name);
            let remedy = suggestion_or(&source, known(), || {
                format!("; add [sources.{source}] with title, url and date")
            });
            self.file.mistake(span, format!("{what}: no source is named {source:?}{remedy}"))
        })?;
        let at_least = match get(table, "at-least") {
            None => false,
            Some(value) => match value.get_ref() {
                DeValue::Boolean(at_least) => *at_least,
                _ => return Err(self.file.wrong_type("at-least", value, "true or false")),
            },
        };
        let amount = self.decimal(&format!("{what}.{unit}"), value)?;
        let derived = self.optional(table, "derived")?;
        Ok(Read { figure: Figure { amount, source, derived, at_least }, unit, span: value.span() })
    }

    fn ports(&self, table: &DeTable<'_>, key: &str) -> Result<Vec<PortRange>> {
        let Some(value) = get(table, key) else { return Ok(Vec::new()) };
        let DeValue::Array(rows) = value.get_ref() else {
            return Err(self.file.wrong_type(key, value, &format!("[[{key}]]")));
        };
        let mut ranges = Vec::new();
        for row in rows {
            let table = self.table(key, row, &format!("[[{key}]]"))?;
            self.only(table, key, &["ports", "notes"])?;
            let Some(ports) = get(table, "ports") else {
                let text = format!("{key} has no ports; add ports = \"0x40-0x43\"");
                return Err(self.file.mistake(row.span(), text));
            };
            let DeValue::String(text) = ports.get_ref() else {
                return Err(self.file.wrong_type(
                    "ports",
                    ports,
                    "a string, such as \"0x40-0x43\"",
                ));
            };
            let range = PortRange::parse(text, 1)
                .map_err(|error| self.file.mistake(ports.span(), error.to_string()))?;
            ranges.push(range);
        }
        Ok(ranges)
    }

    fn decimal(&self, what: &str, value: &Value<'_>) -> Result<Decimal> {
        let text = match value.get_ref() {
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            DeValue::Float(float) => float.as_str(),
            _ => return Err(self.file.wrong_type(what, value, "a number, such as 3885 or 1.5")),
        };
        Decimal::parse(text).map_err(|error| {
            self.file
                .mistake(value.span(), format!("{what} {error}; write, for example, 3885 or 1.5"))
        })
    }

    fn required(&self, table: &DeTable<'_>, key: &str, example: &str) -> Result<String> {
        self.optional(table, key)?.ok_or_else(|| {
            self.file.mistake(0..0, format!("the model has no {key}; add {key} = {example}"))
        })
    }

    fn optional(&self, table: &DeTable<'_>, key: &str) -> Result<Option<String>> {
        get(table, key).map(|value| self.file.string(key, value).map(str::to_owned)).transpose()
    }

    fn table<'t, 'i>(
        &self,
        what: &str,
        value: &'t Value<'i>,
        header: &str,
    ) -> Result<&'t DeTable<'i>> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(table),
            _ => Err(self.file.wrong_type(what, value, &format!("a table: {header}"))),
        }
    }

    /// Refuses keys that a table does not have.
    fn only(&self, table: &DeTable<'_>, what: &str, known: &[&str]) -> Result<()> {
        let unknown = in_order(table).find(|(key, _)| !known.contains(&&**key.get_ref()));
        unknown.map_or(Ok(()), |(key, _)| Err(self.file.unknown_key(what, key, known)))
    }
}

struct Sources {
    list: Vec<Source>,
}

impl Sources {
    /// Adds the source of one's own measurements, if the file does not describe it.
    fn with_measured(mut self) -> Sources {
        if !self.list.iter().any(|source| source.name == MEASURED) {
            let title = "measured on this machine".to_owned();
            self.list.push(Source { name: MEASURED.to_owned(), title, url: None, date: None });
        }
        self
    }
}

fn get<'t, 'i>(table: &'t DeTable<'i>, key: &str) -> Option<&'t Value<'i>> {
    table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
}

#[cfg(test)]
mod tests;
