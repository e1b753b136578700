//! Small histories of searches, and what must come of them.

use super::*;

const IDS: [&str; 6] = [
    "00000000-0000-4000-8000-00000000000a",
    "00000000-0000-4000-8000-00000000000b",
    "00000000-0000-4000-8000-00000000000c",
    "00000000-0000-4000-8000-00000000000d",
    "00000000-0000-4000-8000-00000000000e",
    "00000000-0000-4000-8000-00000000000f",
];

fn record(id: &str, parent: Option<&str>, time: i64) -> Record {
    let digest = Digest::of_bytes(format!("{id}{parent:?}{time}").as_bytes());
    Record {
        native_id: id.to_owned(),
        parents: parent.into_iter().map(str::to_owned).collect(),
        program: Some(ProgramRef { id: Digest::of_bytes(id.as_bytes()), raw: digest }),
        created_at: Some(time),
        digest: Some(digest),
        ..Record::default()
    }
}

fn united(units: Vec<Vec<Record>>) -> Vec<Run> {
    let unit = |records| UnitRecords { scaffold: "openevolve", records, ..UnitRecords::default() };
    unite(units.into_iter().map(unit).collect()).0
}

fn ids(run: &Run) -> Vec<&str> {
    run.candidates.keys().map(String::as_str).collect()
}

#[test]
fn one_id_in_two_folders_is_one_candidate() {
    let [a, b, c, ..] = IDS;
    let runs = united(vec![
        vec![record(a, None, 1), record(b, Some(a), 2)],
        vec![record(b, Some(a), 2), record(c, Some(b), 3)],
    ]);
    assert_eq!(runs.len(), 1);
    assert_eq!(ids(&runs[0]), [a, b, c]);
    assert_eq!(runs[0].candidates[b].records, 2);
}

#[test]
fn ids_that_are_no_uuids_stay_in_their_unit() {
    let unit = |t| vec![record("initial", None, t), record("it1", Some("initial"), t + 1)];
    let runs = united(vec![unit(1), unit(5)]);
    assert_eq!(runs.len(), 2);
    assert!(runs.iter().all(|run| run.candidates.len() == 2));
}

#[test]
fn a_trace_apart_from_programs_that_migrated_is_of_their_run() {
    // Programs have ids of their folder's own, and migrants UUIDs, which children in the trace name as parents.
    let migrant = Record { copy_of: Some("it1".to_owned()), parents: vec![], ..record(IDS[0], None, 3) };
    let programs = vec![record("initial", None, 1), record("it1", Some("initial"), 2), migrant];
    let trace = vec![record("it1", Some("initial"), 12), record("it2", Some(IDS[0]), 14)];
    let runs = united(vec![programs, trace]);
    assert_eq!(runs.len(), 1);
    assert_eq!(ids(&runs[0]), ["initial", "it1", "it2"]);
    assert_eq!(runs[0].candidates["it2"].parents, ["it1"]);
}

#[test]
fn a_copied_run_without_uuids_is_one_run() {
    let unit = || vec![record("initial", None, 1), record("it1", Some("initial"), 2)];
    let mut grown = unit();
    grown.push(record("it2", Some("it1"), 3));
    let runs = united(vec![unit(), grown]);
    assert_eq!(runs.len(), 1);
    assert_eq!((ids(&runs[0]).len(), &runs[0].units), (3, &vec![0, 1]));
    assert_eq!(runs[0].candidates["it1"].records, 2);
}

#[test]
fn children_of_a_migrant_hang_on_its_source() {
    let [a, b, m, n, c, _] = IDS;
    let copy = |id, of: &str, time| Record { copy_of: Some(of.to_owned()), ..record(id, None, time) };
    let runs = united(vec![vec![
        record(a, None, 1),
        record(b, Some(a), 2),
        copy(m, b, 3),
        copy(n, m, 4),
        record(c, Some(n), 5),
    ]]);
    let run = &runs[0];
    assert_eq!(ids(run), [a, b, c]);
    assert_eq!(run.candidates[c].parents, [b]);
    assert_eq!(run.candidates[b].copies, [m, n]);
    assert_eq!(run.candidates[b].records, 3);
}

