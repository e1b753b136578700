//! Which records speak of one candidate, which candidates form a run, and whose child each one is.
//!
//! Ids that are UUIDs are the same candidate wherever they occur, so checkpoints, databases and traces of one
//! run unite wherever they lie; other ids (`initial`, `it000012`) count inside their unit only. Copies made by
//! migration are traced to what they copy. Candidates are joined to runs along parent links; a piece whose
//! ancestors were evicted goes to the run of its unit that had started by then. Everything is decided by
//! content, so neither the order of files nor their names change an edge.

mod attempts;
mod merge;
mod piece;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use finch_core::{Digest, Kind};

use serde_json::{Map, Value};

use super::assess::Failure;
use super::record::{About, Attempt, ProgramRef, Record};
use merge::{merge, parents, rank};
use piece::Piece;

/// A candidate: all that its records say, merged.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What its best record says, with gaps filled from the others.
    pub merged: Box<Record>,
    /// Records that describe it, copies included and stubs excluded.
    pub records: u64,
    /// Native ids of its copies, sorted.
    pub copies: Vec<String>,
    /// Its parents' native ids, copies traced to their sources.
    pub parents: Vec<String>,
    /// The similarity by which its parent was inferred, where nobody names one.
    pub inferred: Option<f64>,
    /// The units that its records are in.
    pub units: BTreeSet<usize>,
}

/// One search: candidates that descend from one root.
#[derive(Clone, Debug)]
pub struct Run {
    /// The run's id.
    pub run_id: Digest,
    /// The scaffold.
    pub scaffold: &'static str,
    /// The run's name in the log, where the log names runs.
    pub group: Option<String>,
    /// The root's native id; it may have been evicted.
    pub root: String,
    /// The root's program, when it is in the log.
    pub root_program: Option<ProgramRef>,
    /// The units that its records are in.
    pub units: Vec<usize>,
    /// The task that the log itself names.
    pub task: Option<String>,
    /// That task's domain.
    pub domain: Option<String>,
    /// The candidates by native id. Each has a program.
    pub candidates: BTreeMap<String, Candidate>,
    /// Metrics of candidates that are known as parents alone, with the verdict that was made from them.
    pub evicted: BTreeMap<String, (Map<String, Value>, Option<Failure>)>,
    /// Proposals that never became candidates.
    pub attempts: Vec<Attempt>,
    /// Mentions of those besides the first.
    pub repeated_attempts: u64,
    /// What the logs say of the run.
    pub about: About,
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
#[derive(Debug, Default)]
pub struct UnitRecords {
    /// The scaffold.
    pub scaffold: &'static str,
    /// Whether all that lies in it is one run, or one for each group that its records name.
    pub one_run: bool,
    /// All records.
    pub records: Vec<Record>,
    /// Proposals that never became candidates.
    pub attempts: Vec<Attempt>,
    /// What its logs say of their run.
    pub abouts: Vec<About>,
}

/// Where an id counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct NodeKey {
    scaffold: &'static str,
    /// The unit, for ids that are not UUIDs.
    unit: Option<usize>,
    /// The run that the log names.
    group: Option<String>,
    id: String,
}

/// Whether a native id is a UUID, perhaps with a migration suffix.
fn is_uuid(id: &str) -> bool {
    let base = id.split_once("_migrant_").map_or(id, |(base, _)| base);
    // With its hyphens: a digest of 32 digits is an id of its folder's own.
    base.len() == 36 && uuid::Uuid::try_parse(base).is_ok()
}

/// Unites the records of all units into runs, sorted by id. Units come in the order of their content.
/// Beside them, proposals of units of which no candidate is known.
pub fn unite(units: Vec<UnitRecords>) -> (Vec<Run>, Vec<Attempt>) {
    let mut nodes = Nodes { namespaces: namespaces(&units), ..Nodes::default() };
    nodes.one_run = units.iter().map(|unit| unit.one_run).collect();
    let mut proposals = Vec::new();
    let mut abouts = Vec::new();
    for (unit, log) in units.into_iter().enumerate() {
        for record in log.records {
            nodes.add(unit, log.scaffold, Box::new(record));
        }
        proposals.extend(log.attempts.into_iter().map(|attempt| (unit, attempt)));
        abouts.extend(log.abouts.into_iter().map(|about| (unit, about)));
    }
    nodes.mark_island_seeds();
    let candidates = nodes.resolve_copies();
    let components = nodes.components(&candidates);
    let mut runs = nodes.runs(candidates, &components);
    runs.retain(|run| !run.candidates.is_empty() || !run.without_program.is_empty());
    let stray = attempts::assign(&mut runs, proposals, abouts);
    distinct(&mut runs);
    runs.sort_by_key(|run| run.run_id);
    (runs, stray)
}

