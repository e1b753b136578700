//! Reading TOML tables key by key: types checked, unknown keys reported, every mistake collected.
//!
//! serde would stop at the first mistake and could not say what was probably meant, so a table is read by
//! asking for its keys. What was never asked for is unknown.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Span, SpecError, did_you_mean, nearest};
use super::secret;
use super::size::parse_bytes;
use crate::code::Code;

/// Mistakes found so far.
#[derive(Debug, Default)]
pub(crate) struct Problems(RefCell<Vec<Diagnostic>>);

impl Problems {
    pub(crate) fn push(&self, diagnostic: Diagnostic) {
        self.0.borrow_mut().push(diagnostic);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// Reads a whole TOML document: syntax first, then `lower` asks for keys, then what was not asked for is unknown.
/// All mistakes come back together, with the place of each.
pub(crate) fn read_document<T>(
    path: &Path,
    text: &str,
    what: &str,
    lower: impl FnOnce(&mut Reader<'_>) -> Option<T>,
) -> Result<T, SpecError> {
    let problems = Problems::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let errors = errors.iter().map(|error| (error.span().unwrap_or(0..0), error.message()));
        return Err(SpecError::new(path, text, super::syntax::mistakes(text, errors)));
    }
    let mut root = Reader::new(document.get_ref(), 0..0, what, &problems);
    let result = lower(&mut root);
    root.finish();
    let mut diagnostics = problems.0.into_inner();
    let mut text = text.to_owned();
    for (place, in_sight) in secret::places(&text, document.get_ref()) {
        // Whatever else is wrong with the value, this must be mended first.
        diagnostics
            .retain(|diagnostic| place.start < diagnostic.span.start || diagnostic.span.end < place.end);
        if !in_sight {
            secret::blot(&mut text, place.start + 1..place.end.max(place.start + 2) - 1, '*');
        }
        let message = "a URL must not hold credentials or a signature";
        let hint = "take them out: finch takes credentials from the environment".to_owned();
        diagnostics.push(Diagnostic::new(Code::BadValue, place, message).with_hint(hint));
    }
    diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end));
    diagnostics.dedup();
    match result {
        Some(result) if diagnostics.is_empty() => Ok(result),
        _ => Err(SpecError::new(path, &text, diagnostics)),
    }
}

/// A table being read.
pub(crate) struct Reader<'a> {
    table: &'a DeTable<'a>,
    span: Span,
    /// The table in words, for messages: "stage `unique`".
    what: String,
    /// Keys that the table may have; what is there besides them is a mistake.
    asked: RefCell<Vec<String>>,
    /// Required keys that are absent; reported at the end, because a misspelt key explains them.
    missing: Vec<String>,
    problems: &'a Problems,
}

impl<'a> Reader<'a> {
    fn new(table: &'a DeTable<'a>, span: Span, what: impl Into<String>, problems: &'a Problems) -> Self {
        Self { table, span, what: what.into(), asked: RefCell::default(), missing: Vec::new(), problems }
    }

    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// The place of a key's value, or of the table when the key is absent.
    pub(crate) fn span_of(&self, key: &str) -> Span {
        self.table.get(key).map_or(self.span(), Spanned::span)
    }

