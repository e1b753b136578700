//! What was written is read back by a small reader of TFRecord and protobuf that shares nothing with the writer.

use std::collections::BTreeMap;

use finch_core::training::{OutcomeLoss, Skipped, Start, TaskLoss};

use super::*;
use crate::log::examples;

/// A value of a protobuf field.
#[derive(Debug, PartialEq)]
enum Value {
    Int(u64),
    Bytes(Vec<u8>),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a varint is too long");
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Value)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                fields.push((key >> 3, Value::Int(varint(&mut bytes))));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (value, rest) = bytes.split_at(length);
        fields.push((key >> 3, Value::Bytes(value.to_vec())));
        bytes = rest;
    }
    fields
}

/// The messages of a file, with every checksum looked at, and how many bytes are left of a record that is not whole.
fn messages(mut bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
    // Bit by bit, as the definition says.
    let sum = |bytes: &[u8]| {
        let crc = !bytes.iter().fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0x82f6_3b78 * (crc & 1)))
        });
        crc.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
    };
    let mut messages = Vec::new();
    while bytes.len() >= 12 {
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("8")) as usize;
        assert_eq!(bytes[8..12], sum(&bytes[..8]), "the length's checksum");
        if bytes.len() < 16 + length {
            break;
        }
        let (message, rest) = bytes[12..].split_at(length);
        assert_eq!(rest[..4], sum(message), "the message's checksum");
        messages.push(message.to_vec());
        bytes = &rest[4..];
    }
    (messages, bytes.len())
}

/// The step and the scalars of a message.
fn scalars(message: &[u8]) -> (u64, BTreeMap<String, f32>) {
    let mut found = (0, BTreeMap::new());
    for (field, value) in fields(message) {
        match (field, value) {
            (2, Value::Int(step)) => found.0 = step,
            (5, Value::Bytes(summary)) => {
                for (field, value) in fields(&summary) {
                    let (1, Value::Bytes(value)) = (field, value) else { panic!("no value") };
                    let parts = fields(&value);
                    let [(1, Value::Bytes(tag)), (2, Value::Bytes(number))] = parts.as_slice() else {
                        panic!("{parts:?}")
                    };
                    let tag = String::from_utf8(tag.clone()).expect("text");
                    let number = f32::from_le_bytes(number.as_slice().try_into().expect("4 bytes"));
                    assert!(found.1.insert(tag, number).is_none(), "a tag twice");
                }
            }
            _ => {}
        }
    }
    found
}

/// The files of a board in the order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("list").map(|entry| entry.expect("entry").path()).collect();
    files.sort();
    files
}

/// What a board's only file holds.
fn written(events: &[Event]) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("temp dir");
    let mut board = Board::open(&folder.path().join("deep/board")).expect("open");
    for event in events {
        board.event(event).expect("write");
    }
    let files = files(&folder.path().join("deep/board"));
    assert_eq!(files.len(), 1, "{files:?}");
    let (messages, rest) = messages(&std::fs::read(&files[0]).expect("read"));
    assert_eq!(rest, 0);
    messages
}

