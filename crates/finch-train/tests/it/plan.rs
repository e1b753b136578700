//! `plan` and `inspect`: what needs no libtorch.

use std::collections::BTreeMap;

use finch_core::example::Message;
use finch_core::template::Template;
use finch_core::tokens::Tokenizer;
use finch_train::held_out;
use finch_train::packs::Packs;

use crate::dataset::{self, Bench, Doc, documents, packed};

const CONFIG: &str =
    "base = \"{fixtures}qwen3\"\nepochs = 2\nbatch_examples = 6\nlr = 1e-3\neval_tokens = 60";

#[test]
fn a_plan_counts_parameters_state_and_steps() {
    let bench = Bench::new(&packed(documents(40, 160, 1), 3), CONFIG);
    let output = bench.finch_train(&["plan", "config.toml", "--data", "data", "--json"]).ok();
    let plan: serde_json::Value = serde_json::from_str(&output.out).expect("json");
    // 2 (160 x 32) for embedding and head, 32 for the last norm; in each layer 2 (64 x 32) + 2 (32 x 32) for
    // attention, 3 (32 x 80) for the MLP, 2 x 32 + 2 x 16 for norms.
    let parameters = 2 * 160 * 32 + 32 + 2 * (2 * 64 * 32 + 2 * 32 * 32 + 3 * 32 * 80 + 2 * 32 + 2 * 16);
    assert_eq!(plan["parameters"], parameters);
    assert_eq!(plan["weight_bytes"], 4 * parameters);
    assert_eq!(plan["optimizer_bytes"], 8 * parameters);
    // Packs of 3 examples, 9 or 10 of 14 for training; a step of 6 examples is two packs.
    assert_eq!(plan["train"]["packs"], 10);
    assert_eq!(plan["steps"], 10);
    let words =
        bench.finch_train(&["plan", "config.toml", "--data", "data", "--tokens-per-second", "100"]).ok();
    assert!(words.out.contains("minutes at 100 tokens/s"), "{}", words.out);
}

#[test]
fn held_out_examples_fit_their_budget_and_every_task_is_there() {
    let bench = Bench::new(&packed(documents(90, 160, 1), 3), CONFIG);
    let packs = Packs::open(&bench.path("data")).expect("packs");
    for budget in [1, 60, 200] {
        let chosen = held_out::choose(packs.all(), held_out::NOT_TRAINED, Some(budget), 1);
        let mut tasks: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for example in &chosen {
            let document = &packs.all()[example.pack].documents[example.document];
            tasks.entry(&document.task).or_default().push(document.tokens as u64);
        }
        assert_eq!(tasks.len(), 2, "budget {budget}");
        for tokens in tasks.values() {
            assert!(tokens.iter().sum::<u64>() <= budget || tokens.len() == 1, "budget {budget}: {tokens:?}");
        }
        let again = held_out::choose(packs.all(), held_out::NOT_TRAINED, Some(budget), 1);
        assert_eq!(chosen, again);
    }
    assert_ne!(
        held_out::choose(packs.all(), held_out::NOT_TRAINED, Some(60), 1),
        held_out::choose(packs.all(), held_out::NOT_TRAINED, Some(60), 2)
    );
    let all = held_out::choose(packs.all(), held_out::NOT_TRAINED, None, 1);
    assert!(all.iter().all(|example| !packs.all()[example.pack].is_train()));
    let groups = held_out::group(packs.all(), &all, 64);
    assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), all.len());
    for group in groups.iter().filter(|group| group.len() > 1) {
        let tokens: usize = group.iter().map(|e| packs.all()[e.pack].documents[e.document].tokens).sum();
        assert!(tokens <= 64);
    }
}

#[test]
fn inspect_shows_exactly_what_is_trained() {
    let texts = ["user hello there <|im_start|> assistant fine thanks \u{1b}[31m 日本"];
    let tokenizer = Tokenizer::train(texts.iter().cycle().take(9), 300).expect("tokenizer");
    let messages =
        [Message::new("user", "hello <|im_start|>"), Message::new("assistant", "fine \u{1b}[31m日本")];
    let encoded = tokenizer.encode_pieces(&Template::ChatMl.render(&messages)).expect("encode");
    let doc = Doc {
        id: format!("{:064x}", 7),
        task: "greeting".to_owned(),
        ids: encoded.ids.iter().map(|&id| id as i32).collect(),
        trained: encoded.trained,
        weight: 1.0,
        outcome: String::new(),
    };
    let bench = Bench::new(&[(None, vec![doc])], CONFIG);
    dataset::tokenizer(&bench.path("data"), &tokenizer.to_json().expect("json"));
    let shown = bench.finch_train(&["inspect", "data"]).ok().out;
    let expected = "<|im_start|>user\nhello <|im_start|><|im_end|>\n<|im_start|>assistant\n\
                    ⟦fine \u{fffd}[31m日本<|im_end|>⟧\n";
    assert!(shown.ends_with(expected), "{shown}");
    assert!(shown.contains("task greeting  split none  segment 1 of 1"), "{shown}");
    let id = format!("{:064x}", 7);
    assert_eq!(bench.finch_train(&["inspect", "data", "--example", &id]).ok().out, shown);
    bench.finch_train(&["inspect", "data", "--example", "ffff"]).fails(2, &["no example begins with `ffff`"]);
}