    /// Whether a key is there; from here on it is a known one.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.know(key);
        self.table.contains_key(key)
    }

    fn know(&self, key: &str) {
        let mut asked = self.asked.borrow_mut();
        if !asked.iter().any(|known| known == key) {
            asked.push(key.to_owned());
        }
    }

    /// Marks a key as known and returns its value.
    fn ask(&mut self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.know(key);
        self.table.get(key)
    }

    /// Reports a mistake in a key's value.
    pub(crate) fn reject(
        &self,
        key: &str,
        code: Code,
        message: impl Into<String>,
        hint: impl Into<Option<&'static str>>,
    ) {
        let hint: Option<&str> = hint.into();
        self.problems
            .push(Diagnostic::new(code, self.span_of(key), message).with_hint(hint.map(str::to_owned)));
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        self.problems.push(Diagnostic::new(
            Code::WrongType,
            value.span(),
            format!("`{key}` in {} must be {expected}, not {}", self.what, type_words(value.get_ref())),
        ));
    }

    /// The table in words, for messages.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// A key's value, whatever it is.
    pub(crate) fn any(&mut self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.ask(key)
    }

    /// All keys, in the order of the file.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> =
            self.table.iter().map(|(key, _)| (key.span().start, key.get_ref().to_string())).collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// Whether a key holds a table.
    pub(crate) fn is_table(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().as_table().is_some())
    }

    /// Reads a key that must be there.
    pub(crate) fn required<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Self, &str) -> Option<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.missing.push(key.to_owned());
            return None;
        }
        read(self, key)
    }

    pub(crate) fn text(&mut self, key: &str) -> Option<String> {
        let value = self.ask(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            _ => {
                self.wrong_type(key, value, "text");
                None
            }
        }
    }

    /// A text that must be there and say something.
    pub(crate) fn required_place(&mut self, key: &str) -> Option<String> {
        let place = self.required_text(key)?;
        if place.trim().is_empty() {
            self.reject(key, Code::BadValue, format!("`{key}` in {} is empty", self.what), None);
            return None;
        }
        Some(place)
    }

    pub(crate) fn required_text(&mut self, key: &str) -> Option<String> {
        self.required(key, Self::text)
    }

    /// The text of a file that a key names, where it is there; that it cannot be read is a mistake.
    pub(crate) fn file(&mut self, key: &str, base: &Path) -> Option<String> {
        let path = self.text(key)?;
        self.file_at(key, &path, base)
    }

    /// A SQL query: as it is written, or the text of the `.sql` file that is named.
    pub(crate) fn query(&mut self, key: &str, base: &Path) -> Option<String> {
        let query = self.text(key)?;
        if query.trim().is_empty() {
            self.reject(key, Code::BadValue, format!("`{key}` in {} is empty", self.what), None);
            return None;
        }
        match query.ends_with(".sql") && !query.contains(char::is_whitespace) {
            true => self.file_at(key, &query, base),
            false => Some(query),
        }
    }

    fn file_at(&mut self, key: &str, path: &str, base: &Path) -> Option<String> {
        match std::fs::read_to_string(base.join(path)) {
            Ok(text) => Some(text),
            Err(error) => {
                let hint = format!("relative paths start at `{}`", base.display());
                let message = format!("cannot read `{path}`: {error}");
                let problem = Diagnostic::new(Code::MissingSource, self.span_of(key), message);
                self.problems.push(problem.with_hint(hint));
                None
            }
        }
    }

    pub(crate) fn boolean(&mut self, key: &str) -> Option<bool> {
        let value = self.ask(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => {
                self.wrong_type(key, value, "true or false");
                None
            }
        }
    }

    pub(crate) fn integer(&mut self, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = self.ask(key)?;
        let DeValue::Integer(digits) = value.get_ref() else {
            self.wrong_type(key, value, "a whole number");
            return None;
        };
        let number = i64::from_str_radix(digits.as_str(), digits.radix());
        if let Ok(number) = number
            && range.contains(&number)
        {
            return Some(number);
        }
        // What does not fit 64 bits is too large, or too small when it has a sign.
        let too_small = number.map_or(digits.as_str().starts_with('-'), |number| number < *range.start());
        let bounds = match (*range.end() == i64::MAX, too_small) {
            (true, true) => format!("at least {}", range.start()),
            (true, false) => format!("at most {}", range.end()),
            (false, _) => format!("between {} and {}", range.start(), range.end()),
        };
        self.reject(key, Code::BadValue, format!("`{key}` in {} must be {bounds}", self.what), None);
        None
    }

    /// A size: text such as `64MiB`, or a number of bytes.
    pub(crate) fn bytes(&mut self, key: &str) -> Option<u64> {
        let value = self.ask(key)?;
        let size = match value.get_ref() {
            DeValue::Integer(digits) => u64::from_str_radix(digits.as_str(), digits.radix())
                .map_err(|_| format!("`{}` is not a size", digits.as_str())),
            DeValue::String(text) => parse_bytes(text),
            _ => {
                self.wrong_type(key, value, "a size, such as \"64MiB\"");
                return None;
            }
        };
        match size {
            Ok(size) if size > 0 => Some(size),
            Ok(_) => {
                let message = format!("`{key}` in {} must be at least 1", self.what);
                self.reject(key, Code::BadValue, message, None);
                None
            }
            Err(reason) => {
                self.reject(key, Code::BadValue, format!("`{key}` in {}: {reason}", self.what), None);
                None
            }
        }
    }

    /// A number; whole numbers count.
    pub(crate) fn number(&mut self, key: &str) -> Option<f64> {
        let value = self.ask(key)?;
        let number = match value.get_ref() {
            DeValue::Float(digits) => digits.as_str().parse::<f64>().ok(),
            DeValue::Integer(digits) => {
                i64::from_str_radix(digits.as_str(), digits.radix()).ok().map(|number| number as f64)
            }
            _ => {
                self.wrong_type(key, value, "a number");
                return None;
            }
        };
        if number.is_none_or(|number| !number.is_finite()) {
            self.reject(key, Code::BadValue, format!("`{key}` in {} must be finite", self.what), None);
            return None;
        }
        number
    }

    /// A number in [0, 1].
    pub(crate) fn fraction(&mut self, key: &str) -> Option<f64> {
        let number = self.number(key)?;
        if !(0.0..=1.0).contains(&number) {
            self.reject(
                key,
                Code::BadValue,
                format!("`{key}` in {} must be between 0 and 1", self.what),
                None,
            );
            return None;
        }
        Some(number)
    }

    /// A number that is not negative.
    pub(crate) fn amount(&mut self, key: &str) -> Option<f64> {
        let number = self.number(key)?;
        if number < 0.0 {
            self.reject(key, Code::BadValue, format!("`{key}` in {} must not be negative", self.what), None);
            return None;
        }
        Some(number)
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let word = self.text(key)?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == word) {
            return Some(*choice);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        self.problems.push(
            Diagnostic::new(
                Code::BadValue,
                self.span_of(key),
                format!("`{key}` in {} cannot be `{word}`", self.what),
            )
            .with_hint(did_you_mean(&word, names)),
        );
        None
    }

    /// A list of texts with their places.
    pub(crate) fn texts(&mut self, key: &str) -> Option<Vec<(String, Span)>> {
        let value = self.ask(key)?;
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "a list of texts");
            return None;
        };
        let mut texts = Vec::new();
        for item in items {
            match item.get_ref().as_str() {
                Some(text) => texts.push((text.to_owned(), item.span())),
                None => self.wrong_type(key, item, "a list of texts"),
            }
        }
        Some(texts)
    }

    /// The items of a list, whatever they are.
    pub(crate) fn items(&mut self, key: &str) -> Option<Vec<&'a Spanned<DeValue<'a>>>> {
        let value = self.ask(key)?;
        match value.get_ref().as_array() {
            Some(items) => Some(items.iter().collect()),
            None => {
                self.wrong_type(key, value, "a list");
                None
            }
        }
    }

    /// A table inside this one.
    pub(crate) fn table(&mut self, key: &str) -> Option<Self> {
        let value = self.ask(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(self.inner(table, value.span(), format!("`{key}` of {}", self.what))),
            None => {
                self.wrong_type(key, value, "a table");
                None
            }
        }
    }

    pub(crate) fn required_table(&mut self, key: &str) -> Option<Self> {
        self.required(key, Self::table)
    }

    /// All tables inside this one, by key, in the order of the file.
    pub(crate) fn tables(&mut self, what: impl Fn(&str) -> String) -> Vec<(String, Self)> {
        let mut tables = Vec::new();
        for (key, value) in self.table {
            let name = key.get_ref().to_string();
            match value.get_ref().as_table() {
                Some(table) => {
                    let reader = self.inner(table, key.span(), what(&name));
                    tables.push((name.clone(), reader));
                }
                None => self.wrong_type(&name, value, "a table"),
            }
            self.know(&name);
        }
        tables.sort_by_key(|(_, reader)| reader.span.start);
        tables
    }

    pub(crate) fn inner(&self, table: &'a DeTable<'a>, span: Span, what: String) -> Self {
        Reader::new(table, span, what, self.problems)
    }

    pub(crate) fn problems(&self) -> &'a Problems {
        self.problems
    }

    /// Reports every key that was never asked for, and every required key that is absent. A misspelt required key
    /// is one mistake, not two.
    pub(crate) fn finish(self) {
        let mut misspelt = Vec::new();
        let asked = self.asked.take();
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if asked.iter().any(|asked| asked == name) {
                continue;
            }
            let known = asked.iter().map(String::as_str);
            misspelt.extend(nearest(name, known.clone()));
            self.problems.push(
                Diagnostic::new(
                    Code::UnknownKey,
                    key.span(),
                    format!("unknown key `{name}` in {}", self.what),
                )
                .with_hint(did_you_mean(name, known)),
            );
        }
        self.report_missing(&misspelt);
    }

    /// Ends the reading of a table whose kind is unknown: what else it holds cannot be judged.
    pub(crate) fn abandon(self) {
        self.report_missing(&[]);
    }

    fn report_missing(&self, misspelt: &[&str]) {
        for key in self.missing.iter().filter(|key| !misspelt.contains(&key.as_str())) {
            let message = format!("{} lacks the key `{key}`", self.what);
            self.problems.push(Diagnostic::new(Code::MissingKey, self.span(), message));
        }
    }
}

/// A value's type, in the words of the messages.
fn type_words(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
