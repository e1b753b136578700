//! Access to a decoded pickle: values as Python would show them, without Python.
//!
//! The same thing is pickled in many ways: a set by instructions or by a call with a list, a number by an
//! instruction or by numpy's `scalar` with eight bytes. Readers ask for what they mean and get nothing where
//! the node is something else. No method follows references further than from an object to the elements of
//! its arguments, so none can loop. Numbers and look-ups take constant time however large the node is; texts,
//! bytes and iterators are linear in what they give.

use std::borrow::Cow;

use super::index::{SEARCHED, spelling};
use super::text::{lossy, unescape_bytes, unescape_text};
use super::{Chain, NIL, Node, Object, Pickle, Run};

/// One node of a pickle.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    pub(super) pickle: &'a Pickle<'a>,
    pub(super) id: u32,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `None`
    None,
    /// `True` or `False`
    Bool,
    /// An integer of any size
    Int,
    /// A float
    Float,
    /// Text, or a `str` of Python 2
    Text,
    /// `bytes` or `bytearray`
    Bytes,
    /// A list
    List,
    /// A tuple
    Tuple,
    /// A set
    Set,
    /// A frozen set
    FrozenSet,
    /// A dict
    Dict,
    /// A class or function
    Global,
    /// What a call would have made
    Object,
    /// What only its writer could resolve
    Opaque,
}

/// A number by numpy.
enum Scalar {
    Bool(bool),
    Int(i128),
    Float(f64),
}

impl<'a> Value<'a> {
    /// The number of the node: the same for the same Python object.
    pub fn id(self) -> u32 {
        self.id
    }

    /// What the node is.
    pub fn kind(self) -> Kind {
        match self.node() {
            Node::None => Kind::None,
            Node::Bool(_) => Kind::Bool,
            Node::Int(_) | Node::Long(_) | Node::Digits(_) => Kind::Int,
            Node::Float(_) => Kind::Float,
            Node::Text(_) | Node::Escaped(_) | Node::Str(_) | Node::Quoted(_) => Kind::Text,
            Node::Bytes(_) => Kind::Bytes,
            Node::List(_) => Kind::List,
            Node::Tuple(_) => Kind::Tuple,
            Node::Set(_) => Kind::Set,
            Node::FrozenSet(_) => Kind::FrozenSet,
            Node::Dict(_) => Kind::Dict,
            Node::Global(_) => Kind::Global,
            Node::Object(_) => Kind::Object,
            Node::Opaque => Kind::Opaque,
        }
    }

    /// Whether this is `None`.
    pub fn is_none(self) -> bool {
        matches!(self.node(), Node::None)
    }

    /// A boolean, Python's or numpy's.
    pub fn as_bool(self) -> Option<bool> {
        match self.node() {
            Node::Bool(value) => Some(value),
            _ => match self.scalar()? {
                Scalar::Bool(value) => Some(value),
                _ => None,
            },
        }
    }

    /// An integer that fits. Booleans and floats are none.
    pub fn as_i64(self) -> Option<i64> {
        match self.node() {
            Node::Int(value) => Some(value),
            Node::Long(span) => wide(self.pickle.slice(span))?.try_into().ok(),
            _ => match self.scalar()? {
                Scalar::Int(value) => value.try_into().ok(),
                _ => None,
            },
        }
    }

    /// A float, or an integer as the nearest one; none for an integer that no float is near. Booleans are no
    /// numbers.
    pub fn as_f64(self) -> Option<f64> {
        match self.node() {
            Node::Float(value) => Some(value),
            Node::Int(value) => Some(value as f64),
            Node::Long(span) => long_float(self.pickle.slice(span)),
            Node::Digits(span) if span.length <= DIGITS => {
                let digits = std::str::from_utf8(self.pickle.slice(span)).ok()?;
                digits.parse().ok().filter(|value: &f64| value.is_finite())
            }
            _ => match self.scalar()? {
                Scalar::Int(value) => Some(value as f64),
                Scalar::Float(value) => Some(value),
                Scalar::Bool(_) => None,
            },
        }
    }

    /// Bytes that a text takes in the pickle, without looking at them.
    pub fn text_bytes(self) -> Option<usize> {
        match self.node() {
            Node::Text(span) | Node::Str(span) | Node::Escaped(span) | Node::Quoted(span) => {
                Some(span.length as usize)
            }
            _ => None,
        }
    }

