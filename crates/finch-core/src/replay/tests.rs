//! One fixture for each way in which an answer can be odd, then random and hostile texts.

use super::*;

const PARENT: &str = "def f(x):\n    y = x\n    return y\n\ndef g(x):\n    y = x\n    return y\n";

fn block(search: &str, replace: &str) -> String {
    format!("<<<<<<< SEARCH\n{search}\n=======\n{replace}\n>>>>>>> REPLACE\n")
}

fn outcome(parent: &str, answer: &str, child: &str) -> Outcome {
    let child = canonical(child);
    replay(Some(parent), answer, |text| text == child)
}

/// The answer gives the child in this reading, and `rebuild` never says otherwise.
fn check(parent: &str, answer: &str, child: &str, how: How) -> Outcome {
    let outcome = outcome(parent, answer, child);
    assert_eq!(outcome.replay, Replay::Exact(how), "{answer}\n{outcome:?}");
    assert!(rebuild(parent, answer).is_none_or(|text| text == canonical(child)), "{answer}");
    if how <= How::Lines || how.edit() == Edit::Rewrite {
        assert!(rebuild_by_lines(parent, answer).is_none_or(|text| text == canonical(child)), "{answer}");
    }
    outcome
}

fn fixture(name: &str) -> (String, String) {
    let answer = |body: &str| format!("Here it is:\n\n{body}\nThat is all.");
    match name {
        "diff" => (answer(&block("def g(x):\n    y = x", "def g(x):\n    y = 2 * x")), {
            PARENT.replacen("def g(x):\n    y = x", "def g(x):\n    y = 2 * x", 1)
        }),
        _ => (answer(&format!("```python\n{}```", PARENT.replace("y = x", "y = 3"))), {
            PARENT.replace("y = x", "y = 3")
        }),
    }
}

#[test]
fn a_diff_and_a_rewrite_replay_and_are_rebuilt() {
    for (name, how, kind) in [("diff", How::Lines, Edit::Diff), ("fence", How::FirstFence, Edit::Rewrite)] {
        let (answer, child) = fixture(name);
        let outcome = check(PARENT, &answer, &child, how);
        assert_eq!((outcome.edit, outcome.no_op, outcome.marker_like), (kind, false, false));
        assert_eq!(edit(&answer), kind);
        assert_eq!(replay(Some(PARENT), &answer, |_| false).replay, Replay::Inexact);
        assert_eq!(rebuild(PARENT, &answer).as_deref(), Some(&*canonical(&child)));
        assert_eq!(rebuild_by_lines(PARENT, &answer), rebuild(PARENT, &answer));
    }
}

#[test]
fn prose_and_blocks_without_a_parent_are_nothing_to_replay() {
    assert_eq!(outcome(PARENT, "I cannot do that.", "x\n").replay, Replay::None);
    assert_eq!(outcome(PARENT, "", "x\n").replay, Replay::None);
    let (answer, child) = fixture("diff");
    assert_eq!(replay(None, &answer, |text| text == child).replay, Replay::None);
    let (answer, child) = fixture("fence");
    assert_eq!(replay(None, &answer, |text| text == child).replay, Replay::Exact(How::FirstFence));
}

#[test]
fn a_no_op_is_seen_in_diffs_and_rewrites() {
    let diff = block("def g(x):", "def g(x):");
    assert!(check(PARENT, &diff, PARENT, How::Lines).no_op);
    let rewrite = format!("```\n{PARENT}```");
    assert!(check(PARENT, &rewrite, PARENT, How::FirstFence).no_op);
    // The scaffold stored something else: the answer was a no-op all the same.
    assert!(outcome(PARENT, &diff, "other\n").no_op);
}

#[test]
fn a_failed_search_is_counted_and_is_no_no_op() {
    let answer = block("def h(x):", "def k(x):") + &block("def g(x):", "def k(x):");
    let child = PARENT.replace("def g", "def k");
    let found = check(PARENT, &answer, &child, How::Lines);
    assert_eq!((found.applied, found.missed, found.no_op), (1, 1, false));
    assert_eq!(rebuild_by_lines(PARENT, &answer), None);
    let found = check(PARENT, &block("def h(x):", "def k(x):"), PARENT, How::Lines);
    assert_eq!((found.applied, found.missed, found.no_op), (0, 1, false));
}

