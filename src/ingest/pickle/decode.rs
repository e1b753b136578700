//! The pickle machine: instructions in, nodes out.
//!
//! It follows CPython's `_pickle.c` in what it accepts (marks fence the stack, `POP` may remove a mark,
//! `MEMOIZE` numbers by the size of the memo), but instructions that import, call or set only note that they
//! would. It must not recurse, and it must not grow a
//! table by more than a constant for one instruction.

use super::index::Index;
use super::input::{Input, Step, small, trimmed};
use super::memo::Memo;
use super::text::is_decimal;
use super::{
    Chain, Chunk, Global, MAX_BYTES, MAX_OPCODES, NIL, Node, Object, Pickle, PickleError, PickleErrorKind,
    Run, Span,
};

use PickleErrorKind::{Malformed, TooLarge, Truncated, UnknownOpcode};

/// The longest name of a module or a class; real ones have a few dozen characters.
const MAX_NAME: u32 = 1024;

/// Reads the pickle at the start of `bytes`. Nothing in it is executed.
pub fn decode(bytes: &[u8]) -> Result<Pickle<'_>, PickleError> {
    decode_within(bytes, MAX_OPCODES)
}

/// Decodes at most `limit` instructions.
pub(super) fn decode_within(bytes: &[u8], limit: usize) -> Result<Pickle<'_>, PickleError> {
    if bytes.len() > MAX_BYTES {
        return Err(PickleError { offset: 0, kind: TooLarge });
    }
    let mut machine = Machine {
        pickle: Pickle {
            bytes,
            nodes: Vec::new(),
            pool: Vec::new(),
            chunks: Vec::new(),
            objects: Vec::new(),
            globals: Vec::new(),
            index: Index::default(),
            root: NIL,
            end: 0,
        },
        input: Input::new(bytes),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Memo::default(),
    };
    for _ in 0..limit {
        let offset = machine.input.at();
        let running = machine.step().map_err(|kind| PickleError { offset, kind })?;
        if !running {
            let mut pickle = machine.pickle;
            pickle.end = machine.input.at();
            pickle.index = Index::new(&pickle);
            return Ok(pickle);
        }
    }
    Err(PickleError { offset: machine.input.at(), kind: TooLarge })
}

struct Machine<'a> {
    pickle: Pickle<'a>,
    input: Input<'a>,
    stack: Vec<u32>,
    /// Heights of the stack; nothing below the last one can be reached before it goes.
    marks: Vec<u32>,
    memo: Memo,
}

