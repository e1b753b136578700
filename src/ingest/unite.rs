//! Which records speak of one candidate, which candidates form a run, and whose child each one is.
//!
//! Ids that are UUIDs are the same candidate wherever they occur, so checkpoints, databases and traces of one
//! run unite wherever they lie; other ids (`initial`, `it000012`) count inside their unit only. Copies made by
//! migration are traced to what they copy. Candidates are joined to runs along parent links; a piece whose
//! ancestors were evicted goes to the run of its unit that had started by then. Everything is decided by
//! content, so neither the order of files nor their names change an edge.

use std::collections::{BTreeMap, HashMap};

use finch_core::{Digest, Kind};

use super::record::{ProgramRef, Record};

/// A candidate: all that its records say, merged.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What its best record says, with gaps filled from the others.
    pub merged: Record,
    /// Records that describe it, copies included and stubs excluded.
    pub records: u64,
    /// Native ids of its copies, sorted.
    pub copies: Vec<String>,
    /// Its parents' native ids, copies traced to their sources.
    pub parents: Vec<String>,
    /// The unit of its best record.
    pub unit: usize,
}

/// One search: candidates that descend from one root.
#[derive(Clone, Debug)]
pub struct Run {
    /// The run's id.
    pub run_id: Digest,
    /// The scaffold.
    pub scaffold: &'static str,
    /// The root's native id; it may have been evicted.
    pub root: String,
    /// The root's program, when it is in the log.
    pub root_program: Option<ProgramRef>,
    /// The units that its records are in.
    pub units: Vec<usize>,
    /// The candidates by native id. Each has a program.
    pub candidates: BTreeMap<String, Candidate>,
    /// Records whose candidate has no program text anywhere: they cannot be used.
    pub without_program: Vec<Record>,
}

impl Run {
    /// The id of a candidate of this run, also of one that is not in the log.
    pub fn candidate_id(&self, native_id: &str) -> Digest {
        Kind::Candidate.fields().digest(self.run_id).text(native_id).finish()
    }

    /// When the first candidate was stored.
    pub fn started_at(&self) -> Option<i64> {
        self.candidates.values().filter_map(|candidate| candidate.merged.created_at).min()
    }
}

/// The records of one unit.
#[derive(Debug)]
pub struct UnitRecords {
    /// The scaffold.
    pub scaffold: &'static str,
    /// All records.
    pub records: Vec<Record>,
}

/// Where an id counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct NodeKey {
    scaffold: &'static str,
    /// The unit, for ids that are not UUIDs.
    unit: Option<usize>,
    id: String,
}

/// Whether a native id is a UUID, perhaps with a migration suffix.
fn is_uuid(id: &str) -> bool {
    let base = id.split_once("_migrant_").map_or(id, |(base, _)| base);
    uuid::Uuid::try_parse(base).is_ok()
}

/// Unites the records of all units into runs, sorted by id. Units come in the order of their content.
pub fn unite(units: Vec<UnitRecords>) -> Vec<Run> {
    let mut nodes = Nodes::default();
    for (unit, log) in units.into_iter().enumerate() {
        for record in log.records {
            nodes.add(unit, log.scaffold, record);
        }
    }
    nodes.mark_island_seeds();
    let candidates = nodes.resolve_copies();
    let components = nodes.components(&candidates);
    let mut runs = nodes.runs(candidates, &components);
    runs.sort_by_key(|run| run.run_id);
    runs
}

/// All ids that occur, with the records that describe them.
#[derive(Default)]
struct Nodes {
    index: HashMap<NodeKey, usize>,
    keys: Vec<NodeKey>,
    records: Vec<Vec<(usize, Record)>>,
}

/// A candidate before it has a run.
struct Draft {
    candidate: Candidate,
    /// Its parents as nodes.
    parent_nodes: Vec<usize>,
    /// Whether a record of its own says that it has no parent. A stub or a copy cannot know.
    is_root: bool,
    without_program: Vec<Record>,
}

impl Nodes {
    fn node(&mut self, unit: usize, scaffold: &'static str, id: &str) -> usize {
        let unit = (!is_uuid(id)).then_some(unit);
        let key = NodeKey { scaffold, unit, id: id.to_owned() };
        if let Some(&node) = self.index.get(&key) {
            return node;
        }
        self.keys.push(key.clone());
        self.records.push(Vec::new());
        self.index.insert(key, self.keys.len() - 1);
        self.keys.len() - 1
    }

