use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Directory {
        Directory(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn share(&self, limits: ShareLimits) -> Share {
        Share::open(self.0.path(), limits).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn write(share: &Share, name: &str, bytes: &[u8]) -> Result<(), ShareError> {
    let mut upload = share.begin(name.as_bytes())?;
    upload.append(bytes)?;
    upload.publish()
}

fn fifo(path: &std::path::Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
}

#[test]
fn names_that_leave_the_directory_or_are_not_files_are_refused() {
    let outside = Directory::new();
    std::fs::write(outside.path("secret"), "secret").unwrap();
    let directory = Directory::new();
    std::fs::create_dir(directory.path("sub")).unwrap();
    std::fs::write(directory.path("sub/file"), "file").unwrap();
    symlink(outside.path("secret"), directory.path("link")).unwrap();
    symlink("sub/file", directory.path("inner-link")).unwrap();
    symlink(outside.0.path(), directory.path("directory-link")).unwrap();
    symlink("sub", directory.path("inner-directory-link")).unwrap();
    fifo(&directory.path("fifo"));
    std::fs::write(directory.path(".pvio-1-1"), "").unwrap();
    let share = directory.share(ShareLimits { overwrite: true, ..ShareLimits::default() });
    let absolute = directory.path("sub/file").display().to_string();
    for name in [
        "..",
        ".",
        "",
        "/",
        "../x",
        "sub/../sub/file",
        "sub/..",
        "./sub/file",
        "sub//file",
        "sub/",
        &absolute,
        "link",
        "inner-link",
        "directory-link/secret",
        "inner-directory-link/file",
        "fifo",
        "sub",
        ".pvio-1-1",
        "a\nb",
        "a\0b",
    ] {
        assert_eq!(share.read(name.as_bytes()).unwrap_err(), ShareError::Name, "{name:?}");
        assert_eq!(write(&share, name, b"x").unwrap_err(), ShareError::Name, "{name:?}");
    }
    assert_eq!(share.read(b"\xff").unwrap_err(), ShareError::Name);
    for name in ["none", "none/file", "sub/file/x"] {
        assert_eq!(share.read(name.as_bytes()).unwrap_err(), ShareError::Missing, "{name:?}");
    }
    assert_eq!(write(&share, "none/file", b"x"), Err(ShareError::Missing));
    assert_eq!(std::fs::read(outside.path("secret")).unwrap(), b"secret");
    assert_eq!(outside.names(), ["secret"]);
    write(&share, "sub/file", b"new").unwrap();
    assert_eq!(std::fs::read(directory.path("sub/file")).unwrap(), b"new");
    let mut bytes = [0; 3];
    let file = share.read(b"sub/file").unwrap();
    file.read_at(&mut bytes, 0).unwrap();
    assert_eq!((&bytes, file.size), (b"new", 3));
    assert_eq!(file.read_at(&mut bytes, 1), Err(ShareError::Stale));
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let directory = Directory::new();
    let share = directory.share(ShareLimits::default());
    let mut upload = share.begin(b"file").unwrap();
    let tag = upload.tag();
    upload.append(b"half").unwrap();
    share.keep(upload);
    assert!(!directory.path("file").exists());
    for (name, tag, size) in [("other", tag, 4), ("file", tag ^ 2, 4), ("file", tag, 3)] {
        let taken = share.take(name.as_bytes(), tag, size);
        assert_eq!(taken.unwrap_err(), ShareError::Stale, "{name} {size}");
    }
    share.abandon();
    assert_eq!(share.take(b"file", tag, 4).unwrap_err(), ShareError::Stale);
    assert_eq!(directory.names(), [""; 0]);
}

#[test]
fn a_file_that_exists_is_kept() {
    let directory = Directory::new();
    let share = directory.share(ShareLimits::default());
    let mut late = share.begin(b"file").unwrap();
    late.append(b"late").unwrap();
    std::fs::write(directory.path("file"), "precious").unwrap();
    assert_eq!(late.publish(), Err(ShareError::Exists));
    assert_eq!(share.begin(b"file").unwrap_err(), ShareError::Exists);
    assert_eq!(std::fs::read(directory.path("file")).unwrap(), b"precious");
    assert_eq!(directory.names(), ["file"]);
}

#[test]
fn sizes_are_limited_for_a_file_and_for_all() {
    let directory = Directory::new();
    let share = directory.share(ShareLimits { file: 6000, total: 3 * BLOCK, overwrite: false });
    let mut upload = share.begin(b"a").unwrap();
    upload.append(&[1; 6000]).unwrap();
    assert_eq!(upload.append(b"x"), Err(ShareError::Limit));
    upload.publish().unwrap();
    assert_eq!(std::fs::read(directory.path("a")).unwrap(), [1; 6000]);
    // Two blocks are gone. An abandoned file gives its block back.
    for _ in 0..3 {
        let mut upload = share.begin(b"b").unwrap();
        assert_eq!(upload.append(&[0; BLOCK as usize + 1]), Err(ShareError::Limit));
    }
    write(&share, "empty", b"").unwrap();
    assert_eq!(share.begin(b"c").unwrap_err(), ShareError::Limit);
    assert_eq!(directory.names(), ["a", "empty"]);
}

#[test]
fn unfinished_files_are_limited() {
    let directory = Directory::new();
    let share = directory.share(ShareLimits::default());
    let tags: Vec<u64> = (0..UNFINISHED_FILES_MAX + 1)
        .map(|index| {
            let upload = share.begin(format!("file{index}").as_bytes()).unwrap();
            let tag = upload.tag();
            share.keep(upload);
            tag
        })
        .collect();
    assert_eq!(directory.names().len(), UNFINISHED_FILES_MAX);
    assert_eq!(share.take(b"file0", tags[0], 0).unwrap_err(), ShareError::Stale);
    share.take(b"file1", tags[1], 0).unwrap().publish().unwrap();
    assert!(directory.path("file1").exists());
}

#[test]
fn the_tag_changes_with_the_file() {
    let directory = Directory::new();
    let share = directory.share(ShareLimits::default());
    std::fs::write(directory.path("file"), "1").unwrap();
    let tag = || share.read(b"file").unwrap().tag;
    let before = tag();
    assert_eq!(tag(), before);
    std::fs::write(directory.path("file"), "12").unwrap();
    assert_ne!(tag(), before);
}