/// Gives runs that began equally ids of their own: those of scaffolds without ids or times can. Which is which is
/// decided by what they hold.
fn distinct(runs: &mut [Run]) {
    let mut seen: HashMap<Digest, Vec<usize>> = HashMap::new();
    for (at, run) in runs.iter().enumerate() {
        seen.entry(run.run_id).or_default().push(at);
    }
    for mut equal in seen.into_values().filter(|equal| equal.len() > 1) {
        let content = |run: &Run| -> Vec<_> {
            let programs =
                run.candidates.iter().map(|(id, one)| (id.clone(), one.merged.program.map(|p| p.raw)));
            programs.collect()
        };
        equal.sort_by_cached_key(|&at| (content(&runs[at]), runs[at].units.clone()));
        for (ordinal, at) in equal.into_iter().enumerate().skip(1) {
            runs[at].run_id = Kind::Run.fields().digest(runs[at].run_id).int(ordinal as u64).finish();
        }
    }
}

/// For each unit the lowest unit that has a run with it: one that holds a record of the same content, or speaks of the
/// same UUID beside ids of its own. Ids that are no UUIDs count in all of them, so a run that was copied to two folders
/// is one run, and so is one whose trace lies apart from its programs.
fn namespaces(units: &[UnitRecords]) -> Vec<usize> {
    let mut parent: Vec<usize> = (0..units.len()).collect();
    let mut join = |a: usize, b: usize| {
        let (a, b) = (find(&mut parent, a), find(&mut parent, b));
        parent[a.max(b)] = a.min(b);
    };
    let mut contents: HashMap<(&str, Digest), usize> = HashMap::new();
    let mut uuids: HashMap<(&str, &str), usize> = HashMap::new();
    for (unit, log) in units.iter().enumerate() {
        let mut has_own = false;
        for record in log.records.iter().filter(|record| !is_uuid(&record.native_id)) {
            has_own = true;
            if let Some(digest) = record.digest {
                join(unit, *contents.entry((log.scaffold, digest)).or_insert(unit));
            }
        }
        // Most units have UUIDs alone, which count everywhere as they are.
        let of_others = log.records.iter().filter(|_| has_own);
        for id in of_others.flat_map(|one| one.parents.iter().chain(&one.copy_of).chain([&one.native_id])) {
            if is_uuid(id) {
                join(unit, *uuids.entry((log.scaffold, id)).or_insert(unit));
            }
        }
    }
    (0..units.len()).map(|unit| find(&mut parent, unit)).collect()
}

/// All ids that occur, with the records that describe them.
#[derive(Default)]
struct Nodes {
    namespaces: Vec<usize>,
    /// By unit: whether all that lies in it is one run.
    one_run: Vec<bool>,
    index: HashMap<NodeKey, usize>,
    keys: Vec<NodeKey>,
    /// Boxed, as most nodes have one or two and a vector begins with room for four.
    records: Vec<Vec<(usize, Box<Record>)>>,
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
    fn key(&self, unit: usize, like: &NodeKey, id: &str) -> NodeKey {
        let unit = (!is_uuid(id)).then(|| self.namespaces[unit]);
        NodeKey { scaffold: like.scaffold, unit, group: like.group.clone(), id: id.to_owned() }
    }

    fn node(&mut self, key: NodeKey) -> usize {
        if let Some(&node) = self.index.get(&key) {
            return node;
        }
        self.keys.push(key.clone());
        self.records.push(Vec::new());
        self.index.insert(key, self.keys.len() - 1);
        self.keys.len() - 1
    }

