//! Which symbolic links the path of an output may contain.
//!
//! In a directory like `/tmp`, another user may make a link of the name that an output will have, to a file of its owner's.
//! Linux refuses such links if `fs.protected_symlinks` is set, which is a setting (proc_sys_fs(5)), and only in sticky
//! directories.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// The maximum number of links in a path, as in Linux (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// A link that an output must not follow.
#[derive(Debug, thiserror::Error)]
#[error("{} is a symbolic link of another user's; name the file itself", .0.display())]
pub struct ForeignLink(pub PathBuf);

/// Resolves the path of an output: absolute, without links, `.` and `..`.
///
/// The file need not exist, nor its directory. Open the result with `O_NOFOLLOW`.
///
/// # Errors
///
/// [`ForeignLink`], as the source of an [`io::Error`], if a link belongs neither to this user nor to root. Also fails if
/// there are more than 40 links, or if a link cannot be read.
pub fn output_path(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let mut rest: VecDeque<OsString> = parts(&path).collect();
    let mut resolved = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            resolved.pop();
            continue;
        }
        let next = resolved.join(&part);
        let Some(link) = next.symlink_metadata().ok().filter(std::fs::Metadata::is_symlink) else {
            resolved = next;
            continue;
        };
        if !is_trusted(link.uid(), rustix::process::geteuid().as_raw()) {
            return Err(io::Error::other(ForeignLink(next)));
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(rustix::io::Errno::LOOP.into());
        }
        let target = next.read_link()?;
        if target.is_absolute() {
            resolved = PathBuf::from("/");
        }
        for part in parts(&target).rev() {
            rest.push_front(part);
        }
    }
    Ok(resolved)
}

/// The names in a path, and `..`.
fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    })
}

/// Returns true if `user` follows the links of `owner`. Root may write anywhere anyway.
fn is_trusted(owner: u32, user: u32) -> bool {
    owner == user || owner == 0
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    #[test]
    fn own_links_are_followed_even_to_a_file_that_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("real/inner")).unwrap();
        symlink("real", root.join("link")).unwrap();
        symlink("../real/inner/new", root.join("real/dangling")).unwrap();
        symlink(root.join("link"), root.join("absolute")).unwrap();
        for (path, resolved) in [
            ("link/file", "real/file"),
            ("absolute/./inner/../file", "real/file"),
            ("link/dangling", "real/inner/new"),
            ("missing/file", "missing/file"),
        ] {
            assert_eq!(output_path(&root.join(path)).unwrap(), root.join(resolved), "{path}");
        }
        symlink("loop", root.join("loop")).unwrap();
        let error = output_path(&root.join("loop")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn links_of_root_and_of_the_user_are_trusted() {
        assert!(is_trusted(1000, 1000) && is_trusted(0, 1000) && is_trusted(0, 0));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1000, 0));
    }

    /// Only root can give a link to another user.
    #[test]
    fn a_link_of_another_user_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::write(root.join("victim"), "precious").unwrap();
        for name in ["stats.json", "directory"] {
            symlink(if name == "directory" { "." } else { "victim" }, root.join(name)).unwrap();
            if lchown(root.join(name), Some(65534), None).is_err() {
                return;
            }
        }
        for (path, link) in [("stats.json", "stats.json"), ("directory/new", "directory")] {
            let error = output_path(&root.join(path)).unwrap_err().to_string();
            let link = root.join(link);
            let wanted = " is a symbolic link of another user's; name the file itself";
            assert_eq!(error, format!("{}{wanted}", link.display()));
        }
    }
}
