//! A training example: a transition as chat messages.

use serde::{Deserialize, Serialize};

/// One chat message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message of a role.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Self { role: role.to_owned(), content: content.into() }
    }
}

/// A row of the `examples` table. Token counts are of the contents alone, `total_tokens` of the rendered chat.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    /// Digest of the transition and the messages.
    pub example_id: String,
    /// The transition it was made from.
    pub transition_id: String,
    /// `train`, `validation` or `test`.
    pub split: Option<String>,
    /// The task.
    pub task: String,
    /// System (when logged), user, assistant.
    pub messages: Vec<Message>,
    /// Tokens of the system prompt.
    pub system_tokens: i64,
    /// Tokens of the user prompt.
    pub user_tokens: i64,
    /// Tokens of the reasoning.
    pub reasoning_tokens: i64,
    /// Tokens of the response.
    pub response_tokens: i64,
    /// Tokens of the whole chat under the template, markers included.
    pub total_tokens: i64,
    /// The weight in training; 1 unless a stage says otherwise.
    pub weight: f64,
    /// For preference training: whether the step is one to learn from. Null when it is neither.
    pub desirable: Option<bool>,
    /// The outcome of the step, where a stage labelled it.
    pub outcome: Option<String>,
}
