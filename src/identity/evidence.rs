//! What speaks for two tasks being one problem, and what against it.
//!
//! The points and limits below were chosen on published logs of several scaffolds, where a list made by hand says which
//! tasks are the same; they are a way to order what a person should look at, not a proof.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::profile::Profile;

/// What two tasks have in common. Shares are from 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Whether they start from one program.
    pub same_initial: bool,
    /// Of the words of both initial programs the share that both have.
    pub initial: f64,
    /// Of what nearly all programs of one task have, the share that those of the other have too.
    pub interface: f64,
    /// The same of system prompts.
    pub prompts: f64,
    /// Metrics that both report and few others do.
    pub metrics: Vec<String>,
    /// Sizes that the programs of both have.
    pub sizes: Vec<u64>,
    /// Whether both have sizes, and none in common.
    pub sizes_differ: bool,
    /// How much the ranges of scores of the same metric have in common. Weak: some logs hold ratios.
    pub scores: f64,
    /// What this is worth together; 0 where sizes differ, and where neither programs nor metrics say anything.
    pub points: u32,
}

/// Points from which two tasks are proposed as one problem.
const ENOUGH: u32 = 3;
/// Tasks that may share an initial program before it is taken for a template.
const TEMPLATE: usize = 4;
/// A weight of 1, as a whole number: sums have no order.
const ONE: u64 = 1 << 10;
/// What a task's programs must have in common at least, to be compared by it: the weight of some ten words of its own.
const LEAST_INTERFACE: u64 = 10 * ONE;
/// The same of its prompts, of which what all tasks have weighs nothing.
const LEAST_PROMPTS: u64 = 5 * ONE;

impl Evidence {
    /// Whether the tasks should be proposed as one.
    pub fn is_enough(&self) -> bool {
        self.points >= ENOUGH
    }
}

/// How much each word, metric and size says among some tasks: what few of them have says more than what all have.
pub struct Weights<'a> {
    profiles: &'a [Profile],
    initial: Vec<Weighed>,
    interface: Vec<Weighed>,
    prompts: Vec<Weighed>,
    /// Tasks that report a metric, and all that report any.
    metrics: (HashMap<&'a str, usize>, usize),
    /// Metrics that all tasks of a scaffold report: its own, and no evaluator's.
    of_scaffolds: Vec<String>,
    /// Tasks whose programs have a size.
    sizes: HashMap<u64, usize>,
    /// Tasks that start from a program.
    starts: HashMap<&'a str, usize>,
}

impl<'a> Weights<'a> {
    /// The weights among these tasks.
    pub fn of(profiles: &'a [Profile]) -> Self {
        let (mut metrics, mut starts, mut sizes) = (HashMap::new(), HashMap::new(), HashMap::new());
        for profile in profiles {
            profile.metrics.iter().for_each(|name| *metrics.entry(name.as_str()).or_default() += 1);
            profile.sizes.iter().for_each(|size| *sizes.entry(*size).or_default() += 1);
            if let Some((id, _)) = &profile.initial {
                *starts.entry(id.as_str()).or_default() += 1;
            }
        }
        let reporting = profiles.iter().filter(|profile| !profile.metrics.is_empty()).count();
        let none: &[u64] = &[];
        let initial = |profile: &'a Profile| profile.initial.as_ref().map_or(none, |(_, words)| words);
        Self {
            profiles,
            initial: weighed(profiles.iter().map(initial), 1),
            interface: weighed(profiles.iter().map(|profile| profile.interface.as_slice()), 1),
            prompts: weighed(profiles.iter().map(|profile| profile.prompts.as_slice()), 0),
            metrics: (metrics, reporting),
            of_scaffolds: of_scaffolds(profiles),
            sizes,
            starts,
        }
    }

