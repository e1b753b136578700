//! Sizes as people write them: `512MiB`, `2 GB`, `1073741824`.

/// The bytes of a size; the error says what is not understood.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..digits].parse().map_err(|_| format!("`{text}` is not a size"))?;
    let unit = match text[digits..].trim().to_lowercase().as_str() {
        "" | "b" => 1u64,
        "kb" => 1000,
        "kib" | "k" => 1 << 10,
        "mb" => 1_000_000,
        "mib" | "m" => 1 << 20,
        "gb" => 1_000_000_000,
        "gib" | "g" => 1 << 30,
        "tb" => 1_000_000_000_000,
        "tib" | "t" => 1 << 40,
        unit => return Err(format!("`{unit}` is not a unit; use MiB or GiB")),
    };
    let size = number * unit as f64;
    if size > 1e18 { Err(format!("`{text}` is too much")) } else { Ok(size as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("1GiB"), Ok(1 << 30));
        assert_eq!(parse_bytes("1.5 GiB"), Ok(3 << 29));
        assert_eq!(parse_bytes("536870912"), Ok(512 << 20));
        assert_eq!(parse_bytes("64 kb"), Ok(64_000));
        for bad in ["", "GiB", "1XB", "-1", "1e30GiB", "9999999999TiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
