//! The shape of a JSON text from its beginning alone: what it is a container of, and the keys of its first object.
//!
//! Scaffolds are told apart by the keys that they write. Looking must be cheap and must survive what reading will have
//! to survive: bare `NaN`, a record that breaks off, a file of which only the head was read. So this is a scan over
//! bytes that knows strings and brackets, and no parser. It never fails; it stops where the text stops making sense.

/// What the outermost value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// One object.
    Object,
    /// A list; the keys are those of its first object.
    Array,
    /// Objects one after another, on lines or not; the keys are those of the first.
    Lines,
    /// Rows under named columns: Parquet, CSV, SQLite.
    Table,
}

/// What the head of a file shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The outermost value.
    pub container: Container,
    /// Keys of the first object, in order, as far as the head goes.
    pub keys: Vec<String>,
    /// Keys of the first object that is a value of that one.
    pub inner: Vec<String>,
}

/// Keys that are looked at; no scaffold tells itself apart later than that.
const MOST_KEYS: usize = 200;

impl Shape {
    /// The shape of a text that begins like this; `None` where it is no JSON object and no list of objects.
    pub fn of(head: &[u8]) -> Option<Self> {
        let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
        let mut scan = Scan { text: head, at: 0 };
        scan.blanks();
        let list = scan.take(b'[');
        if list {
            scan.blanks();
            // An empty list is one of nothing.
            if scan.peek() == Some(b']') {
                return Some(Self { container: Container::Array, keys: Vec::new(), inner: Vec::new() });
            }
        }
        if scan.peek() != Some(b'{') {
            return None;
        }
        let (mut keys, mut inner) = (Vec::new(), None);
        let closed = scan.object(&mut keys, Some(&mut inner));
        scan.blanks();
        let container = match list {
            true => Container::Array,
            // What follows the first object, or what has no end on its own line, is the next record.
            false if closed && scan.peek().is_some() => Container::Lines,
            false => Container::Object,
        };
        Some(Self { container, keys, inner: inner.unwrap_or_default() })
    }

    /// Whether all of these are keys.
    pub fn has(&self, keys: &[&str]) -> bool {
        keys.iter().all(|key| self.keys.iter().any(|own| own == key))
    }
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Scans an object; whether it was closed. The keys of its first object value go to `inner`.
    fn object(&mut self, keys: &mut Vec<String>, mut inner: Option<&mut Option<Vec<String>>>) -> bool {
        if !self.take(b'{') {
            return false;
        }
        loop {
            self.blanks();
            if self.take(b'}') {
                return true;
            }
            if self.take(b',') {
                continue;
            }
            let Some(key) = self.string() else { return false };
            if keys.len() < MOST_KEYS {
                keys.push(String::from_utf8_lossy(key).into_owned());
            }
            self.blanks();
            if !self.take(b':') {
                return false;
            }
            self.blanks();
            match inner.as_deref_mut() {
                Some(inner) if inner.is_none() && self.peek() == Some(b'{') => {
                    let mut found = Vec::new();
                    let closed = self.object(&mut found, None);
                    *inner = Some(found);
                    if !closed {
                        return false;
                    }
                }
                _ => {
                    if !self.value() {
                        return false;
                    }
                }
            }
        }
    }

    /// Skips a value; whether it ended inside the text.
    fn value(&mut self) -> bool {
        let mut depth = 0_u32;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    if self.string().is_none() {
                        return false;
                    }
                    if depth == 0 {
                        return true;
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 0 => return true,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return true;
                    }
                }
                b',' if depth == 0 => return true,
                _ => {}
            }
            self.at += 1;
        }
        false
    }

    /// A string's bytes between its quotes, escapes as they are; `None` where it does not end.
    fn string(&mut self) -> Option<&[u8]> {
        if !self.take(b'"') {
            return None;
        }
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(&self.text[start..self.at - 1]);
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, container: Container, keys: &[&str], inner: &[&str]) {
        let shape = Shape::of(text.as_bytes()).expect("a shape");
        assert_eq!(
            (shape.container, shape.keys, shape.inner),
            (
                container,
                keys.iter().map(|k| (*k).to_owned()).collect(),
                inner.iter().map(|k| (*k).to_owned()).collect()
            ),
            "{text}"
        );
    }

    #[test]
    fn keys_are_those_of_the_first_object() {
        check(
            r#"{"a": 1, "b": {"c": [1, {"d": 2}]}, "e": "}"}"#,
            Container::Object,
            &["a", "b", "e"],
            &["c"],
        );
        check(r#"[{"a": NaN, "b": -Infinity}, {"c": 1}]"#, Container::Array, &["a", "b"], &[]);
        check("{\"a\": 1}\n{\"b\": 2}\n", Container::Lines, &["a"], &[]);
        check("{\n \"a\": 1\n}\n{\n \"b\": 2\n}", Container::Lines, &["a"], &[]);
        check("[]", Container::Array, &[], &[]);
        check("\u{feff} {\"a\": \"\\\"{\"}\n", Container::Object, &["a"], &[]);
    }

    #[test]
    fn a_head_that_breaks_off_shows_what_it_has() {
        check(r#"{"id": "x", "code": "def f("#, Container::Object, &["id", "code"], &[]);
        check(r#"{"id": {"code": "x", "metr"#, Container::Object, &["id"], &["code"]);
        check(r#"{"a": 1, "b"#, Container::Object, &["a"], &[]);
        check(r#"{"a": "\"#, Container::Object, &["a"], &[]);
    }

    #[test]
    fn what_is_no_object_has_no_shape() {
        for text in ["", "1", "\"a\"", "[1, 2]", "x", "[[{}]]"] {
            assert_eq!(Shape::of(text.as_bytes()), None, "{text}");
        }
    }
}
