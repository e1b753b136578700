//! Chat templates: how messages become one text with markers.
//!
//! A template yields pieces, not a string, so that markers are always the tokenizer's special tokens and
//! message contents never are: a log that contains `<|im_start|>` cannot forge a turn.

use crate::example::Message;

/// A part of a rendered chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A special token, by name.
    Marker(&'static str),
    /// Plain text, tokenized as one stretch between markers.
    Text(String),
}

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
            Self::ChatMl => messages
                .iter()
                .flat_map(|message| {
                    [
                        Piece::Marker(TURN_START),
                        Piece::Text(format!("{}\n{}", message.role, message.content)),
                        Piece::Marker(TURN_END),
                        Piece::Text("\n".to_owned()),
                    ]
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chatml_is_what_qwen_writes() {
        let messages = [Message::new("user", "hi"), Message::new("assistant", "yo")];
        let text: String = Template::ChatMl
            .render(&messages)
            .into_iter()
            .map(|piece| match piece {
                Piece::Marker(name) => name.to_owned(),
                Piece::Text(text) => text,
            })
            .collect();
        assert_eq!(text, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n");
    }
}