#[test]
fn a_migrant_stands_in_for_an_evicted_source() {
    let [a, b, m, c, ..] = IDS;
    let copy = Record { copy_of: Some(b.to_owned()), iteration: Some(0), ..record(m, None, 3) };
    let runs = united(vec![vec![record(a, None, 1), copy, record(c, Some(m), 5)]]);
    assert_eq!(runs.len(), 1);
    let source = &runs[0].candidates[b];
    assert_eq!((source.merged.iteration, source.merged.created_at), (None, None));
    assert_eq!(runs[0].candidates[c].parents, [b]);
}

#[test]
fn a_copy_that_seeds_an_island_is_no_step() {
    let [a, b, seed, c, ..] = IDS;
    let program = record(b, None, 0).program;
    let runs = united(vec![vec![
        record(a, None, 1),
        record(b, Some(a), 2),
        Record { no_step: true, program, ..record(seed, Some(b), 3) },
        record(c, Some(seed), 4),
        // Without a prompt, and yet another program: a step whose prompt was not logged.
        Record { no_step: true, ..record(IDS[4], Some(b), 5) },
    ]]);
    let run = &runs[0];
    assert_eq!(ids(run), [a, b, c, IDS[4]]);
    assert_eq!(
        (&run.candidates[c].parents, &run.candidates[b].copies),
        (&vec![b.to_owned()], &vec![seed.to_owned()])
    );
}

#[test]
fn copies_in_a_circle_end() {
    let [a, b, ..] = IDS;
    let copy = |id, of: &str| Record { copy_of: Some(of.to_owned()), ..record(id, None, 1) };
    assert_eq!(united(vec![vec![copy(a, b), copy(b, a)]]).len(), 1);
}

#[test]
fn a_piece_with_an_evicted_parent_joins_the_run_that_had_started() {
    let [a, b, c, d, gone, e] = IDS;
    let runs = united(vec![vec![
        record(a, None, 10),
        record(b, Some(a), 11),
        record(c, None, 20),
        record(d, Some(gone), 15),
        record(e, Some(c), 21),
    ]]);
    assert_eq!(runs.len(), 2);
    let first = runs.iter().find(|run| run.root == a).expect("run of a");
    assert_eq!(ids(first), [a, b, d]);
    assert_eq!(first.candidates[d].parents, [gone]);
}

#[test]
fn a_trace_with_gaps_is_one_run_under_its_earliest_root() {
    let [a, b, c, d, e, _] = IDS;
    let stub = |id| Record { stub: true, created_at: None, ..record(id, None, 0) };
    let runs = united(vec![vec![
        stub(d),
        record(e, Some(d), 2),
        stub(a),
        record(b, Some(a), 5),
        stub(b),
        record(c, Some(b), 6),
    ]]);
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].root.as_str(), ids(&runs[0]).len()), (d, 5));
}

#[test]
fn order_of_units_and_records_changes_nothing() {
    let [a, b, c, d, m, _] = IDS;
    let copy = Record { copy_of: Some(b.to_owned()), ..record(m, None, 3) };
    let records =
        vec![record(a, None, 1), record(b, Some(a), 2), copy, record(c, Some(m), 4), record(d, Some(b), 5)];
    let show = |runs: Vec<Run>| format!("{runs:?}");
    let forward = show(united(vec![records.clone()]));
    let backward = show(united(vec![records.into_iter().rev().collect()]));
    assert_eq!(forward, backward);
}

#[test]
fn a_fuller_record_wins_and_gaps_are_filled() {
    let [a, b, ..] = IDS;
    let prompt = Digest::of_bytes(b"prompt");
    let thin = Record { feedback: Some(prompt), ..record(b, Some(a), 9) };
    let full = Record { user_prompt: Some(prompt), response: Some(prompt), ..record(b, Some(a), 2) };
    let runs = united(vec![vec![record(a, None, 1), thin, full]]);
    let merged = &runs[0].candidates[b].merged;
    assert_eq!(
        (merged.created_at, merged.user_prompt, merged.feedback),
        (Some(2), Some(prompt), Some(prompt))
    );
}
