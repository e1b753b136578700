//! A piece: candidates that are linked by parenthood. With a root it is a run; without one it is part of one.

use std::collections::BTreeMap;

use finch_core::Kind;

use super::{Draft, NodeKey, Run, is_uuid};

/// Candidates that are linked by parenthood.
#[derive(Default)]
pub(super) struct Piece {
    pub(super) scaffold: &'static str,
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

    pub(super) fn into_run(self) -> Run {
        let described: Vec<&str> =
            self.drafts.iter().map(|d| d.candidate.merged.native_id.as_str()).collect();
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
            let started = self.started.map_or(String::new(), |micros| micros.to_string());
            fields = fields.text(&program).text(&started);
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