#[test]
fn a_block_applies_to_the_result_of_the_ones_before() {
    let answer = block("def g(x):", "def k(x):") + &block("def k(x):", "def m(x):");
    check(PARENT, &answer, &PARENT.replace("def g", "def m"), How::Lines);
}

#[test]
fn two_identical_matches_take_the_first() {
    let answer = block("    y = x", "    y = 1");
    let child = PARENT.replacen("y = x", "y = 1", 1);
    check(PARENT, &answer, &child, How::Lines);
    assert!(rebuild_by_lines(PARENT, &answer).is_some_and(|text| text == canonical(&child)));
}

#[test]
fn an_empty_search_takes_the_first_empty_line_or_appends_to_the_last_region() {
    let answer = block("", "import os");
    check(PARENT, &answer, &PARENT.replacen("\n\n", "\nimport os\n", 1), How::Lines);
    let parent = "a\n# EVOLVE-BLOCK-START\nb\n# EVOLVE-BLOCK-END\nc\n";
    let child = "a\n# EVOLVE-BLOCK-START\nb\nimport os\n# EVOLVE-BLOCK-END\nc\n";
    check(parent, &answer, child, How::Regions);
    assert_eq!(rebuild(PARENT, &answer), None);
    assert_eq!(rebuild_by_lines(PARENT, &answer), None);
}

#[test]
fn an_empty_replace_leaves_an_empty_line() {
    let answer = "<<<<<<< SEARCH\n    y = x\n=======\n>>>>>>> REPLACE";
    check(PARENT, answer, &PARENT.replacen("    y = x", "", 1), How::Lines);
}

#[test]
fn trailing_blanks_of_blocks_and_markers_do_not_count() {
    let answer =
        ["<<<<<<< SEARCH  ", "def g(x):   ", "    y = x\t", "", "=======\t", "def k(x):", "    y = x"];
    let answer = answer.join("\n") + "\n  \n>>>>>>> REPLACE ";
    let answer = answer.as_str();
    let found = check(PARENT, answer, &PARENT.replace("def g", "def k"), How::Lines);
    assert!(!found.marker_like);
    // What the parent had there is not known for sure.
    assert_eq!(rebuild_by_lines(PARENT, answer), None);
}

#[test]
fn markers_may_be_longer_or_shorter() {
    for run in [5, 6, 8, 9] {
        let [open, rule, close] = ["<", "=", ">"].map(|sign| sign.repeat(run));
        let answer = format!("{open} SEARCH\ndef g(x):\n{rule}\ndef k(x):\n{close} REPLACE\n");
        check(PARENT, &answer, &PARENT.replace("def g", "def k"), How::Lines);
    }
    assert_eq!(edit("<<<< SEARCH\na\n====\nb\n>>>> REPLACE"), Edit::Unknown);
}

#[test]
fn a_ruler_of_another_length_is_the_programs() {
    let parent = "Title\n=====\ntext\n";
    let answer = block("Title\n=====", "Name\n=====");
    check(parent, &answer, "Name\n=====\ntext\n", How::Lines);
}

#[test]
fn a_ruler_in_a_comment_ends_the_search_only_for_scaffolds_that_look_inside_lines() {
    let parent = "# ==========\na\nb\n";
    let answer = block("# ==========\na", "c");
    check(parent, &answer, "c\nb\n", How::Lines);
    assert_eq!(outcome(parent, &answer, parent).replay, Replay::Exact(How::InlineMarkers));
    assert_eq!(rebuild_by_lines(parent, &answer), None);
}

#[test]
fn a_marker_behind_a_sentence_counts_only_if_the_child_says_so() {
    let answer = format!("The diff:{}", block("def g(x):", "def k(x):"));
    let found = check(PARENT, &answer, &PARENT.replace("def g", "def k"), How::InlineMarkers);
    assert_eq!((found.edit, found.marker_like), (Edit::Diff, true));
    assert_eq!((edit(&answer), rebuild_by_lines(PARENT, &answer)), (Edit::Unknown, None));
}

