//! Mutations of inputs: bytes, pieces, numbers and the words of the formats.
//!
//! Blind mutations reach a parser's depths only if they speak its language, so half of them insert what the formats are
//! made of, and nest or repeat what is there. The same seed gives the same mutations on every machine.

/// Words of the formats, and what breaks those who read them.
const WORDS: &[&[u8]] = &[
    b"\xff\x00",
    b"\n",
    b"\r\n",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\\ud83d",
    b"\\u0000",
    b"\xf0\x9f\x98\x80",
    b"\xed\xa0\x80",
    b"\\",
    b"\"",
    b"'",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"{}",
    b"[]",
    b"\"\"",
    b"null",
    b"true",
    b"false",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"-0.0",
    b"1e308",
    b"1e-320",
    b"1e999",
    b"{\"iteration\":",
    b"\"id\":",
    b"\"code\":",
    b"\"metrics\":{",
    b"\"parent_id\":",
    b"\"child_id\":",
    b"\"child_metrics\":{}",
    b"\"child_code\":",
    b"\"parent_code\":",
    b"\"llm_response\":",
    b"\"prompt\":{\"user\":",
    b"\"prompts\":{\"diff_user\":{\"system\":\"\",\"user\":\"\",\"responses\":[\"\"]}}",
    b"\"artifacts_json\":",
    b"\"artifacts\":",
    b"\"metadata\":{",
    b"\"migrant\":true",
    b"\"_migrant_\"",
    b"\"traces\":[",
    b"\"programs\":{",
    b"\"solution\":",
    b"\"timestamp\":",
    b"\"error\":",
    b"\"timeout\":true",
    b"\"combined_score\":",
    b"\"sample_order\":",
    b"\"objective\":",
    b"\"algorithm\":",
    b"\"operator\":",
    b"\"program_candidates\":[",
    b"\"full_program_trace\":[",
    b"\"new_program_idx\":",
    b"\"parent_program_for_candidate\":[",
    b"\"new_\":",
    b"\"current_\":",
    b"\"generation\":",
    b"\"children\":[",
    b"\"run_id\":",
    b"\"parent_commit\":",
    b"\"overall_performance\":{",
    b"\"success\":true",
    b"\"correct\":false",
    b"\"public\":{",
    b"\"all_validation_errors\":[",
    b"\"meta_summary\":",
    b"\"nodes\":[",
    b"\"node2parent\":{",
    b"\"states\":[",
    b"**Program Identifier:** Generation ",
    b" Correct Program: True",
    b"combined score ",
    b"[Gen ",
    b"] #1 [e1] ",
    b"(generation failed)",
    b" - INFO - Iteration 3: Program ",
    b" (parent: ",
    b" - INFO - Metrics: ",
    b" - WARNING - Iteration ",
    b" error: ",
    b"<<<<<<< SEARCH\n",
    b"=======\n",
    b">>>>>>> REPLACE\n",
    b"<<<<< SEARCH\n",
    b"```",
    b"```python\n",
    b"\n```\n",
    b"~~~\n",
    b"# EVOLVE-BLOCK-START\n",
    b"# EVOLVE-BLOCK-END\n",
    b"<CODE>",
    b"</CODE>",
    b"<think>",
    b"</think>",
    b"# Current Program\n",
    b"# Current Solution\n",
    b"def f(x):\n    return x\n",
    b"Traceback (most recent call last):\n",
    b"timed out",
    b"obj_type: max\n",
    b"scaffold = \"",
    b"[candidate]\n",
    b"[records]\n",
    b"[score]\n",
    b"[parent]\n",
    b"[[failure]]\n",
    b"[[detect]]\n",
    b"[run]\nof = \"folder\"\n",
    b"id = \"id\"\n",
    b"code = \"code\"\n",
    b"at = \"/",
    b"as = \"json\"",
    b"lookup = \"/",
    b"value = ",
    b"\"$key\"",
    b"\"$ordinal\"",
    b"\"$program\"",
    b"form = \"jsonl\"\n",
    b"by_key = true\n",
    b"\x80\x04\x95",
    b"\x80\x02",
    b"\x8c\x02id",
    b"\x8c\x08programs",
    b"\x94",
    b"h\x00",
    b"h\x01",
    b"(",
    b".",
    b"0",
    b"1",
    b"2",
    b"N",
    b"K\x01",
    b"J\xff\xff\xff\xff",
    b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00",
    b"G\x7f\xf8\0\0\0\0\0\0",
    b"]",
    b"}",
    b")",
    b"\x85",
    b"\x86",
    b"\x87",
    b"\x8f",
    b"\x90",
    b"\x91",
    b"\x92",
    b"\x93",
    b"\x81",
    b"R",
    b"b",
    b"a",
    b"e",
    b"s",
    b"u",
    b"cbuiltins\nset\n",
    b"c_codecs\nencode\n",
    b"cnumpy.core.multiarray\nscalar\n",
    b"cnumpy\ndtype\n",
    b"I01\n",
    b"L5L\n",
    b"F1.5\n",
    b"S'a\\x41'\n",
    b"Va\\u0041\n",
    b"p0\n",
    b"g0\n",
    b"PK\x03\x04",
    b"PK\x01\x02",
    b"PK\x05\x06",
    b"PK\x06\x06",
    b"ustar\0",
    b"ustar  \0",
    b"../",
    b"/etc/",
    b"GNU.sparse.",
    b" path=../x\n",
    b" size=99999999\n",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"\x50\x2a\x4d\x18",
    b"PAR1",
    b"SQLite format 3\0",
    b"CREATE TABLE programs",
    b"id,code,loss,n\n",
    b"2026-01-01T00:00:00Z",
    b"-262143-01-01T00:00:00",
];

