//! Values of TOML as values of options.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, ConfigError, in_order};
use crate::devices::PATH_SETTINGS;

/// A value of an option, and where it is.
type Value = (String, Range<usize>);

/// The keys of the table `share`.
const SHARE_KEYS: [&str; 4] = ["directory", "file-limit", "total-limit", "overwrite"];

impl Config<'_> {
    /// The values of a key. Options that may be repeated have any number, all others one.
    pub(super) fn values(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Vec<Value>, ConfigError> {
        match key {
            "device" => self.list(key, value, |one| self.device(one)),
            "symbols" => self.list(key, value, |one| {
                let name = self.string(key, one)?;
                Ok(self.path_unless(&["guest", "off"], &name))
            }),
            "values" | "break" => self.list(key, value, |one| self.text(key, one)),
            "access-log" | "trace" => self.one(value, self.accesses(key, value)),
            "share" => self.one(value, self.share(value)),
            "summary" | "insns" => self.one(value, {
                self.text(key, value).map(|text| self.path_unless(&["on", "off"], &text))
            }),
            "callers" | "processes" => self.one(value, self.text(key, value)),
            "hypercall" => self.one(value, self.string(key, value)),
            _ => self.one(value, self.string(key, value).map(|path| self.resolve(&path))),
        }
    }

    fn one(
        &self,
        value: &Spanned<DeValue<'_>>,
        text: Result<String, ConfigError>,
    ) -> Result<Vec<Value>, ConfigError> {
        Ok(vec![(text?, value.span())])
    }

    /// One value, or an array of them.
    fn list(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        convert: impl Fn(&Spanned<DeValue<'_>>) -> Result<String, ConfigError>,
    ) -> Result<Vec<Value>, ConfigError> {
        match value.get_ref() {
            DeValue::Array(values) if values.is_empty() => {
                Err(self.file.mistake(value.span(), format!("{key} is empty; remove it")).into())
            }
            DeValue::Array(values) => {
                values.iter().map(|one| Ok((convert(one)?, one.span()))).collect()
            }
            _ => Ok(vec![(convert(value)?, value.span())]),
        }
    }

    fn string(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<String, ConfigError> {
        Ok(self.file.string(key, value)?.to_owned())
    }

    /// A string, an integer, or a switch.
    fn text(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<String, ConfigError> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text.clone().into_owned()),
            DeValue::Boolean(true) => Ok("on".to_owned()),
            DeValue::Boolean(false) => Ok("off".to_owned()),
            DeValue::Integer(integer) => {
                match i64::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(number) => Ok(number.to_string()),
                    Err(_) => {
                        Err(self.file.mistake(value.span(), format!("{key} is too large")).into())
                    }
                }
            }
            _ => {
                Err(self.file.wrong_type(key, value, "a string, an integer, true or false").into())
            }
        }
    }

    fn path_unless(&self, words: &[&str], text: &str) -> String {
        if words.contains(&text) { text.to_owned() } else { self.resolve(text) }
    }

    /// `FILE[:FILTER...]`, or a table with `file` and `filter`.
    fn accesses(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<String, ConfigError> {
        let DeValue::Table(table) = value.get_ref() else {
            let expected = format!("a string, or a table: {key} = {{ file = \"FILE\" }}");
            let DeValue::String(text) = value.get_ref() else {
                return Err(self.file.wrong_type(key, value, &expected).into());
            };
            return Ok(self.resolve(text));
        };
        let mut text = None;
        let mut filters = Vec::new();
        for (name, value) in in_order(table) {
            let full = format!("{key}.{}", name.get_ref());
            match &**name.get_ref() {
                "file" => text = Some(doubled(&self.resolve(&self.string(&full, value)?))),
                "filter" => {
                    filters = self.list(&full, value, |one| self.text(&full, one))?;
                }
                _ => return Err(self.file.unknown_key(key, name, &["file", "filter"]).into()),
            }
        }
        let missing =
            || self.file.mistake(value.span(), format!("{key} has no file; add file = \"FILE\""));
        let mut text = text.ok_or_else(missing)?;
        for (filter, _) in filters {
            text.push(':');
            text.push_str(&filter);
        }
        Ok(text)
    }

    /// `DIRECTORY[:KEY=VALUE...]`, or a table with `directory` and the settings.
    fn share(&self, value: &Spanned<DeValue<'_>>) -> Result<String, ConfigError> {
        let table = match value.get_ref() {
            DeValue::Table(table) => table,
            DeValue::String(text) => return Ok(self.resolve(text)),
            _ => {
                return Err(self
                    .file
                    .wrong_type("share", value, "a string, or a table with directory")
                    .into());
            }
        };
        let (mut directory, mut settings) = (None, String::new());
        for (name, value) in in_order(table) {
            let key = &**name.get_ref();
            let full = format!("share.{key}");
            match key {
                "directory" => {
                    directory = Some(doubled(&self.resolve(&self.string(&full, value)?)))
                }
                _ if SHARE_KEYS.contains(&key) => {
                    settings += &format!(":{key}={}", doubled(&self.text(&full, value)?));
                }
                _ => return Err(self.file.unknown_key("share", name, &SHARE_KEYS).into()),
            }
        }
        let missing = "share has no directory; add directory = \"DIRECTORY\"".to_owned();
        let directory = directory.ok_or_else(|| self.file.mistake(value.span(), missing))?;
        Ok(format!("{directory}{settings}"))
    }

    /// `KIND@PORTS[:KEY=VALUE...]`, or a table with `kind`, `ports` and the settings.
    fn device(&self, value: &Spanned<DeValue<'_>>) -> Result<String, ConfigError> {
        let DeValue::Table(table) = value.get_ref() else {
            let expected = "a table: [[device]] with kind and ports";
            return Err(self.file.wrong_type("device", value, expected).into());
        };
        let kind = self.device_key(value, table, "kind", "\"latch\"")?;
        let kind = self.string("device.kind", kind)?;
        if let Some(character) = kind.chars().find(|character| "@:".contains(*character)) {
            let text = format!("device.kind has {character:?}; write the name of the kind alone");
            return Err(self.file.mistake(value.span(), text).into());
        }
        let ports = self.device_key(value, table, "ports", "\"0x300-0x303\"")?;
        let mut text = format!("{kind}@{}", doubled(&self.text("device.ports", ports)?));
        for (name, value) in in_order(table) {
            let key = &**name.get_ref();
            if matches!(key, "kind" | "ports") {
                continue;
            }
            let mut setting = self.text(&format!("device.{key}"), value)?;
            if PATH_SETTINGS.contains(&key) {
                setting = self.resolve(&setting);
            }
            text += &format!(":{}={}", doubled(key), doubled(&setting));
        }
        Ok(text)
    }

    fn device_key<'a, 'i>(
        &self,
        device: &Spanned<DeValue<'i>>,
        table: &'a DeTable<'i>,
        key: &str,
        example: &str,
    ) -> Result<&'a Spanned<DeValue<'i>>, ConfigError> {
        let value = table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value);
        value.ok_or_else(|| {
            let text = format!("a device has no {key}; add {key} = {example}, for example");
            self.file.mistake(device.span(), text).into()
        })
    }
}

/// Doubles colons, which separate the parts of an option.
fn doubled(text: &str) -> String {
    text.replace(':', "::")
}
