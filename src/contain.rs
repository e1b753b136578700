//! Containment: how much of a text is found inside others, by n-grams of code tokens.
//!
//! A reference is a text that must not be in others: a program of a held-out task, its statement. What counts is how
//! much of its own is in a text. N-grams that other groups were given, such as the harness of a family of tasks, count
//! nothing, and those that many groups of the searched texts have count for little or nothing: they are what a scaffold
//! writes into every prompt. Of a reference that has too little of its own nothing can be said, and it is not judged.
//!
//! Memory: an entry for each n-gram of the references, of as many of these at once as the budget allows; texts are
//! read one by one, twice for each such part.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::error::Result;
use crate::near::tokens::{self, as_set, shingles};

/// References, and texts that are searched for them.
pub trait Corpus: Sync {
    /// How many references there are.
    fn references(&self) -> u32;
    /// A reference, and how many n-grams of its own it needs to be judged.
    fn reference(&self, reference: u32) -> Result<(String, u32)>;
    /// The group of a reference.
    fn owner(&self, reference: u32) -> u32;
    /// Texts that groups were given, each with its group: what is in one is not another group's own.
    fn given(&self) -> &[(u32, u32)];
    /// The searched texts in groups, by their numbers: what many groups share is nobody's own.
    fn groups(&self) -> &[Vec<u32>];
    /// A searched text, or one that was given.
    fn text(&self, text: u32) -> Result<String>;
}

/// A text that holds a reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The text.
    pub text: u32,
    /// Of the references that it holds the one that it holds most of; of equal ones the lowest.
    pub reference: u32,
    /// The share of the reference's own n-grams that are in the text, by their weights; from the threshold to 1.
    pub containment: f64,
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Search {
    /// The texts that hold a reference, in their order, each once.
    pub found: Vec<Found>,
    /// References that had enough of their own.
    pub judged: u32,
}

/// What is searched for, and when it is found.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// Tokens of an n-gram.
    pub ngram: usize,
    /// The least containment, in (0, 1].
    pub threshold: f64,
}

/// Groups of texts up to which an n-gram counts whole. A leak is an n-gram that the held-out side shares with a task,
/// or with its twin; seen in more tasks than that it is more and more likely to be everybody's.
const FEW: u64 = 2;
/// The weight of an n-gram that counts whole. Weights are whole numbers, so that sums have no order.
const WHOLE: u64 = 1 << 10;
/// Bytes of an entry with its reference and what else it takes.
const ENTRY: u64 = 64;
/// Bytes of a text that are looked at together, and by how many of them pieces overlap, so that no n-gram is lost between
/// two.
const PIECE: usize = 1 << 18;
const OVERLAP: usize = 1 << 14;

/// Finds the texts that hold a reference. `budget` is about how many bytes of memory to use.
pub fn search(corpus: &impl Corpus, measure: Measure, budget: u64) -> Result<Search> {
    let most = (budget / ENTRY).max(1 << 12);
    let mut best: HashMap<u32, Found> = HashMap::new();
    let (mut judged, mut next) = (0, 0);
    while next < corpus.references() {
        let part = Part::take(corpus, measure, &mut next, most)?;
        let weights = part.weights(corpus, measure)?;
        let (totals, judged_here) = part.totals(&weights);
        judged += judged_here;
        for found in part.find(corpus, measure, &weights, &totals)? {
            let known = best.entry(found.text).or_insert(found);
            if found.containment > known.containment {
                *known = found;
            }
        }
    }
    let mut found: Vec<Found> = best.into_values().collect();
    found.sort_unstable_by_key(|found| found.text);
    Ok(Search { found, judged })
}

/// Hands over the n-grams of a text, piece by piece, so that a long one takes no more memory than a short one.
fn each_gram(text: &str, ngram: usize, mut take: impl FnMut(u64)) {
    let (mut words, mut grams) = (Vec::new(), Vec::new());
    let mut start = 0;
    loop {
        let piece = &text[start..text.floor_char_boundary(start + PIECE)];
        words.clear();
        grams.clear();
        tokens::tokens(piece, &mut words);
        // Fewer tokens than an n-gram say nothing.
        if words.len() >= ngram {
            shingles(&words, ngram, 0, &mut grams);
        }
        grams.iter().for_each(|gram| take(*gram));
        if start + piece.len() >= text.len() {
            break;
        }
        start = text.floor_char_boundary(start + piece.len() - OVERLAP);
    }
}

