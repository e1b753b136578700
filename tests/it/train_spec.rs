//! Mistakes in a `train` stage: exit 2 with the place, the code and what was meant.

use crate::pack::{packing, project};

/// A good train stage, after a pack stage.
pub(crate) const TRAIN: &str = r#"
[stages.model]
kind = "train"
input = "packed"
base = { config = "base.json", init = "random" }
epochs = 1
batch_packs = 1
lr = 1e-3
"#;

/// One change to a good train stage: the code and words of the error.
#[track_caller]
fn check(from: &str, to: &str, code: &str, words: &[&str]) {
    assert!(TRAIN.contains(from), "{from}");
    let spec = format!("{}{}", packing(), TRAIN.replacen(from, to, 1));
    let project = project(&spec);
    project.write("base.json", "{}");
    let code = format!("error {code}");
    let words: Vec<&str> = [code.as_str()].into_iter().chain(words.iter().copied()).collect();
    for command in ["check", "run"] {
        project.finch(&[command, "spec.toml"]).fails(2, &words);
    }
    assert!(!project.path("store").exists(), "something was written");
}

/// One key added to a good train stage.
#[track_caller]
fn add(line: &str, code: &str, words: &[&str]) {
    check("lr = 1e-3", &format!("lr = 1e-3\n{line}"), code, words);
}

#[test]
fn a_good_stage_is_accepted() {
    let keys = "method = \"sft\"\nmicro_packs = 2\nschedule = { kind = \"linear\", warmup = 0.1 }\nbeta1 = 0.9\n\
                beta2 = 0.99\nepsilon = 1e-8\nweight_decay = 0.1\nclip = 1\ndtype = \"bf16\"\ndevice = \"cpu\"\n\
                threads = 1\neval_every = 10\neval_tokens = 1000\ncheckpoint_every = 5\n\
                state_bytes = 10\nactivations = \"lean\"\nmemory = \"80GiB\"\ndeterministic = true\n\
                keep_checkpoints = 3\nkeep_best = true\nnot_finite = \"skip\"\n\
                launcher = \"srun --gres=gpu:1 {command}\"";
    let adapters = "method = \"lora\"\nlora = { rank = 8, alpha = 16, targets = [\"q_proj\", \"down_proj\"] }\n\
                    schedule = { kind = \"wsd\", warmup = 0.1, decay = 0.3 }\nmemory = 1073741824";
    for keys in [keys, adapters, "method = \"lora\"", "schedule = { kind = \"wsd\" }"] {
        let spec = format!("{}{TRAIN}{keys}\n", packing());
        let project = project(&spec);
        project.write("base.json", "{}");
        project.finch(&["check", "spec.toml"]).ok();
    }
}

#[test]
fn keys_and_types() {
    check("lr = 1e-3\n", "", "F0104", &["stage `model` lacks the key `lr`"]);
    check("lr = 1e-3", "lr = \"fast\"", "F0103", &["`lr` in stage `model` must be a number"]);
    check("lr = ", "learning = ", "F0102", &["unknown key `learning`"]);
    add("weight_decai = 0.1", "F0102", &["did you mean `weight_decay`?"]);
    check("input = \"packed\"\n", "", "F0104", &["lacks the key `input`"]);
    check("\"packed\"", "\"pakced\"", "F0201", &["did you mean `packed`?"]);
    check("\"packed\"", "\"sft\"", "F0106", &["`sft` is not a pack stage", "pack stages here: `packed`"]);
    add("dtype = \"f16\"", "F0106", &["`dtype` in stage `model` cannot be `f16`"]);
    add("device = \"gpu\"", "F0106", &["`device`"]);
    add("schedule = \"cosine\"", "F0103", &["a table"]);
    add("schedule = { kind = \"cosin\" }", "F0106", &["did you mean `cosine`?"]);
    add("schedule = { warmpu = 0.1 }", "F0102", &["did you mean `warmup`?"]);
    add("threads = 1.5", "F0103", &["`threads`"]);
    add("eval_every = -1", "F0106", &["`eval_every`"]);
    add("checkpoint_every = \"often\"", "F0103", &["`checkpoint_every`"]);
    add("method = \"lora\"\nlora = 16", "F0103", &["`lora`", "a table"]);
    add("method = \"lora\"\nlora = { rnak = 16 }", "F0102", &["did you mean `rank`?"]);
    add("method = \"lora\"\nlora = { targets = \"q_proj\" }", "F0103", &["a list of texts"]);
    add("schedule = { kind = \"wsd\", decay = \"late\" }", "F0103", &["`decay`", "a number"]);
    add("state_bytes = \"12\"", "F0103", &["`state_bytes` in stage `model`"]);
    add("activations = \"leen\"", "F0106", &["`activations`", "did you mean `lean`?"]);
    add("memory = true", "F0103", &["`memory`", "a size"]);
    add("memory = \"80XB\"", "F0106", &["`memory`", "use MiB or GiB"]);
    add("deterministic = 1", "F0103", &["`deterministic`", "true or false"]);
    add("keep_best = \"yes\"", "F0103", &["`keep_best`"]);
    add("not_finite = \"skp\"", "F0106", &["`not_finite`", "did you mean `skip`?"]);
}

