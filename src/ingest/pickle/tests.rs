//! Pickles of CPython 3.11, made with `pickle.dumps(value, protocol)` unless a test says otherwise.

use std::borrow::Cow;

use super::decode::decode_within;
use super::{Kind, Node, Pickle, PickleError, PickleErrorKind, Value, decode};
use PickleErrorKind::{Malformed, TooLarge, Truncated, UnknownOpcode};

fn read(bytes: &[u8]) -> Pickle<'_> {
    decode(bytes).expect("a pickle")
}

fn ints(value: Value<'_>) -> Vec<i64> {
    value.items().filter_map(Value::as_i64).collect()
}

fn error(bytes: &[u8]) -> (usize, PickleErrorKind) {
    let PickleError { offset, kind } = decode(bytes).expect_err("an error");
    (offset, kind)
}

/// `{"none": None, "yes": True, "no": False, "i": -5, "big": 2**64, "neg": -2**70, "f": 1.5,
/// "t": "aé\n😀", "b": b"a\xff", "l": [1, [2]], "tu": (1, 2, 3, 4), "s": {7}, "fs": frozenset([8])}`
const ALL: [&[u8]; 4] = [
    b"(dp0\nVnone\np1\nNsVyes\np2\nI01\nsVno\np3\nI00\nsVi\np4\nI-5\nsVbig\np5\nL18446744073709551616L\nsV\
        neg\np6\nL-1180591620717411303424L\nsVf\np7\nF1.5\nsVt\np8\nVa\xe9\\u000a\\U0001f600\np9\nsVb\np10\
        \nc_codecs\nencode\np11\n(Va\xff\np12\nVlatin1\np13\ntp14\nRp15\nsVl\np16\n(lp17\nI1\na(lp18\nI2\n\
        aasVtu\np19\n(I1\nI2\nI3\nI4\ntp20\nsVs\np21\nc__builtin__\nset\np22\n((lp23\nI7\natp24\nRp25\nsVf\
        s\np26\nc__builtin__\nfrozenset\np27\n((lp28\nI8\natp29\nRp30\ns.",
    b"}q\x00(X\x04\x00\x00\x00noneq\x01NX\x03\x00\x00\x00yesq\x02I01\nX\x02\x00\x00\x00noq\x03I00\nX\x01\
        \x00\x00\x00iq\x04J\xfb\xff\xff\xffX\x03\x00\x00\x00bigq\x05L18446744073709551616L\nX\x03\x00\x00\
        \x00negq\x06L-1180591620717411303424L\nX\x01\x00\x00\x00fq\x07G?\xf8\x00\x00\x00\x00\x00\x00X\x01\
        \x00\x00\x00tq\x08X\x08\x00\x00\x00a\xc3\xa9\n\xf0\x9f\x98\x80q\x09X\x01\x00\x00\x00bq\nc_codecs\n\
        encode\nq\x0b(X\x03\x00\x00\x00a\xc3\xbfq\x0cX\x06\x00\x00\x00latin1q\x0dtq\x0eRq\x0fX\x01\x00\x00\
        \x00lq\x10]q\x11(K\x01]q\x12K\x02aeX\x02\x00\x00\x00tuq\x13(K\x01K\x02K\x03K\x04tq\x14X\x01\x00\
        \x00\x00sq\x15c__builtin__\nset\nq\x16(]q\x17K\x07atq\x18Rq\x19X\x02\x00\x00\x00fsq\x1ac__builtin_\
        _\nfrozenset\nq\x1b(]q\x1cK\x08atq\x1dRq\x1eu.",
    b"\x80\x03}q\x00(X\x04\x00\x00\x00noneq\x01NX\x03\x00\x00\x00yesq\x02\x88X\x02\x00\x00\x00noq\x03\x89X\
        \x01\x00\x00\x00iq\x04J\xfb\xff\xff\xffX\x03\x00\x00\x00bigq\x05\x8a\x09\x00\x00\x00\x00\x00\x00\
        \x00\x00\x01X\x03\x00\x00\x00negq\x06\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\xc0X\x01\x00\x00\x00\
        fq\x07G?\xf8\x00\x00\x00\x00\x00\x00X\x01\x00\x00\x00tq\x08X\x08\x00\x00\x00a\xc3\xa9\n\xf0\x9f\
        \x98\x80q\x09X\x01\x00\x00\x00bq\nC\x02a\xffq\x0bX\x01\x00\x00\x00lq\x0c]q\x0d(K\x01]q\x0eK\x02aeX\
        \x02\x00\x00\x00tuq\x0f(K\x01K\x02K\x03K\x04tq\x10X\x01\x00\x00\x00sq\x11cbuiltins\nset\nq\x12]q\
        \x13K\x07a\x85q\x14Rq\x15X\x02\x00\x00\x00fsq\x16cbuiltins\nfrozenset\nq\x17]q\x18K\x08a\x85q\x19R\
        q\x1au.",
    b"\x80\x05\x95\x9d\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x04none\x94N\x8c\x03yes\x94\x88\x8c\x02no\x94\
        \x89\x8c\x01i\x94J\xfb\xff\xff\xff\x8c\x03big\x94\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01\x8c\
        \x03neg\x94\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\xc0\x8c\x01f\x94G?\xf8\x00\x00\x00\x00\x00\x00\
        \x8c\x01t\x94\x8c\x08a\xc3\xa9\n\xf0\x9f\x98\x80\x94\x8c\x01b\x94C\x02a\xff\x94\x8c\x01l\x94]\x94(\
        K\x01]\x94K\x02ae\x8c\x02tu\x94(K\x01K\x02K\x03K\x04t\x94\x8c\x01s\x94\x8f\x94(K\x07\x90\x8c\x02fs\
        \x94(K\x08\x91\x94u.",
];

