//! The models that pvio has itself: the files in `qemu-scripts/models`.

use super::{Model, parse};

macro_rules! built_in {
    ($($name:literal,)*) => {
        /// The names and texts, in the order of lists.
        pub const BUILT_IN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../models/", $name, ".toml"))),)*];
    };
}

built_in! {
    "kvm-intel",
    "kvm-amd",
    "kvm-perf",
    "nested-kvm",
    "sev-es",
    "sev-snp",
    "tdx",
    "xen",
}

/// Parses all of them.
///
/// # Panics
///
/// If one has a mistake, which a test excludes.
pub fn built_in() -> Vec<Model> {
    let parse = |&(name, text): &(&str, &str)| match parse::parse(name, text) {
        Ok(model) => model,
        Err(error) => panic!("a model of pvio's is wrong: {error}"),
    };
    BUILT_IN.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_has_the_name_of_its_file() {
        let models = built_in();
        assert!(models.iter().map(|model| &*model.name).eq(BUILT_IN.iter().map(|(name, _)| *name)));
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/models")).unwrap();
        assert_eq!(files.count(), models.len());
    }

    #[test]
    fn every_figure_of_a_model_is_published() {
        for model in built_in() {
            for figure in super::super::CostKind::ALL.iter().filter_map(|&kind| model.figure(kind))
            {
                let source = &model.sources[figure.source];
                assert!(
                    source.url.is_some() && source.date.is_some(),
                    "{}: {source:?}",
                    model.name
                );
            }
        }
    }
}