#[test]
fn checksums_are_those_of_rfc_3720() {
    let up: Vec<u8> = (0..32).collect();
    let down: Vec<u8> = (0..32).rev().collect();
    let mut read = [0_u8; 48];
    read[..2].copy_from_slice(&[0x01, 0xc0]);
    (read[16], read[22], read[27], read[31]) = (0x14, 0x04, 0x14, 0x18);
    (read[32], read[40]) = (0x28, 0x02);
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    assert_eq!(crc32c(&up), 0x46dd_794e);
    assert_eq!(crc32c(&down), 0x113f_db5c);
    assert_eq!(crc32c(&read), 0xd996_3a56);
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn a_file_says_its_version_and_then_every_number_of_a_step() {
    let mut step = examples::step(300);
    step.mfu = Some(0.41);
    step.device_memory = Some(1 << 33);
    let messages = written(&[Event::Step(step)]);
    assert_eq!(messages.len(), 2);
    assert_eq!(fields(&messages[0])[1], (3, Value::Bytes(b"brain.Event:2".to_vec())));
    let (step, scalars) = scalars(&messages[1]);
    let expected = [
        ("memory/device", 8_589_934_592.0),
        ("memory/process", 1_073_741_824.0),
        ("phase_ms/forward", 12.5),
        ("train/grad_norm", 1.5),
        ("train/loss", 2.5),
        ("train/lr", 1e-3),
        ("train/mfu", 0.41),
        ("train/tflops", 3.25),
        ("train/tokens_per_second", 12_345.0),
        ("train/trained_tokens", 100.0),
    ];
    assert_eq!(step, 300);
    assert_eq!(scalars, expected.map(|(tag, value)| (tag.to_owned(), value)).into());
}

#[test]
fn what_the_machine_does_not_know_has_no_scalar() {
    let (_, scalars) = scalars(&written(&[Event::Step(examples::step(1))])[1]);
    assert!(!scalars.contains_key("train/mfu") && !scalars.contains_key("memory/device"), "{scalars:?}");
}

#[test]
fn evaluations_are_shown_by_task_and_outcome_and_skipped_steps_as_marks() {
    let mut eval = examples::eval(4, 1.25);
    let task = |task: &str| TaskLoss {
        task: task.to_owned(),
        split: "test".to_owned(),
        loss: 0.5,
        examples: 1,
        tokens: 10,
    };
    let long = "x".repeat(1000);
    let other = format!("{long}y");
    eval.tasks = vec![task("circle packing"), task("a\nb\u{1b}[0m"), task(&long), task(&other)];
    eval.outcomes = vec![OutcomeLoss {
        outcome: "improvement".to_owned(),
        split: "validation".to_owned(),
        loss: 0.75,
        examples: 1,
        tokens: 10,
    }];
    let skipped = Skipped {
        step: 5,
        epoch: 0,
        reason: "the loss is NaN".to_owned(),
        batch: Digest::of_bytes(b"batch"),
    };
    let messages = written(&[Event::Eval(eval), Event::Skipped(skipped)]);
    let (step, found) = scalars(&messages[1]);
    assert_eq!((step, found.len()), (4, 6));
    assert_eq!(found["held_out/loss"], 1.25);
    assert_eq!(found["held_out/task/test/circle packing"], 0.5);
    assert_eq!(found["held_out/task/test/a\\nb\\u{1b}[0m"], 0.5);
    assert_eq!(found["held_out/outcome/validation/improvement"], 0.75);
    assert!(found.keys().all(|tag| tag.chars().count() < 150 && !tag.chars().any(char::is_control)));
    let (step, found) = scalars(&messages[2]);
    assert_eq!((step, found), (5, [("train/skipped".to_owned(), 1.0)].into()));
}

#[test]
fn a_process_that_was_killed_spoils_nothing_and_a_resumed_one_withdraws_what_it_does_again() {
    let folder = tempfile::tempdir().expect("temp dir");
    let step = |n| Event::Step(examples::step(n));
    let mut killed = Board::open(folder.path()).expect("open");
    killed.event(&step(1)).expect("write");
    killed.event(&step(2)).expect("write");
    let half = files(folder.path()).pop().expect("a file");
    let bytes = std::fs::read(&half).expect("read");
    std::fs::write(&half, &bytes[..bytes.len() - 7]).expect("write");

    // The same second and the same process: the new file still is another one.
    let mut resumed = Board::open(folder.path()).expect("open");
    let start = Start { resumed_from: Some(1), ..examples::start() };
    resumed.event(&Event::Start(start)).expect("write");
    resumed.event(&step(2)).expect("write");
    let files = files(folder.path());
    let [first, second] = files.as_slice() else { panic!("{files:?}") };
    let (kept, rest) = messages(&std::fs::read(first).expect("read"));
    assert!(kept.len() == 2 && rest > 0);
    let (kept, rest) = messages(&std::fs::read(second).expect("read"));
    assert_eq!((kept.len(), rest), (3, 0));
    let start = fields(&kept[1]);
    assert_eq!(start[1..], [(2, Value::Int(2)), (7, Value::Bytes(vec![0x08, 1]))]);
    assert_eq!(scalars(&kept[2]).0, 2);
}

#[test]
fn a_process_that_has_nothing_to_show_leaves_no_file() {
    let folder = tempfile::tempdir().expect("temp dir");
    let mut board = Board::open(folder.path()).expect("open");
    // One that finds a training done says how that one began.
    let start = Start { resumed_from: Some(1), ..examples::start() };
    board.event(&Event::Start(start)).expect("nothing");
    board.event(&Event::Checkpoint { step: 1, path: "step-1".into() }).expect("nothing");
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_with_its_place() {
    let folder = tempfile::tempdir().expect("temp dir");
    let place = folder.path().join("tensorboard");
    std::fs::write(&place, "a file").expect("write");
    let error = Board::open(&place).err().expect("an error");
    assert!(error.to_string().contains("tensorboard"), "{error}");
}