#[test]
fn crlf_answers_and_parents_replay() {
    for name in ["diff", "fence"] {
        let (answer, child) = fixture(name);
        let how = if name == "diff" { How::Lines } else { How::FirstFence };
        let crlf = |text: &str| text.replace('\n', "\r\n");
        check(PARENT, &crlf(&answer), &child, how);
        check(&crlf(PARENT), &answer, &child, how);
        check(&crlf(PARENT), &crlf(&answer), &crlf(&child), how);
    }
}

#[test]
fn an_answer_cut_in_a_block_is_no_diff() {
    let answer = "```python\n<<<<<<< SEARCH\ndef g(x):\n=======\ndef";
    assert_eq!(edit(answer), Edit::Unknown);
    let found = outcome(PARENT, answer, "x\n");
    assert_eq!((found.replay, found.marker_like, found.no_op), (Replay::None, true, false));
    // Scaffolds have stored the cut answer as if it were the program.
    let found = outcome(PARENT, answer, answer);
    assert_eq!((found.replay, found.edit), (Replay::Exact(How::Whole), Edit::Unknown));
    assert_eq!(rebuild(PARENT, answer), None);
    // The blocks before the cut one count, but nothing is rebuilt from them.
    let answer = block("def f(x):", "def k(x):") + "<<<<<<< SEARCH\ndef g";
    assert!(check(PARENT, &answer, &PARENT.replace("def f", "def k"), How::Lines).marker_like);
    assert_eq!(rebuild_by_lines(PARENT, &answer), None);
}

#[test]
fn a_block_that_starts_again_replaces_the_one_before() {
    let answer = format!("<<<<<<< SEARCH\ndef f\n{}", block("def g(x):", "def k(x):"));
    assert!(check(PARENT, &answer, &PARENT.replace("def g", "def k"), How::Lines).marker_like);
    assert_eq!(rebuild_by_lines(PARENT, &answer), None);
}

#[test]
fn markers_in_a_program_make_no_diff() {
    let program = format!("DOC = '''\n{}'''\nprint(DOC)\n", block("a", "b"));
    let answer = format!("```python\n{program}```\n");
    assert_eq!(edit(&answer), Edit::Rewrite);
    assert!(check(PARENT, &answer, &program, How::FirstFence).marker_like);
    assert_eq!(rebuild(PARENT, &answer), None);
    let program = "s = '<<<<<<< SEARCH'\n# =======\nt = '>>>>>>> REPLACE'\n";
    let found = check(PARENT, &format!("```\n{program}```"), program, How::FirstFence);
    assert_eq!((found.edit, found.missed), (Edit::Rewrite, 0));
    assert_eq!(edit("Write `<<<<<<< SEARCH`, then `=======`, then `>>>>>>> REPLACE`."), Edit::Unknown);
}

#[test]
fn blocks_in_a_fence_are_a_diff() {
    for fence in ["```", "```python", "```diff", "~~~"] {
        let close = &fence[..3];
        let answer = format!("{fence}\n{}{close}\n", block("def g(x):", "def k(x):"));
        check(PARENT, &answer, &PARENT.replace("def g", "def k"), How::Lines);
        assert!(rebuild_by_lines(PARENT, &answer).is_some());
    }
}

#[test]
fn of_several_fences_the_child_names_the_true_one() {
    let answer = "```python\nfirst()\n```\n\n```\nthe_longest_one()\n```\n```\nx()\n```\n```\nlast()\n```\n";
    check(PARENT, answer, "first()\n", How::FirstFence);
    check(PARENT, answer, "python\nfirst()\n", How::LabelledFence);
    check(PARENT, answer, "last()\n", How::LastFence);
    check(PARENT, answer, "the_longest_one()\n", How::LongestFence);
    check(PARENT, answer, "x()\n", How::OtherFence);
    assert_eq!(rebuild(PARENT, answer), None);
    // One of them is labelled as what it is: the output.
    let answer = "```python\nmain()\n```\nIt prints\n```text\n3\n```\n";
    assert_eq!(rebuild(PARENT, answer).as_deref(), Some("main()\n"));
    assert_eq!(rebuild(PARENT, "```text\n3\n```\n```python\nmain()\n```\n"), None);
}