    fn add(&mut self, unit: usize, scaffold: &'static str, record: Record) {
        let node = self.node(unit, scaffold, &record.native_id);
        self.records[node].push((unit, record));
    }

    /// Marks records that repeat their parent's program without a search step as copies of it.
    fn mark_island_seeds(&mut self) {
        let mut seeds = Vec::new();
        for (node, records) in self.records.iter().enumerate() {
            for (at, (unit, record)) in records.iter().enumerate() {
                let [parent] = record.parents.as_slice() else { continue };
                if !record.no_step || record.copy_of.is_some() {
                    continue;
                }
                let key = NodeKey {
                    scaffold: self.keys[node].scaffold,
                    unit: (!is_uuid(parent)).then_some(*unit),
                    id: parent.clone(),
                };
                let of_parent = self.index.get(&key).map(|&parent| &self.records[parent]);
                if record.program.is_some_and(|program| of_parent.is_some_and(|of| holds(of, program))) {
                    seeds.push((node, at));
                }
            }
        }
        for (node, at) in seeds {
            let record = &mut self.records[node][at].1;
            record.copy_of = record.parents.pop();
        }
    }

    /// Follows copies to what they copy and merges the records of each candidate; indexed by node.
    fn resolve_copies(&mut self) -> BTreeMap<usize, Draft> {
        // Following may add nodes: originals that no record describes. They are at the end, their own originals.
        let described = self.keys.len();
        let original: Vec<usize> = (0..described).map(|node| self.original(node)).collect();
        let mut groups: BTreeMap<usize, Vec<(usize, bool, Record)>> = BTreeMap::new();
        for (node, &target) in original.iter().enumerate() {
            for (unit, record) in std::mem::take(&mut self.records[node]) {
                groups.entry(target).or_default().push((unit, node != target, record));
            }
        }
        let mut drafts = BTreeMap::new();
        for (node, mut group) in groups {
            // Best first: own records before copies, fuller before thinner, then by content.
            group.sort_by(|a, b| rank(&a.2, a.1).cmp(&rank(&b.2, b.1)));
            let key = self.keys[node].clone();
            let unit = group[0].0;
            let parents = parents(&group);
            let mut parent_nodes: Vec<usize> = Vec::new();
            for (unit, id) in parents {
                let parent = self.node(unit, key.scaffold, &id);
                let parent = original.get(parent).copied().unwrap_or(parent);
                if parent != node && !parent_nodes.contains(&parent) {
                    parent_nodes.push(parent);
                }
            }
            let mut copies: Vec<String> =
                group.iter().filter(|(_, copy, _)| *copy).map(|(_, _, record)| record.native_id.clone()).collect();
            copies.sort();
            copies.dedup();
            let records = group.iter().filter(|(_, _, record)| !record.stub).count() as u64;
            let merged = merge(key.id.clone(), &group);
            let says_root = group.iter().any(|(_, copy, record)| !copy && !record.stub && record.copy_of.is_none());
            let without_program = match merged.program {
                Some(_) => Vec::new(),
                None => group.into_iter().map(|(_, _, record)| record).filter(|record| !record.stub).collect(),
            };
            let is_root = parent_nodes.is_empty() && says_root;
            let candidate = Candidate { merged, records, copies, parents: Vec::new(), unit };
            drafts.insert(node, Draft { candidate, parent_nodes, is_root, without_program });
        }
        for draft in drafts.values_mut() {
            draft.candidate.parents = draft.parent_nodes.iter().map(|&parent| self.keys[parent].id.clone()).collect();
        }
        drafts
    }

    /// The node that a node's records are copies of, or itself.
    fn original(&mut self, start: usize) -> usize {
        let mut at = start;
        for _ in 0..64 {
            let copied = self.records[at].iter().filter_map(|(unit, record)| {
                Some((*unit, self.keys[at].scaffold, record.copy_of.clone()?))
            });
            // A record that is no copy outweighs one that says it is.
            let all_copies = !self.records[at].is_empty() && self.records[at].iter().all(|(_, r)| r.copy_of.is_some() || r.stub);
            let Some((unit, scaffold, id)) = copied.min().filter(|_| all_copies) else { return at };
            at = self.node(unit, scaffold, &id);
        }
        start
    }

