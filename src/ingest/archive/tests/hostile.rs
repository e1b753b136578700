//! Bombs, cuts and mutations.

use std::cell::Cell;
use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use super::super::stream::{Damage, open_with};
use super::*;

#[test]
fn headers_without_end_are_not_held() {
    for kind in [tar::EntryType::XHeader, tar::EntryType::GNULongName, tar::EntryType::GNULongLink] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(1 << 40);
        header.set_cksum();
        let bytes = [file("a", b"1"), header.as_bytes().to_vec(), vec![b'a'; 20 << 20]].concat();
        let case = Case::new();
        let unpacked = case.unpack("x", &bytes);
        let fault = unpacked.damage.expect("damage");
        assert_eq!(fault.damage, Damage::Corrupt, "{fault}");
        assert!(fault.offset < 9 << 20, "{fault}");
        assert_eq!(case.names(), ["a"]);
    }
    // Records for all entries, and records under a header of no known kind, are stepped over.
    let mut old = entry(b"x", tar::EntryType::XHeader, &vec![b'a'; 20 << 20]);
    old[257..265].fill(0);
    sign(&mut old);
    let global = entry(b"g", tar::EntryType::XGlobalHeader, &vec![b'a'; 20 << 20]);
    let case = Case::new();
    let unpacked = case.unpack("x.tar", &tar_of(&[global, old, file("a", b"1")]));
    assert_eq!((unpacked.damage, case.names()), (None, vec!["a".to_owned()]));
}

#[test]
fn files_with_holes_are_skipped() {
    let mut header = tar::Header::new_gnu();
    header.set_path("holes").expect("path");
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_size(512);
    let gnu = header.as_gnu_mut().expect("gnu");
    gnu.sparse[0].offset.copy_from_slice(b"70000000000\0");
    gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
    gnu.realsize.copy_from_slice(b"70000001000\0");
    header.set_cksum();
    let case = Case::new();
    let began = Instant::now();
    let unpacked = case.unpack("x", &tar_of(&[header.as_bytes().to_vec(), vec![b'a'; 512], file("a", b"1")]));
    assert_eq!(reasons(&unpacked), [("holes".into(), "it is a file with holes")]);
    assert_eq!((unpacked.damage, case.names()), (None, vec!["a".to_owned()]));
    assert!(began.elapsed() < Duration::from_secs(5));

    let mut tar = tar::Builder::new(Vec::new());
    tar.append_pax_extensions([("GNU.sparse.major", &b"1"[..])]).expect("append");
    let records = tar.into_inner().expect("finish");
    let records = records[..records.len() - 1024].to_vec();
    let case = Case::new();
    let unpacked = case.unpack("x", &tar_of(&[records, file("holes", b"map"), file("a", b"1")]));
    assert_eq!(reasons(&unpacked), [("holes".into(), "it is a file with holes")]);
}

