//! What speaks for two tasks being one problem, and what against it.
//!
//! The points and limits below were chosen on the published logs of ten scaffolds, where a list made by hand says which
//! tasks are the same; they are a way to order what a person should look at, not a proof.

use std::collections::{BTreeMap, HashMap};

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
    /// What this is worth together; 0 where sizes differ.
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

impl Evidence {
    /// Whether the tasks should be proposed as one.
    pub fn is_enough(&self) -> bool {
        self.points >= ENOUGH
    }
}

/// How much each word says: what few tasks have says more than what all have.
pub struct Weights {
    initial: Rarity<u64>,
    interface: Rarity<u64>,
    prompts: Rarity<u64>,
    /// Tasks that report a metric, and all that report any.
    metrics: (HashMap<String, usize>, usize),
    /// Metrics that all tasks of a scaffold report: its own, and no evaluator's.
    of_scaffolds: Vec<String>,
    /// Tasks that start from a program.
    starts: HashMap<String, usize>,
}

impl Weights {
    /// The weights among these tasks.
    pub fn of(profiles: &[Profile]) -> Self {
        let (mut metrics, mut starts) = (HashMap::new(), HashMap::new());
        for profile in profiles {
            for name in &profile.metrics {
                *metrics.entry(name.clone()).or_default() += 1;
            }
            if let Some((id, _)) = &profile.initial {
                *starts.entry(id.clone()).or_default() += 1;
            }
        }
        let reporting = profiles.iter().filter(|profile| !profile.metrics.is_empty()).count();
        Self {
            initial: Rarity::of(profiles.iter().filter_map(|profile| Some(&profile.initial.as_ref()?.1))),
            interface: Rarity::of(profiles.iter().map(|profile| &profile.interface)),
            prompts: Rarity::of(profiles.iter().map(|profile| &profile.prompts)),
            metrics: (metrics, reporting),
            of_scaffolds: of_scaffolds(profiles),
            starts,
        }
    }

    /// What two of these tasks have in common.
    pub fn compare(&self, a: &Profile, b: &Profile) -> Evidence {
        let mut found = Evidence {
            interface: self.interface.containment(&a.interface, &b.interface, LEAST_INTERFACE),
            prompts: self.prompts.containment(&a.prompts, &b.prompts, 1),
            metrics: a
                .metrics
                .intersection(&b.metrics)
                .filter(|name| self.is_telling(name))
                .cloned()
                .collect(),
            sizes: a.sizes.intersection(&b.sizes).copied().collect(),
            scores: overlap(&a.scores, &b.scores),
            ..Evidence::default()
        };
        let mut shared_by = 0;
        if let (Some((id, words)), Some((other, others))) = (&a.initial, &b.initial) {
            found.initial = self.initial.similarity(words, others);
            // An empty program is the start of many.
            found.same_initial = id == other && !words.is_empty();
            shared_by = self.starts.get(id).copied().unwrap_or_default();
        }
        found.sizes_differ = !a.sizes.is_empty() && !b.sizes.is_empty() && found.sizes.is_empty();
        found.points = points(&found, shared_by);
        found
    }

    /// Whether a metric says something of a task: it is no scaffold's, and a third of the tasks have it at most, or two.
    fn is_telling(&self, name: &String) -> bool {
        let (tasks, all) = (self.metrics.0.get(name).copied().unwrap_or_default(), self.metrics.1);
        !self.of_scaffolds.contains(name) && (3 * tasks <= all || tasks <= 2)
    }
}

fn points(found: &Evidence, shared_by: usize) -> u32 {
    let worth = |points: u32, is_so: bool| if is_so { points } else { 0 };
    let initial = match found.same_initial {
        true if shared_by <= TEMPLATE => return ENOUGH + worth(1, !found.metrics.is_empty()),
        true => 1,
        false => worth(1, found.initial >= 0.5),
    };
    if found.sizes_differ {
        return 0;
    }
    let interface = worth(2, found.interface >= 0.6) + worth(1, found.interface >= 0.85);
    initial
        + interface
        + worth(1, found.prompts >= 0.35)
        + worth(1, !found.metrics.is_empty())
        + worth(1, !found.sizes.is_empty())
        + worth(1, found.scores >= 0.5)
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

/// The weight of each item of sets: the logarithm of how few sets have it.
struct Rarity<T> {
    sets: u64,
    counts: HashMap<T, u64, foldhash::fast::FixedState>,
}

impl Rarity<u64> {
    fn of<'a>(sets: impl Iterator<Item = &'a Vec<u64>>) -> Self {
        let mut rarity = Self { sets: 0, counts: HashMap::default() };
        for set in sets.filter(|set| !set.is_empty()) {
            rarity.sets += 1;
            for item in set {
                *rarity.counts.entry(*item).or_default() += 1;
            }
        }
        rarity
    }

    /// `ln((sets + 1) / count)`: above 0 for what all have, so that among two tasks something is left to compare.
    fn weight(&self, item: u64) -> u64 {
        let count = self.counts.get(&item).copied().unwrap_or(1);
        (ONE as f64 * ((self.sets + 1) as f64 / count as f64).ln()).round() as u64
    }

    fn sum<'a>(&self, set: impl IntoIterator<Item = &'a u64>) -> u64 {
        set.into_iter().map(|item| self.weight(*item)).sum()
    }

    fn both(&self, a: &[u64], b: &[u64]) -> u64 {
        self.sum(a.iter().filter(|item| b.binary_search(item).is_ok()))
    }

    /// Of the lighter set the share that both have; 0 where it weighs less than `least`.
    fn containment(&self, a: &[u64], b: &[u64], least: u64) -> f64 {
        let lighter = self.sum(a).min(self.sum(b));
        if lighter < least { 0.0 } else { self.both(a, b) as f64 / lighter as f64 }
    }

    /// Of all that one of the sets has the share that both have.
    fn similarity(&self, a: &[u64], b: &[u64]) -> f64 {
        let both = self.both(a, b);
        let all = self.sum(a) + self.sum(b) - both;
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
        let found = weights.compare(&all[6], &all[7]);
        assert_eq!(found, weights.compare(&all[7], &all[6]), "either way");
        for other in &all[..6] {
            assert!(!weights.compare(&all[6], other).is_enough(), "{}", other.task);
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
        let weights = Weights::of(&many);
        assert!(!weights.compare(&many[0], &many[1]).is_enough());
        let empty: Vec<Profile> = (0..2).map(|n| task(&format!("t{n}"), "", "", "")).collect();
        assert!(!Weights::of(&empty).compare(&empty[0], &empty[1]).is_enough());
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
        assert_eq!(Weights::of(&all).compare(&all[0], &all[1]).metrics, [] as [String; 0]);
    }
}