    /// Text: borrowed where it is UTF-8, else with U+FFFD for what is no text.
    pub fn as_text(self) -> Option<Cow<'a, str>> {
        match self.node() {
            Node::Text(span) | Node::Str(span) => Some(lossy(self.pickle.slice(span))),
            Node::Escaped(span) => Some(Cow::Owned(unescape_text(self.pickle.slice(span)))),
            Node::Quoted(span) => {
                Some(Cow::Owned(lossy(&unescape_bytes(self.pickle.slice(span))).into_owned()))
            }
            _ => None,
        }
    }

    /// Bytes, also those of protocols 0 to 2, which call for them, and a `str` of Python 2.
    pub fn as_bytes(self) -> Option<Cow<'a, [u8]>> {
        match self.node() {
            Node::Bytes(span) | Node::Str(span) => Some(Cow::Borrowed(self.pickle.slice(span))),
            Node::Quoted(span) => Some(Cow::Owned(unescape_bytes(self.pickle.slice(span)))),
            Node::Object(_) => self.encoded().or_else(|| {
                let (module, name) = self.callable()?.global()?;
                if !is_builtins(module) || !matches!(name, "bytes" | "bytearray") {
                    return None;
                }
                let Some(first) = self.args().next() else { return Some(Cow::Borrowed(&[][..])) };
                match first.node() {
                    Node::Bytes(span) => Some(Cow::Borrowed(self.pickle.slice(span))),
                    _ => first.encoded(),
                }
            }),
            _ => None,
        }
    }

    /// The elements of a list, tuple, set or frozen set, and what is appended to an object (a `deque`, a
    /// subclass of `list`). Nothing for all else.
    pub fn items(self) -> Items<'a> {
        match self.node() {
            Node::Tuple(run) => self.run(run),
            Node::List(chain) | Node::Set(chain) | Node::FrozenSet(chain) => self.chain(chain),
            Node::Object(object) => {
                let appended = self.pickle.objects[object as usize].appended;
                if appended.head != NIL {
                    return self.chain(appended);
                }
                // Before protocol 4 a set is a call with a list.
                let made = self.callable().and_then(Self::global).is_some_and(|(module, name)| {
                    is_builtins(module) && matches!(name, "set" | "frozenset" | "list" | "tuple")
                });
                match self.args().next().filter(|_| made).map(Self::node) {
                    Some(Node::List(chain) | Node::Set(chain) | Node::FrozenSet(chain)) => self.chain(chain),
                    Some(Node::Tuple(run)) => self.run(run),
                    _ => self.chain(Chain::EMPTY),
                }
            }
            _ => self.chain(Chain::EMPTY),
        }
    }

    /// The entries of a dict, or of an object that acts as one (`defaultdict`, `OrderedDict`, `Counter`), in
    /// the order of the pickle and with duplicate keys. Nothing for all else.
    pub fn entries(self) -> Entries<'a> {
        self.mapping().unwrap_or(self).own_entries()
    }

    /// The value of a text key in [`Self::entries`]; the last one, as in Python.
    pub fn get(self, key: &str) -> Option<Self> {
        let mapping = self.mapping()?;
        if mapping.is_large() {
            return Some(self.pickle.value(self.pickle.index.get(mapping.id, key)?));
        }
        let is_key = |found: Value<'a>| match found.node() {
            // The common case without a look at bytes that cannot be equal.
            Node::Text(span) => {
                span.length as usize == key.len() && self.pickle.slice(span) == key.as_bytes()
            }
            // An escape has ten bytes at most, and stands for one at least.
            Node::Escaped(span) | Node::Quoted(span) if span.length as usize / 10 > key.len() => false,
            _ => spelling(self.pickle, found.id).is_some_and(|text| *text == *key.as_bytes()),
        };
        mapping.own_entries().filter(|&(found, _)| is_key(found)).last().map(|(_, value)| value)
    }

    /// Module and name of a global, or of an object's class: of what was called, that is, or of what
    /// `copyreg` was called with. Python 2 and protocols 0 to 2 write `__builtin__` and `copy_reg`.
    pub fn class(self) -> Option<(&'a str, &'a str)> {
        if matches!(self.node(), Node::Global(_)) {
            return self.global();
        }
        match self.callable()?.global()? {
            ("copyreg" | "copy_reg", "_reconstructor" | "__newobj__" | "__newobj_ex__") => {
                self.args().next()?.global()
            }
            class => Some(class),
        }
    }

    /// What an object was called from: a global, mostly.
    pub fn callable(self) -> Option<Self> {
        Some(self.pickle.value(self.object()?.callable))
    }

    /// The positional arguments of an object's call. Nothing for all else.
    pub fn args(self) -> Items<'a> {
        match self.object().map(|object| self.pickle.nodes[object.args as usize]) {
            Some(Node::Tuple(run)) => self.run(run),
            _ => self.chain(Chain::EMPTY),
        }
    }

    /// The keyword arguments of an object's call, a dict.
    pub fn keywords(self) -> Option<Self> {
        self.object().map(|object| object.keywords).filter(|&id| id != NIL).map(|id| self.pickle.value(id))
    }

    /// What an object would have been given as its state: its `__dict__`, mostly.
    pub fn state(self) -> Option<Self> {
        self.object().map(|object| object.state).filter(|&id| id != NIL).map(|id| self.pickle.value(id))
    }

    /// An attribute of an object by its state, which is a dict, or a tuple of that and a dict of slots.
    pub fn attribute(self, name: &str) -> Option<Self> {
        let state = self.state()?;
        let Node::Tuple(Run { length: 2, .. }) = state.node() else { return state.get(name) };
        state.items().filter_map(|part| part.get(name)).last()
    }

    fn node(self) -> Node {
        self.pickle.nodes[self.id as usize]
    }

    fn object(self) -> Option<&'a Object> {
        match self.node() {
            Node::Object(object) => Some(&self.pickle.objects[object as usize]),
            _ => None,
        }
    }

    /// Both names of a global; the decoder has checked that they are text.
    fn global(self) -> Option<(&'a str, &'a str)> {
        let Node::Global(global) = self.node() else { return None };
        let global = self.pickle.globals[global as usize];
        let name = |span| std::str::from_utf8(self.pickle.slice(span)).ok();
        Some((name(global.module)?, name(global.name)?))
    }

    /// The node that holds this one's entries: itself, or the dict that a `Counter` was called with.
    fn mapping(self) -> Option<Self> {
        match self.node() {
            Node::Dict(_) => Some(self),
            Node::Object(object) => {
                let empty = self.pickle.objects[object as usize].items.head == NIL;
                let first = self.args().next().filter(|first| empty && first.kind() == Kind::Dict);
                let counted = self.callable().and_then(Self::global).is_some_and(|(module, name)| {
                    module == "collections" || (is_builtins(module) && name == "dict")
                });
                Some(first.filter(|_| counted).unwrap_or(self))
            }
            _ => None,
        }
    }

    /// The entries of a dict, or those set on an object.
    pub(super) fn own_entries(self) -> Entries<'a> {
        Entries(match self.node() {
            Node::Dict(chain) => self.chain(chain),
            Node::Object(object) => self.chain(self.pickle.objects[object as usize].items),
            _ => self.chain(Chain::EMPTY),
        })
    }

    /// Whether a look-up here goes by the index. Stops to count soon.
    pub(super) fn is_large(self) -> bool {
        matches!(self.node(), Node::Dict(_) | Node::Object(_)) && self.own_entries().nth(SEARCHED).is_some()
    }

    fn run(self, run: Run) -> Items<'a> {
        Items { pickle: self.pickle, run, next: NIL }
    }

    fn chain(self, chain: Chain) -> Items<'a> {
        Items { pickle: self.pickle, run: Run { start: 0, length: 0 }, next: chain.head }
    }

    /// The bytes of `_codecs.encode(text, "latin1")`.
    fn encoded(self) -> Option<Cow<'a, [u8]>> {
        if self.callable()?.global()? != ("_codecs", "encode") {
            return None;
        }
        let text = self.args().next()?.as_text()?;
        let bytes = text.chars().map(|character| u8::try_from(u32::from(character)).ok());
        bytes.collect::<Option<_>>().map(Cow::Owned)
    }

    /// A text of a few bytes, however it is written.
    fn short(self) -> Option<&'a [u8]> {
        match self.node() {
            Node::Text(span) | Node::Str(span) | Node::Bytes(span) if span.length <= 8 => {
                Some(self.pickle.slice(span))
            }
            _ => None,
        }
    }

    /// The length of a text or of bytes in the input, also where a call makes it.
    fn extent(self) -> u32 {
        let node = match self.node() {
            Node::Object(_) => self.args().next().map_or(Node::None, Self::node),
            node => node,
        };
        match node {
            Node::Text(span)
            | Node::Escaped(span)
            | Node::Str(span)
            | Node::Quoted(span)
            | Node::Bytes(span) => span.length,
            _ => 0,
        }
    }

    /// A number by numpy: `scalar(dtype, bytes)`.
    fn scalar(self) -> Option<Scalar> {
        let (module, name) = self.callable()?.global()?;
        if name != "scalar" || !module.starts_with("numpy") || !module.ends_with(".multiarray") {
            return None;
        }
        let mut args = self.args();
        let (dtype, raw) = (args.next()?, args.next()?);
        if dtype.class()? != ("numpy", "dtype") {
            return None;
        }
        let code = dtype.args().next()?.short()?;
        let (prefix, code) = match code {
            [order @ (b'<' | b'>' | b'|' | b'='), code @ ..] => (Some(*order), code),
            _ => (None, code),
        };
        // The state is `(version, byte order, ...)` and has the last word.
        let order =
            dtype.state().and_then(|state| state.items().nth(1)?.short()?.first().copied()).or(prefix);
        // So many escapes spell eight bytes; nothing longer is looked at for each mention of it.
        if raw.extent() > 80 {
            return None;
        }
        let raw = raw.as_bytes().filter(|raw| raw.len() <= 8)?;
        let mut bytes = [0; 8];
        let little = &mut bytes[..raw.len()];
        little.copy_from_slice(&raw);
        if order == Some(b'>') {
            little.reverse();
        }
        let unsigned = u64::from_le_bytes(bytes);
        let [kind, width] = code else { return None };
        let width = char::from(*width).to_digit(10)?;
        if width as usize != raw.len() {
            return None;
        }
        match (kind, width) {
            (b'f', 8) => Some(Scalar::Float(f64::from_bits(unsigned))),
            (b'f', 4) => Some(Scalar::Float(f32::from_bits(unsigned as u32).into())),
            (b'b', 1) => Some(Scalar::Bool(unsigned != 0)),
            (b'u', 1 | 2 | 4 | 8) => Some(Scalar::Int(unsigned.into())),
            (b'i', 1 | 2 | 4 | 8) => {
                // Shifted up and down again, which copies the sign.
                let unused = 64 - 8 * width;
                Some(Scalar::Int((((unsigned << unused) as i64) >> unused).into()))
            }
            _ => None,
        }
    }
}

