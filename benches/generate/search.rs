//! A search as a scaffold would log it: parents, children that repeat most of them, prompts that repeat the parents,
//! failures, missing scores, copies between islands.

use std::collections::VecDeque;
use std::rc::Rc;

use serde_json::{Map, Value, json};

use crate::text::{Random, line, lines, prose};

/// Candidates that a search remembers, and a checkpoint holds.
const POPULATION: usize = 60;
/// Islands of a search.
const ISLANDS: usize = 4;
/// Seconds since 1970 of the first search's start.
const EPOCH: f64 = 1_760_000_000.0;

/// What to simulate.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    /// Seed of everything.
    pub(crate) seed: u64,
    /// Factor on all lengths.
    pub(crate) scale: f64,
    /// Number of the search.
    pub(crate) run: u64,
    /// Number of its task; searches of one task start from one program.
    pub(crate) task: u64,
    /// Whether islands exchange copies.
    pub(crate) migrates: bool,
}

impl Setting {
    fn length(&self, random: &mut Random, low: usize, high: usize) -> usize {
        let scaled = |bytes: usize| (bytes as f64 * self.scale) as usize;
        random.length(scaled(low).max(60), scaled(high).max(120))
    }
}

/// A candidate with everything that a log says of it.
pub(crate) struct Candidate {
    pub(crate) id: String,
    pub(crate) parent: Option<Rc<Self>>,
    pub(crate) lines: Rc<Vec<String>>,
    pub(crate) metrics: Map<String, Value>,
    pub(crate) iteration: u64,
    pub(crate) generation: u64,
    pub(crate) island: usize,
    pub(crate) timestamp: f64,
    pub(crate) system: String,
    pub(crate) user: String,
    pub(crate) response: String,
    pub(crate) changes: String,
    pub(crate) artifacts: Map<String, Value>,
    pub(crate) migrant: bool,
    score: f64,
}

impl Candidate {
    /// The program's text.
    pub(crate) fn code(&self) -> String {
        self.lines.join("\n") + "\n"
    }
}

/// A search in progress. It remembers a bounded number of candidates, each with its parent and no further back.
pub(crate) struct Search {
    setting: Setting,
    random: Random,
    system: String,
    /// The living, oldest first.
    pub(crate) population: VecDeque<Rc<Candidate>>,
    /// Steps done.
    pub(crate) iteration: u64,
}

impl Search {
    /// A search that has evaluated its initial program.
    pub(crate) fn new(setting: Setting) -> Self {
        let mut of_task = Random::new(setting.seed, "task", setting.task);
        let bytes = setting.length(&mut of_task, 1 << 10, 30 << 10);
        let initial = Rc::new(lines(&mut of_task, bytes));
        let system = format!("You improve a program. {}", prose(&mut of_task, 600));
        let mut random = Random::new(setting.seed, "run", setting.run);
        let first = Candidate {
            id: random.uuid(),
            parent: None,
            lines: initial,
            metrics: scored(0.5),
            iteration: 0,
            generation: 0,
            island: 0,
            timestamp: EPOCH + setting.run as f64 * 1e6,
            system: String::new(),
            user: String::new(),
            response: String::new(),
            changes: String::new(),
            artifacts: Map::new(),
            migrant: false,
            score: 0.5,
        };
        Self { setting, random, system, population: VecDeque::from([Rc::new(first)]), iteration: 0 }
    }

    /// One step: a parent is chosen, a model asked, its program evaluated.
    pub(crate) fn step(&mut self) -> Rc<Candidate> {
        self.iteration += 1;
        let parent = Rc::clone(&self.population[self.random.below(self.population.len())]);
        let (new, response, changes) = self.answer(&parent);
        let user = self.prompt(&parent);
        let (metrics, artifacts, score) = self.evaluate(parent.score);
        let timestamp = EPOCH + self.setting.run as f64 * 1e6 + self.iteration as f64 * 61.25;
        let child = Rc::new(Candidate {
            id: self.random.uuid(),
            lines: Rc::new(new),
            metrics,
            iteration: self.iteration,
            generation: parent.generation + 1,
            island: parent.island,
            timestamp,
            system: self.system.clone(),
            user,
            response,
            changes,
            artifacts,
            migrant: false,
            score,
            parent: Some(Rc::new(without_parent(&parent))),
        });
        self.add(Rc::clone(&child));
        if self.setting.migrates && self.iteration.is_multiple_of(25) {
            self.migrate();
        }
        child
    }

    fn add(&mut self, candidate: Rc<Candidate>) {
        self.population.push_back(candidate);
        if self.population.len() > POPULATION {
            self.population.pop_front();
        }
    }

