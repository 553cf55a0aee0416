//! Lines about what the numbers do not include, and about the sources of figures.

use super::Report;
use crate::cost::model::{CostKind, Model, Strings};
use crate::stats::text_table::number;

impl Report<'_> {
    /// Lines about what the numbers do not include.
    pub(super) fn notes(&self) -> Vec<String> {
        let (groups, clusters) = (self.run.groups, self.run.clusters);
        let mut notes = Vec::new();
        let mut note = |condition: bool, text: String| {
            if condition {
                notes.push(text);
            }
        };
        let by_hypercall = number(groups.by_hypercall);
        note(
            groups.by_hypercall > 0,
            format!("Not included: {by_hypercall} accesses by hypercall."),
        );
        let unverified = number(groups.unverified);
        note(
            groups.unverified > 0,
            format!(
                "Not included: {unverified} accesses that were made or faulted; QEMU does not report which."
            ),
        );
        let without = number(groups.without_site());
        note(
            groups.without_site() > 0,
            format!("{without} accesses have no row by site: each counts as one exit."),
        );
        let has_strings = groups.groups.iter().any(|group| group.is_string());
        let moves_many = |model: &Model| matches!(model.strings, Strings::Page | Strings::PageIn);
        note(
            has_strings && self.run.models.iter().any(moves_many),
            "Exits of strings are the fewest possible: a buffer that crosses a page costs one more.".to_owned(),
        );
        note(
            has_strings && self.run.models.iter().any(|model| model.strings == Strings::Refused),
            "A model that refuses strings has a loop of in or out for each.".to_owned(),
        );
        note(
            clusters.is_none(),
            "Clusters and loops show only in a trace (trace=FILE).".to_owned(),
        );
        note(
            clusters.is_some() && self.run.is_mixed,
            "Clusters and loops are those of the traces alone.".to_owned(),
        );
        let dropped = clusters.map_or(0, |clusters| clusters.dropped);
        note(
            dropped > 0,
            format!("{} accesses are in clusters of too many kinds.", number(dropped)),
        );
        let missing = self.run.models.iter().filter(|model| {
            [CostKind::In, CostKind::Out, CostKind::Hypercall]
                .into_iter()
                .any(|kind| model.figure(kind).is_none())
        });
        for model in missing {
            let kinds = CostKind::ALL.into_iter().take(6);
            let kinds = kinds.filter(|&kind| model.figure(kind).is_none()).map(CostKind::name);
            let kinds = kinds.collect::<Vec<_>>().join(", ");
            notes.push(format!("{} has no figure for {kinds}: what needs it is -.", model.name));
        }
        notes
    }

    pub(super) fn sources(&mut self) {
        self.page.heading("Figures and their sources");
        let mut lines = Vec::new();
        for model in self.run.models {
            let figures = CostKind::ALL.into_iter().filter_map(|kind| {
                let figure = model.figure(kind)?;
                let source = &model.sources[figure.source];
                let mark = if figure.at_least { "≥ " } else { "" };
                let derived = match &figure.derived {
                    Some(how) => format!(", derived: {how}"),
                    None => String::new(),
                };
                let unit = model.unit.name();
                let name = &source.name;
                Some(format!(
                    "{} {}: {mark}{} {unit} ({name}{derived})",
                    model.name,
                    kind.name(),
                    figure.amount
                ))
            });
            lines.extend(figures);
            for (index, source) in model.sources.iter().enumerate() {
                let is_used =
                    |&kind: &CostKind| model.figure(kind).is_some_and(|f| f.source == index);
                if CostKind::ALL.iter().any(is_used) {
                    let more = [&source.date, &source.url].into_iter().flatten();
                    let more: String = more.map(|text| format!(", {text}")).collect();
                    lines.push(format!("{}: {}{more}", source.name, source.title));
                }
            }
            if !model.notes.is_empty() {
                lines.push(format!("{}: {}", model.name, model.notes));
            }
        }
        self.page.lines(&lines);
    }
}