    /// What two of these tasks, by their places, have in common.
    pub fn compare(&self, a: usize, b: usize) -> Evidence {
        let (first, second) = (&self.profiles[a], &self.profiles[b]);
        let sizes = |profile: &Profile| -> BTreeSet<u64> {
            profile.sizes.iter().copied().filter(|size| self.is_size(*size)).collect()
        };
        let (own, others) = (sizes(first), sizes(second));
        let metrics = first.metrics.intersection(&second.metrics).filter(|name| self.is_telling(name));
        let mut found = Evidence {
            initial: self.initial[a].similarity(&self.initial[b]),
            interface: self.interface[a].containment(&self.interface[b], LEAST_INTERFACE),
            prompts: self.prompts[a].containment(&self.prompts[b], LEAST_PROMPTS),
            metrics: metrics.cloned().collect(),
            sizes: own.intersection(&others).copied().collect(),
            scores: overlap(&first.scores, &second.scores),
            ..Evidence::default()
        };
        let mut shared_by = 0;
        if let (Some((id, words)), Some((other, _))) = (&first.initial, &second.initial) {
            // An empty program is the start of many.
            found.same_initial = id == other && !words.is_empty();
            shared_by = self.starts.get(id.as_str()).copied().unwrap_or_default();
        }
        found.sizes_differ = !own.is_empty() && !others.is_empty() && found.sizes.is_empty();
        found.points = points(&found, shared_by);
        found
    }

    /// Whether a metric says something of a task: it is no scaffold's, and a third of the tasks have it at most. Among few
    /// tasks nobody can tell.
    fn is_telling(&self, name: &str) -> bool {
        let (tasks, all) = (self.metrics.0.get(name).copied().unwrap_or_default(), self.metrics.1);
        3 * tasks <= all && !self.of_scaffolds.iter().any(|own| own == name)
    }

    /// Whether a number says something of a task: many have a seed of 42.
    fn is_size(&self, size: u64) -> bool {
        let tasks = self.sizes.get(&size).copied().unwrap_or_default();
        tasks <= 2 || 3 * tasks <= self.profiles.len()
    }
}

/// What the evidence is worth. Prompts, sizes and scores are shared by many tasks of one suite, so they only add to what
/// programs or metrics say.
fn points(found: &Evidence, shared_by: usize) -> u32 {
    let worth = |points: u32, is_so: bool| if is_so { points } else { 0 };
    if found.sizes_differ {
        return 0;
    }
    let initial = match found.same_initial {
        true if shared_by <= TEMPLATE => ENOUGH,
        true => 1,
        false => worth(1, found.initial >= 0.5),
    };
    let interface = worth(2, found.interface >= 0.6) + worth(1, found.interface >= 0.85);
    let metrics = worth(1, !found.metrics.is_empty());
    if initial + interface + metrics == 0 {
        return 0;
    }
    initial
        + interface
        + metrics
        + worth(1, found.prompts >= 0.35)
        + worth(1, !found.sizes.is_empty())
        + worth(1, found.scores >= 0.5 && interface > 0)
}

/// Metrics that all of three tasks or more of a scaffold have.
fn of_scaffolds(profiles: &[Profile]) -> Vec<String> {
    let mut by_scaffold: BTreeMap<&String, Vec<&Profile>> = BTreeMap::new();
    for profile in profiles.iter().filter(|profile| !profile.metrics.is_empty()) {
        profile.scaffolds.iter().for_each(|name| by_scaffold.entry(name).or_default().push(profile));
    }
    let mut common: Vec<String> = Vec::new();
    for tasks in by_scaffold.values().filter(|tasks| tasks.len() >= 3) {
        let of_all =
            tasks[0].metrics.iter().filter(|name| tasks.iter().all(|task| task.metrics.contains(*name)));
        common.extend(of_all.cloned());
    }
    common.sort_unstable();
    common.dedup();
    common
}

/// How much of the wider range the ranges of a metric have in common, at most. Ranges within 0 and 1 say nothing: they
/// are those of every ratio.
fn overlap(a: &BTreeMap<String, (f64, f64)>, b: &BTreeMap<String, (f64, f64)>) -> f64 {
    let shares = a.iter().filter_map(|(metric, &(low, high))| {
        let &(other_low, other_high) = b.get(metric)?;
        let (outer_low, outer_high) = (low.min(other_low), high.max(other_high));
        let is_ratio = outer_low >= 0.0 && outer_high <= 1.0;
        let common = high.min(other_high) - low.max(other_low);
        (!is_ratio && outer_high > outer_low).then(|| (common / (outer_high - outer_low)).max(0.0))
    });
    shares.fold(0.0, f64::max)
}

