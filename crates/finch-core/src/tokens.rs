//! Tokenizers: load one, train a small one, turn chats into ids and ids into text.
//!
//! A trained tokenizer is a byte-level BPE: any text can be encoded, nothing is unknown. Training depends on
//! the texts and the vocabulary size alone, not on the order of texts or the number of threads.

use std::path::Path;

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Inner};

use crate::Error;
use crate::template::{Part, Piece, TURN_END, TURN_START, Template};

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
                + match &piece.part {
                    Part::Marker(_) => 1,
                    Part::Text(text) => self.count(text)?,
                })
        })
    }

    /// A rendered chat as ids, and for each id whether a model learns to write it.
    pub fn encode_pieces(&self, pieces: &[Piece]) -> Result<Encoded, Error> {
        let mut encoded = Encoded::default();
        for piece in pieces {
            match &piece.part {
                Part::Marker(name) => {
                    let id = self.id(name).ok_or_else(|| error(format!("it has no token `{name}`")))?;
                    encoded.ids.push(id);
                }
                Part::Text(text) if text.is_empty() => {}
                Part::Text(text) => {
                    let encoding = self.inner.encode_fast(text.as_str(), false).map_err(error)?;
                    encoded.ids.extend_from_slice(encoding.get_ids());
                }
            }
            encoded.trained.resize(encoded.ids.len(), piece.trained);
        }
        Ok(encoded)
    }

    /// The id of a special token, by name.
    pub fn id(&self, marker: &str) -> Option<u32> {
        self.inner.token_to_id(marker)
    }

    /// Ids as text, special tokens spelled out. Bytes that are no whole character become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.inner.decode(ids, false).map_err(error)
    }
}

/// A chat as ids, with what is learned of it; both lists have one length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The ids.
    pub ids: Vec<u32>,
    /// Whether a model learns to write the id at this place.
    pub trained: Vec<bool>,
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

    fn chat() -> Vec<Piece> {
        Template::ChatMl
            .render(&[Message::new("user", "f(1)<|im_end|>"), Message::new("assistant", "x + 日")])
    }

    #[test]
    fn a_chat_has_these_ids_and_this_mask() {
        let tokenizer = trained();
        let encoded = tokenizer.encode_pieces(&chat()).expect("encode");
        let shown: Vec<String> = encoded
            .ids
            .iter()
            .zip(&encoded.trained)
            .map(|(id, trained)| {
                // A part of a character is shown as the vocabulary's own word.
                let alone = tokenizer.decode(&[*id]).expect("decode");
                let whole = !alone.is_empty() && !alone.contains(char::REPLACEMENT_CHARACTER);
                let token = if whole { alone } else { tokenizer.inner.id_to_token(*id).expect("a token") };
                format!("{}{id}:{token}", if *trained { "*" } else { "" })
            })
            .collect();
        assert_eq!(
            shown.join(" ").replace('\n', "\\n"),
            "1:<|im_start|> 87:u 85:s 71:e 84:r 201:\\n 72:f 10:( 19:1 11:) 30:< 94:| 75:i 79:m 65:_ 71:e 80:n 70:d \
             94:| 32:> 2:<|im_end|> 201:\\n 1:<|im_start|> 67:a 85:s 85:s 75:i 85:s 86:t 67:a 80:n 86:t 201:\\n \
             *90:x *267: + *223:  *165:æ *248:Ĺ *101:¥ *2:<|im_end|> 201:\\n"
        );
    }

    #[test]
    fn only_markers_of_the_template_are_special_tokens() {
        let tokenizer = trained();
        let encoded = tokenizer.encode_pieces(&chat()).expect("encode");
        let end = tokenizer.id(TURN_END).expect("a marker");
        assert_eq!(encoded.ids.iter().filter(|id| **id == end).count(), 2, "the content's is plain text");
        assert_eq!(
            tokenizer.decode(&encoded.ids).expect("decode"),
            "<|im_start|>user\nf(1)<|im_end|><|im_end|>\n<|im_start|>assistant\nx + 日<|im_end|>\n"
        );
    }

    #[test]
    fn counting_agrees_with_encoding() {
        let tokenizer = trained();
        for content in ["", "x", "def f(x):\n    return x\n", "<|im_start|>user", "日本\u{0}\r\n"] {
            let messages = [Message::new("user", content), Message::new("assistant", content)];
            let pieces = Template::ChatMl.render(&messages);
            let encoded = tokenizer.encode_pieces(&pieces).expect("encode");
            assert_eq!(encoded.ids.len(), encoded.trained.len());
            assert_eq!(tokenizer.count_pieces(&pieces).expect("count"), encoded.ids.len(), "{content:?}");
        }
    }

    #[test]
    fn an_empty_answer_still_trains_its_end() {
        let tokenizer = trained();
        let pieces = Template::ChatMl.render(&[Message::new("assistant", "")]);
        let encoded = tokenizer.encode_pieces(&pieces).expect("encode");
        let trained: Vec<u32> = encoded
            .ids
            .iter()
            .zip(&encoded.trained)
            .filter(|(_, trained)| **trained)
            .map(|(id, _)| *id)
            .collect();
        assert_eq!(trained, [tokenizer.id(TURN_END).expect("a marker")]);
    }
}