    /// For each node the lowest node that it is linked with by parenthood.
    fn components(&self, drafts: &BTreeMap<usize, Draft>) -> Vec<usize> {
        let mut parent: Vec<usize> = (0..self.keys.len()).collect();
        for (&node, draft) in drafts {
            for &other in &draft.parent_nodes {
                let (a, b) = (find(&mut parent, node), find(&mut parent, other));
                parent[a.max(b)] = a.min(b);
            }
        }
        (0..parent.len()).map(|node| find(&mut parent, node)).collect()
    }

    fn runs(&self, drafts: BTreeMap<usize, Draft>, components: &[usize]) -> Vec<Run> {
        let mut pieces: BTreeMap<usize, Piece> = BTreeMap::new();
        for (node, draft) in drafts {
            pieces.entry(components[node]).or_default().add(&self.keys[node], draft);
        }
        // A piece with a root is a run; one without goes to a run of its unit.
        let (mut runs, mut lost): (Vec<Piece>, Vec<Piece>) =
            pieces.into_values().partition(|piece| piece.root.is_some());
        lost.sort_by_key(|piece| (piece.started, piece.first_id().to_owned()));
        let mut fragments: BTreeMap<usize, Vec<Piece>> = BTreeMap::new();
        for piece in lost {
            let started = piece.started;
            let home = runs
                .iter_mut()
                .filter(|run| run.scaffold == piece.scaffold && run.units.iter().any(|unit| piece.units.contains(unit)))
                .filter(|run| run.root.is_some())
                .max_by_key(|run| {
                    let before = run.started <= started;
                    // The latest that had started by then; when none had, the earliest.
                    let time = run.started.unwrap_or(i64::MIN);
                    (before, if before { time } else { time.saturating_neg() }, std::cmp::Reverse(run.root.clone()))
                });
            match home {
                Some(home) => home.absorb(piece),
                None => fragments.entry(piece.units[0]).or_default().push(piece),
            }
        }
        for pieces in fragments.into_values() {
            let mut pieces = pieces.into_iter();
            if let Some(mut first) = pieces.next() {
                pieces.for_each(|piece| first.absorb(piece));
                runs.push(first);
            }
        }
        runs.into_iter().map(Piece::into_run).collect()
    }
}

/// Whether one of the records has this program.
fn holds(records: &[(usize, Record)], program: ProgramRef) -> bool {
    records.iter().any(|(_, record)| record.program.is_some_and(|own| own.id == program.id))
}

fn find(parent: &mut [usize], mut node: usize) -> usize {
    while parent[node] != node {
        parent[node] = parent[parent[node]];
        node = parent[node];
    }
    node
}

/// Candidates that are linked by parenthood.
#[derive(Default)]
struct Piece {
    scaffold: &'static str,
    drafts: Vec<Draft>,
    units: Vec<usize>,
    started: Option<i64>,
    /// Time and id of the earliest root.
    root: Option<(Option<i64>, String)>,
    /// The lowest id of a candidate whose parents nobody names, for a piece without a root.
    top: Option<String>,
}

impl Piece {
    fn add(&mut self, key: &NodeKey, draft: Draft) {
        self.scaffold = key.scaffold;
        let record = &draft.candidate.merged;
        self.started = [self.started, record.created_at].into_iter().flatten().min();
        if !self.units.contains(&draft.candidate.unit) {
            self.units.push(draft.candidate.unit);
            self.units.sort_unstable();
        }
        if draft.is_root {
            let root = (record.created_at, key.id.clone());
            if self.root.as_ref().is_none_or(|known| root < *known) {
                self.root = Some(root);
            }
        } else if draft.parent_nodes.is_empty() && self.top.as_ref().is_none_or(|top| key.id < *top) {
            self.top = Some(key.id.clone());
        }
        self.drafts.push(draft);
    }

    /// The lowest native id: a name for the piece that comes from its content.
    fn first_id(&self) -> &str {
        self.drafts.iter().map(|draft| draft.candidate.merged.native_id.as_str()).min().unwrap_or("")
    }

    fn absorb(&mut self, other: Self) {
        self.started = [self.started, other.started].into_iter().flatten().min();
        self.units.extend(other.units);
        self.units.sort_unstable();
        self.units.dedup();
        self.drafts.extend(other.drafts);
    }