/// Numbers at which arithmetic ends.
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "1",
    "127",
    "255",
    "256",
    "32767",
    "65536",
    "2147483647",
    "-2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e18",
    "9.3e18",
    "-1e400",
    "1.5",
];

/// A generator that needs no crate: SplitMix64.
pub struct Random(u64);

impl Random {
    /// A generator from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `end`; 0 for 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.word() % end as u64) as usize }
    }
}

/// Makes new inputs of old ones.
pub struct Mutator {
    random: Random,
}

impl Mutator {
    /// A mutator.
    pub fn new(random: Random) -> Self {
        Self { random }
    }

    /// A mutation of one of the inputs, of which there must be one.
    pub fn mutate(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut input = inputs[self.random.below(inputs.len())].clone();
        let most = if self.random.below(400) == 0 { 60 << 10 } else { 6 << 10 };
        for _ in 0..=self.random.below(6) {
            self.step(&mut input, inputs, most);
        }
        input.truncate(most);
        input
    }

    fn range(&mut self, length: usize, most: usize) -> std::ops::Range<usize> {
        let start = self.random.below(length + 1);
        let size = if self.random.below(3) == 0 { most } else { 16 };
        let end = (start + self.random.below(size + 1)).min(length);
        start..end
    }

    fn step(&mut self, input: &mut Vec<u8>, inputs: &[Vec<u8>], most: usize) {
        let length = input.len();
        match self.random.below(16) {
            0 | 1 if length > 0 => {
                let at = self.random.below(length);
                input[at] ^= 1 << self.random.below(8);
            }
            2 if length > 0 => {
                let at = self.random.below(length);
                input[at] = self.random.word() as u8;
            }
            3..=5 => {
                let word = WORDS[self.random.below(WORDS.len())];
                let at = self.random.below(length + 1);
                let over = if self.random.below(2) == 0 { 0 } else { word.len().min(length - at) };
                input.splice(at..at + over, word.iter().copied());
            }
            6 => {
                let range = self.range(length, length);
                input.drain(range);
            }
            7 => {
                let range = self.range(length, length);
                let piece = input[range.clone()].to_vec();
                let at = if self.random.below(2) == 0 { range.end } else { self.random.below(length + 1) };
                input.splice(at..at, piece);
            }
            8 => {
                let range = self.range(length, 64);
                let piece = input[range.clone()].to_vec();
                let times = 1 + self.random.below(200);
                let room = most.saturating_sub(length) / piece.len().max(1);
                let many = piece.repeat(times.min(room));
                input.splice(range.end..range.end, many);
            }
            9 | 10 => {
                let other = &inputs[self.random.below(inputs.len())];
                let from = self.range(other.len(), other.len());
                let to = self.range(length, length);
                input.splice(to, other[from].iter().copied());
            }
            11 if self.random.below(4) == 0 => input.truncate(self.random.below(length + 1)),
            11 | 12 => {
                let number = NUMBERS[self.random.below(NUMBERS.len())];
                let digits: Vec<usize> = (0..length).filter(|&at| input[at].is_ascii_digit()).collect();
                if digits.is_empty() {
                    return;
                }
                let start = digits[self.random.below(digits.len())];
                let end = (start..length).find(|&at| !input[at].is_ascii_digit()).unwrap_or(length);
                input.splice(start..end, number.bytes());
            }
            13 => {
                let (a, b) = (self.range(length, length), self.range(length, length));
                let piece = input[a].to_vec();
                input.splice(b, piece);
            }
            14 => {
                let at = self.random.below(length + 1);
                let size = 1 + self.random.below(8);
                let bytes: Vec<u8> = (0..size).map(|_| self.random.word() as u8).collect();
                input.splice(at..at, bytes);
            }
            15 if self.random.below(4) == 0 => {
                let range = self.range(length, length);
                let deep = 1 + self.random.below(if most > 8 << 10 { 4000 } else { 140 });
                let (open, close): (&[u8], &[u8]) = match self.random.below(2) {
                    0 => (b"[", b"]"),
                    _ => (b"{\"a\":", b"}"),
                };
                let nested = [&open.repeat(deep), &input[range.clone()], &close.repeat(deep)].concat();
                input.splice(range, nested);
            }
            _ => {}
        }
    }
}