impl Machine<'_> {
    /// One instruction; false after the last.
    fn step(&mut self) -> Step<bool> {
        let opcode = self.input.byte()?;
        match opcode {
            // The frame: version, frame lengths (which only help to read ahead), and the end.
            0x80 => {
                if self.input.byte()? > 5 {
                    return Err(Malformed("its protocol is newer than 5"));
                }
            }
            0x95 => {
                self.input.take(8)?;
            }
            b'.' => {
                self.pickle.root = self.pop()?;
                return Ok(false);
            }

            // The stack.
            b'(' => self.marks.push(small(self.stack.len())),
            b'0' => {
                if self.stack.len() > self.fence() {
                    self.stack.pop();
                } else {
                    self.unmark()?;
                }
            }
            b'1' => {
                let start = self.unmark()?;
                self.stack.truncate(start);
            }
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }

            // The memo.
            b'p' | b'q' | b'r' => {
                let key = self.key(opcode)?;
                self.put(key)?;
            }
            0x94 => self.put(self.memo.len())?,
            b'g' | b'h' | b'j' => {
                let key = self.key(opcode)?;
                self.get(key)?;
            }

            // Scalars.
            b'N' => self.push(Node::None),
            0x88 => self.push(Node::Bool(true)),
            0x89 => self.push(Node::Bool(false)),
            b'J' => {
                let value = i32::from_le_bytes(self.input.array()?);
                self.push(Node::Int(value.into()));
            }
            b'K' => {
                let value = self.input.byte()?;
                self.push(Node::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.input.array()?);
                self.push(Node::Int(value.into()));
            }
            0x8a => {
                let length = self.input.byte()?;
                self.long(length.into())?;
            }
            0x8b => {
                let length = self.input.signed_length()?;
                self.long(length)?;
            }
            b'I' => {
                let line = self.input.line()?;
                // How protocol 0 and 1 write booleans.
                let node = match self.pickle.slice(line) {
                    b"00" => Node::Bool(false),
                    b"01" => Node::Bool(true),
                    _ => self.integer(line)?,
                };
                self.push(node);
            }
            b'L' => {
                let mut line = self.input.line()?;
                if self.pickle.slice(line).ends_with(b"L") {
                    line.length -= 1;
                }
                let node = self.integer(line)?;
                self.push(node);
            }
            b'G' => {
                let value = f64::from_be_bytes(self.input.array()?);
                self.push(Node::Float(value));
            }
            b'F' => {
                let line = self.input.line()?;
                let text = std::str::from_utf8(self.pickle.slice(line)).ok();
                let value = text.and_then(|text| text.trim().parse().ok());
                self.push(Node::Float(value.ok_or(Malformed("a float that is no number"))?));
            }

            // Texts and bytes.
            b'X' | b'B' | b'T' | 0x8c | b'C' | b'U' | 0x8d | 0x8e | 0x96 => self.counted(opcode)?,
            b'V' => {
                let line = self.input.line()?;
                let plain = self.pickle.slice(line).iter().all(|&byte| byte.is_ascii() && byte != b'\\');
                self.push(if plain { Node::Text(line) } else { Node::Escaped(line) });
            }
            b'S' => self.quoted()?,
            0x98 => {
                self.top()?;
            }

            // Containers.
            b']' => self.push(Node::List(Chain::EMPTY)),
            b'}' => self.push(Node::Dict(Chain::EMPTY)),
            b')' => self.push(Node::Tuple(Run { start: 0, length: 0 })),
            0x8f => self.push(Node::Set(Chain::EMPTY)),
            b'l' | b'd' | 0x91 => self.collect(opcode)?,
            b't' => {
                let start = self.unmark()?;
                self.tuple(start);
            }
            0x85..=0x87 => {
                let start = self.below(usize::from(opcode - 0x84))?;
                self.tuple(start);
            }
            b'a' | b's' => {
                let start = self.below(if opcode == b'a' { 1 } else { 2 })?;
                self.add(start, opcode)?;
            }
            b'e' | b'u' | 0x90 => {
                let start = self.unmark()?;
                self.add(start, opcode)?;
            }

            // What would import, call or set.
            b'c' => {
                let module = self.input.line()?;
                let name = self.input.line()?;
                self.global(module, name)?;
            }
            0x93 => {
                let name = self.pop()?;
                let module = self.pop()?;
                let (Node::Text(module), Node::Text(name)) = (self.node(module), self.node(name)) else {
                    return Err(Malformed("a global whose name is no text"));
                };
                self.global(module, name)?;
            }
            b'R' | 0x81 => {
                let args = self.pop()?;
                let callable = self.pop()?;
                self.object(callable, args, NIL)?;
            }
            0x92 => {
                let keywords = self.pop()?;
                let args = self.pop()?;
                let callable = self.pop()?;
                self.object(callable, args, keywords)?;
            }
            b'i' | b'o' => self.instance(opcode)?,
            b'b' => self.build()?,

            // What only its writer could resolve.
            b'P' => {
                self.input.line()?;
                self.push(Node::Opaque);
            }
            b'Q' => {
                self.pop()?;
                self.push(Node::Opaque);
            }
            0x82..=0x84 => {
                self.input.take([1, 2, 4][usize::from(opcode - 0x82)])?;
                self.push(Node::Opaque);
            }
            0x97 => self.push(Node::Opaque),
            _ => return Err(UnknownOpcode(opcode)),
        }
        Ok(true)
    }

    /// A text or bytes after its length, which has one, four or eight bytes.
    fn counted(&mut self, opcode: u8) -> Step {
        let length = match opcode {
            0x8c | b'C' | b'U' => usize::from(self.input.byte()?),
            b'T' => self.input.signed_length()?,
            b'X' | b'B' => usize::try_from(self.input.word()?).map_err(|_| Truncated)?,
            _ => usize::try_from(u64::from_le_bytes(self.input.array()?)).map_err(|_| Truncated)?,
        };
        let span = self.input.take(length)?;
        self.push(match opcode {
            b'X' | 0x8c | 0x8d => Node::Text(span),
            b'T' | b'U' => Node::Str(span),
            _ => Node::Bytes(span),
        });
        Ok(())
    }

    /// A quoted `str` of protocol 0.
    fn quoted(&mut self) -> Step {
        let line = self.input.line()?;
        let Span { start, length } = trimmed(self.pickle.slice(line), line);
        let text = self.pickle.slice(Span { start, length });
        if !matches!(text, [b'\'', .., b'\''] | [b'"', .., b'"']) {
            return Err(Malformed("a string without quotes"));
        }
        let inside = Span { start: start + 1, length: length - 2 };
        let escaped = self.pickle.slice(inside).contains(&b'\\');
        self.push(if escaped { Node::Quoted(inside) } else { Node::Str(inside) });
        Ok(())
    }

    /// A two's complement integer of so many bytes.
    fn long(&mut self, length: usize) -> Step {
        let span = self.input.take(length)?;
        let bytes = self.pickle.slice(span);
        let node = if length > 8 {
            Node::Long(span)
        } else {
            let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
            let mut extended = [sign; 8];
            extended[..length].copy_from_slice(bytes);
            Node::Int(i64::from_le_bytes(extended))
        };
        self.push(node);
        Ok(())
    }

    /// A decimal integer of any size.
    fn integer(&self, line: Span) -> Step<Node> {
        let line = trimmed(self.pickle.slice(line), line);
        let digits = self.pickle.slice(line);
        if !is_decimal(digits) {
            return Err(Malformed("an integer that is no number"));
        }
        let small = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        Ok(small.map_or(Node::Digits(line), Node::Int))
    }

    /// A container of everything above the mark.
    fn collect(&mut self, opcode: u8) -> Step {
        let start = self.unmark()?;
        if opcode == b'd' && !(self.stack.len() - start).is_multiple_of(2) {
            return Err(Malformed("a dict with a key that has no value"));
        }
        let run = self.gather(start);
        let mut chain = Chain::EMPTY;
        link(&mut self.pickle.chunks, &mut chain, run);
        self.push(match opcode {
            b'l' => Node::List(chain),
            b'd' => Node::Dict(chain),
            _ => Node::FrozenSet(chain),
        });
        Ok(())
    }

    fn tuple(&mut self, start: usize) {
        let run = self.gather(start);
        self.push(Node::Tuple(run));
    }

    /// Adds everything from `start` to what lies below it.
    fn add(&mut self, start: usize, opcode: u8) -> Step {
        if matches!(opcode, b's' | b'u') && !(self.stack.len() - start).is_multiple_of(2) {
            return Err(Malformed("a dict with a key that has no value"));
        }
        let run = self.gather(start);
        let target = self.top()?;
        let Pickle { nodes, objects, chunks, .. } = &mut self.pickle;
        let chain = match (&mut nodes[target as usize], opcode) {
            (Node::List(chain), b'a' | b'e')
            | (Node::Set(chain), 0x90)
            | (Node::Dict(chain), b's' | b'u') => chain,
            (Node::Object(object), b's' | b'u') => &mut objects[*object as usize].items,
            (Node::Object(object), _) => &mut objects[*object as usize].appended,
            _ => return Err(Malformed("something is added to what holds nothing")),
        };
        link(chunks, chain, run);
        Ok(())
    }

    fn global(&mut self, module: Span, name: Span) -> Step {
        if module.length.max(name.length) > MAX_NAME {
            return Err(Malformed("a global with a name longer than any"));
        }
        if [module, name].iter().any(|&span| std::str::from_utf8(self.pickle.slice(span)).is_err()) {
            return Err(Malformed("a global whose name is no text"));
        }
        let global = small(self.pickle.globals.len());
        self.pickle.globals.push(Global { module, name });
        self.push(Node::Global(global));
        Ok(())
    }

    fn object(&mut self, callable: u32, args: u32, keywords: u32) -> Step {
        // A view may follow arguments without a check for cycles because a tuple is older than its holder.
        if !matches!(self.node(args), Node::Tuple(_)) {
            return Err(Malformed("arguments that are no tuple"));
        }
        let object = small(self.pickle.objects.len());
        self.pickle.objects.push(Object {
            callable,
            args,
            keywords,
            state: NIL,
            items: Chain::EMPTY,
            appended: Chain::EMPTY,
        });
        self.push(Node::Object(object));
        Ok(())
    }

    /// An instance by the mark: of a class in the instruction, or of the one right above the mark.
    fn instance(&mut self, opcode: u8) -> Step {
        let mut start = self.unmark()?;
        let callable = if opcode == b'o' {
            let class = *self.stack.get(start).ok_or(Malformed("an instance of nothing"))?;
            start += 1;
            class
        } else {
            let module = self.input.line()?;
            let name = self.input.line()?;
            self.global(module, name)?;
            self.pop()?
        };
        self.tuple(start);
        let args = self.pop()?;
        if opcode == b'o' {
            self.pop()?;
        }
        self.object(callable, args, NIL)
    }

    fn build(&mut self) -> Step {
        let state = self.pop()?;
        let target = self.top()?;
        let Node::Object(object) = self.node(target) else {
            return Err(Malformed("a state for what is no object"));
        };
        self.pickle.objects[object as usize].state = state;
        Ok(())
    }

    /// A memo's number: a line, a byte or four.
    fn key(&mut self, opcode: u8) -> Step<u64> {
        match opcode {
            b'p' | b'g' => self.input.decimal(),
            b'q' | b'h' => self.input.byte().map(u64::from),
            _ => self.input.word().map(u64::from),
        }
    }

    fn put(&mut self, key: u64) -> Step {
        let top = self.top()?;
        self.memo.put(key, top);
        Ok(())
    }

    fn get(&mut self, key: u64) -> Step {
        let id = self.memo.get(key).ok_or(Malformed("a reference to nothing"))?;
        self.stack.push(id);
        Ok(())
    }

    fn node(&self, id: u32) -> Node {
        self.pickle.nodes[id as usize]
    }

    fn push(&mut self, node: Node) {
        self.stack.push(small(self.pickle.nodes.len()));
        self.pickle.nodes.push(node);
    }

    /// The lowest place of the stack that can be reached.
    fn fence(&self) -> usize {
        self.marks.last().map_or(0, |&mark| mark as usize)
    }

    /// The height of the stack without its `count` highest values, which must be there.
    fn below(&self, count: usize) -> Step<usize> {
        let height = self.stack.len().checked_sub(count).filter(|&height| height >= self.fence());
        height.ok_or(Malformed("too little on the stack"))
    }

    fn top(&self) -> Step<u32> {
        Ok(self.stack[self.below(1)?])
    }

    fn pop(&mut self) -> Step<u32> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn unmark(&mut self) -> Step<usize> {
        Ok(self.marks.pop().ok_or(Malformed("no mark on the stack"))? as usize)
    }

    /// Moves everything from `start` to the pool.
    fn gather(&mut self, start: usize) -> Run {
        let run = Run { start: small(self.pickle.pool.len()), length: small(self.stack.len() - start) };
        self.pickle.pool.extend_from_slice(&self.stack[start..]);
        self.stack.truncate(start);
        run
    }
}

/// Adds a run to the end of a chain.
fn link(chunks: &mut Vec<Chunk>, chain: &mut Chain, run: Run) {
    if run.length == 0 {
        return;
    }
    let new = small(chunks.len());
    if chain.tail == NIL {
        chain.head = new;
    } else {
        let tail = &mut chunks[chain.tail as usize];
        // One `APPEND` after another: no chunk for each.
        if tail.run.start + tail.run.length == run.start {
            tail.run.length += run.length;
            return;
        }
        tail.next = new;
    }
    chain.tail = new;
    chunks.push(Chunk { run, next: NIL });
}