    /// A copy of somebody on the next island, under a new id and without its prompt.
    fn migrate(&mut self) {
        let source = Rc::clone(&self.population[self.random.below(self.population.len())]);
        let copy = Candidate {
            id: self.random.uuid(),
            parent: Some(Rc::new(without_parent(&source))),
            iteration: 0,
            island: (source.island + 1) % ISLANDS,
            timestamp: source.timestamp + 3.5,
            migrant: true,
            ..without_parent(&source)
        };
        self.add(Rc::new(copy));
    }

    /// The child's lines, what the model says, and the words of the log.
    fn answer(&mut self, parent: &Candidate) -> (Vec<String>, String, String) {
        let random = &mut self.random;
        let mut lines = parent.lines.as_ref().clone();
        let bytes = self.setting.length(random, 300, 3 << 10);
        let mut response = prose(random, bytes);
        let rewrite = random.percent(35);
        // Some answers change nothing.
        let edits = if random.percent(3) { 0 } else { 1 + random.below(4) };
        for _ in 0..edits {
            let from = random.below(lines.len());
            let to = (from + 1 + random.below(6)).min(lines.len());
            let new: Vec<String> = (0..1 + random.below(7)).map(|_| line(random)).collect();
            if !rewrite {
                let block = |lines: &[String]| lines.join("\n");
                response += &format!(
                    "\n\n<<<<<<< SEARCH\n{}\n=======\n{}\n>>>>>>> REPLACE\n",
                    block(&lines[from..to]),
                    block(&new)
                );
            }
            lines.splice(from..to, new);
        }
        if rewrite {
            response += &format!("\n\n```python\n{}\n```\n", lines.join("\n"));
        }
        let changes = if rewrite { "Full rewrite".to_owned() } else { format!("Change 1: {edits} blocks") };
        (lines, response, changes)
    }

    /// The parent's program under its figures, with earlier programs up to the length of this prompt.
    fn prompt(&mut self, parent: &Candidate) -> String {
        let bytes = self.setting.length(&mut self.random, 5 << 10, 60 << 10);
        let mut text = format!(
            "# Current Program Information\n- Fitness: {:.4}\n- Generation: {}\n\n# Program Evolution History\n",
            parent.score, parent.generation
        );
        for shown in self.population.iter().rev() {
            let code = shown.code();
            if text.len() + code.len() + parent.lines.len() * 30 > bytes {
                break;
            }
            text += &format!("## Attempt {} ({:.4})\n```python\n{code}```\n", shown.iteration, shown.score);
        }
        while text.len() + 600 < bytes / 2 {
            text += &prose(&mut self.random, 500);
        }
        text += &format!("\n# Current Program\n```python\n{}```\n\n# Task\n", parent.code());
        text += "Suggest improvements to the program that will raise its fitness.\n";
        text
    }

    /// Metrics, artifacts and the score of a program: most are valid, some fail, a few have no score.
    fn evaluate(&mut self, parent: f64) -> (Map<String, Value>, Map<String, Value>, f64) {
        let random = &mut self.random;
        let mut artifacts = Map::new();
        let metrics = match random.below(100) {
            0..8 => {
                let bytes = self.setting.length(random, 200, 4 << 10);
                let trace =
                    format!("Traceback (most recent call last):\n{}\nIndexError", prose(random, bytes));
                artifacts.insert("stderr".to_owned(), trace.into());
                map(json!({"combined_score": 0.0, "error": "IndexError: list index out of range"}))
            }
            8..10 => map(json!({"error": 0.0, "timeout": true})),
            10..12 => map(json!({"runs_successfully": 1.0})),
            12..30 => return (scored(parent), artifacts, parent),
            _ => {
                let score = (parent + 0.04 * random.unit() - 0.022).clamp(0.0, 1.0);
                return (scored(score), artifacts, score);
            }
        };
        (metrics, artifacts, parent)
    }
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn scored(score: f64) -> Map<String, Value> {
    map(json!({"combined_score": score, "runs_successfully": 1.0, "eval_time": 1.5 + score}))
}

/// The same without what leads further back, so that memory does not grow with the search.
fn without_parent(candidate: &Candidate) -> Candidate {
    Candidate {
        id: candidate.id.clone(),
        parent: None,
        lines: Rc::clone(&candidate.lines),
        metrics: candidate.metrics.clone(),
        system: String::new(),
        user: String::new(),
        response: String::new(),
        changes: candidate.changes.clone(),
        artifacts: Map::new(),
        ..*candidate
    }
}
