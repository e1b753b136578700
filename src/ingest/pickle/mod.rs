//! Python pickles read as plain data: nothing in them is executed, imported or called.
//!
//! CodeEvolve, GEPA and FunSearch keep their databases in pickles, which are programs for a small stack
//! machine whose instructions name any function of any module. The machine is run here with instructions that
//! only build nodes of a graph: a class or function is a name, a call is an object that remembers what would
//! have been called. References are numbers into one arena, so that sharing and cycles (bound methods that
//! lead back to their database) are plain data, and texts stay where they are in the input.
//!
//! Nothing here recurses, and no table grows by more than a constant for each instruction, of which there are
//! at most [`MAX_OPCODES`]. It must not follow the graph by itself: that may have cycles, and a file of a
//! megabyte can mention one long text a million times. A reader that goes from node to node remembers the
//! [`Value::id`]s it has seen.

mod decode;
mod index;
mod input;
mod memo;
mod text;
mod view;

#[cfg(test)]
mod tests;

use std::fmt;

pub use decode::decode;
pub use view::{Entries, Items, Kind, Value};

use index::Index;

/// Instructions that are read before a pickle counts as too large. Each makes at most one node and a half (an
/// old-style instance makes three with its mark), of 16 bytes; the largest pickles seen have 0.3 million.
pub const MAX_OPCODES: usize = 1 << 26;

/// The longest input, because places in it are kept in 32 bits.
pub const MAX_BYTES: usize = u32::MAX as usize - 1;

/// Why bytes are no pickle that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} (byte {offset})")]
pub struct PickleError {
    /// The first byte of the instruction at fault; the input's length where an instruction is missing.
    pub offset: usize,
    /// What is wrong there.
    pub kind: PickleErrorKind,
}

/// What is wrong with a pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PickleErrorKind {
    /// The input ends inside an instruction, or before the one that ends a pickle.
    Truncated,
    /// No instruction of protocols 0 to 5 has this number.
    UnknownOpcode(u8),
    /// An instruction does not fit what came before it.
    Malformed(&'static str),
    /// More than [`MAX_BYTES`] or [`MAX_OPCODES`].
    TooLarge,
}

impl fmt::Display for PickleErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "the pickle ends too early"),
            Self::UnknownOpcode(opcode) => write!(f, "no pickle instruction is `0x{opcode:02x}`"),
            Self::Malformed(what) => write!(f, "malformed pickle: {what}"),
            Self::TooLarge => {
                write!(f, "the pickle has more than {MAX_BYTES} bytes or {MAX_OPCODES} instructions")
            }
        }
    }
}

/// A decoded pickle: the arena of its nodes, which borrows the texts of the input.
#[derive(Debug)]
pub struct Pickle<'a> {
    bytes: &'a [u8],
    nodes: Vec<Node>,
    /// Elements of all containers; dicts hold keys and values in turn.
    pool: Vec<u32>,
    chunks: Vec<Chunk>,
    objects: Vec<Object>,
    globals: Vec<Global>,
    index: Index<'a>,
    root: u32,
    end: usize,
}

impl<'a> Pickle<'a> {
    /// The value that was pickled.
    pub fn root(&self) -> Value<'_> {
        self.value(self.root)
    }

    /// Every node in the order in which it was made, also those that the root does not lead to.
    pub fn walk(&self) -> impl Iterator<Item = Value<'_>> {
        // There are fewer nodes than an id can count, so that none is lost here.
        (0u32..).take(self.nodes.len()).map(|id| self.value(id))
    }

    /// How many nodes there are; ids are smaller than that.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// How many bytes of the input come after the pickle's end.
    pub fn trailing(&self) -> usize {
        self.bytes.len() - self.end
    }

    fn value(&self, id: u32) -> Value<'_> {
        Value { pickle: self, id }
    }

    fn slice(&self, span: Span) -> &'a [u8] {
        &self.bytes[span.start as usize..][..span.length as usize]
    }
}

/// No node, no chunk.
const NIL: u32 = u32::MAX;

/// Bytes of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u32,
    length: u32,
}

/// Elements that lie together in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    start: u32,
    length: u32,
}

/// A run and the one that was added to the same container after it.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    run: Run,
    next: u32,
}

/// The elements of a container that can grow: its first and its last chunk. Lists would need an allocation
/// each and twice the room in a node.
#[derive(Debug, Clone, Copy)]
struct Chain {
    head: u32,
    tail: u32,
}

impl Chain {
    const EMPTY: Self = Self { head: NIL, tail: NIL };
}

/// One value. The fields of all but the scalars are in tables of their own, to keep this at 16 bytes.
#[derive(Debug, Clone, Copy)]
enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than eight bytes: two's complement, the least significant byte first.
    Long(Span),
    /// A decimal integer that does not fit 64 bits, checked to be one.
    Digits(Span),
    Float(f64),
    /// UTF-8, or what Python writes for text that has no UTF-8.
    Text(Span),
    /// Text of protocol 0 with `\u` escapes or Latin-1.
    Escaped(Span),
    /// A `str` of Python 2: text or bytes, nobody knows.
    Str(Span),
    /// The same between quotes and with escapes, without the quotes.
    Quoted(Span),
    Bytes(Span),
    List(Chain),
    Tuple(Run),
    Set(Chain),
    FrozenSet(Chain),
    Dict(Chain),
    Global(u32),
    Object(u32),
    /// Known to the program that wrote it alone: persistent ids, the extension registry, buffers elsewhere.
    Opaque,
}

/// A class or function by its name; both parts are checked to be UTF-8.
#[derive(Debug, Clone, Copy)]
struct Global {
    module: Span,
    name: Span,
}

/// What unpickling would have made by a call.
#[derive(Debug, Clone, Copy)]
struct Object {
    callable: u32,
    /// Always a tuple.
    args: u32,
    /// Keyword arguments, or nil.
    keywords: u32,
    /// What `__setstate__` would have got (the last time), or nil.
    state: u32,
    items: Chain,
    appended: Chain,
}