#[test]
fn a_program_with_fences_in_it_is_read_whole() {
    let program = "def f():\n    \"\"\"\n    ```\n    f()\n    ```\n    \"\"\"\n    return 1\n";
    let answer = format!("```python\n{program}```\n");
    check(PARENT, &answer, program, How::FirstFence);
    check(PARENT, &answer, "def f():\n    \"\"\"\n", How::CutFence);
    assert_eq!(rebuild(PARENT, &answer), None);
    let program = "DOC = '''\n```\nf()\n```\n'''\n";
    let answer = format!("```python\n{program}```\n");
    check(PARENT, &answer, program, How::OuterFence);
    assert_eq!(rebuild(PARENT, &answer), None);
    // A longer fence around it leaves no doubt about its end, but cruder scaffolds cut it.
    check(PARENT, &format!("````python\n{program}````\n"), program, How::FirstFence);
}

#[test]
fn tildes_fence_too_and_an_open_fence_is_a_cut_answer() {
    let answer = "~~~python\nmain()\n```\n~~~\n";
    check(PARENT, answer, "main()\n```\n", How::FirstFence);
    assert_eq!(edit(answer), Edit::Rewrite);
    let cut = "```python\ndef f():\n    ret";
    assert_eq!(edit(cut), Edit::Unknown);
    assert_eq!(outcome(PARENT, cut, cut).replay, Replay::Exact(How::Whole));
}

#[test]
fn code_tags_hold_a_program() {
    let answer = "<NAME>\nx\n</NAME>\n<CODE>\nmain()\n</CODE>\n";
    check(PARENT, answer, "main()\n", How::CodeTag);
    assert_eq!(edit(answer), Edit::Rewrite);
    check(PARENT, "<CODE>\n```python\nmain()\n```\n</CODE>", "main()\n", How::FirstFence);
}

const REGIONS: &str = "head\n# EVOLVE-BLOCK-START\nold\n# EVOLVE-BLOCK-END\ntail\n";

#[test]
fn a_rewrite_is_merged_into_the_parents_region() {
    let child = REGIONS.replace("old", "new");
    for rewrite in [
        "# EVOLVE-BLOCK-START\nnew\n# EVOLVE-BLOCK-END",
        "HEAD\n# EVOLVE-BLOCK-START\nnew\n# EVOLVE-BLOCK-END\nTAIL",
        "new",
        "head\nnew\ntail",
        "# EVOLVE-BLOCK-START\nnew\ntail",
        "head\nnew\n# EVOLVE-BLOCK-END\n",
        "# EVOLVE-BLOCK-START\n# EVOLVE-BLOCK-START\nnew\n# EVOLVE-BLOCK-END\n# EVOLVE-BLOCK-END",
    ] {
        let answer = format!("```python\n{rewrite}\n```\n");
        check(REGIONS, &answer, &child, How::MergedFence);
        check(REGIONS, rewrite, &child, How::MergedWhole);
        // Others keep the fence as it is.
        assert_eq!(rebuild(REGIONS, &answer), None, "{rewrite}");
    }
    let answer = format!("```python\n{child}```\n");
    check(REGIONS, &answer, &child, How::FirstFence);
    assert_eq!(rebuild(REGIONS, &answer), Some(child));
}

#[test]
fn several_regions_are_merged_in_order_and_only_with_markers() {
    let parent = format!("{REGIONS}{REGIONS}");
    let rewrite = parent.replace("old", "new").replace("tail", "TAIL");
    check(&parent, &format!("```\n{rewrite}```"), &parent.replace("old", "new"), How::MergedFence);
    assert_eq!(outcome(&parent, "```\nnew\n```", &parent.replace("old", "new")).replay, Replay::Inexact);
}

#[test]
fn an_edit_outside_the_regions_may_be_put_back() {
    let answer = block("old", "new") + &block("tail", "TAIL");
    check(REGIONS, &answer, &REGIONS.replace("old", "new").replace("tail", "TAIL"), How::Lines);
    check(REGIONS, &answer, &REGIONS.replace("old", "new"), How::MergedLines);
    assert_eq!(rebuild_by_lines(REGIONS, &answer), None);
}