    fn into_run(self) -> Run {
        let described: Vec<&str> = self.drafts.iter().map(|d| d.candidate.merged.native_id.as_str()).collect();
        let root = match (&self.root, &self.top) {
            (Some((_, root)), _) | (None, Some(root)) => root.clone(),
            // Evicted: the lowest of the named ancestors, which is content and not chance.
            (None, None) => self
                .drafts
                .iter()
                .flat_map(|draft| &draft.candidate.parents)
                .filter(|parent| !described.contains(&parent.as_str()))
                .min()
                .cloned()
                .unwrap_or_else(|| self.first_id().to_owned()),
        };
        let root_program = self
            .drafts
            .iter()
            .find(|draft| draft.candidate.merged.native_id == root)
            .and_then(|draft| draft.candidate.merged.program);
        let mut fields = Kind::Run.fields().text(self.scaffold).text(&root);
        if !is_uuid(&root) {
            let program = root_program.map_or(String::new(), |program| program.id.to_string());
            fields = fields.text(&program).text(&format!("{:?}", self.started));
        }
        let mut run = Run {
            run_id: fields.finish(),
            scaffold: self.scaffold,
            root,
            root_program,
            units: self.units,
            candidates: BTreeMap::new(),
            without_program: Vec::new(),
        };
        for draft in self.drafts {
            if draft.candidate.merged.program.is_some() {
                run.candidates.insert(draft.candidate.merged.native_id.clone(), draft.candidate);
            } else {
                run.without_program.extend(draft.without_program);
            }
        }
        run
    }
}

/// The parents that the best record names; a copy's parent is what it copies and says nothing.
fn parents(group: &[(usize, bool, Record)]) -> Vec<(usize, String)> {
    group
        .iter()
        .filter(|(_, copy, _)| !copy)
        .find(|(_, _, record)| !record.parents.is_empty())
        .map(|(unit, _, record)| record.parents.iter().map(|id| (*unit, id.clone())).collect())
        .unwrap_or_default()
}

type Rank = (bool, bool, bool, bool, bool, std::cmp::Reverse<Option<i64>>, Option<Digest>, String, u64);

/// The order of a candidate's records, best first. The path comes last and only among equal contents.
fn rank(record: &Record, copy: bool) -> Rank {
    (
        copy,
        record.stub,
        record.program.is_none(),
        record.user_prompt.is_none() || record.response.is_none(),
        record.metrics.is_empty(),
        std::cmp::Reverse(record.created_at),
        record.digest,
        record.source.clone(),
        record.offset,
    )
}

/// The best record with its gaps filled from the others, in order.
fn merge(native_id: String, group: &[(usize, bool, Record)]) -> Record {
    let mut merged = group[0].2.clone();
    merged.native_id = native_id;
    merged.copy_of = None;
    for (_, copy, other) in &group[1..] {
        macro_rules! fill {
            ($($field:ident),+) => { $(if merged.$field.is_none() { merged.$field.clone_from(&other.$field); })+ };
        }
        fill!(
            program, island, generation, correct, error, feedback, eval_seconds, system_prompt, user_prompt,
            reasoning, response, operator, model, temperature, prompt_tokens, completion_tokens, cost
        );
        if !copy && !other.stub {
            // A copy's iteration is zero and its time is the migration's.
            fill!(iteration, created_at);
        }
        if merged.metrics.is_empty() {
            merged.metrics.clone_from(&other.metrics);
        }
        if merged.parent_metrics.is_empty() {
            merged.parent_metrics.clone_from(&other.parent_metrics);
        }
        if merged.inspirations.is_empty() {
            merged.inspirations.clone_from(&other.inspirations);
        }
    }
    if group[0].1 {
        // Known from copies alone: they do not say when it was found.
        merged.iteration = None;
        merged.created_at = None;
        merged.parents.clear();
    }
    merged
}

#[cfg(test)]
mod tests {
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
        unite(units.into_iter().map(|records| UnitRecords { scaffold: "openevolve", records }).collect())
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
        assert_eq!((&run.candidates[c].parents, &run.candidates[b].copies), (&vec![b.to_owned()], &vec![seed.to_owned()]));
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
        let records = vec![record(a, None, 1), record(b, Some(a), 2), copy, record(c, Some(m), 4), record(d, Some(b), 5)];
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
        assert_eq!((merged.created_at, merged.user_prompt, merged.feedback), (Some(2), Some(prompt), Some(prompt)));
    }
}
