//! `plan`: what a training needs and does, in words or as JSON.

use finch_core::training::Device;

use super::{Plan, print};
use crate::architecture::Architecture;
use crate::batch::Batches;
use crate::budget::{Budget, Flight, Plan as Planned};
use crate::error::{Error, Result};
use crate::packs::Packs;
use crate::{config, held_out};

pub(super) fn plan(command: &Plan) -> Result<()> {
    let config = config::read(&command.config)?;
    let shape = Architecture::of(&config.base)?;
    let packs = Packs::open(&command.data)?;
    packs.fits(&shape)?;
    let mut batches = Batches::of(&config, &packs)?;
    let steps = batches.steps();
    let train = Packs::totals(packs.all().iter().filter(|pack| pack.is_train()));
    let chosen = held_out::choose(packs.all(), held_out::NOT_TRAINED, config.eval_tokens, config.seed);
    let held_out = held_out::totals(packs.all(), &chosen);
    let flight = Flight::of(&config, &packs);
    // Whoever says how much memory there is means a card's, unless the config says that there is none.
    let said = command.memory.or(config.memory).is_some();
    let card = config.device == Device::Cuda || (config.device == Device::Auto && said);
    let budget = Budget::new(&config, &shape, flight, command.memory, card);
    let planned = Planned { budget, steps, train, held_out };
    if command.json {
        let text = serde_json::to_string_pretty(&planned)
            .map_err(|source| Error::io("write", "standard output")(std::io::Error::other(source)))?;
        print(&(text + "\n"));
        return Ok(());
    }
    let index = packs.train();
    let trained = batches.tokens(|pack| packs.all()[index[pack]].tokens() as u64);
    let evals = 2 + steps.saturating_sub(1).checked_div(config.eval_every).unwrap_or(0);
    print(&words(&planned, &shape, trained, evals, command.tokens_per_second));
    Ok(())
}

/// A plan for people. `trained` are the tokens of all steps, `evals` how often what is held out is evaluated.
fn words(plan: &Planned, shape: &Architecture, trained: f64, evals: u64, rate: Option<f64>) -> String {
    let Planned { budget, steps, train, held_out } = plan;
    let size = |bytes: u64| match bytes {
        0..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30)),
    };
    let per_step = trained / (*steps).max(1) as f64;
    let seen = trained + held_out.tokens as f64 * evals as f64;
    let kept = budget.kept;
    let mut text = format!(
        "model        {} parameters ({} layers, hidden {}, vocabulary {}{}){}\n\
         data         {} examples in {} packs, {} tokens, {} of them trained ({:.1} %)\n\
         held out     {} examples, {} tokens, evaluated {evals} times\n\
         steps        {steps}, about {per_step:.0} tokens each; {seen:.0} tokens seen in all\n\
         in flight    {} tokens\n\
         kept         everything of {} layers, the lean part of {}, the input of {}\n\
         weights      {}\n\
         gradients    {}\n\
         optimizer    {}\n\
         activations  {}, {} of them at the head for logits\n\
         in all       {} at most\n",
        budget.parameters,
        shape.layers(),
        shape.hidden_size,
        shape.vocab_size,
        if shape.tie_word_embeddings { ", tied" } else { "" },
        match budget.trainable == budget.parameters {
            true => String::new(),
            false => format!(", {} trained in adapters", budget.trainable),
        },
        train.examples,
        train.packs,
        train.tokens,
        train.trained_tokens,
        100.0 * train.trained_tokens as f64 / train.tokens.max(1) as f64,
        held_out.examples,
        held_out.tokens,
        budget.tokens_in_flight,
        kept.everything,
        kept.lean,
        kept.inputs,
        size(budget.weight_bytes),
        size(budget.gradient_bytes),
        size(budget.optimizer_bytes),
        size(budget.activation_bytes),
        size(budget.logit_bytes),
        size(budget.total_bytes),
    );
    match (budget.memory_bytes, budget.fits) {
        (Some(memory), Some(true)) => text += &format!("fits         in {}\n", size(memory)),
        (Some(memory), Some(false)) => {
            text += &format!("does not fit in {}\n  help: {}\n", size(memory), budget.advice());
        }
        _ => text += "fits?        `--memory 139GiB` asks for a card\n",
    }
    if let Some(rate) = rate {
        let hours = seen / rate / 3600.0;
        let time =
            if hours < 1.0 { format!("{:.1} minutes", hours * 60.0) } else { format!("{hours:.1} hours") };
        text += &format!("time         {time} at {rate:.0} tokens/s\n");
    }
    text
}