#[test]
fn every_protocol_reads_the_same() {
    // Protocols 2 and 4 differ from 3 and 5 in nothing that these values show.
    for bytes in ALL {
        let pickle = read(bytes);
        let root = pickle.root();
        let get = |key| root.get(key).expect(key);
        assert_eq!(root.entries().count(), 13);
        assert!(get("none").is_none());
        assert_eq!((get("yes").as_bool(), get("no").as_bool()), (Some(true), Some(false)));
        assert_eq!((get("yes").as_i64(), get("yes").as_f64()), (None, None));
        assert_eq!((get("i").as_i64(), get("i").as_f64()), (Some(-5), Some(-5.0)));
        assert_eq!((get("big").as_i64(), get("big").as_f64()), (None, Some(2f64.powi(64))));
        assert_eq!((get("neg").as_i64(), get("neg").as_f64()), (None, Some(-2f64.powi(70))));
        assert_eq!((get("f").as_f64(), get("f").as_i64()), (Some(1.5), None));
        assert_eq!(get("t").as_text().as_deref(), Some("aé\n😀"));
        assert_eq!(get("b").as_bytes().as_deref(), Some(&b"a\xff"[..]));
        assert_eq!(ints(get("l")), [1]);
        assert_eq!(get("l").items().nth(1).map(ints), Some(vec![2]));
        assert_eq!(ints(get("tu")), [1, 2, 3, 4]);
        assert_eq!((ints(get("s")), ints(get("fs"))), (vec![7], vec![8]));
        assert!(root.get("absent").is_none());
    }
}

#[test]
fn every_prefix_is_truncated_or_says_where() {
    for bytes in ALL {
        for end in 0..bytes.len() {
            let (offset, kind) = error(&bytes[..end]);
            assert_eq!(kind, Truncated, "{end}");
            assert!(offset <= end);
        }
        // The end is the last byte, and what follows it is counted and not read.
        let longer = [bytes, b"\xff\xff"].concat();
        assert_eq!(read(&longer).trailing(), 2);
    }
    assert_eq!(error(b""), (0, Truncated));
    assert_eq!(error(b"\x80\x04X\x09\x00\x00\x00abc"), (2, Truncated));
    assert_eq!(decode(b"N").expect_err("no end").to_string(), "the pickle ends too early (byte 1)");
}

