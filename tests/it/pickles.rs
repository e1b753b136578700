//! Pickles of fixtures, written instruction by instruction: protocol 2, as Python would.

use serde_json::Value;

/// A value as a pickle. An object with `"class": "module.Name"` becomes an instance with its other keys as state.
pub(crate) fn pickle(value: &Value) -> Vec<u8> {
    let mut out = vec![0x80, 2];
    write(value, &mut out);
    out.push(b'.');
    out
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(b'N'),
        Value::Bool(flag) => out.push(if *flag { 0x88 } else { 0x89 }),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => {
                out.push(b'J');
                out.extend(i32::try_from(whole).expect("a small number").to_le_bytes());
            }
            None => {
                out.push(b'G');
                out.extend(number.as_f64().expect("a number").to_be_bytes());
            }
        },
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            out.extend(b"](");
            items.iter().for_each(|item| write(item, out));
            out.push(b'e');
        }
        Value::Object(object) => {
            let class = object.get("class").and_then(Value::as_str);
            if let Some((module, name)) = class.and_then(|class| class.rsplit_once('.')) {
                out.extend(format!("c{module}\n{name}\n)").bytes());
                out.push(0x81);
            }
            out.extend(b"}(");
            for (key, item) in object.iter().filter(|(key, _)| key.as_str() != "class") {
                // Keys of digits alone are numbers: validation examples are.
                match key.parse::<i64>() {
                    Ok(number) => write(&Value::from(number), out),
                    Err(_) => string(key, out),
                }
                write(item, out);
            }
            out.push(b'u');
            if class.is_some() {
                out.push(b'b');
            }
        }
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'X');
    out.extend(u32::try_from(text.len()).expect("a short text").to_le_bytes());
    out.extend(text.bytes());
}
