//! What is unpacked, and what is skipped.

use std::ffi::OsStr;
use std::fs;
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, UNIX_EPOCH};

use super::*;

#[test]
fn every_kind_is_unpacked() {
    let tar = tar_of(&[file("run/a.json", b"one"), file("./run//deep/er/b", b"two"), file("empty", b"")]);
    let zip = zip_of(&[("run/a.json", b"one"), ("./run//deep/er/b", b"two"), ("empty", b"")]);
    for bytes in [tar.clone(), gz(&tar), zst(&tar), zip] {
        let case = Case::new();
        let unpacked = case.unpack("x", &bytes);
        let expected = Unpacked { files: 3, bytes: 6, entries: 3, ..Unpacked::default() };
        assert_eq!(unpacked, expected);
        assert_eq!(case.names(), ["empty", "run/a.json", "run/deep/er/b"]);
        assert_eq!(case.files()["run/a.json"], b"one");
        let meta = fs::metadata(case.into.join("run/a.json")).expect("metadata");
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn times_are_the_entries() {
    let case = Case::new();
    case.unpack("x", &tar_of(&[file("a", b"1")]));
    let modified =
        |case: &Case| fs::metadata(case.into.join("a")).expect("metadata").modified().expect("time");
    assert_eq!(modified(&case), UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let case = Case::new();
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let time = zip::DateTime::from_date_and_time(2024, 2, 29, 12, 30, 58).expect("time");
    zip.start_file("a", SimpleFileOptions::default().last_modified_time(time)).expect("start");
    case.unpack("x", &zip.finish().expect("finish").into_inner());
    assert_eq!(modified(&case), UNIX_EPOCH + Duration::from_secs(1_709_209_858));
}

#[test]
fn names_that_lead_elsewhere_are_skipped() {
    let long = "n".repeat(256);
    let names = ["../x", "/x", "a/../../x", "a/..", "C:/x", "C:\\x", "C:", ".", "./", "fine:1", "..."];
    let tar = tar_of(&names.map(|name| file(name, b"")));
    let case = Case::new();
    let unpacked = case.unpack("x.tar", &tar);
    let out = "its path leads out with `..`";
    let drive = "its path starts with a drive";
    assert_eq!(
        reasons(&unpacked)[..8],
        [
            ("../x".into(), out),
            ("/x".into(), "its path is absolute"),
            ("a/../../x".into(), out),
            ("a/..".into(), out),
            ("C:/x".into(), drive),
            ("C:\\x".into(), drive),
            ("C:".into(), drive),
            (".".into(), "it has no name"),
        ]
    );
    assert_eq!(case.names(), ["...", "fine:1"]);
    assert_eq!(case.outside(), ["into", "x.tar"]);
    let case = Case::new();
    let unpacked =
        case.unpack("x.zip", &zip_of(&[("../x", b"1"), ("/x", b"1"), (&long, b"1"), ("b/../x", b"1")]));
    assert_eq!(unpacked.skipped.len(), 4);
    assert_eq!((case.names().len(), case.outside()), (0, vec!["into".to_owned(), "x.zip".to_owned()]));
}

#[test]
fn names_are_any_bytes_but_nul() {
    let case = Case::new();
    let unpacked = case.unpack(
        "x.tar",
        &tar_of(&[
            entry(b"\xff\xfe\n", tar::EntryType::Regular, b"1"),
            entry(b"", tar::EntryType::Regular, b"2"),
            // A long name may hold one; a short one ends there.
            entry(b"././@LongLink", tar::EntryType::GNULongName, b"a\0b\0"),
            file("x", b"3"),
            entry(b"././@LongLink", tar::EntryType::GNULongName, &[b'n'; 5000]),
            file("x", b"4"),
            entry(
                b"././@LongLink",
                tar::EntryType::GNULongName,
                ["d/"; 3000].concat().as_bytes().strip_suffix(b"/").expect("slash"),
            ),
            file("x", b"5"),
        ]),
    );
    let whys: Vec<_> = unpacked.skipped.iter().map(|skipped| skipped.why.as_str()).collect();
    let long = "its name is longer than 4096 bytes";
    assert_eq!(whys, ["it has no name", "its name has a NUL in it", long, long]);
    assert!(unpacked.skipped.iter().all(|skipped| skipped.name.len() <= 512));
    assert_eq!(unpacked.files, 1);
    assert!(case.into.join(OsStr::from_bytes(b"\xff\xfe\n")).is_file());
}

#[test]
fn zip_names_are_utf8_or_code_page_437() {
    let mut zip = zip_of(&[("caf_.txt", b"1"), ("naïve.txt", b"2")]);
    while let Some(at) = zip.windows(8).position(|name| name == b"caf_.txt") {
        zip[at + 3] = 0x82;
    }
    let case = Case::new();
    assert_eq!(case.unpack("x", &zip).files, 2);
    assert_eq!(case.names(), ["café.txt", "naïve.txt"]);
}

#[test]
fn a_backslash_parts_names_where_dos_wrote_them() {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, system) in [
        ("a_b", zip::System::Dos),
        (".._c", zip::System::Dos),
        ("_d", zip::System::Dos),
        ("e_f", zip::System::Unix),
    ] {
        zip.start_file(name, SimpleFileOptions::default().system(system)).expect("start");
    }
    let mut zip = zip.finish().expect("finish").into_inner();
    for name in [&b"a_b"[..], b".._c", b"_d", b"e_f"] {
        while let Some(at) = zip.windows(name.len()).position(|found| found == name) {
            let blank = name.iter().position(|&byte| byte == b'_').expect("blank");
            zip[at + blank] = b'\\';
        }
    }
    let case = Case::new();
    let unpacked = case.unpack("x", &zip);
    assert_eq!(case.names(), ["a/b", "e\\f"]);
    assert_eq!(unpacked.skipped.len(), 2, "{unpacked:?}");
}

#[test]
fn links_devices_and_pipes_are_skipped() {
    use tar::EntryType as T;
    let case = Case::new();
    let unpacked = case.unpack(
        "x.tar",
        &tar_of(&[
            linked("out", T::Symlink, ".."),
            file("out/escaped", b"1"),
            linked("etc", T::Link, "/etc/passwd"),
            entry(b"null", T::Char, b""),
            entry(b"disk", T::Block, b""),
            entry(b"pipe", T::Fifo, b""),
            entry(b"volume", T::new(b'V'), b""),
            file("last", b"2"),
        ]),
    );
    // The link is not there, so its name is a folder like any other.
    assert_eq!(case.names(), ["last", "out/escaped"]);
    assert_eq!(case.outside(), ["into", "x.tar"]);
    let whys: Vec<_> = unpacked.skipped.iter().map(|skipped| skipped.why.as_str()).collect();
    let device = "it is a device";
    let unknown = "it is of an unknown type";
    assert_eq!(whys, ["it is a symbolic link", "it is a hard link", device, device, "it is a pipe", unknown]);
    assert_eq!(unpacked.skipped[1].offset, 1536);

    let case = Case::new();
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.add_symlink("out", "..", SimpleFileOptions::default()).expect("link");
    zip.start_file("out/escaped", SimpleFileOptions::default()).expect("start");
    let unpacked = case.unpack("x.zip", &zip.finish().expect("finish").into_inner());
    assert_eq!(reasons(&unpacked), [("out".into(), "it is a symbolic link")]);
    assert_eq!(
        (case.names(), case.outside()),
        (vec!["out/escaped".into()], vec!["into".into(), "x.zip".into()])
    );
}

#[test]
fn the_first_of_one_name_stays() {
    let case = Case::new();
    let unpacked = case.unpack(
        "x",
        &tar_of(&[
            file("a", b"1"),
            file("a", b"2"),
            file("A", b"3"),
            file("a/b", b"4"),
            file("c/d", b"5"),
            file("c", b"6"),
        ]),
    );
    let taken = "an earlier entry has its name";
    let needed = "a file stands where a folder is needed";
    assert_eq!(reasons(&unpacked), [("a".into(), taken), ("a/b".into(), needed), ("c".into(), taken)]);
    assert_eq!(case.files()["a"], b"1");
    assert_eq!(case.names(), ["A", "a", "c/d"]);

    // The writer refuses what a hostile one writes.
    let mut zip = zip_of(&[("aaaa", b"1"), ("bbbb", b"2")]);
    while let Some(at) = zip.windows(4).position(|name| name == b"bbbb") {
        zip[at..at + 4].fill(b'a');
    }
    let case = Case::new();
    assert_eq!(reasons(&case.unpack("x", &zip)), [("aaaa".into(), taken)]);
    assert_eq!(case.files()["aaaa"], b"1");
}

#[test]
fn folders_are_made_and_have_no_content() {
    let case = Case::new();
    let folder = entry(b"with/", tar::EntryType::Directory, b"content");
    let tar = tar_of(&[
        entry(b"empty/", tar::EntryType::Directory, b""),
        folder,
        file("v7/", b""),
        file("./", b""),
    ]);
    let unpacked = case.unpack("x", &tar);
    assert_eq!(reasons(&unpacked), [("with/".into(), "it is a folder, and has content")]);
    assert!(case.into.join("empty").is_dir() && case.into.join("v7").is_dir());
}

#[test]
fn long_names_and_pax_are_read() {
    let case = Case::new();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    tar.append_data(&mut header, &long, &b"1"[..]).expect("append");
    tar.append_pax_extensions([("path", "päx".repeat(60).as_bytes())]).expect("append");
    let bytes = [tar.into_inner().expect("finish")[..2048].to_vec(), vec![]].concat();
    let mut tar = tar::Builder::new(bytes);
    tar.append_pax_extensions([("path", "päx".repeat(60).as_bytes()), ("size", b"3")]).expect("append");
    header = tar::Header::new_ustar();
    header.set_path("short").expect("path");
    // Overruled: an archiver writes what fits.
    header.set_size(0);
    header.set_cksum();
    let bytes = [tar.into_inner().expect("finish"), vec![]].concat();
    let bytes = bytes[..bytes.len() - 1024].to_vec();
    let mut three = b"one".to_vec();
    three.resize(512, 0);
    let unpacked = case.unpack("x", &tar_of(&[bytes, header.as_bytes().to_vec(), three]));
    assert_eq!(unpacked.damage, None);
    assert_eq!(case.files()[&"päx".repeat(60)], b"one");
    assert_eq!(case.files()[&long], b"1");
}

#[test]
fn nested_archives_stay_files() {
    let inner = gz(&tar_of(&[file("../x", b"1")]));
    let case = Case::new();
    assert_eq!(case.unpack("x", &zip_of(&[("in.tar.gz", &inner)])).files, 1);
    assert_eq!(case.files()["in.tar.gz"], inner);
}

#[test]
fn encrypted_and_unknown_zip_entries_are_skipped() {
    let clean = zip_of(&[("a", b"1"), ("b", b"2")]);
    for (offset, value, why) in [(8, 1, "it is encrypted"), (10, 93, "a method that is not read")] {
        let mut zip = clean.clone();
        let listed = zip.windows(4).position(|found| found == b"PK\x01\x02").expect("directory");
        zip[listed + offset] |= value;
        let case = Case::new();
        let unpacked = case.unpack("x", &zip);
        assert!(reasons(&unpacked)[0].1.contains(why), "{unpacked:?}");
        assert_eq!(case.names(), ["b"]);
    }
}

#[test]
fn only_archives_go_into_only_empty_folders() {
    let case = Case::new();
    assert!(matches!(case.unpack_with("a.gz", &gz(b"{}"), &Limits::default()), Err(Error::NotAnArchive(_))));
    case.unpack("x", &tar_of(&[file("a", b"1")]));
    assert!(matches!(case.unpack_with("x", &tar_of(&[]), &Limits::default()), Err(Error::NotEmpty(_))));
}
