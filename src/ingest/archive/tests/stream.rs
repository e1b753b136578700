//! Single files, and what kinds of archive there are.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::stream::{Bounds, Damage, Format, Plain, damage, fault, open, open_hashed, open_with};
use super::super::{Kind, kind, kind_of};
use super::*;

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map(|_| bytes)
}

#[test]
fn content_decides_and_not_the_name() {
    let case = Case::new();
    for (bytes, format) in [
        (b"{}\n".to_vec(), Format::Plain),
        (gz(b"{}\n"), Format::Gzip),
        (zst(b"{}\n"), Format::Zstd),
        ([&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2][..], &zst(b"{}\n")].concat(), Format::Zstd),
    ] {
        let path = case.file("trace.jsonl", &bytes);
        assert_eq!(open(&path).expect("open").format(), format);
        assert_eq!(read(&path).expect("read"), b"{}\n");
    }
}

#[test]
fn a_plain_file_that_begins_like_gzip_is_read_as_it_is() {
    let case = Case::new();
    for text in [
        &b"\x1f\x8b is how gzip begins\n"[..],
        b"\x1f\x8b\x08\xff no such flags",
        b"\x1f",
        b"",
        b"P*M\x18 zstd",
    ] {
        assert_eq!(read(&case.file("a", text)).expect("read"), text);
    }
}

#[test]
fn members_and_frames_are_one_file() {
    let case = Case::new();
    assert_eq!(
        read(&case.file("a", &[gz(b"one "), gz(b""), gz(b"two")].concat())).expect("read"),
        b"one two"
    );
    assert_eq!(read(&case.file("b", &[zst(b"one "), zst(b"two")].concat())).expect("read"), b"one two");
    // As a tape pads it.
    assert_eq!(read(&case.file("c", &[gz(b"one"), vec![0; 900]].concat())).expect("read"), b"one");
}

#[test]
fn damage_is_told_from_the_machine() {
    let case = Case::new();
    let text = Random(7).bytes(100_000);
    for packed in [gz(&text), zst(&text)] {
        let cut = read(&case.file("a", &packed[..packed.len() / 2])).expect_err("cut");
        assert_eq!((damage(&cut), cut.kind()), (Some(Damage::Truncated), ErrorKind::UnexpectedEof), "{cut}");
        let mut flipped = packed.clone();
        let last = flipped.len() - 3;
        flipped[last] ^= 1;
        let error = read(&case.file("a", &flipped)).expect_err("checksum");
        assert_eq!(damage(&error), Some(Damage::Corrupt), "{error}");
        assert_eq!(fault(&error).expect("fault").offset, 100_000);
        let error = read(&case.file("a", &[packed, b"trailing".to_vec()].concat())).expect_err("garbage");
        assert_eq!(damage(&error), Some(Damage::Corrupt), "{error}");
    }
    let missing = open(&case.outside.path().join("none")).err().expect("missing");
    assert_eq!(damage(&missing), None);
    assert!(open(case.outside.path()).is_err(), "a folder");
}

#[test]
fn a_fault_stays() {
    let case = Case::new();
    let packed = zst(&Random(7).bytes(100_000));
    let mut plain = open(&case.file("a", &packed[..packed.len() / 2])).expect("open");
    let mut bytes = Vec::new();
    plain.read_to_end(&mut bytes).expect_err("cut");
    assert!(plain.read(&mut [0; 10]).is_err(), "and no end of the file");
}

#[test]
fn the_digest_is_that_of_all_raw_bytes() {
    let case = Case::new();
    let text = Random(7).bytes(300_000);
    let cut = gz(&text)[..200_000].to_vec();
    for raw in [text.clone(), gz(&text), zst(&text), cut, [gz(&text), text.clone()].concat(), vec![]] {
        let path = case.file("a", &raw);
        for length in [0, 1000, 1 << 30] {
            let mut plain = open_hashed(&path).expect("open");
            let _ = plain.by_ref().take(length).read_to_end(&mut Vec::new());
            assert_eq!(plain.finish().expect("finish"), Some(blake3::hash(&raw)), "{length}");
        }
    }
    let plain = open(&case.file("a", &text)).expect("open");
    assert_eq!(plain.finish().expect("finish"), None);
}

#[test]
fn a_compressed_bomb_stops_early() {
    let case = Case::new();
    let gz = case.file("a.gz", &zeros(1024, gz));
    let zst = case.file("a.zst", &zeros(4096, zst));
    // Deflate reaches 1032 at most, so the usual bound lets its bombs grow to 2 GB.
    for (path, bounds) in [(gz, TIGHT), (zst, Bounds::default())] {
        let began = Instant::now();
        let mut plain = open_with(&path, bounds, true).expect("open");
        let mut buffer = vec![0; 1 << 20];
        let (mut yielded, error) = (
            0,
            loop {
                match plain.read(&mut buffer) {
                    Ok(0) => panic!("the end"),
                    Ok(_) => {}
                    Err(error) => break error,
                }
            },
        );
        yielded += fault(&error).expect("fault").offset;
        assert_eq!(damage(&error), Some(Damage::Bomb), "{error}");
        assert!(yielded <= 512 << 20, "{yielded}");
        assert!(began.elapsed() < Duration::from_secs(20));
        assert_eq!(plain.finish().expect("finish"), Some(blake3::hash(&fs::read(path).expect("read"))));
    }
}

#[test]
fn a_window_of_a_gigabyte_is_not_given() {
    let case = Case::new();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("encoder");
    encoder.window_log(30).expect("window");
    encoder.write_all(b"small").expect("write");
    let error = read(&case.file("a", &encoder.finish().expect("finish"))).expect_err("window");
    assert_eq!(damage(&error), Some(Damage::Bomb), "{error}");
}

#[test]
fn kinds_are_told_by_content() {
    let tar = tar_of(&[file("a", b"1")]);
    let mut old = tar.clone();
    old[257..265].fill(0);
    sign(&mut old);
    let zip = zip_of(&[("a", b"1")]);
    for (bytes, name, expected) in [
        (&tar, "x", Some(Kind::Tar)),
        (&gz(&tar), "x", Some(Kind::TarGz)),
        (&zst(&tar), "x.bin", Some(Kind::TarZst)),
        (&zip, "x", Some(Kind::Zip)),
        (&zip, "docx", Some(Kind::Zip)),
        (&zip, "x.docx", None),
        (&zip, "x.NPZ", None),
        (&old, "x.tar", Some(Kind::Tar)),
        (&old, "x", None),
        (&gz(&old), "x.tgz", Some(Kind::TarGz)),
        (&gz(b"{}\n"), "x.tar.gz", None),
        (&zst(b"{}\n"), "x.tar.zst", None),
        (&vec![0; 1024], "x.tar", Some(Kind::Tar)),
        (&vec![b'a'; 1024], "x.tar", None),
        (&b"PK\x03".to_vec(), "x.zip", None),
        (&vec![], "x.zip", None),
    ] {
        assert_eq!(kind(bytes, Path::new(name)), expected, "{name}");
        let case = Case::new();
        assert_eq!(kind_of(&case.file(name, bytes)).expect("read"), expected, "{name}");
    }
}

#[test]
fn a_stream_can_go_to_another_thread() {
    fn sends<T: Send>() {}
    sends::<Plain>();
}