#[test]
fn values_that_training_cannot_have() {
    check("lr = 1e-3", "lr = 0.0", "F0106", &["`lr` in stage `model` must be above 0"]);
    check("lr = 1e-3", "lr = inf", "F0106", &["finite"]);
    add("epsilon = 0.0", "F0106", &["`epsilon`", "above 0"]);
    add("beta1 = 1.0", "F0106", &["`beta1`", "below 1"]);
    add("beta2 = -0.1", "F0106", &["`beta2`"]);
    add("weight_decay = -1.0", "F0106", &["`weight_decay`"]);
    add("clip = -1.0", "F0106", &["`clip`"]);
    add("schedule = { warmup = 2.0 }", "F0106", &["`warmup`"]);
    add("micro_packs = 0", "F0106", &["`micro_packs`"]);
    add("threads = 0", "F0106", &["`threads`"]);
    add("eval_tokens = 0", "F0106", &["`eval_tokens`"]);
    add("keep_checkpoints = 0", "F0106", &["`keep_checkpoints`"]);
    add("memory = \"1kB\"", "F0106", &["`memory` in stage `model` must be at least 1 MiB"]);
    add(
        "dtype = \"bf16\"\nstate_bytes = 9",
        "F0106",
        &["`state_bytes` in stage `model` must be 16, 12, 10 or 8"],
    );
    add("state_bytes = 12", "F0106", &["`state_bytes` in stage `model` below 16 is for `dtype = \"bf16\"`"]);
    add("dtype = \"bf16\"\nstate_bytes = 8\nbeta2 = 0.999", "F0106", &["`beta2`", "at most 0.99"]);
}

#[test]
fn values_that_a_schedule_or_adapters_cannot_have() {
    add("schedule = { decay = 0.1 }", "F0106", &["`decay` in stage `model` is of the kind \"wsd\" alone"]);
    add("schedule = { kind = \"wsd\", decay = 0 }", "F0106", &["`decay`", "above 0"]);
    add(
        "schedule = { kind = \"wsd\", warmup = 0.9 }",
        "F0106",
        &["`decay`", "together with `warmup`, not 0.2"],
    );
    add("lora = { rank = 8 }", "F0106", &["`lora` in stage `model` is of the method \"lora\" alone"]);
    let adapters = |keys: &str| format!("method = \"lora\"\nlora = {{ {keys} }}");
    add(&adapters("rank = 0"), "F0106", &["`rank` in `lora` of stage `model`"]);
    add(&adapters("rank = 5000"), "F0106", &["`rank`", "between 1 and 4096, not 5000"]);
    add(&adapters("alpha = 0"), "F0106", &["`alpha`", "above 0"]);
    add(&adapters("targets = []"), "F0106", &["`targets` in stage `model` names no projection"]);
    let words = ["`targets` in `lora` of stage `model` cannot name `q_porj`", "did you mean `q_proj`?"];
    add(&adapters("targets = [\"q_porj\"]"), "F0106", &words);
}

#[test]
fn a_mistake_is_told_at_its_own_key_and_once() {
    for (line, at) in [
        ("method = \"lora\"\nlora = { alpha = 8, rank = 5000 }", "5000"),
        ("method = \"lora\"\nlora = { targets = [\"q_proj\", \"head\"] }", "\"head\""),
        ("schedule = { warmup = 0.5, kind = \"wsd\", decay = 0.75 }", "0.75"),
        // What hangs on a word that is not understood is not judged.
        ("method = \"kto\"\nlora = { rank = 8 }", "\"kto\""),
        ("schedule = { kind = \"wds\", decay = 0.5 }", "\"wds\""),
        ("dtype = \"f16\"\nstate_bytes = 12", "\"f16\""),
    ] {
        let spec = format!("{}{TRAIN}{line}\n", packing());
        let project = project(&spec);
        project.write("base.json", "{}");
        let said = project.finch(&["check", "spec.toml"]).fails(2, &[]).err;
        let last = line.lines().last().expect("a line");
        let (number, text) = spec.lines().enumerate().find(|(_, text)| text.contains(at)).expect("the value");
        let column = text.find(at).expect("the value") + 1;
        assert!(said.contains(&format!("spec.toml:{}:{column}: ", number + 1)), "{last}: {said}");
        assert_eq!(said.matches("error F0").count(), 1, "{last}: {said}");
    }
}

#[test]
fn length_and_batch_are_said_once() {
    add("steps = 10", "F0106", &["`steps` in stage `model` stands beside `epochs`"]);
    check("epochs = 1\n", "", "F0104", &["`epochs` in stage `model` is missing, and so is `steps`"]);
    check("epochs = 1", "epochs = 0", "F0106", &["`epochs`", "at least 1"]);
    add("batch_examples = 8", "F0106", &["`batch_packs` in stage `model` stands beside `batch_examples`"]);
    check("batch_packs = 1\n", "", "F0104", &["`batch_examples` in stage `model` is missing"]);
}

#[test]
fn methods_that_are_not_built_say_so() {
    for method in ["kto", "es"] {
        let words = format!("method `{method}` is not built yet");
        add(&format!("method = \"{method}\""), "F0107", &[&words]);
    }
    add("method = \"sgd\"", "F0106", &["`method`"]);
}

#[test]
fn a_base_must_be_there() {
    check("base.json", "nosuch.json", "F0301", &["nosuch.json` is not a file", "relative paths start at"]);
    check(
        "{ config = \"base.json\", init = \"random\" }",
        "\"models/no\"",
        "F0301",
        &["models/no` is not a folder"],
    );
    check("{ config = \"base.json\", init = \"random\" }", "\"logs\"", "F0301", &["has no `config.json`"]);
    check("{ config = \"base.json\", init = \"random\" }", "3", "F0103", &["`base`"]);
    check(", init = \"random\"", "", "F0104", &["`base` of stage `model` lacks the key `init`"]);
    check("\"random\"", "\"zero\"", "F0106", &["`init`"]);
}

#[test]
fn a_launcher_must_hold_the_command() {
    add("launcher = \"srun\"", "F0106", &["lacks `{command}`", "srun --gres=gpu:1 {command}"]);
    add("launcher = \"sh -c 'x {command}\"", "F0106", &["a quote in `launcher` is not closed"]);
    add("launcher = 3", "F0103", &["`launcher`"]);
}