#[test]
fn a_bomb_in_a_zip_stops_early() {
    let case = Case::new();
    let zip = zip_of(&[("a", b"1"), ("bomb", &vec![0; 64 << 20])]);
    let limits = Limits { bounds: TIGHT, ..Limits::default() };
    let began = Instant::now();
    let unpacked = case.unpack_with("x", &zip, &limits).expect("unpack");
    assert_eq!(unpacked.damage.expect("damage").damage, Damage::Bomb);
    assert_eq!((case.names(), unpacked.files), (vec!["a".to_owned()], 1));
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn zip_entries_cannot_share_their_bytes() {
    // Two hundred names in the directory for one entry.
    let text = Random(7).bytes(1 << 20);
    let zip = zip_of(&[("0000", &text)]);
    let listed = zip.windows(4).rposition(|found| found == b"PK\x01\x02").expect("directory");
    let end = zip.windows(4).rposition(|found| found == b"PK\x05\x06").expect("end");
    let (entries, directory, mut tail) = (&zip[..listed], &zip[listed..end], zip[end..].to_vec());
    let mut bytes = entries.to_vec();
    for number in 0..200 {
        let mut entry = directory.to_vec();
        entry[46..50].copy_from_slice(format!("{number:04}").as_bytes());
        bytes.extend_from_slice(&entry);
    }
    tail[8..10].copy_from_slice(&200_u16.to_le_bytes());
    tail[10..12].copy_from_slice(&200_u16.to_le_bytes());
    tail[12..16].copy_from_slice(&(directory.len() as u32 * 200).to_le_bytes());
    bytes.extend_from_slice(&tail);
    let case = Case::new();
    let unpacked = case.unpack("x", &bytes);
    assert_eq!(unpacked.damage.as_ref().expect("damage").damage, Damage::Bomb, "{unpacked:?}");
    assert!(unpacked.files < 100, "{}", unpacked.files);
}

#[test]
fn limits_stop_with_what_fitted() {
    let tar = tar_of(&[file("a", b"1234"), file("b", b"5678"), file("c/d/e", b"9")]);
    let zip = zip_of(&[("a", b"1234"), ("b", b"5678"), ("c/d/e", b"9")]);
    for bytes in [tar, zip] {
        for (limits, names) in [
            (Limits { bytes: 6, ..Limits::default() }, &["a"][..]),
            (Limits { entries: 1, ..Limits::default() }, &["a"][..]),
            (Limits { entries: 4, ..Limits::default() }, &["a", "b"][..]),
        ] {
            let case = Case::new();
            let unpacked = case.unpack_with("x", &bytes, &limits).expect("unpack");
            assert_eq!(unpacked.damage.expect("damage").damage, Damage::Bomb);
            assert_eq!(case.names(), names);
        }
        let case = Case::new();
        let limits = Limits { bytes: 9, entries: 5, ..Limits::default() };
        assert_eq!(case.unpack_with("x", &bytes, &limits).expect("unpack").damage, None);
    }
    let case = Case::new();
    let tar = tar_of(&["../a", "../b", "../c"].map(|name| file(name, b"")));
    let unpacked = case.unpack_with("x", &tar, &Limits { listed: 1, ..Limits::default() }).expect("unpack");
    assert_eq!((unpacked.skipped.len(), unpacked.unlisted), (1, 2));
}

#[test]
fn it_can_be_interrupted() {
    let case = Case::new();
    let path = case.file("x", &tar_of(&[file("a", b"1"), file("b", b"2"), file("c", b"3")]));
    let left = Cell::new(4);
    let stop = || left.replace(left.get() - 1) == 0;
    let result = unpack(&path, &case.into, &Limits::default(), &stop);
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
}

#[test]
fn more_behind_the_end_is_told() {
    let one = tar_of(&[file("a", b"1")]);
    for bytes in [[one.clone(), one.clone()].concat(), gz(&[one.clone(), one.clone()].concat())] {
        let unpacked = Case::new().unpack("x", &bytes);
        assert_eq!(unpacked.damage.expect("damage").damage, Damage::Corrupt);
        assert_eq!(unpacked.files, 1);
    }
    let mut packed = gz(&one);
    let last = packed.len() - 6;
    packed[last] ^= 1;
    assert!(Case::new().unpack("x", &packed).damage.is_some(), "the checksum comes last");
}

#[test]
fn one_damaged_zip_entry_does_not_hide_the_others() {
    let case = Case::new();
    let text = Random(7).bytes(5000);
    let mut zip = zip_of(&[("a", &text), ("b", b"2")]);
    zip[2000] ^= 1;
    let unpacked = case.unpack("x", &zip);
    assert_eq!((case.names(), unpacked.skipped.len()), (vec!["b".to_owned()], 1));
    assert_eq!(unpacked.damage.expect("damage").damage, Damage::Corrupt);
}

#[test]
fn an_archive_cut_at_any_byte_keeps_what_was_whole() {
    let text = Random(7).bytes(700);
    let tar = tar_of(&[file("a", &text), file("b/c", b"2"), file("d", &text)]);
    let zip = zip_of(&[("a", &text), ("b/c", b"2"), ("d", &text)]);
    for (name, whole) in
        [("x.tar", tar.clone()), ("x.tar.gz", gz(&tar)), ("x.tar.zst", zst(&tar)), ("x.zip", zip)]
    {
        let step = if name == "x.tar" { 7 } else { 1 };
        for length in (0..whole.len()).step_by(step) {
            let case = Case::new();
            match case.unpack_with(name, &whole[..length], &Limits::default()) {
                Err(Error::NotAnArchive(_)) => assert_eq!(case.names().len(), 0),
                Err(error) => panic!("{name} {length}: {error}"),
                Ok(unpacked) => {
                    let files = case.files();
                    assert_eq!(unpacked.files, files.len() as u64);
                    // A tar's end is two blocks of zeros, of which one says it.
                    let ended = name == "x.tar" && length >= whole.len() - 512;
                    assert_eq!(unpacked.damage.is_none(), ended, "{name} {length}: {unpacked:?}");
                    for (name, content) in files {
                        assert_eq!(content, if name == "b/c" { b"2" } else { &text[..] });
                    }
                }
            }
        }
    }
    // Only the directory is lost.
    let zip = zip_of(&[("a", &text), ("b/c", b"2"), ("d", &text)]);
    let case = Case::new();
    let unpacked = case.unpack("x.zip", &zip[..zip.len() - 22]);
    assert_eq!((unpacked.files, unpacked.damage.is_some()), (3, true));
}

#[test]
fn mutated_archives_do_no_harm() {
    let text = b"some text that compresses, some text that compresses";
    let tar = tar_of(&[
        file("a", text),
        entry(b"././@LongLink", tar::EntryType::GNULongName, &[b'n'; 150]),
        file("n", b"1"),
        linked("l", tar::EntryType::Symlink, ".."),
        file("l/x", b"2"),
        file("../x", b"3"),
        entry(b"d/", tar::EntryType::Directory, b""),
    ]);
    let zip = zip_of(&[("a", text), ("b/c", b"2"), ("../x", b"3"), ("d/", b"")]);
    let seeds = [tar.clone(), gz(&tar), zst(&tar), zip];
    let limits = Limits { bytes: 1 << 20, entries: 100, bounds: TIGHT, listed: 10 };
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let case = Case::new();
    let path = case.outside.path().join("x.tar");
    for round in 0..20_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=random.below(6) {
            let at = random.below(bytes.len());
            match random.below(6) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.next() as u8,
                2 => bytes[at] = [0, 0xff, b'/', b'.', b'7', 0x80][random.below(6)],
                3 => bytes.truncate(at.max(1)),
                4 => {
                    let end = (at + random.below(64)).min(bytes.len());
                    bytes.extend_from_within(at..end);
                }
                _ => {
                    let end = (at + random.below(8)).min(bytes.len());
                    let patch = random.bytes(end - at);
                    bytes[at..end].copy_from_slice(&patch);
                }
            }
        }
        // Half of the tars get true checksums, or few mutations would get past them.
        if round % seeds.len() == 0 && random.below(2) == 0 {
            for block in bytes.chunks_exact_mut(512) {
                let bytes = block.iter().enumerate();
                let sum: u32 = bytes
                    .map(|(at, &byte)| if (148..156).contains(&at) { 32 } else { u32::from(byte) })
                    .sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        fs::write(&path, &bytes).expect("write");
        match unpack(&path, &case.into, &limits, &|| false) {
            Ok(unpacked) => assert_eq!(unpacked.files, case.files().len() as u64),
            Err(Error::NotAnArchive(_)) => {}
            Err(error) => panic!("{round}: {error}"),
        }
        let _ = open_with(&path, TIGHT, true).map(|mut plain| {
            let _ = plain.read_to_end(&mut Vec::new());
            assert_eq!(plain.finish().expect("finish"), Some(blake3::hash(&bytes)));
        });
        assert_eq!(case.outside(), ["into", "x.tar"], "{round}");
        fs::remove_dir_all(&case.into).expect("remove");
        fs::create_dir(&case.into).expect("create");
    }
}
