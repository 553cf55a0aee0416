//! The list of models: what they are, their figures, and the sources of these.

use serde_json::{Value, json};

use super::model::{CostKind, Model};
use super::page::{Format, Page, left, right};

/// Lists models with all figures and sources.
pub fn list(models: &[Model], format: Format) -> String {
    let mut page = Page::new(format);
    page.heading("Models");
    let columns = vec![left("model"), left("machine"), left("strings"), right("one exit moves")];
    let rows = models.iter().map(|model| {
        let moves = match model.strings.name() {
            "element" | "refused" => "1 element".to_owned(),
            _ => format!("{} bytes", number(model.string_bytes)),
        };
        vec![model.name.clone(), model.title.clone(), model.strings.name().to_owned(), moves]
    });
    page.table(columns, rows.collect());
    page.heading("Figures");
    let columns =
        vec![left("model"), left("cost"), left("source"), left("derived"), right("figure")];
    let rows = models.iter().flat_map(|model| {
        let rows = CostKind::ALL.into_iter().filter_map(|kind| {
            let figure = model.figure(kind)?;
            let source = &model.sources[figure.source];
            let mark = if figure.at_least { "≥ " } else { "" };
            Some(vec![
                model.name.clone(),
                kind.name().to_owned(),
                source.name.clone(),
                figure.derived.clone().unwrap_or_default(),
                format!("{mark}{} {}", figure.amount, model.unit.name()),
            ])
        });
        let rows: Vec<_> = rows.collect();
        let none = ["-", "-", "", "no figure"].map(str::to_owned);
        let none = vec![[vec![model.name.clone()], none.to_vec()].concat()];
        if rows.is_empty() { none } else { rows }
    });
    page.table(columns, rows.collect());
    page.heading("Sources");
    let columns = vec![left("source"), left("date"), left("title"), left("address")];
    let mut rows: Vec<Vec<String>> = Vec::new();
    for model in models {
        for source in &model.sources {
            let Some(url) = &source.url else { continue };
            let date = source.date.clone().unwrap_or_default();
            rows.push(vec![source.name.clone(), date, source.title.clone(), url.clone()]);
        }
    }
    page.table(columns, rows);
    page.heading("Remarks");
    let notes = models.iter().filter(|model| !model.notes.is_empty());
    page.lines(&notes.map(|model| format!("{}: {}", model.name, model.notes)).collect::<Vec<_>>());
    page.finish()
}

fn number(number: u32) -> String {
    crate::stats::text_table::number(number.into())
}

/// A model in JSON.
pub fn model_json(model: &Model) -> Value {
    let figures = CostKind::ALL.into_iter().filter_map(|kind| {
        let figure = model.figure(kind)?;
        Some(json!({
            "cost": kind.name(),
            "amount": figure.amount.thousandths(),
            "source": model.sources[figure.source].name,
            "derived": figure.derived,
            "at_least": figure.at_least,
        }))
    });
    let is_used = |index| {
        CostKind::ALL.into_iter().any(|kind| model.figure(kind).is_some_and(|f| f.source == index))
    };
    let sources = model.sources.iter().enumerate().filter(|&(index, _)| is_used(index));
    let sources = sources.map(|(_, source)| {
        json!({
            "source": source.name,
            "title": source.title,
            "url": source.url,
            "date": source.date,
        })
    });
    json!({
        "model": model.name,
        "title": model.title,
        "unit": model.unit.name(),
        "strings": model.strings.name(),
        "string_bytes": model.string_bytes,
        "figures": figures.collect::<Vec<_>>(),
        "sources": sources.collect::<Vec<_>>(),
    })
}