    fn add(&mut self, unit: usize, scaffold: &'static str, record: Box<Record>) {
        let like = NodeKey { scaffold, unit: None, group: record.group.clone(), id: String::new() };
        let node = self.node(self.key(unit, &like, &record.native_id));
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
                let key = self.key(*unit, &self.keys[node], parent);
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
        let mut groups: BTreeMap<usize, Vec<(usize, bool, Box<Record>)>> = BTreeMap::new();
        for (node, &target) in original.iter().enumerate() {
            for (unit, record) in std::mem::take(&mut self.records[node]) {
                groups.entry(target).or_default().push((unit, node != target, record));
            }
        }
        let mut drafts = BTreeMap::new();
        for (node, mut group) in groups {
            // Best first: own records before copies, fuller before thinner, then by content.
            group.sort_by_key(|a| rank(&a.2, a.1));
            let key = self.keys[node].clone();
            let units = group.iter().map(|(unit, ..)| *unit).collect();
            let parents = parents(&group);
            let mut parent_nodes: Vec<usize> = Vec::new();
            for (unit, id) in parents {
                let parent = self.node(self.key(unit, &key, &id));
                let parent = original.get(parent).copied().unwrap_or(parent);
                if parent != node && !parent_nodes.contains(&parent) {
                    parent_nodes.push(parent);
                }
            }
            let mut copies: Vec<String> = group
                .iter()
                .filter(|(_, copy, _)| *copy)
                .map(|(_, _, record)| record.native_id.clone())
                .collect();
            copies.sort();
            copies.dedup();
            let records = group.iter().filter(|(_, _, record)| !record.stub).count() as u64;
            let says_root =
                group.iter().any(|(_, copy, record)| !copy && !record.stub && record.copy_of.is_none());
            // Taken, not copied: there is one for each candidate, and what readers' threads allocated and is then freed
            // is of no use to this one. Only records without a program are needed once more.
            let best = match group.iter().any(|(.., record)| record.program.is_some()) {
                true => std::mem::take(&mut group[0].2),
                false => group[0].2.clone(),
            };
            let merged = merge(key.id.clone(), best, &group);
            let without_program = match merged.program {
                Some(_) => Vec::new(),
                None => {
                    group.into_iter().map(|(_, _, record)| *record).filter(|record| !record.stub).collect()
                }
            };
            let is_root = parent_nodes.is_empty() && says_root;
            let candidate = Candidate { merged, records, copies, parents: Vec::new(), inferred: None, units };
            drafts.insert(node, Draft { candidate, parent_nodes, is_root, without_program });
        }
        for draft in drafts.values_mut() {
            draft.candidate.parents =
                draft.parent_nodes.iter().map(|&parent| self.keys[parent].id.clone()).collect();
        }
        drafts
    }

    /// The node that a node's records are copies of, or itself.
    fn original(&mut self, start: usize) -> usize {
        let mut at = start;
        let mut seen = BTreeSet::new();
        while seen.insert(at) {
            let copied =
                self.records[at].iter().filter_map(|(unit, record)| Some((*unit, record.copy_of.clone()?)));
            // A record that is no copy outweighs one that says it is.
            let all_copies = !self.records[at].is_empty()
                && self.records[at].iter().all(|(_, r)| r.copy_of.is_some() || r.stub);
            let Some((unit, id)) = copied.min().filter(|_| all_copies) else { return at };
            at = self.node(self.key(unit, &self.keys[at], &id));
        }
        start
    }

    /// For each node the lowest node that it is linked with by parenthood.
    fn components(&self, drafts: &BTreeMap<usize, Draft>) -> Vec<usize> {
        let mut parent: Vec<usize> = (0..self.keys.len()).collect();
        // Where a folder is one run, or a log names its runs, that links what no parent does.
        let mut first: HashMap<(usize, &'static str, Option<&str>), usize> = HashMap::new();
        for (&node, draft) in drafts {
            let key = &self.keys[node];
            for unit in draft.candidate.units.iter().filter(|&&unit| self.one_run[unit]) {
                let group = (self.namespaces[*unit], key.scaffold, key.group.as_deref());
                let other = *first.entry(group).or_insert(node);
                let (a, b) = (find(&mut parent, node), find(&mut parent, other));
                parent[a.max(b)] = a.min(b);
            }
        }
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
        let mut fragments: BTreeMap<(usize, Option<String>), Vec<Piece>> = BTreeMap::new();
        for piece in lost {
            let started = piece.started;
            let home = runs
                .iter_mut()
                .filter(|run| {
                    run.scaffold == piece.scaffold
                        && run.group == piece.group
                        && run.units.iter().any(|unit| piece.units.contains(unit))
                })
                .filter(|run| run.root.is_some())
                .max_by_key(|run| {
                    let before = run.started <= started;
                    // The latest that had started by then; when none had, the earliest.
                    let time = run.started.unwrap_or(i64::MIN);
                    (
                        before,
                        if before { time } else { time.saturating_neg() },
                        std::cmp::Reverse(run.root.clone()),
                    )
                });
            match home {
                Some(home) => home.absorb(piece),
                None => fragments.entry((piece.units[0], piece.group.clone())).or_default().push(piece),
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
fn holds(records: &[(usize, Box<Record>)], program: ProgramRef) -> bool {
    records.iter().any(|(_, record)| record.program.is_some_and(|own| own.id == program.id))
}

fn find(parent: &mut [usize], mut node: usize) -> usize {
    while parent[node] != node {
        parent[node] = parent[parent[node]];
        node = parent[node];
    }
    node
}
