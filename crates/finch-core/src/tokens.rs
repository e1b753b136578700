//! Tokenizers: load one, train a small one, count tokens.
//!
//! A trained tokenizer is a byte-level BPE: any text can be encoded, nothing is unknown. Training depends on
//! the texts and the vocabulary size alone, not on the order of texts or the number of threads.

use std::path::Path;

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Inner};

use crate::Error;
use crate::template::{Piece, TURN_END, TURN_START, Template};

/// The smallest vocabulary: 256 bytes and the special tokens.
pub const MIN_VOCABULARY: usize = 256 + SPECIAL.len();

/// The special tokens of a trained tokenizer: end of document, and ChatML's markers.
const SPECIAL: [&str; 3] = ["<|endoftext|>", TURN_START, TURN_END];

/// A tokenizer that treats message contents as plain text, whatever they contain.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Inner,
}

fn error(source: impl std::fmt::Display) -> Error {
    Error::Tokenizer(source.to_string())
}

impl Tokenizer {
    /// Loads a `tokenizer.json`.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        Self::from_json(&bytes)
    }

    /// Reads a tokenizer from the bytes of a `tokenizer.json`.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self::plain(Inner::from_bytes(bytes).map_err(error)?))
    }

    /// Trains a byte-level BPE with `vocabulary` entries, special tokens included.
    pub fn train<I>(texts: I, vocabulary: usize) -> Result<Self, Error>
    where
        I: Iterator + Send,
        I::Item: AsRef<str> + Send,
    {
        let special = SPECIAL.map(|token| AddedToken::from(token, true)).to_vec();
        let trainer = BpeTrainer::builder()
            .vocab_size(vocabulary)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens(special)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut inner = Inner::new(BPE::default());
        inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        inner.with_decoder(Some(ByteLevel::default()));
        inner.train(&mut TrainerWrapper::from(trainer), texts).map_err(error)?;
        Ok(Self::plain(inner))
    }

    fn plain(mut inner: Inner) -> Self {
        inner.set_encode_special_tokens(true);
        Self { inner }
    }

    /// The tokenizer as a `tokenizer.json`.
    pub fn to_json(&self) -> Result<String, Error> {
        self.inner.to_string(true).map_err(error)
    }

    /// Entries in the vocabulary, added tokens included.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Checks that every marker of a template is one token here.
    pub fn supports(&self, template: Template) -> Result<(), Error> {
        match template.markers().iter().find(|marker| self.inner.token_to_id(marker).is_none()) {
            Some(marker) => {
                Err(Error::Tokenizer(format!("it has no token `{marker}`, which the template needs")))
            }
            None => Ok(()),
        }
    }

    /// Tokens of a text; special tokens spelled out in it are plain text.
    pub fn count(&self, text: &str) -> Result<usize, Error> {
        if text.is_empty() {
            return Ok(0);
        }
        Ok(self.inner.encode_fast(text, false).map_err(error)?.len())
    }

    /// Tokens of a rendered chat.
    pub fn count_pieces(&self, pieces: &[Piece]) -> Result<usize, Error> {
        pieces.iter().try_fold(0, |sum, piece| {
            Ok(sum
                + match piece {
                    Piece::Marker(_) => 1,
                    Piece::Text(text) => self.count(text)?,
                })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::Message;

    fn trained() -> Tokenizer {
        let texts: Vec<String> = (0..200).map(|i| format!("def f_{i}(x):\n    return x + {i}\n")).collect();
        Tokenizer::train(texts.iter().map(String::as_str), 300).expect("train")
    }

    #[test]
    fn training_is_deterministic_and_ignores_text_order() {
        let texts: Vec<String> =
            (0..500).map(|i| format!("for j in range({i}): total += j ** {}", i % 7)).collect();
        let forward = Tokenizer::train(texts.iter().map(String::as_str), 400).expect("train");
        let backward = Tokenizer::train(texts.iter().rev().map(String::as_str), 400).expect("train");
        assert_eq!(forward.to_json().expect("json"), backward.to_json().expect("json"));
        assert!((300..=400).contains(&forward.vocabulary()), "{}", forward.vocabulary());
    }

    #[test]
    fn markers_in_content_are_plain_text() {
        let tokenizer = trained();
        assert!(tokenizer.count("<|im_start|>").expect("count") > 1);
        let chat = Template::ChatMl.render(&[Message::new("user", "x")]);
        let expected = 2 + tokenizer.count("user\nx").expect("count") + tokenizer.count("\n").expect("count");
        assert_eq!(tokenizer.count_pieces(&chat).expect("count"), expected);
        tokenizer.supports(Template::ChatMl).expect("trained tokenizers have the markers");
    }

    #[test]
    fn every_text_can_be_encoded() {
        let tokenizer = trained();
        assert_eq!(tokenizer.count("").expect("count"), 0);
        assert!(tokenizer.count("日本\u{0}\u{fffd}\r\n").expect("count") > 0);
    }

    #[test]
    fn a_reloaded_tokenizer_counts_the_same() {
        let tokenizer = trained();
        let again = Tokenizer::from_json(tokenizer.to_json().expect("json").as_bytes()).expect("load");
        let text = "def g(x):\n    return x + 3 <|im_end|>";
        assert_eq!(tokenizer.count(text).expect("count"), again.count(text).expect("count"));
        assert!(Tokenizer::from_json(b"{}").is_err());
    }
}