#[test]
fn objects_keep_class_state_and_identity_in_cycles() {
    // class Node of module m; n.id = 1; n.me = n.__dict__; n.items = [n]. Protocols 0, 2 and 4.
    let pickles: [&[u8]; 3] = [
        b"ccopy_reg\n_reconstructor\np0\n(cm\nNode\np1\nc__builtin__\nobject\np2\nNtp3\nRp4\n(dp5\nVid\np6\
            \nI1\nsVme\np7\ng5\nsVitems\np8\n(lp9\ng4\nasb.",
        b"\x80\x02cm\nNode\nq\x00)\x81q\x01}q\x02(X\x02\x00\x00\x00idq\x03K\x01X\x02\x00\x00\x00meq\x04h\
            \x02X\x05\x00\x00\x00itemsq\x05]q\x06h\x01aub.",
        b"\x80\x04\x951\x00\x00\x00\x00\x00\x00\x00\x8c\x01m\x94\x8c\x04Node\x94\x93\x94)\x81\x94}\x94(\
            \x8c\x02id\x94K\x01\x8c\x02me\x94h\x04\x8c\x05items\x94]\x94h\x03aub.",
    ];
    for bytes in pickles {
        let pickle = read(bytes);
        let root = pickle.root();
        assert_eq!((root.kind(), root.class()), (Kind::Object, Some(("m", "Node"))));
        assert_eq!(root.attribute("id").and_then(Value::as_i64), Some(1));
        let state = root.state().expect("a state");
        assert_eq!(root.attribute("me").map(Value::id), Some(state.id()));
        let items: Vec<_> = root.attribute("items").expect("a list").items().map(Value::id).collect();
        assert_eq!(items, [root.id()]);
        let of_class = |value: &Value<'_>| value.kind() == Kind::Object && value.class() == root.class();
        assert_eq!(pickle.walk().filter(of_class).count(), 1);
    }
}

#[test]
fn slots_and_keyword_arguments() {
    // __slots__ = ("a", "__dict__"); a = 1, b = 2; protocol 4.
    let slots = b"\x80\x04\x95'\x00\x00\x00\x00\x00\x00\x00\x8c\x01m\x94\x8c\x05Slots\x94\x93\x94)\x81\x94\
        }\x94\x8c\x01b\x94K\x02s}\x94\x8c\x01a\x94K\x01s\x86\x94b.";
    let pickle = read(slots);
    let attribute = |name| pickle.root().attribute(name).and_then(Value::as_i64);
    assert_eq!((attribute("a"), attribute("b"), attribute("c")), (Some(1), Some(2), None));
    // __getnewargs_ex__ of ((1,), {"k": 2}); protocol 4.
    let keywords = b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x01m\x94\x8c\x01E\x94\x93\x94K\x01\
        \x85\x94}\x94\x8c\x01k\x94K\x02s\x92\x94.";
    let pickle = read(keywords);
    let root = pickle.root();
    assert_eq!(root.class(), Some(("m", "E")));
    assert_eq!(root.args().filter_map(Value::as_i64).collect::<Vec<_>>(), [1]);
    assert_eq!(root.keywords().and_then(|keywords| keywords.get("k")?.as_i64()), Some(2));
    // Old-style instances of Python 2 by hand: by name and by a class on the stack.
    for bytes in [&b"(I1\nim\nE\n(dVk\nI2\nsb."[..], b"(cm\nE\nI1\no}U\x01kK\x02sb."] {
        let pickle = read(bytes);
        assert_eq!(pickle.root().class(), Some(("m", "E")));
        assert_eq!(pickle.root().args().filter_map(Value::as_i64).collect::<Vec<_>>(), [1]);
        assert_eq!(pickle.root().attribute("k").and_then(Value::as_i64), Some(2));
    }
}

