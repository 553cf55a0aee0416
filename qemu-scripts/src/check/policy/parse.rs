//! Reads policies from TOML. A mistake is one line with its place.

use pvio_x86::{Direction, Mode, PortForm, PortRange, Width};
use toml::de::DeValue;

use super::rule::{By, Condition, FormCondition};
use super::{Action, BUILT_IN, DEFAULT, Policy, Rule};
use crate::check::Phase;
use crate::stats::Privilege;
use crate::stats::access_filter::Pattern;
use crate::stats::nearest::suggestion_or;
use crate::stats::toml_file::{Mistake, TomlFile, Value, in_order};

/// The keys of a policy.
const KEYS: [&str; 5] = ["description", "extends", "default", "default-reason", "rule"];

/// The keys of a rule.
const RULE_KEYS: [&str; 13] = [
    "name",
    "action",
    "reason",
    "ports",
    "direction",
    "sizes",
    "forms",
    "modes",
    "phases",
    "privilege",
    "symbols",
    "devices",
    "by",
];

/// Reads a policy.
pub(super) fn policy(file: &str, text: &str) -> Result<Policy, Mistake> {
    Reader { file: TomlFile { name: file, text } }.policy()
}

struct Reader<'a> {
    file: TomlFile<'a>,
}

impl Reader<'_> {
    fn policy(&self) -> Result<Policy, Mistake> {
        let table = self.file.parse()?;
        let mut policy = Policy {
            name: self.file.name.to_owned(),
            description: None,
            rules: Vec::new(),
            default: Action::Deny,
            default_reason: None,
        };
        let (mut default, mut base) = (None, None);
        for (key, value) in in_order(table.get_ref()) {
            let name = &**key.get_ref();
            match name {
                "description" => policy.description = Some(self.line(name, value)?),
                "default-reason" => policy.default_reason = Some(self.line(name, value)?),
                "default" => default = Some(self.word(name, value, &ACTIONS)?),
                "extends" => {
                    let known = BUILT_IN.map(|(name, _)| (name, name));
                    base = Policy::built_in(self.word(name, value, &known)?);
                }
                "rule" => policy.rules = self.rules(value)?,
                _ => return Err(self.file.unknown_key("a policy", key, &KEYS)),
            }
        }
        match (default, base) {
            (Some(default), None) => policy.default = default,
            (default, Some(base)) => {
                let replaced = |rule: &Rule| policy.rules.iter().any(|own| own.name == rule.name);
                let kept: Vec<_> = base.rules.into_iter().filter(|rule| !replaced(rule)).collect();
                policy.rules.extend(kept);
                let is_same = default.is_none_or(|default| default == base.default);
                let inherited = base.default_reason.filter(|_| is_same);
                policy.default_reason = policy.default_reason.or(inherited);
                policy.default = default.unwrap_or(base.default);
            }
            (None, None) => {
                let text = "a policy needs a default; add default = \"deny\" or default = \"allow\", or \
                            extends = \"tdx\"";
                return Err(self.file.mistake(0..0, text));
            }
        }
        Ok(policy)
    }

    fn rules(&self, value: &Value<'_>) -> Result<Vec<Rule>, Mistake> {
        let DeValue::Array(values) = value.get_ref() else {
            return Err(self.file.wrong_type("rule", value, "[[rule]] before each rule"));
        };
        let mut rules: Vec<Rule> = Vec::new();
        for value in values.iter() {
            let rule = self.rule(value)?;
            if rule.name == DEFAULT {
                let text = "\"default\" is the name of what no rule matches; choose another name";
                return Err(self.file.mistake(value.span(), text));
            }
            if rules.iter().any(|other| other.name == rule.name) {
                let text = format!("two rules have the name {:?}; choose another name", rule.name);
                return Err(self.file.mistake(value.span(), text));
            }
            rules.push(rule);
        }
        Ok(rules)
    }

    fn rule(&self, value: &Value<'_>) -> Result<Rule, Mistake> {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(self.file.wrong_type("rule", value, "[[rule]] before each rule"));
        };
        let (mut rule, mut action) = (Rule::new(String::new(), Action::Deny), None);
        for (key, value) in in_order(table) {
            let name = &**key.get_ref();
            match name {
                "name" => rule.name = self.line(name, value)?,
                "action" => action = Some(self.word(name, value, &ACTIONS)?),
                "reason" => rule.reason = Some(self.line(name, value)?),
                "ports" => rule.ports = self.list(name, value, |one| self.ports(one))?,
                "direction" => rule.directions = self.words(name, value, &DIRECTIONS)?,
                "sizes" => rule.sizes = self.list(name, value, |one| self.size(one))?,
                "forms" => rule.forms = self.list(name, value, |one| self.form(one))?,
                "modes" => rule.modes = self.list(name, value, |one| self.mode(one))?,
                "phases" => {
                    let known = Phase::ALL.map(|phase| (phase.name(), phase));
                    rule.phases = self.words(name, value, &known)?;
                }
                "privilege" => rule.privileges = self.words(name, value, &PRIVILEGES)?,
                "symbols" => {
                    rule.symbols = self.list(name, value, |one| self.pattern(name, one))?
                }
                "devices" => {
                    rule.devices = self.list(name, value, |one| self.pattern(name, one))?
                }
                "by" => rule.by = self.words(name, value, &WAYS)?,
                _ => return Err(self.file.unknown_key("a rule", key, &RULE_KEYS)),
            }
        }
        let missing = |key: &str, example: &str| {
            let text = format!("a rule has no {key}; add {key} = {example}, for example");
            self.file.mistake(value.span(), text)
        };
        if rule.name.is_empty() {
            return Err(missing("name", "\"serial\""));
        }
        rule.action = action.ok_or_else(|| missing("action", "\"deny\""))?;
        Ok(rule)
    }

    /// One value, or an array of them.
    fn list<T>(
        &self,
        key: &str,
        value: &Value<'_>,
        convert: impl Fn(&Value<'_>) -> Result<T, Mistake>,
    ) -> Result<Condition<T>, Mistake> {
        let values = match value.get_ref() {
            DeValue::Array(values) if values.is_empty() => {
                let text = format!("{key} is empty, so nothing could match; remove it");
                return Err(self.file.mistake(value.span(), text));
            }
            DeValue::Array(values) => values.iter().map(convert).collect::<Result<_, _>>()?,
            _ => vec![convert(value)?],
        };
        Ok(Condition(values))
    }

    fn words<T: Copy>(
        &self,
        key: &str,
        value: &Value<'_>,
        known: &[(&str, T)],
    ) -> Result<Condition<T>, Mistake> {
        self.list(key, value, |one| self.word(key, one, known))
    }

    /// One of several words.
    fn word<T: Copy>(
        &self,
        key: &str,
        value: &Value<'_>,
        known: &[(&str, T)],
    ) -> Result<T, Mistake> {
        let text = self.file.string(key, value)?;
        let words = || known.iter().map(|&(word, _)| word);
        known.iter().find(|(word, _)| *word == text).map(|&(_, meaning)| meaning).ok_or_else(|| {
            let remedy = suggestion_or(text, words(), || {
                format!("; write {}", words().collect::<Vec<_>>().join(", "))
            });
            self.file.mistake(value.span(), format!("{key} is {text:?}, which is unknown{remedy}"))
        })
    }

    /// Text of one line.
    fn line(&self, key: &str, value: &Value<'_>) -> Result<String, Mistake> {
        let text = self.file.string(key, value)?;
        match text.trim().is_empty() || text.contains('\n') {
            true => Err(self.file.mistake(value.span(), format!("{key} is not one line of text"))),
            false => Ok(text.to_owned()),
        }
    }

    fn pattern(&self, key: &str, value: &Value<'_>) -> Result<Pattern, Mistake> {
        self.line(key, value).map(|text| Pattern::new(&text))
    }

    fn integer(&self, key: &str, value: &Value<'_>, expected: &str) -> Result<i64, Mistake> {
        let DeValue::Integer(integer) = value.get_ref() else {
            return Err(self.file.wrong_type(key, value, expected));
        };
        i64::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| {
            self.file.mistake(value.span(), format!("{key} is too large; write {expected}"))
        })
    }

    fn ports(&self, value: &Value<'_>) -> Result<PortRange, Mistake> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.clone().into_owned(),
            _ => self.integer("ports", value, "0x3f8 or \"0x3f8-0x3ff\"")?.to_string(),
        };
        PortRange::parse(&text, 1)
            .map_err(|error| self.file.mistake(value.span(), format!("ports: {error}")))
    }

    fn size(&self, value: &Value<'_>) -> Result<Width, Mistake> {
        let bytes = self.integer("sizes", value, "1, 2 or 4")?;
        let width = Width::ALL.into_iter().find(|width| i64::from(width.bytes()) == bytes);
        let text = || format!("sizes has {bytes}, but an access has 1, 2 or 4 bytes");
        width.ok_or_else(|| self.file.mistake(value.span(), text()))
    }

    fn mode(&self, value: &Value<'_>) -> Result<Mode, Mistake> {
        let bits = self.integer("modes", value, "16, 32 or 64")?;
        let mode = Mode::ALL.into_iter().find(|mode| i64::from(mode.bits()) == bits);
        let text = || format!("modes has {bits}, but code has 16, 32 or 64 bits");
        mode.ok_or_else(|| self.file.mistake(value.span(), text()))
    }

    fn form(&self, value: &Value<'_>) -> Result<FormCondition, Mistake> {
        let text = self.file.string("forms", value)?;
        let form = || PortForm::ALL.into_iter().find(|form| form.name() == text);
        match text {
            "scalar" => Ok(FormCondition::Scalar),
            "string" => Ok(FormCondition::String),
            _ => form().map(FormCondition::Form).ok_or_else(|| {
                let known =
                    PortForm::ALL.map(PortForm::name).into_iter().chain(["scalar", "string"]);
                let remedy = suggestion_or(text, known, || {
                    "; write scalar, string, or a form such as \"rep outsb\" or \"in al,dx\""
                        .to_owned()
                });
                self.file
                    .mistake(value.span(), format!("forms is {text:?}, which is unknown{remedy}"))
            }),
        }
    }
}

const ACTIONS: [(&str, Action); 2] = [("allow", Action::Allow), ("deny", Action::Deny)];
const DIRECTIONS: [(&str, Direction); 2] = [("in", Direction::In), ("out", Direction::Out)];
const PRIVILEGES: [(&str, Privilege); 2] =
    [("supervisor", Privilege::Supervisor), ("user", Privilege::User)];
const WAYS: [(&str, By); 2] = [("instruction", By::Instruction), ("hypercall", By::Hypercall)];
