//! The program that a prompt asks to improve, as OpenEvolve and its relatives show it.
//!
//! Their prompts hold it in a fence under a heading of its own, `# Current Program` or `# Current Solution`, behind the
//! programs that others wrote. In every logged step that was looked at it is the parent's text, so a record that has a
//! prompt can be replayed by itself.

/// The text in the first fence below the last such heading. `None` where it is not clear where it ends.
pub fn current_program(prompt: &str) -> Option<&str> {
    let below = &prompt[below_heading(prompt)?..];
    let open = below.find("```")?;
    let body = below[open..].find('\n').map(|end| open + end + 1)?;
    // The fence ends at the first line of three backticks alone; with another one before the next heading it may be
    // the program's own, and then nobody can tell.
    let mut at = body;
    let mut end = None;
    for line in below[body..].split_inclusive('\n') {
        if line.trim_end() == "```" {
            if end.is_some() {
                return None;
            }
            end = Some(at);
        } else if end.is_some() && (line.starts_with('#') || line.starts_with("```")) {
            break;
        }
        at += line.len();
    }
    end.map(|end| &below[body..end])
}

/// Where the text below the last such heading begins. Prompts are long, so the words are looked for and not the lines.
fn below_heading(prompt: &str) -> Option<usize> {
    const WORDS: &str = "# Current ";
    let found = memchr::memmem::find_iter(prompt.as_bytes(), WORDS.as_bytes());
    let headings = found.filter_map(|at| {
        let before = prompt.as_bytes()[..at].iter().rev().find(|byte| **byte != b'#');
        let rest = &prompt[at + WORDS.len()..];
        let rest = rest.strip_prefix("Program").or_else(|| rest.strip_prefix("Solution"))?;
        let rest = rest.trim_start_matches([' ', '\t', '\r']).strip_prefix('\n')?;
        before.is_none_or(|byte| *byte == b'\n').then_some(prompt.len() - rest.len())
    });
    headings.last()
}

#[cfg(test)]
mod tests {
    use super::current_program;

    #[test]
    fn the_last_heading_counts_and_others_that_begin_so_do_not() {
        let prompt = "# Current Program Information\n- score\n```text\nx\n```\n# Current Program\n```python\na = 1\n\n```\n\n# Task\n";
        assert_eq!(current_program(prompt), Some("a = 1\n\n"));
        assert_eq!(current_program("# Task\n```\nx\n```\n"), None);
        assert_eq!(current_program("# Current Program\n```python\na = 1\n"), None);
    }

    #[test]
    fn a_fence_inside_the_program_leaves_it_open() {
        let prompt = "# Current Program\n```python\n\"\"\"\n```\nx\n```\n\"\"\"\n```\n# Task\n";
        assert_eq!(current_program(prompt), None);
    }
}