#[test]
fn collections_are_read_like_the_builtins() {
    // [deque([1, 2]), defaultdict(list, {"k": [3]}), OrderedDict(a=1), Counter("aab"), bytearray(b"xy")]
    let bytes = b"\x80\x04\x95\xb1\x00\x00\x00\x00\x00\x00\x00]\x94(\x8c\x0bcollections\x94\x8c\x05deque\
        \x94\x93\x94)R\x94(K\x01K\x02eh\x01\x8c\x0bdefaultdict\x94\x93\x94\x8c\x08builtins\x94\x8c\x04list\
        \x94\x93\x94\x85\x94R\x94\x8c\x01k\x94]\x94K\x03ash\x01\x8c\x0bOrderedDict\x94\x93\x94)R\x94\x8c\
        \x01a\x94K\x01sh\x01\x8c\x07Counter\x94\x93\x94}\x94(\x8c\x01a\x94K\x02\x8c\x01b\x94K\x01u\x85\x94\
        R\x94h\x07\x8c\x09bytearray\x94\x93\x94C\x02xy\x94\x85\x94R\x94e.";
    let pickle = read(bytes);
    let values: Vec<_> = pickle.root().items().collect();
    assert_eq!(ints(values[0]), [1, 2]);
    assert_eq!(values[1].get("k").map(ints), Some(vec![3]));
    assert_eq!(values[2].get("a").and_then(Value::as_i64), Some(1));
    assert_eq!(values[3].entries().count(), 2);
    assert_eq!(values[3].get("a").and_then(Value::as_i64), Some(2));
    assert_eq!(values[4].as_bytes().as_deref(), Some(&b"xy"[..]));
    // [bytearray(b"xy"), b"", set()] by protocol 2.
    let bytes = b"\x80\x02]q\x00(c__builtin__\nbytearray\nq\x01c_codecs\nencode\nq\x02X\x02\x00\x00\x00xyq\
        \x03X\x06\x00\x00\x00latin1q\x04\x86q\x05Rq\x06\x85q\x07Rq\x08c__builtin__\nbytes\nq\x09)Rq\nc__bu\
        iltin__\nset\nq\x0b]q\x0c\x85q\x0dRq\x0ee.";
    let pickle = read(bytes);
    let values: Vec<_> = pickle.root().items().collect();
    assert_eq!(values[0].as_bytes().as_deref(), Some(&b"xy"[..]));
    assert_eq!(values[1].as_bytes().as_deref(), Some(&b""[..]));
    assert_eq!(values[2].items().count(), 0);
}