#[test]
fn shinka_matches_text_in_the_middle_of_lines() {
    let parent = REGIONS.replace("old", "max = 1\nx = 1");
    let answer = block("x = 1", "x = 2");
    check(&parent, &answer, &parent.replace("\nx = 1", "\nx = 2"), How::Lines);
    check(&parent, &answer, &parent.replace("max = 1", "max = 2"), How::Regions);
    assert_eq!(rebuild(&parent, &answer), None);
}

#[test]
fn blank_lines_around_the_halves_are_the_markers_for_shinka() {
    let answer = block("\nold\n", "\nnew\n\n");
    check(REGIONS, &answer, &REGIONS.replace("old", "new"), How::Regions);
}

#[test]
fn a_block_without_its_indentation_gets_the_parents() {
    let answer = block("y = x\nreturn y", "if x:\n    y = 1\nreturn y");
    let child = PARENT.replacen("    y = x\n", "    if x:\n        y = 1\n", 1);
    check(PARENT, &answer, &child, How::Indented);
    assert_eq!(rebuild_by_lines(PARENT, &answer), None);
    // A scaffold that adds the margin even to lines that have it.
    let answer = block("    y = x\n    return y", "    y = 1\n    return y");
    let twice = PARENT.replacen("    y = x\n    return y", "    y = 1\n        return y", 1);
    check(PARENT, &block("y = x\n    return y", "y = 1\n    return y"), &twice, How::Indented);
    assert_eq!(outcome(PARENT, &answer, &twice).replay, Replay::Exact(How::Indented));
    assert_eq!(rebuild(PARENT, &answer), None);
    // A scaffold that moves it.
    let answer = block("        y = x\n        return y", "        y = 1\n        return y");
    check(PARENT, &answer, &PARENT.replacen("y = x", "y = 1", 1), How::Rebased);
}

#[test]
fn thinking_is_not_the_answer_but_may_have_been_stored_with_it() {
    let answer = "<think>\n```\nno()\n```\n</think>\n```\nyes()\n```\n";
    assert_eq!(outcome(PARENT, answer, "yes()\n").replay, Replay::Exact(How::FirstFence));
    assert_eq!(outcome(PARENT, answer, "no()\n").replay, Replay::Exact(How::FirstFence));
    assert_eq!(outcome(PARENT, answer, answer).replay, Replay::Exact(How::Whole));
    assert_eq!(rebuild(PARENT, answer), None);
    assert_eq!(edit("<think>\n```\nno()\n```\n</think>\nSorry."), Edit::Unknown);
}

#[test]
fn a_program_beside_blocks_is_not_rebuilt() {
    let (diff, child) = fixture("diff");
    let answer = format!("{diff}\n```python\n{child}```\n");
    check(PARENT, &answer, &child, How::Lines);
    assert_eq!(rebuild_by_lines(PARENT, &answer), None);
}

#[test]
fn every_reading_has_its_own_name_and_the_likely_ones_come_first() {
    let (answer, _) = fixture("diff");
    let list = readings(Some(PARENT), &answer);
    assert_eq!(list[0].how, How::Lines);
    assert_eq!(list.last().map(|reading| reading.how), Some(How::Whole));
    assert!(list.is_sorted_by_key(|reading| reading.how));
    assert_eq!(How::Rebased.edit(), Edit::Diff);
    assert_eq!(How::FirstFence.edit(), Edit::Rewrite);
}

