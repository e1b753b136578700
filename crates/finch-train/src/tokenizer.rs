//! The tokenizer that goes with a trained model: copied from where the ids come from, and checked against the base.

use std::collections::BTreeMap;
use std::path::Path;

use finch_core::Code;
use finch_core::training::files;
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// ChatML in the template language of `transformers`, as finch renders it.
const CHATML: &str = "{%- for message in messages -%}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}\
{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}";

/// The files to write beside a model: the base's own where there is a base, else the dataset's tokenizer with a
/// description that `transformers` loads. Name and content.
pub fn companions(dataset: &Path, base: Option<&Path>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    let names = [files::TOKENIZER, files::TOKENIZER_CONFIG].into_iter().chain(files::COMPANIONS);
    for name in names.filter(|_| base.is_some()) {
        let path = base.unwrap_or(dataset).join(name);
        match std::fs::read(&path) {
            Ok(bytes) => found.push((name.to_owned(), bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("read", path)(error)),
        }
    }
    let ours = dataset.join(files::TOKENIZER);
    let text = std::fs::read(&ours).map_err(Error::io("read", &ours))?;
    let parsed = |path: &Path, bytes: &[u8]| match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(_)) => Ok(()),
        Ok(_) => Err(bad(path, "it is no JSON object".to_owned())),
        Err(source) => Err(bad(path, source.to_string())),
    };
    parsed(&ours, &text)?;
    if let Some(base) = base {
        let has = |name: &str| found.iter().find(|(found, _)| found == name);
        match has(files::TOKENIZER) {
            Some((name, bytes)) => parsed(&base.join(name), bytes)?,
            None if has("vocab.json").is_some() || has("merges.txt").is_some() => {
                let reason =
                    "the base has a tokenizer in an older form, which cannot be compared with the packs'";
                return Err(Error::Data {
                    place: format!("`{}`", base.display()),
                    reason: reason.to_owned(),
                    code: Code::Vocabulary,
                    hint: Some("save it with `transformers`, which writes `tokenizer.json`".to_owned()),
                });
            }
            None => {}
        }
    }
    match found.iter().find(|(name, _)| name == files::TOKENIZER) {
        Some((_, theirs)) => same_ids(&text, theirs, &ours, base.unwrap_or(dataset))?,
        None => found.push((files::TOKENIZER.to_owned(), text.clone())),
    }
    if !found.iter().any(|(name, _)| name == files::TOKENIZER_CONFIG) {
        found.push((files::TOKENIZER_CONFIG.to_owned(), described(&text)));
    }
    Ok(found)
}

fn bad(path: &Path, reason: String) -> Error {
    Error::Data {
        place: format!("`{}`", path.display()),
        reason,
        code: Code::BadTokenizer,
        hint: Some("`tokenizer.json` must be one of the library `tokenizers`".to_owned()),
    }
}

/// A `tokenizer_config.json` for a tokenizer that has none.
fn described(tokenizer: &[u8]) -> Vec<u8> {
    let tokenizer: Value = serde_json::from_slice(tokenizer).unwrap_or(Value::Null);
    let added = tokenizer["added_tokens"].as_array();
    let has = |token: &str| added.is_some_and(|added| added.iter().any(|entry| entry["content"] == token));
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": false,
        "chat_template": CHATML,
    });
    for (role, token) in [("eos_token", "<|im_end|>"), ("pad_token", "<|endoftext|>")] {
        if has(token) {
            config[role] = token.into();
        }
    }
    serde_json::to_vec_pretty(&config).unwrap_or_default()
}

/// Refuses packs whose ids mean other tokens than the base model's.
fn same_ids(ours: &[u8], theirs: &[u8], dataset: &Path, base: &Path) -> Result<()> {
    let ids = |bytes: &[u8]| -> Option<BTreeMap<String, i64>> {
        let tokenizer: Value = serde_json::from_slice(bytes).ok()?;
        let vocabulary = tokenizer["model"]["vocab"].as_object()?;
        let mut ids: BTreeMap<String, i64> =
            vocabulary.iter().filter_map(|(token, id)| Some((token.clone(), id.as_i64()?))).collect();
        for added in tokenizer["added_tokens"].as_array().into_iter().flatten() {
            ids.insert(added["content"].as_str()?.to_owned(), added["id"].as_i64()?);
        }
        Some(ids)
    };
    let differs = match (ids(ours), ids(theirs)) {
        (Some(ours), Some(theirs)) => {
            ours.iter().find(|(token, id)| theirs.get(*token) != Some(*id)).map(|(token, _)| token.clone())
        }
        // Not of the form that both programs write: equal bytes are all that can be compared.
        _ => (ours != theirs).then(String::new),
    };
    let Some(token) = differs else { return Ok(()) };
    let how = match token.as_str() {
        "" => "they are not of the form that finch writes, and differ".to_owned(),
        token => format!("`{}` has another id there, or none", token.escape_debug()),
    };
    Err(Error::Data {
        place: format!("`{}`", dataset.display()),
        reason: format!(
            "the packs were made with another tokenizer than the one in `{}`: {how}",
            base.display()
        ),
        code: Code::Vocabulary,
        hint: Some("load the base model's `tokenizer.json` in the `tokenizer` stage".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(first: i64) -> Value {
        json!({"model": {"vocab": {"a": first, "b": 1}}, "added_tokens": [{"content": "<|im_end|>", "id": 2}]})
    }

    fn folder(tokenizer: &Value) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("temp dir");
        std::fs::write(folder.path().join(files::TOKENIZER), tokenizer.to_string()).expect("write");
        folder
    }

    #[test]
    fn a_tokenizer_alone_gets_a_description() {
        let data = folder(&tokenizer(0));
        let found = companions(data.path(), None).expect("companions");
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["tokenizer.json", "tokenizer_config.json"]);
        let config: Value = serde_json::from_slice(&found[1].1).expect("json");
        assert_eq!((config["eos_token"].as_str(), config.get("pad_token")), (Some("<|im_end|>"), None));
    }

    #[test]
    fn a_base_with_other_ids_is_refused() {
        let (data, base) = (folder(&tokenizer(0)), folder(&tokenizer(7)));
        let error = companions(data.path(), Some(base.path())).expect_err("other ids");
        assert_eq!(error.code(), Code::Vocabulary);
        // A base may know more tokens than the packs' tokenizer.
        let mut wider = tokenizer(0);
        wider["model"]["vocab"]["c"] = 9.into();
        companions(data.path(), Some(folder(&wider).path())).expect("a superset is fine");
    }
}
