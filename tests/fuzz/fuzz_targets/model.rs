#![no_main]
//! Models of `pvio cost`, in files and in logs of serial lines: one that is accepted prices every access.

use std::sync::LazyLock;

use fuzz::{MemoryFile, PORTS, assert_message, assert_text, dumps};
use libfuzzer_sys::fuzz_target;
use pvio_cli::cost::amount::Decimal;
use pvio_cli::cost::groups::{Group, Groups};
use pvio_cli::cost::json::to_json;
use pvio_cli::cost::list::{list, model_json};
use pvio_cli::cost::model::{Model, extract};
use pvio_cli::cost::page::Format;
use pvio_cli::cost::price::{access_cost, price, saved_by_hypercalls, user_part};
use pvio_cli::cost::report::{Run, Style, render};
use pvio_stats::Snapshot;
use pvio_x86::{Direction, Port, PortForm};

static DUMPS: LazyLock<Vec<(Snapshot, Groups)>> =
    LazyLock::new(|| dumps().into_iter().map(|dump| (dump.clone(), Groups::of(&dump))).collect());

fuzz_target!(|data: &[u8]| {
    let file = MemoryFile::new(data);
    match Model::measured(file.path()) {
        Ok((model, _)) => accepted(model),
        Err(error) => assert_message(&format!("{error:#}")),
    }
    if let Err(error) = extract(&String::from_utf8_lossy(data)) {
        assert_message(&error);
    }
    match Model::named(&file.path().display().to_string()) {
        Ok(model) => accepted(model),
        Err(error) => assert_message(&format!("{error:#}")),
    }
});

fn accepted(mut model: Model) {
    for dir in [Direction::In, Direction::Out] {
        for port in PORTS.map(Port) {
            access_cost(&model, port, dir);
            user_part(&model, port, dir);
        }
    }
    for form in PortForm::ALL {
        for (accesses, instructions) in [(0, 0), (1, 1), (4097, 3), (u64::MAX, u64::MAX)] {
            let (dir, size) = (form.direction(), form.width().into());
            let group = Group {
                site: None,
                form: Some(form.into()),
                port: Port(0x3f8),
                dir,
                size,
                accesses,
                instructions,
            };
            let (price, saved) = (price(&group, &model), saved_by_hypercalls(&group, &model));
            assert!(
                price.exits <= accesses.max(instructions).into(),
                "an access is one exit at most"
            );
            assert!(saved.exits <= price.exits, "no more exits are saved than there are");
            assert_text(&price.shown(model.unit));
            assert_text(&saved.shown(model.unit));
        }
    }
    show(&[model.clone()]);
    model.set_mhz(Decimal::whole(2400));
    show(&[model.clone(), model]);
}

/// Prints a list of models, and what the dumps cost under them.
fn show(models: &[Model]) {
    let formats = [Format::Text { colour: false }, Format::Markdown];
    for format in formats {
        assert_text(&list(models, format));
    }
    models.iter().for_each(|model| drop(model_json(model)));
    for (dump, groups) in &*DUMPS {
        let run = Run { dump, groups, models, clusters: None, is_mixed: false };
        for (format, all) in formats.into_iter().zip([false, true]) {
            assert_text(&render(&run, Style { format, top: 3, all }));
        }
        serde_json::from_str::<serde_json::Value>(&to_json(&run, 3)).expect("a report is JSON");
    }
}