#[test]
fn half_surrogate_pairs_become_one_character_each() {
    // "\ud800x\udfff" by protocol 4; "\\\u20ac\ud800é" by protocol 0.
    let pickle = read(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07\xed\xa0\x80x\xed\xbf\xbf\x94.");
    assert_eq!(pickle.root().as_text().as_deref(), Some("\u{fffd}x\u{fffd}"));
    let pickle = read(b"V\\u005c\\u20ac\\ud800\xe9\np0\n.");
    assert_eq!(pickle.root().as_text().as_deref(), Some("\\€\u{fffd}é"));
    let pickle = read(b"U\x04a\xffb\xc3.");
    assert_eq!(pickle.root().as_text().as_deref(), Some("a\u{fffd}b\u{fffd}"));
    assert!(matches!(read(b"\x8c\x01a.").root().as_text(), Some(Cow::Borrowed("a"))));
    let pickle = read(b"S'a\\x41\\n\\'\\101\\q\\'\n.");
    assert_eq!(pickle.root().as_bytes().as_deref(), Some(&b"aA\n'A\\q\\"[..]));
}

/// A scalar as numpy pickles it, by hand: `scalar(dtype(code), raw)`, with the byte order in dtype's state.
fn scalar(code: &str, order: &str, raw: &[u8]) -> Vec<u8> {
    let mut bytes =
        b"\x80\x04\x8c\x16numpy._core.multiarray\x8c\x06scalar\x93\x8c\x05numpy\x8c\x05dtype\x93".to_vec();
    bytes.extend([0x8c, 2]);
    bytes.extend(code.as_bytes());
    bytes.extend(b"\x89\x88\x87R(K\x03\x8c\x01");
    bytes.extend(order.as_bytes());
    bytes.extend(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbC");
    bytes.push(u8::try_from(raw.len()).expect("a few bytes"));
    bytes.extend(raw);
    bytes.extend(b"\x86R.");
    bytes
}

#[test]
fn numpy_scalars_are_numbers() {
    let float = |code, order, raw: &[u8]| read(&scalar(code, order, raw)).root().as_f64();
    let int = |code, order, raw: &[u8]| read(&scalar(code, order, raw)).root().as_i64();
    assert_eq!(float("f8", "<", &0.1f64.to_le_bytes()), Some(0.1));
    assert_eq!(float("f8", ">", &0.1f64.to_be_bytes()), Some(0.1));
    assert_eq!(float("f4", "<", &0.5f32.to_le_bytes()), Some(0.5));
    assert_eq!(float("i8", "<", &(-3i64).to_le_bytes()), Some(-3.0));
    assert_eq!(int("i8", "<", &(-3i64).to_le_bytes()), Some(-3));
    assert_eq!(int("i4", ">", &(-3i32).to_be_bytes()), Some(-3));
    assert_eq!(int("u1", "|", &[0xff]), Some(255));
    assert_eq!(int("u8", "<", &[0xff; 8]), None);
    assert_eq!(float("u8", "<", &[0xff; 8]), Some(u64::MAX as f64));
    assert_eq!(int("f8", "<", &0.1f64.to_le_bytes()), None);
    assert_eq!(read(&scalar("b1", "|", &[1])).root().as_bool(), Some(true));
    assert_eq!(float("b1", "|", &[1]), None);
    // A width that is not the number of bytes, and what is no number.
    assert_eq!(float("f8", "<", &[0; 4]), None);
    assert_eq!(float("O8", "|", &[0; 8]), None);
}

#[test]
fn integers_of_any_size() {
    let long = |bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).expect("a few bytes").to_le_bytes();
        let pickle = [&b"\x8b"[..], &length, bytes, b"."].concat();
        let pickle = read(&pickle);
        (pickle.root().as_i64(), pickle.root().as_f64())
    };
    assert_eq!(long(b""), (Some(0), Some(0.0)));
    assert_eq!(long(b"\xff"), (Some(-1), Some(-1.0)));
    assert_eq!(long(b"\0\0\0\0\0\0\0\x80\0"), (None, Some(2f64.powi(63))));
    // 2**1023 has a float near it, and 2**1031 has none.
    let power = |zeros: usize| [vec![0; zeros], vec![0x80, 0]].concat();
    assert_eq!(long(&power(127)), (None, Some(2f64.powi(1023))));
    assert_eq!(long(&power(128)), (None, None));
    assert_eq!(long(&power(300)), (None, None));
    assert_eq!(read(b"I9223372036854775808\n.").root().as_f64(), Some(2f64.powi(63)));
    assert_eq!(error(b"I1_0\n."), (0, Malformed("an integer that is no number")));
    assert_eq!(error(b"\x8b\xff\xff\xff\xff."), (0, Malformed("a length below zero")));
}

#[test]
fn the_last_of_equal_keys_counts_in_small_and_large_dicts() {
    for entries in [1u8, 40] {
        // Each key twice, the second time as a text of protocol 0 with an escape.
        let mut bytes = b"}(".to_vec();
        for round in [0, 100] {
            for key in 0..entries {
                let name = [b'a' + key / 26, b'a' + key % 26];
                match round {
                    0 => bytes.extend([0x8c, 2, name[0], name[1]]),
                    _ => bytes.extend(format!("V\\u00{:x}{}\n", name[0], char::from(name[1])).into_bytes()),
                }
                bytes.extend([b'K', round + key]);
            }
        }
        // Keys that are no text, and one that Python would refuse.
        bytes.extend(b"K\x01K\x02]K\x03u.");
        let pickle = read(&bytes);
        assert_eq!(pickle.root().get("aa").and_then(Value::as_i64), Some(100));
        assert_eq!(pickle.root().get("zz").map(Value::id), None);
        assert_eq!(pickle.root().entries().count(), 2 * usize::from(entries) + 2);
    }
}

