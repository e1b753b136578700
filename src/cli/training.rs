//! What a training did, for people: held-out losses by task and by outcome, and where the model lies.

use super::output::columns;
use crate::error::Result;
use crate::evaluation::{LossOf, held_out};
use crate::store::Dataset;

/// The closing words about a training.
pub(super) fn closing(stage: &str, dataset: &Dataset) -> Result<String> {
    let losses = held_out(dataset)?;
    let folder = dataset.folder()?.join(finch_core::training::files::MODEL);
    let mut text = format!("\nheld-out loss of {stage} (nats per token; lower is better)\n");
    if losses.tasks.is_empty() {
        text += "nothing was held out\n";
    } else {
        text += &table("task", &losses.tasks);
    }
    if !losses.outcomes.is_empty() {
        text += &format!("\n{}", table("outcome", &losses.outcomes));
    }
    text += &format!("model: {}\n", folder.display());
    Ok(text)
}

fn table(of: &str, losses: &[LossOf]) -> String {
    let rows: Vec<Vec<String>> = losses
        .iter()
        .map(|loss| {
            let change = loss.after - loss.before;
            vec![
                loss.split.clone().unwrap_or_default(),
                loss.name.clone().unwrap_or_else(|| "all".to_owned()),
                loss.examples.to_string(),
                format!("{:.4}", loss.before),
                format!("{:.4}", loss.after),
                format!("{change:+.4}"),
                if change > 0.0 { "rose" } else { "" }.to_owned(),
            ]
        })
        .collect();
    columns(&["split", of, "examples", "before", "after", "change", ""], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_rose_is_said_so() {
        let loss = |name: Option<&str>, before, after| LossOf {
            split: name.map(|_| "test".to_owned()),
            name: name.map(str::to_owned),
            examples: 12,
            before,
            after,
        };
        let losses = [loss(Some("circles"), 2.5, 1.25), loss(Some("tour"), 1.0, 1.125), loss(None, 2.0, 1.2)];
        insta::assert_snapshot!(table("task", &losses), @r"
        split  task     examples  before   after   change
        test   circles        12  2.5000  1.2500  -1.2500
        test   tour           12  1.0000  1.1250  +0.1250  rose
               all            12  2.0000  1.2000  -0.8000
        ");
    }
}
