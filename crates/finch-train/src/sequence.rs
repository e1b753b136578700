//! Documents that go through the model together: token ids, where documents end, and what is predicted.
//!
//! Row t of a sequence predicts token t + 1 of the same document. Only rows whose next token is trained are kept
//! as targets, so that nothing is computed for the others after the last layer.

/// Several documents, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sequence {
    /// Token ids.
    pub ids: Vec<i64>,
    /// Length of each document in tokens.
    pub lengths: Vec<i64>,
    /// The rows that predict a trained token.
    pub rows: Vec<i64>,
    /// The token that each of these rows should predict.
    pub targets: Vec<i64>,
    /// The weight of each of these rows in the loss.
    pub weights: Vec<f32>,
    /// The document of each of these rows.
    pub owners: Vec<usize>,
}

impl Sequence {
    /// Adds a document. `trained[t]` says whether token t is a target; the first token never is, because nothing
    /// in its document stands before it.
    pub fn push(&mut self, ids: &[i32], trained: &[bool], weight: f64) {
        let start = self.ids.len() as i64;
        let owner = self.lengths.len();
        self.ids.extend(ids.iter().map(|&id| i64::from(id)));
        self.lengths.push(ids.len() as i64);
        for (t, (&id, _)) in ids.iter().zip(trained).enumerate().skip(1).filter(|(_, (_, trained))| **trained)
        {
            self.rows.push(start + t as i64 - 1);
            self.targets.push(i64::from(id));
            self.weights.push(weight as f32);
            self.owners.push(owner);
        }
    }

    /// Sum of weights over the target rows: what the loss of this sequence is divided by, alone or with others.
    pub fn weight(&self) -> f64 {
        self.weights.iter().map(|&weight| f64::from(weight)).sum()
    }

    /// Positions within documents: each starts at 0.
    pub fn positions(&self) -> Vec<i64> {
        self.lengths.iter().flat_map(|&length| 0..length).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_stay_within_their_document() {
        let mut sequence = Sequence::default();
        sequence.push(&[5, 6, 7], &[false, true, true], 1.0);
        // A mask that trains a document's first token must not make the last row of the one before predict it.
        sequence.push(&[8, 9], &[true, true], 0.5);
        assert_eq!(sequence.ids, [5, 6, 7, 8, 9]);
        assert_eq!(sequence.rows, [0, 1, 3]);
        assert_eq!(sequence.targets, [6, 7, 9]);
        assert_eq!(sequence.weights, [1.0, 1.0, 0.5]);
        assert_eq!(sequence.owners, [0, 0, 1]);
        assert_eq!(sequence.positions(), [0, 1, 2, 0, 1]);
        assert_eq!(sequence.weight(), 2.5);
    }

    #[test]
    fn a_document_of_one_token_predicts_nothing() {
        let mut sequence = Sequence::default();
        sequence.push(&[5], &[true], 1.0);
        assert!(sequence.rows.is_empty());
        assert_eq!(sequence.lengths, [1]);
    }
}