/// A set with the weight of each item, in the order of items.
struct Weighed {
    items: Vec<(u64, u64)>,
    sum: u64,
}

/// Sets with the weight of each item, `ln((sets + spare) / count)`. With `spare` 1 what all have weighs something, so that
/// among two tasks there is something to compare; with 0 it weighs nothing.
fn weighed<'a>(sets: impl Iterator<Item = &'a [u64]> + Clone, spare: u64) -> Vec<Weighed> {
    let mut counts: HashMap<u64, u64, foldhash::fast::FixedState> = HashMap::default();
    sets.clone().flatten().for_each(|item| *counts.entry(*item).or_default() += 1);
    let all = sets.clone().filter(|set| !set.is_empty()).count() as u64 + spare;
    let weight = |item: &u64| (ONE as f64 * (all as f64 / counts[item] as f64).ln()).round() as u64;
    sets.map(|set| {
        let items: Vec<(u64, u64)> = set.iter().map(|item| (*item, weight(item))).collect();
        let sum = items.iter().map(|(_, weight)| weight).sum();
        Weighed { items, sum }
    })
    .collect()
}

impl Weighed {
    /// The weight of what both have.
    fn both(&self, other: &Self) -> u64 {
        let (mut left, mut right, mut sum) = (0, 0, 0);
        while let (Some(a), Some(b)) = (self.items.get(left), other.items.get(right)) {
            sum += if a.0 == b.0 { a.1 } else { 0 };
            left += usize::from(a.0 <= b.0);
            right += usize::from(b.0 <= a.0);
        }
        sum
    }

    /// Of the lighter set the share that both have; 0 where it weighs less than `least`.
    fn containment(&self, other: &Self, least: u64) -> f64 {
        let lighter = self.sum.min(other.sum);
        if lighter < least { 0.0 } else { self.both(other) as f64 / lighter as f64 }
    }