/// The weight of an n-gram that so many of all groups have: `ln(groups / seen)`, scaled so that `FEW` count whole and
/// all count nothing (K. Spärck Jones, "A statistical interpretation of term specificity", 1972). Where there are only
/// few groups nothing is known to be shared, and all counts.
fn weight(seen: u64, groups: u64) -> u64 {
    if seen <= FEW || groups <= FEW {
        return WHOLE;
    }
    let log = |number: u64| (number as f64).ln();
    (WHOLE as f64 * (log(groups) - log(seen)) / (log(groups) - log(FEW))).round() as u64
}

/// Some of the references, by their n-grams.
struct Part {
    /// The number of the first.
    first: u32,
    /// The place of each n-gram.
    places: HashMap<u64, u32, foldhash::fast::FixedState>,
    /// Where the references of each place begin in `owners`, and their end.
    starts: Vec<u32>,
    /// References by place, counted from the first.
    owners: Vec<u32>,
    /// N-grams of its own that each reference needs.
    least: Vec<u32>,
}

impl Part {
    /// The references from `next` on, as many as have about `most` n-grams together.
    fn take(corpus: &impl Corpus, measure: Measure, next: &mut u32, most: u64) -> Result<Self> {
        let (first, mut pairs, mut least) = (*next, Vec::<(u64, u32)>::new(), Vec::new());
        while *next < corpus.references() && (pairs.len() as u64) < most {
            let (text, needed) = corpus.reference(*next)?;
            let mut grams = Vec::new();
            each_gram(&text, measure.ngram, |gram| grams.push(gram));
            as_set(&mut grams);
            pairs.extend(grams.into_iter().map(|gram| (gram, *next - first)));
            least.push(needed);
            *next += 1;
        }
        pairs.par_sort_unstable();
        let mut part = Self { first, places: HashMap::default(), starts: vec![0], owners: Vec::new(), least };
        for same in pairs.chunk_by(|a, b| a.0 == b.0) {
            part.places.insert(same[0].0, part.places.len() as u32);
            part.owners.extend(same.iter().map(|(_, owner)| *owner));
            part.starts.push(part.owners.len() as u32);
        }
        Ok(part)
    }