/// Seconds would be hours if the time were quadratic.
#[test]
fn hostile_answers_take_linear_time() {
    let many = 100_000;
    let deep = format!("{}x\n", " ".repeat(1 << 20));
    let same = "a\n".repeat(many / 5);
    for (parent, answer) in [
        (PARENT, "<<<<<<< SEARCH\n".repeat(many)),
        (PARENT, "=======\n".repeat(many)),
        (PARENT, ">>>>>>> REPLACE\n".repeat(many)),
        (PARENT, "<<<<<<< SEARCH\n=======\n".repeat(many)),
        (PARENT, block("nowhere", "x").repeat(many / 3)),
        (&same, block("a\nb", "x").repeat(many / 10)),
        (&same, block("a", "a\na").repeat(many / 10)),
        (&same, block(&"a\n".repeat(many / 10), "b").repeat(2)),
        (&same, block(&format!("{same}b"), "x") + &block("b", "c")),
        (&deep, block("x", "x\nx").repeat(many / 10)),
        (REGIONS, block("", "x").repeat(many / 20)),
        (REGIONS, block("old", "old old").repeat(many / 10)),
        (PARENT, "``` ".repeat(many)),
        (PARENT, "```\n".repeat(many)),
        (PARENT, "```a\nb\n```\n".repeat(many / 10)),
        (PARENT, "~~~\n```\n".repeat(many)),
        (PARENT, "<CODE>".repeat(many)),
        (REGIONS, "# EVOLVE-BLOCK-START\n".repeat(many)),
        (REGIONS, "# EVOLVE-BLOCK-START\n# EVOLVE-BLOCK-END\n".repeat(many)),
        (PARENT, "<think>".repeat(many)),
        (PARENT, "\r".repeat(many)),
    ] {
        let start = std::time::Instant::now();
        replay(Some(parent), &answer, |_| false);
        rebuild(parent, &answer);
        let took = start.elapsed().as_secs();
        assert!(took < 20, "{took} s for {:?}", answer.chars().take(60).collect::<String>());
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn text(&mut self, parts: &[&str], limit: usize) -> String {
        (0..self.below(limit)).map(|_| parts[self.below(parts.len())]).collect()
    }
}

#[test]
fn random_texts_never_panic() {
    let parts = [
        "a",
        "é",
        "x = 1\n",
        "    y\n",
        "\n",
        "\r\n",
        "\r",
        "\t",
        " ",
        "```",
        "```python\n",
        "~~~\n",
        "````\n",
        "<<<<<<< SEARCH\n",
        "<<<<< SEARCH \n",
        "=======\n",
        "=====\n",
        ">>>>>>> REPLACE\n",
        ">>>>>>> REPLACE",
        "# EVOLVE-BLOCK-START\n",
        "# EVOLVE-BLOCK-END\n",
        "<CODE>",
        "</CODE>",
        "<think>",
        "</think>",
        "\u{feff}",
        "\u{2003}",
        "\u{85}",
        "<DIFF>\n",
        "</DIFF>",
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..2_000 {
        let parent = random.text(&parts, 20);
        let answer = random.text(&parts, 40);
        for reading in readings(Some(&parent), &answer) {
            assert!(reading.text.ends_with('\n') && !reading.text.contains('\r'), "{parent:?} {answer:?}");
        }
        readings(None, &answer);
        let sure = rebuild(&parent, &answer);
        assert!(sure.is_none() || sure == rebuild_by_lines(&parent, &answer), "{parent:?} {answer:?}");
        if let Some(text) = sure {
            let found = replay(Some(&parent), &answer, |other| other == text);
            assert!(matches!(found.replay, Replay::Exact(_)), "{parent:?} {answer:?}");
        }
        replay(Some(&parent), &answer, |_| false);
    }
}

/// A run of lines of the parent is replaced; the SEARCH half grows until its first match is the right one.
#[test]
fn a_diff_of_a_random_edit_replays_exactly() {
    let parts = ["a\n", "    a\n", "b = 1\n", "\n", "        return b\n", "# é\n", "'''\n", "=====\n"];
    let mut random = Random(42);
    let mut made = 0;
    while made < 1_000 {
        let parent = random.text(&parts, 40);
        let old: Vec<&str> = parent.lines().collect();
        if old.is_empty() {
            continue;
        }
        let from = random.below(old.len());
        let to = from + 1 + random.below(old.len() - from);
        let new = format!("{}end", random.text(&parts, 6));
        let first = old.windows(to - from).position(|lines| lines == &old[from..to]);
        // The end of a half is stripped of blank lines, so that one cannot be meant.
        if old[to - 1].trim().is_empty() || first != Some(from) {
            continue;
        }
        let child = [&old[..from], &new.lines().collect::<Vec<_>>(), &old[to..]].concat().join("\n");
        let answer = format!("Why not:\n\n```\n{}```\n", block(&old[from..to].join("\n"), &new));
        let found = check(&parent, &answer, &child, How::Lines);
        assert_eq!((found.applied, found.missed), (1, 0));
        let rebuilt = rebuild_by_lines(&parent, &answer);
        assert!(rebuilt.is_some_and(|text| text == canonical(&child)), "{parent:?} {answer}");
        made += 1;
    }
}
