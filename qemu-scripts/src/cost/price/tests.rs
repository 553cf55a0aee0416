//! Prices of groups, and that all sums of them are equal.

use pvio_x86::{InsnForm, PortForm, Width};

use super::*;
use crate::cost::model::{Strings, built_in};

fn model(name: &str) -> Model {
    built_in().into_iter().find(|model| model.name == name).unwrap()
}

fn group(form: PortForm, port: u16, accesses: u64, instructions: u64) -> Group {
    Group {
        site: Some(0),
        form: Some(form.into()),
        port: Port(port),
        dir: form.direction(),
        size: form.width().into(),
        accesses,
        instructions,
    }
}

fn exact(exits: u128, units: u64) -> Price {
    Price { exits, amount: Some(u128::from(units) * 1000), bound: Bound::Exact }
}

#[test]
fn port_decides_what_an_access_costs() {
    let intel = model("kvm-intel");
    assert_eq!(price(&group(PortForm::InAlDx, 0x3f8, 10, 10), &intel), exact(10, 62_090));
    assert_eq!(price(&group(PortForm::InAlImm, 0x40, 10, 10), &intel), exact(10, 23_390));
    assert_eq!(price(&group(PortForm::OutImmAl, 0x43, 10, 10), &intel), exact(10, 13_910));
    assert_eq!(price(&group(PortForm::OutImmAl, 0x70, 10, 10), &intel), exact(10, 13_910));
    let snp = price(&group(PortForm::InAlDx, 0x3f8, 2, 2), &model("sev-snp"));
    assert_eq!(snp, Price { bound: Bound::AtLeast, ..exact(2, 7770) });
}

#[test]
fn strings_exit_as_the_model_says() {
    let ins = group(PortForm::RepInsw, 0x1f0, 256 * 8, 8);
    let outs = group(PortForm::RepOutsw, 0x1f0, 256, 1);
    let exits = |name, group| price(group, &model(name)).exits;
    // 4,096 bytes: 1,024 by one exit, but each of the eight instructions exits.
    assert_eq!(exits("kvm-intel", &ins), 8);
    assert_eq!(exits("kvm-intel", &outs), 256);
    assert_eq!(exits("sev-snp", &outs), 1);
    assert_eq!(exits("tdx", &ins), 2048);
    let long = group(PortForm::RepInsd, 0x1f0, 1024, 1);
    assert_eq!(exits("kvm-intel", &long), 4);
    assert_eq!(exits("sev-snp", &long), 3);
    // Nobody says what an element costs, so the price is a lower bound.
    assert_eq!(price(&ins, &model("kvm-intel")).bound, Bound::AtLeast);
}

#[test]
fn missing_figure_is_not_zero() {
    let price = price(&group(PortForm::InAlDx, 0x3f8, 3, 3), &model("kvm-perf"));
    assert_eq!(price, Price::unknown(3));
    let mut sum = exact(1, 5);
    sum += price;
    assert_eq!((sum, sum.shown(Unit::Nanoseconds)), (Price::unknown(4), "-".to_owned()));
}

#[test]
fn hypercall_replaces_the_exit_and_not_the_work() {
    let intel = model("kvm-intel");
    let saved = |form, port, accesses, instructions| {
        saved_by_hypercalls(&group(form, port, accesses, instructions), &intel)
    };
    // The same for a port that user space serves, which it serves then, too.
    assert_eq!(saved(PortForm::InAlImm, 0x40, 10, 10), exact(0, 10 * (2339 - 1181)));
    assert_eq!(saved(PortForm::InAlDx, 0x3f8, 10, 10), exact(0, 10 * (2339 - 1181)));
    assert_eq!(saved(PortForm::OutDxAl, 0x3f8, 10, 10), exact(0, 10 * (1391 - 1181)));
    // A string of 256 elements is one call.
    let string = saved(PortForm::RepOutsw, 0x1f0, 256, 1);
    assert_eq!(string, exact(255, 255 * 5261 + 1391 - 1181));
    let tdx = saved_by_hypercalls(&group(PortForm::InAlDx, 0x3f8, 2, 2), &model("tdx"));
    assert_eq!(tdx, Price::unknown(0));
}

#[test]
fn sums_by_form_port_and_site_are_equal() {
    let mut rng = 0x1234_5678_9abc_def1_u64;
    let mut random = |below: u64| {
        rng ^= rng << 13;
        rng ^= rng >> 7;
        rng ^= rng << 17;
        rng % below
    };
    for _ in 0..50 {
        let groups: Vec<Group> = (0..random(40))
            .map(|_| {
                let form = PortForm::ALL[random(24) as usize];
                let port = [0x20, 0x40, 0x61, 0x70, 0x71, 0xcf8, 0x3f8][random(7) as usize];
                let accesses = random(100_000) + 1;
                let mut group = group(form, port, accesses, random(accesses) + 1);
                group.site = (random(5) > 0).then(|| random(9) as usize);
                group
            })
            .collect();
        let groups = Groups { groups, ..Groups::default() };
        for model in built_in() {
            let costed = Costed::new(&groups, &model);
            fn total<K: Ord>(sums: BTreeMap<K, Sum>) -> (u64, Price, Price) {
                let mut total = Sum::default();
                for sum in sums.into_values() {
                    total.accesses += sum.accesses;
                    total.price += sum.price;
                    total.saved += sum.saved;
                }
                (total.accesses, total.price, total.saved)
            }
            let by_form = total(costed.by(|group| group.form));
            assert_eq!(by_form, total(costed.by(|group| (group.port, group.dir, group.size))));
            assert_eq!(by_form, total(costed.by(|group| group.site)));
            assert_eq!((by_form.1, by_form.2), (costed.total(), costed.total_saved()));
            let classes = [ExitClass::User, ExitClass::Kernel, ExitClass::Coalesced];
            let mut by_class = Price::default();
            classes.into_iter().for_each(|class| by_class += costed.of_class(class));
            assert_eq!(by_class, costed.total());
        }
    }
}

#[test]
fn element_figure_makes_strings_exact() {
    let text = "schema = \"pvio.model/1\"\nname = \"x\"\ntitle = \"x\"\nstrings = \"page\"\n\
                [costs.in]\nns = 100\nsource = \"measured\"\n\
                [costs.string-element]\nns = 0.5\nsource = \"measured\"\n";
    let model = crate::cost::model::test_model(text);
    assert_eq!(model.strings, Strings::Page);
    let ins = group(PortForm::RepInsb, 0x1f0, 10_000, 1);
    assert_eq!(price(&ins, &model), exact(3, 300 + 5000));
    let form: InsnForm = PortForm::RepInsb.into();
    assert_eq!(form.size(), Width::Byte.into());
}
