//! Chat templates: how messages become one text with markers, and which of it is learned.
//!
//! A template yields pieces, not a string, so that markers are always the tokenizer's special tokens and
//! message contents never are: a log that contains `<|im_start|>` cannot forge a turn. Trained is exactly what
//! inference samples: the assistant's content and the marker that ends it. The header before the content is
//! given at inference, so it is neither trained nor tokenized together with what follows it.

use crate::example::Message;

/// A part of a rendered chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it is.
    pub part: Part,
    /// Whether a model learns to write it.
    pub trained: bool,
}

/// What a piece holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A special token, by name.
    Marker(&'static str),
    /// Plain text, tokenized as one stretch.
    Text(String),
}

impl Piece {
    fn marker(name: &'static str) -> Self {
        Self { part: Part::Marker(name), trained: false }
    }

    fn text(text: impl Into<String>) -> Self {
        Self { part: Part::Text(text.into()), trained: false }
    }

    fn trained(self) -> Self {
        Self { trained: true, ..self }
    }
}

/// The role whose turns are learned.
pub const ASSISTANT: &str = "assistant";

/// Starts a turn in ChatML.
pub const TURN_START: &str = "<|im_start|>";
/// Ends a turn in ChatML.
pub const TURN_END: &str = "<|im_end|>";

/// The templates that can be named in a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// ChatML, as Qwen models use it: `<|im_start|>role\ncontent<|im_end|>\n`.
    ChatMl,
}

impl Template {
    /// The names of all templates.
    pub const NAMES: [&'static str; 1] = ["chatml"];

    /// The template of a name.
    pub fn named(name: &str) -> Option<Self> {
        (name == "chatml").then_some(Self::ChatMl)
    }

    /// The special tokens that a tokenizer must have.
    pub fn markers(self) -> &'static [&'static str] {
        match self {
            Self::ChatMl => &[TURN_START, TURN_END],
        }
    }

    /// The messages as markers and texts.
    pub fn render(self, messages: &[Message]) -> Vec<Piece> {
        match self {
            Self::ChatMl => messages.iter().flat_map(chatml_turn).collect(),
        }
    }
}

fn chatml_turn(message: &Message) -> Vec<Piece> {
    let (start, end) = (Piece::marker(TURN_START), Piece::marker(TURN_END));
    let after = Piece::text("\n");
    if message.role == ASSISTANT {
        let header = Piece::text(format!("{ASSISTANT}\n"));
        vec![start, header, Piece::text(&message.content).trained(), end.trained(), after]
    } else {
        vec![start, Piece::text(format!("{}\n{}", message.role, message.content)), end, after]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined<'a>(pieces: impl Iterator<Item = &'a Piece>) -> String {
        pieces
            .map(|piece| match &piece.part {
                Part::Marker(name) => *name,
                Part::Text(text) => text.as_str(),
            })
            .collect()
    }

    #[test]
    fn chatml_is_what_qwen_writes() {
        let messages = [Message::new("user", "hi"), Message::new("assistant", "yo")];
        let pieces = Template::ChatMl.render(&messages);
        let text = joined(pieces.iter());
        assert_eq!(text, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n");
    }

    #[test]
    fn only_what_inference_samples_is_trained() {
        let messages = [
            Message::new("system", "s"),
            Message::new("user", "hi"),
            Message::new("assistant", "yo"),
            Message::new("user", "more"),
            Message::new("assistant", ""),
        ];
        let pieces = Template::ChatMl.render(&messages);
        let trained = joined(pieces.iter().filter(|piece| piece.trained));
        assert_eq!(trained, "yo<|im_end|><|im_end|>");
    }
}
