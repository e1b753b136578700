//! What people read, by the letter, and what a log leaves in its folder.

use std::time::{Duration, Instant};

use finch_core::Digest;
use finch_core::training::{Best, Finish, Kept, OutcomeLoss, Skipped, Start, Step};

use super::examples::{eval, start, step};
use super::*;

fn said(event: &Event) -> String {
    Words::default().lines(event, Instant::now())
}

fn finish() -> Finish {
    Finish {
        step: 4,
        weights: Digest::of_bytes(b"weights"),
        best: Some(Best { step: 2, loss: 1.5 }),
        seconds: 125.0,
        tokens_seen: 25_000,
        memory: 3 << 30,
        already: false,
    }
}

fn skipped() -> Event {
    Event::Skipped(Skipped {
        step: 3,
        epoch: 0,
        reason: "the loss is NaN, first in layer 2, with the examples a\u{1b}[2Jb".to_owned(),
        batch: Digest::of_bytes(b"batch"),
    })
}

#[test]
fn a_start_says_what_there_is_and_no_more() {
    assert_eq!(
        said(&Event::Start(start())),
        "start  1.50 M parameters on cpu (a processor, 2 threads), libtorch 2.11.0\n       \
         12 examples in 3 packs, 3000 tokens, 900 of them trained; 4 steps\n"
    );
}

#[test]
fn a_start_with_adapters_on_a_card_says_what_is_kept_and_counted() {
    let mut start = Start { trainable: 30_000, carried: 1, resumed_from: Some(2), ..start() };
    start.environment.device = "cuda:0".to_owned();
    start.environment.device_name = "NVIDIA H200".to_owned();
    start.environment.driver = Some("580.65".to_owned());
    start.environment.deterministic = false;
    start.kept = Kept { everything: 0, lean: 3, inputs: 1 };
    start.flops.peak_tflops = Some(989.5);
    start.flops.peak_source = Some("data sheet".to_owned());
    assert_eq!(
        said(&Event::Start(start)),
        "start  1.50 M parameters, 0.03 M trained (2.00 %), on cuda:0 (NVIDIA H200, 2 threads), libtorch 2.11.0, \
         driver 580.65, resumed after step 2\n       \
         12 examples in 3 packs, 3000 tokens, 900 of them trained; 4 steps\n       \
         not deterministic: the same training may give slightly other weights\n       \
         kept for the backward pass: the lean part of 3 layers, the input of 1 layer\n       \
         1 tensor of the base is not read, and kept as it is\n       \
         MFU of 989.5 TFLOP/s (data sheet), counted as 6 a weight and token\n"
    );
}

#[test]
fn losses_are_shown_by_task_and_by_outcome_and_names_send_nothing_to_the_terminal() {
    let mut eval = eval(2, 1.5);
    eval.tasks[0].task = "circle\u{1b}[2J".to_owned();
    eval.outcomes = vec![OutcomeLoss {
        outcome: "improvement".to_owned(),
        split: "test".to_owned(),
        loss: 0.75,
        examples: 1,
        tokens: 30,
    }];
    assert_eq!(
        said(&Event::Eval(eval)),
        "eval   step 2: held-out loss 1.5000\n       \
         test       circle\\u{1b}[2J              1.5000  (3 examples, 300 tokens)\n       \
         test       outcome improvement          0.7500  (1 examples, 30 tokens)\n"
    );
}

#[test]
fn steps_say_their_share_of_the_device_where_it_is_known() {
    let mut step = step(12);
    assert_eq!(
        said(&Event::Step(step.clone())),
        "step      12  loss 2.5000  grad 1.500  lr 1.00e-3  12345 tokens/s\n"
    );
    step.mfu = Some(0.4125);
    assert!(said(&Event::Step(step)).ends_with("  12345 tokens/s  MFU 41.2 %\n"));
}

#[test]
fn a_step_that_was_left_out_stands_out() {
    assert_eq!(
        said(&skipped()),
        "SKIP   step 3 WAS NOT APPLIED: the loss is NaN, first in layer 2, with the examples a\\u{1b}[2Jb\n"
    );
}

#[test]
fn the_progress_is_drawn_some_times_a_second_and_at_the_end() {
    let mut words = Words::default();
    let now = Instant::now();
    let _ = words.lines(&Event::Start(Start { steps: 100, ..start() }), now);
    let mut shown = Vec::new();
    for n in 1..=100 {
        let now = now + Duration::from_millis(40 * n);
        let step = step(n);
        words.count(&step, now);
        shown.extend(words.progress(&step, now));
    }
    assert_eq!(shown.len(), 34);
    assert_eq!(shown[0], "step     1/100  loss 2.5000  12345 tokens/s");
    assert_eq!(shown[1], "step     4/100  loss 2.5000  12345 tokens/s  3.8 s left");
    assert_eq!(shown[33], "step   100/100  loss 2.5000  12345 tokens/s");
    let late = Step { mfu: Some(0.4), ..step(50) };
    let text = words.progress(&late, now + Duration::from_secs(4000));
    assert_eq!(
        text.as_deref(),
        Some("step    50/100  loss 2.5000  12345 tokens/s  1 h 8 min left  MFU 40.0 %")
    );
}

#[test]
fn the_end_sums_up_this_process_and_knows_the_lowest_loss_of_all() {
    let mut words = Words::default();
    let now = Instant::now();
    for event in [Event::Start(start()), Event::Eval(eval(0, 4.25)), skipped(), Event::Eval(eval(4, 2.0))] {
        let _ = words.lines(&event, now);
    }
    words.count(&Step { device_memory: Some(20 << 30), ..step(4) }, now);
    let weights = finish().weights.short();
    assert_eq!(
        words.lines(&Event::Finish(finish()), now),
        format!(
            "done   4 steps (1 NOT APPLIED) in 2 min 5 s, weights {weights}\n       \
             25000 tokens seen in this process, 200 tokens/s in the mean; 3072 MiB of memory and 20.0 GiB of the \
             device at most\n       \
             held-out loss 4.2500 after step 0, 2.0000 after step 4; lowest 1.5000 after step 2\n"
        )
    );
    let already = Finish { already: true, ..finish() };
    assert_eq!(
        said(&Event::Finish(already)),
        format!(
            "done   all 4 steps were done before; weights {weights}\n       \
             lowest held-out loss 1.5000 after step 2\n"
        )
    );
    let nothing_held_out = Finish { best: None, ..finish() };
    assert_eq!(said(&Event::Finish(nothing_held_out)).lines().count(), 2);
}

#[test]
fn half_a_line_is_ended_before_the_next_and_the_board_is_beside_the_log() {
    let folder = tempfile::tempdir().expect("temp dir");
    let path = folder.path().join("log.jsonl");
    std::fs::write(&path, "{\"event\":\"st").expect("write");
    let mut log = Log::open(&path, Voice::Json).expect("open");
    assert!(matches!(Log::open(&path, Voice::Json), Err(Error::Usage(_))));
    log.event(&Event::Step(step(1))).expect("write");
    let text = std::fs::read_to_string(&path).expect("read");
    assert_eq!(text.lines().count(), 2);
    let boards = std::fs::read_dir(folder.path().join(files::TENSORBOARD)).expect("list").count();
    assert_eq!(boards, 1);
}

#[test]
fn a_board_that_cannot_be_written_is_an_error() {
    let folder = tempfile::tempdir().expect("temp dir");
    std::fs::write(folder.path().join(files::TENSORBOARD), "a file").expect("write");
    let error = Log::open(&folder.path().join("log.jsonl"), Voice::Json).err().expect("an error");
    assert!(error.to_string().contains("tensorboard"), "{error}");
}