    fn owners(&self, place: u32) -> &[u32] {
        let at = place as usize;
        &self.owners[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    /// The places of the n-grams that a text has, each once.
    fn hits(&self, text: &str, ngram: usize) -> Vec<u32> {
        let mut hits = Vec::new();
        each_gram(text, ngram, |gram| hits.extend(self.places.get(&gram)));
        hits.sort_unstable();
        hits.dedup();
        hits
    }

    /// Whether an n-gram was given to a group that is not the one of all its references.
    fn given_to_others(&self, corpus: &impl Corpus, measure: Measure) -> Result<Vec<bool>> {
        let mut others = vec![false; self.starts.len() - 1];
        for &(text, group) in corpus.given() {
            for place in self.hits(&corpus.text(text)?, measure.ngram) {
                let is_own = |owner: &u32| corpus.owner(self.first + owner) == group;
                others[place as usize] |= !self.owners(place).iter().all(is_own);
            }
        }
        Ok(others)
    }

    /// The weight of each n-gram, by how many groups have it.
    fn weights(&self, corpus: &impl Corpus, measure: Measure) -> Result<Vec<u64>> {
        // The last group that had it, counted from 1, and how many had it.
        let seen: Vec<AtomicU64> = self.starts[1..].iter().map(|_| AtomicU64::new(0)).collect();
        let groups = corpus.groups();
        for (group, texts) in (1_u64..).zip(groups) {
            texts.par_iter().try_for_each(|&text| {
                for place in self.hits(&corpus.text(text)?, measure.ngram) {
                    let _ =
                        seen[place as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, |known| {
                            (known >> 32 != group)
                                .then_some(group << 32 | ((known & u64::from(u32::MAX)) + 1))
                        });
                }
                Ok::<(), crate::error::Error>(())
            })?;
        }
        let all = groups.iter().filter(|texts| !texts.is_empty()).count() as u64;
        let weights = seen.into_iter().map(|seen| weight(seen.into_inner() & u64::from(u32::MAX), all));
        let others = self.given_to_others(corpus, measure)?;
        Ok(weights.zip(others).map(|(weight, others)| if others { 0 } else { weight }).collect())
    }

    /// What each reference has of its own, 0 where that is too little, and how many have enough.
    fn totals(&self, weights: &[u64]) -> (Vec<u64>, u32) {
        let mut totals = vec![0; self.least.len()];
        for (place, weight) in (0..).zip(weights) {
            self.owners(place).iter().for_each(|&owner| totals[owner as usize] += weight);
        }
        for (total, least) in totals.iter_mut().zip(&self.least) {
            if *total < u64::from(*least) * WHOLE {
                *total = 0;
            }
        }
        let judged = totals.iter().filter(|total| **total > 0).count() as u32;
        (totals, judged)
    }

    /// The texts that hold a reference of this part.
    fn find(
        &self,
        corpus: &impl Corpus,
        measure: Measure,
        weights: &[u64],
        totals: &[u64],
    ) -> Result<Vec<Found>> {
        // No reference is found in a text that has less than the smallest of them needs.
        let smallest = totals.iter().filter(|total| **total > 0).min().copied();
        let Some(smallest) = smallest else { return Ok(vec![]) };
        // A share as below, of a total that is not larger: what fails here fails there.
        let is_enough = |sum: u64| sum as f64 / smallest as f64 >= measure.threshold;
        let texts: Vec<u32> = corpus.groups().iter().flatten().copied().collect();
        let look = |&text: &u32| -> Result<Option<Found>> {
            let hits = self.hits(&corpus.text(text)?, measure.ngram);
            if !is_enough(hits.iter().map(|place| weights[*place as usize]).sum()) {
                return Ok(None);
            }
            let mut sums: HashMap<u32, u64, foldhash::fast::FixedState> = HashMap::default();
            for place in hits {
                for &owner in self.owners(place) {
                    *sums.entry(owner).or_default() += weights[place as usize];
                }
            }
            let shares = sums
                .into_iter()
                .filter(|(owner, _)| totals[*owner as usize] > 0)
                .map(|(owner, sum)| (sum as f64 / totals[owner as usize] as f64, owner))
                .filter(|(share, _)| *share >= measure.threshold);
            let best = shares.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
            Ok(best.map(|(containment, owner)| Found { text, reference: self.first + owner, containment }))
        };
        texts.par_iter().filter_map(|text| look(text).transpose()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each reference is a group of its own, behind those of the texts.
    struct Texts {
        references: Vec<(String, u32)>,
        groups: Vec<Vec<u32>>,
        texts: Vec<String>,
        given: Vec<(u32, u32)>,
    }

    impl Corpus for Texts {
        fn references(&self) -> u32 {
            self.references.len() as u32
        }

        fn reference(&self, reference: u32) -> Result<(String, u32)> {
            Ok(self.references[reference as usize].clone())
        }

        fn owner(&self, reference: u32) -> u32 {
            1000 + reference
        }

        fn given(&self) -> &[(u32, u32)] {
            &self.given
        }

        fn groups(&self) -> &[Vec<u32>] {
            &self.groups
        }

        fn text(&self, text: u32) -> Result<String> {
            Ok(self.texts[text as usize].clone())
        }
    }

    const MEASURE: Measure = Measure { ngram: 4, threshold: 0.8 };

    fn words(name: &str, count: usize) -> String {
        (0..count).map(|n| format!("{name}{n} ")).collect()
    }

    fn one_group_each(references: Vec<(String, u32)>, texts: Vec<String>) -> Texts {
        let groups = (0..texts.len() as u32).map(|text| vec![text]).collect();
        Texts { references, groups, texts, given: vec![] }
    }

    #[test]
    fn a_copy_inside_a_text_is_found_and_a_part_of_it_is_not() {
        let program = words("own", 60);
        let part: String = program.split_inclusive(' ').take(40).collect();
        let texts = vec![
            words("other", 90),
            format!("{} {program} {}", words("before", 30), words("after", 30)),
            format!("{} {part}", words("before", 30)),
        ];
        let all = search(&one_group_each(vec![(program, 10)], texts), MEASURE, 1 << 20).expect("search");
        assert_eq!(all.found, [Found { text: 1, reference: 0, containment: 1.0 }]);
        assert_eq!(all.judged, 1);
    }

    #[test]
    fn what_all_groups_share_is_nobodys_own() {
        let boilerplate = words("scaffold", 100);
        let reference = format!("{boilerplate} {}", words("own", 30));
        let mut texts: Vec<String> =
            (0..9).map(|n| format!("{boilerplate} {}", words(&format!("task{n}x"), 30))).collect();
        let all = search(
            &one_group_each(vec![(reference.clone(), 10), (boilerplate.clone(), 10)], texts.clone()),
            MEASURE,
            1 << 20,
        )
        .expect("search");
        assert_eq!(all, Search { found: vec![], judged: 1 }, "boilerplate alone is not judged");
        // Without the others it would have been most of the reference.
        let alone = one_group_each(vec![(reference.clone(), 10)], vec![boilerplate.clone()]);
        assert_eq!(
            search(&alone, Measure { threshold: 0.7, ..MEASURE }, 1 << 20).expect("search").found.len(),
            1
        );
        texts[4].push_str(&words("own", 30));
        let all = search(&one_group_each(vec![(reference, 10)], texts), MEASURE, 1 << 20).expect("search");
        assert_eq!(all.found.iter().map(|found| found.text).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn a_reference_that_is_too_short_is_not_judged() {
        let texts = one_group_each(vec![(words("own", 12), 10), (String::new(), 1)], vec![words("own", 50)]);
        assert_eq!(search(&texts, MEASURE, 1 << 20).expect("search"), Search::default());
    }

    #[test]
    fn parts_find_what_one_search_finds() {
        let references: Vec<(String, u32)> = (0..40).map(|n| (words(&format!("r{n}x"), 400), 10)).collect();
        let texts: Vec<String> = (0..80)
            .map(|n| {
                if n % 3 == 0 {
                    format!("{} {}", words("t", 20), references[n / 2].0)
                } else {
                    words("t", 50)
                }
            })
            .collect();
        let corpus = one_group_each(references, texts);
        let whole = search(&corpus, MEASURE, 1 << 30).expect("search");
        assert_eq!((whole.found.len(), whole.judged), (27, 40));
        assert_eq!(search(&corpus, MEASURE, 0).expect("search"), whole, "in parts of 4,096 n-grams");
    }

    #[test]
    fn what_another_group_was_given_is_not_its_own() {
        let harness = words("harness", 60);
        let held = format!("{harness}{}", words("held", 40));
        let searched = || vec![format!("{harness}{}", words("trained", 10)), harness.clone(), held.clone()];
        let found = |given: Vec<(u32, u32)>| {
            let corpus = Texts {
                groups: vec![vec![0, 1], vec![2]],
                given,
                ..one_group_each(vec![(held.clone(), 10)], searched())
            };
            search(&corpus, Measure { threshold: 0.5, ..MEASURE }, 1 << 20).expect("search").found
        };
        let texts = |found: &[Found]| found.iter().map(|found| found.text).collect::<Vec<_>>();
        assert_eq!(texts(&found(vec![])), [0, 1, 2], "the harness is most of it");
        // Two tasks are enough to tell, where one was given the harness.
        assert_eq!(texts(&found(vec![(1, 0)])), [2]);
        assert_eq!(texts(&found(vec![(1, 1000)])), [0, 1, 2], "its own harness is its own");
    }

    #[test]
    fn a_share_of_exactly_the_threshold_is_found_in_parts_too() {
        for own in 20..400 {
            let reference = words("r", own + 3);
            // As many of its n-grams as make the share.
            for percent in [60, 81, 90] {
                if own * percent % 100 != 0 {
                    continue;
                }
                let part: String = reference.split_inclusive(' ').take(own * percent / 100 + 3).collect();
                let measure = Measure { ngram: 4, threshold: percent as f64 / 100.0 };
                let alone = one_group_each(vec![(reference.clone(), 10)], vec![part.clone()]);
                let beside = vec![(words("other", 30), 10), (reference.clone(), 10)];
                let both = search(&one_group_each(beside, vec![part]), measure, 0).expect("search");
                let alone = search(&alone, measure, 1 << 20).expect("search");
                let share = |all: &Search| all.found.first().map(|found| found.containment);
                assert_eq!(
                    (share(&alone), share(&both)),
                    (Some(measure.threshold), share(&alone)),
                    "{own} {percent}"
                );
            }
        }
    }

    #[test]
    fn weights_fall_from_whole_to_nothing() {
        assert_eq!(weight(0, 300), WHOLE);
        assert_eq!(weight(2, 300), WHOLE);
        assert_eq!(weight(2, 2), WHOLE);
        assert_eq!(weight(300, 300), 0);
        let all: Vec<u64> = (2..=300).map(|seen| weight(seen, 300)).collect();
        assert!(all.windows(2).all(|pair| pair[0] >= pair[1]));
    }

    #[test]
    fn a_copy_behind_the_first_piece_of_a_long_text_is_found() {
        let program = words("own", 60);
        // The copy lies over the end of the first piece.
        let before = "x ".repeat((PIECE - 100) / 2);
        let texts = vec![format!("{before}{program}"), format!("{before}{before}{program}")];
        let all = search(&one_group_each(vec![(program, 10)], texts), MEASURE, 1 << 20).expect("search");
        assert_eq!(all.found.iter().map(|found| found.containment).collect::<Vec<_>>(), [1.0, 1.0]);
    }
}
