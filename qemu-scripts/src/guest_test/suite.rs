//! The guests that a run chooses from: paths, what Cargo built, or a list of kvm-unit-tests.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::cargo;
use super::unittests::{Unittest, Unittests};

/// A list of guests, in its order.
#[derive(Debug)]
pub enum Suite {
    /// Files or directories, called by their paths.
    Paths(Vec<PathBuf>),
    /// A program that Cargo built, called by its name.
    Cargo(PathBuf),
    /// The tests of a `unittests.cfg`.
    Unittests(Unittests),
}

impl Suite {
    /// Returns the number of guests.
    pub fn len(&self) -> usize {
        match self {
            Suite::Paths(paths) => paths.len(),
            Suite::Cargo(_) => 1,
            Suite::Unittests(list) => list.tests().len(),
        }
    }

    /// Returns true if there are no guests.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the path of the guest at an index.
    pub(super) fn path(&self, index: usize) -> &Path {
        match self {
            Suite::Paths(paths) => &paths[index],
            Suite::Cargo(path) => path,
            Suite::Unittests(list) => &list.tests()[index].file,
        }
    }

    /// Returns the name of the guest at an index.
    pub(super) fn name(&self, index: usize) -> Cow<'_, str> {
        match self {
            Suite::Paths(paths) => paths[index].to_string_lossy(),
            Suite::Cargo(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                Cow::Owned(cargo::without_hash(&name).into_owned())
            }
            Suite::Unittests(list) => Cow::Borrowed(&list.tests()[index].name),
        }
    }

    /// Returns the test of kvm-unit-tests at an index.
    pub(super) fn unittest(&self, index: usize) -> Option<&Unittest> {
        match self {
            Suite::Unittests(list) => Some(&list.tests()[index]),
            _ => None,
        }
    }

    /// Returns true if the guest at an index is in a group. Only kvm-unit-tests have groups.
    pub(super) fn is_in_group(&self, index: usize, group: &str) -> bool {
        self.unittest(index).is_some_and(|test| test.is_in(group))
    }
}