    /// Of all that one of the sets has the share that both have.
    fn similarity(&self, other: &Self) -> f64 {
        let both = self.both(other);
        let all = self.sum + other.sum - both;
        if all == 0 { 0.0 } else { both as f64 / all as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::profile::{Sampled, words};
    use super::*;

    /// A task whose programs speak of these words, with numbers of their own.
    fn task(name: &str, code: &str, prompt: &str, metric: &str) -> Profile {
        let mut sampled = Sampled::default();
        for n in 0..6 {
            sampled.program(
                &format!("{code}\nown_{name}_{n} = {}", 1000 + n),
                Some(&format!("{{\"{metric}\": {n}}}")),
            );
        }
        if !prompt.is_empty() {
            sampled.prompt(prompt);
        }
        let initial = Some((code.to_owned(), words(code)));
        let scores = [(metric.to_owned(), (1.0, 5.0))].into();
        Profile { initial, scores, ..sampled.profile(name) }
    }

    fn others() -> Vec<Profile> {
        let names = ["route", "ruler", "growth", "spring", "cache", "graph"];
        let code = |name: &&str| {
            (0..12).map(|n| format!("{name}_{n} ")).collect::<String>() + "def solve return import"
        };
        names.iter().map(|name| task(name, &code(name), "", &format!("{name}_cost"))).collect()
    }

    const CIRCLES: &str =
        "def solve return import radii centers overlap place shrink spread grow count = 26 seed moves";

    fn compare(a: Profile, b: Profile) -> Evidence {
        let mut all = others();
        all.extend([a, b]);
        let weights = Weights::of(&all);
        let found = weights.compare(6, 7);
        assert_eq!(found, weights.compare(7, 6), "either way");
        for (other, profile) in all.iter().enumerate().take(6) {
            assert!(!weights.compare(6, other).is_enough(), "{}", profile.task);
        }
        found
    }

    #[test]
    fn one_problem_in_other_words_is_proposed() {
        let other = CIRCLES.replace("shrink spread", "wiggle");
        let found = compare(
            task("circles", CIRCLES, "Pack 26 circles; the sum of radii counts", "sum_radii"),
            task("discs", &other, "A square holds 26 discs; the sum of radii counts", "sum_radii"),
        );
        assert!(found.is_enough() && !found.same_initial, "{found:?}");
        assert_eq!(
            (found.sizes.as_slice(), found.metrics.as_slice()),
            (&[26][..], &["sum_radii".to_owned()][..])
        );
    }

    #[test]
    fn another_size_is_another_problem() {
        let other = CIRCLES.replace("26", "32");
        let found = compare(
            task("circles", CIRCLES, "Pack 26 circles; the sum of radii counts", "sum_radii"),
            task("more", &other, "Pack 32 circles; the sum of radii counts", "sum_radii"),
        );
        assert!(found.sizes_differ && found.interface > 0.85, "{found:?}");
        assert_eq!(found.points, 0);
    }

    #[test]
    fn one_initial_program_is_enough_unless_it_is_a_template() {
        let found = compare(task("a", CIRCLES, "", "x"), task("b", CIRCLES, "", "y"));
        assert!(found.same_initial && found.is_enough());
        let template = "def func(x, params):\n    return x @ params\n";
        let many: Vec<Profile> =
            (0..8).map(|n| task(&format!("sr{n}"), template, "", &format!("error_{n}"))).collect();
        assert!(!Weights::of(&many).compare(0, 1).is_enough());
        let empty: Vec<Profile> = (0..2).map(|n| task(&format!("t{n}"), "", "", "")).collect();
        assert!(!Weights::of(&empty).compare(0, 1).is_enough());
    }

    /// They were proposed for a seed of 42, a prompt that all share and overlapping scores.
    #[test]
    fn what_unrelated_tasks_of_one_scaffold_share_is_no_evidence() {
        for count in [2, 3, 6] {
            let prompt = "You are an expert coder who improves programs through evolution";
            let code = |n: usize| {
                let own = (0..14).map(|word| format!("word_{n}_{word} ")).collect::<String>();
                format!("import numpy as np\nnp.random.seed(42)\n{own}")
            };
            let all: Vec<Profile> =
                (0..count).map(|n| task(&format!("t{n}"), &code(n), prompt, "combined_score")).collect();
            let weights = Weights::of(&all);
            for (a, b) in (0..count).flat_map(|a| (0..a).map(move |b| (a, b))) {
                assert!(!weights.compare(a, b).is_enough(), "{count}: {:?}", weights.compare(a, b));
            }
        }
    }

    #[test]
    fn ranges_of_ratios_say_nothing() {
        let range = |low, high| [("score".to_owned(), (low, high))].into();
        assert_eq!(overlap(&range(0.0, 1.0), &range(0.0, 1.0)), 0.0);
        assert_eq!(overlap(&range(0.0, 4.0), &range(2.0, 4.0)), 0.5);
        assert_eq!(overlap(&range(0.0, 4.0), &range(5.0, 9.0)), 0.0);
        assert_eq!(overlap(&range(2.0, 2.0), &range(2.0, 2.0)), 0.0);
        assert_eq!(overlap(&[("other".to_owned(), (0.0, 4.0))].into(), &range(0.0, 4.0)), 0.0);
    }

    #[test]
    fn a_metric_of_all_tasks_of_a_scaffold_is_the_scaffolds() {
        let mut all: Vec<Profile> =
            (0..4).map(|n| task(&format!("t{n}"), &format!("x{n}"), "", "fitness")).collect();
        all.iter_mut().for_each(|profile| profile.scaffolds = ["gepa".to_owned()].into());
        all.extend(others());
        assert_eq!(of_scaffolds(&all), ["fitness"]);
        assert_eq!(Weights::of(&all).compare(0, 1).metrics, [] as [String; 0]);
    }
}
