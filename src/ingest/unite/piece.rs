//! A piece: candidates that are linked by parenthood. With a root it is a run; without one it is part of one.

use std::collections::{BTreeMap, HashSet};

use finch_core::Kind;

use super::{Draft, NodeKey, Run, is_uuid};
use crate::ingest::record::{About, ProgramRef};

/// Candidates that are linked by parenthood.
#[derive(Default)]
pub(super) struct Piece {
    pub(super) scaffold: &'static str,
    /// The run that the log names.
    pub(super) group: Option<String>,
    drafts: Vec<Draft>,
    pub(super) units: Vec<usize>,
    pub(super) started: Option<i64>,
    /// Time and id of the earliest root.
    pub(super) root: Option<(Option<i64>, String)>,
    /// The lowest id of a candidate whose parents nobody names, for a piece without a root.
    top: Option<String>,
}

impl Piece {
    pub(super) fn add(&mut self, key: &NodeKey, draft: Draft) {
        self.scaffold = key.scaffold;
        self.group.clone_from(&key.group);
        let record = &draft.candidate.merged;
        self.started = [self.started, record.created_at].into_iter().flatten().min();
        self.units.extend(&draft.candidate.units);
        self.units.sort_unstable();
        self.units.dedup();
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
    pub(super) fn first_id(&self) -> &str {
        self.drafts.iter().map(|draft| draft.candidate.merged.native_id.as_str()).min().unwrap_or("")
    }

    pub(super) fn absorb(&mut self, other: Self) {
        self.started = [self.started, other.started].into_iter().flatten().min();
        self.units.extend(other.units);
        self.units.sort_unstable();
        self.units.dedup();
        self.drafts.extend(other.drafts);
    }

    /// The program of the first candidate behind the root, in the order of iterations.
    fn second(&self, root: &str) -> Option<ProgramRef> {
        let others =
            self.drafts.iter().map(|draft| &draft.candidate.merged).filter(|one| one.native_id != root);
        let others = others.filter(|one| one.program.is_some());
        others.min_by_key(|one| (one.iteration, one.native_id.clone())).and_then(|one| one.program)
    }

    pub(super) fn into_run(self) -> Run {
        let described: HashSet<&str> =
            self.drafts.iter().map(|draft| draft.candidate.merged.native_id.as_str()).collect();
        let root = match (&self.root, &self.top) {
            (Some((_, root)), _) | (None, Some(root)) => root.clone(),
            // Evicted: the lowest of the named ancestors, which is content and not chance.
            (None, None) => self
                .drafts
                .iter()
                .flat_map(|draft| &draft.candidate.parents)
                .filter(|parent| !described.contains(parent.as_str()))
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
        if let Some(group) = &self.group {
            fields = fields.text(group);
        }
        if !is_uuid(&root) {
            let program = root_program.map_or(String::new(), |program| program.id.to_string());
            let started = self.started.map_or(String::new(), |micros| micros.to_string());
            fields = fields.text(&program).text(&started);
            if self.started.is_none() {
                // Ids are counters and nothing says when: what tells two runs of one seed apart is their next candidate.
                let next = self.second(&root).map_or(String::new(), |program| program.id.to_string());
                fields = fields.text(&next);
            }
        }
        let mut run = Run {
            run_id: fields.finish(),
            scaffold: self.scaffold,
            group: self.group,
            root,
            root_program,
            units: self.units,
            task: None,
            domain: None,
            candidates: BTreeMap::new(),
            evicted: BTreeMap::new(),
            attempts: Vec::new(),
            repeated_attempts: 0,
            about: About::default(),
            without_program: Vec::new(),
        };
        for draft in self.drafts {
            let record = &draft.candidate.merged;
            // Where records disagree, the first word in order stands: none of them knows better.
            run.task = [run.task.take(), record.task.clone()].into_iter().flatten().min();
            run.domain = [run.domain.take(), record.domain.clone()].into_iter().flatten().min();
            if record.program.is_none() && draft.without_program.is_empty() && !record.metrics.is_empty() {
                run.evicted.insert(record.native_id.clone(), (record.metrics.clone(), record.failure));
            } else if record.program.is_some() {
                run.candidates.insert(draft.candidate.merged.native_id.clone(), draft.candidate);
            } else {
                run.without_program.extend(draft.without_program);
            }
        }
        run
    }
}