#[test]
fn memo_numbers_size_nothing() {
    // LONG_BINPUT and PUT far beyond, then MEMOIZE, which numbers by the count of entries: 2.
    let pickle = read(b"Nr\xff\xff\xff\xffp18446744073709551615\nK\x07\x94g2\n.");
    assert_eq!(pickle.root().as_i64(), Some(7));
    assert_eq!(error(b"Nr\xff\xff\xff\xffj\xfe\xff\xff\xff."), (6, Malformed("a reference to nothing")));
    assert_eq!(error(b"p-1\n"), (0, Malformed("a memo key that is no number")));
}

#[test]
fn marks_fence_the_stack() {
    // POP takes a mark away where nothing lies above it, and POP_MARK takes all.
    assert_eq!(read(b"K\x01(0.").root().as_i64(), Some(1));
    assert_eq!(read(b"K\x01(NN1.").root().as_i64(), Some(1));
    assert_eq!(error(b"]N(a."), (3, Malformed("too little on the stack")));
    assert_eq!(error(b"](K\x01(ea."), (5, Malformed("something is added to what holds nothing")));
    assert_eq!(error(b"0."), (0, Malformed("no mark on the stack")));
}

#[test]
fn what_does_not_fit_is_malformed() {
    assert_eq!(error(b"\x80\x06N."), (0, Malformed("its protocol is newer than 5")));
    assert_eq!(error(b"N\xff."), (1, UnknownOpcode(0xff)));
    assert_eq!(error(b"."), (0, Malformed("too little on the stack")));
    assert_eq!(error(b"N(."), (2, Malformed("too little on the stack")));
    assert_eq!(error(b"t."), (0, Malformed("no mark on the stack")));
    assert_eq!(error(b"NNa."), (2, Malformed("something is added to what holds nothing")));
    assert_eq!(error(b"}(Nu."), (3, Malformed("a dict with a key that has no value")));
    assert_eq!(error(b"cm\nf\n]R."), (6, Malformed("arguments that are no tuple")));
    assert_eq!(error(b"]}b."), (2, Malformed("a state for what is no object")));
    assert_eq!(error(b"NN\x93."), (2, Malformed("a global whose name is no text")));
    assert_eq!(error(b"(o."), (1, Malformed("an instance of nothing")));
    assert_eq!(error(b"S'a\n."), (0, Malformed("a string without quotes")));
    assert_eq!(error(b"Fone\n."), (0, Malformed("a float that is no number")));
}

#[test]
fn what_only_the_writer_resolves_is_opaque() {
    for bytes in
        [&b"Pid\n."[..], b"NQ.", b"\x82\x01.", b"\x83\x01\x02.", b"\x84\x01\x02\x03\x04.", b"\x97\x98."]
    {
        assert_eq!(read(bytes).root().kind(), Kind::Opaque);
    }
}

#[test]
fn instructions_are_limited_and_nodes_are_small() {
    assert_eq!(decode_within(b"NNN.", 3).expect_err("too many").kind, TooLarge);
    assert!(decode_within(b"NNN.", 4).is_ok());
    assert_eq!(size_of::<Node>(), 16);
}

#[test]
fn nesting_costs_no_stack_of_ours() {
    // A tuple in a tuple and a list in itself, two hundred thousand deep.
    let deep = [&b")"[..], &[0x85; 200_000], b"."].concat();
    assert_eq!(read(&deep).nodes(), 200_001);
    // `l = []; l.append((l,))` by protocol 2.
    let pickle = read(b"\x80\x02]q\x00h\x00\x85q\x01a.");
    let inner = pickle.root().items().next().and_then(|tuple| tuple.items().next());
    assert_eq!(inner.map(Value::id), Some(pickle.root().id()));
}