/// Iterator over the elements of a container.
#[derive(Debug, Clone)]
pub struct Items<'a> {
    pickle: &'a Pickle<'a>,
    run: Run,
    next: u32,
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        // No chunk is empty, but nothing depends on it.
        while self.run.length == 0 {
            let chunk = self.pickle.chunks.get(self.next as usize)?;
            self.run = chunk.run;
            self.next = chunk.next;
        }
        let id = self.pickle.pool[self.run.start as usize];
        self.run = Run { start: self.run.start + 1, length: self.run.length - 1 };
        Some(self.pickle.value(id))
    }
}

/// Iterator over the entries of a dict.
#[derive(Debug, Clone)]
pub struct Entries<'a>(Items<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = (Value<'a>, Value<'a>);

    fn next(&mut self) -> Option<(Value<'a>, Value<'a>)> {
        Some((self.0.next()?, self.0.next()?))
    }
}

fn is_builtins(module: &str) -> bool {
    matches!(module, "builtins" | "__builtin__")
}

/// Integers of more digits, or bytes, than this are larger than any float.
const DIGITS: u32 = 320;
const LONG: usize = 132;

/// A two's complement integer of at most 16 bytes.
fn wide(bytes: &[u8]) -> Option<i128> {
    let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    let mut extended = [sign; 16];
    extended.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i128::from_le_bytes(extended))
}

/// The float near an integer of any size, by its highest 16 bytes.
fn long_float(bytes: &[u8]) -> Option<f64> {
    if bytes.len() > LONG {
        return None;
    }
    let (dropped, top) = bytes.split_at(bytes.len().saturating_sub(16));
    let exponent = i32::try_from(8 * dropped.len()).ok()?;
    Some(wide(top)? as f64 * 2f64.powi(exponent)).filter(|value| value.is_finite())
}
