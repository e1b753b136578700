//! Finds what an id, or its beginning, names.

use super::Kind;
use super::reader::Reader;
use crate::code::Code;
use crate::error::{Error, Result};

const STATEMENT: &str = include_str!("../../sql/show_ids.sql");

/// The fewest digits of a beginning.
const FEWEST: usize = 4;

const KINDS: [Kind; 7] =
    [Kind::Run, Kind::Program, Kind::Candidate, Kind::Transition, Kind::Example, Kind::Pack, Kind::Text];

/// What the only id with this beginning is of, and the whole id.
pub(super) fn find(reader: &Reader<'_>, beginning: &str) -> Result<(Kind, String)> {
    let low = beginning.to_ascii_lowercase();
    if low.len() < FEWEST || low.len() > 64 || !low.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(Error::Usage(format!(
            "`{}` is not the beginning of an id: {FEWEST} to 64 hexadecimal digits",
            beginning.chars().take(80).flat_map(char::escape_debug).collect::<String>()
        )));
    }
    // Every digit is before `g`.
    let high = format!("{low}g");
    let values = [("low", low.as_str()), ("high", high.as_str())];
    let mut found = Vec::new();
    for kind in KINDS {
        let (table, column) = kind.place();
        let statement = STATEMENT.replace("FROM ids", &format!("FROM (SELECT {column} AS id FROM {table})"));
        // Later stages have fewer transitions than the logs and no others.
        let rows = match kind {
            Kind::Transition => reader.logged(table, &statement, &values)?,
            _ => reader.all(table, &statement, &values)?,
        };
        found.extend(rows.into_iter().filter_map(|mut row| Some((kind, row.take_text("id")?))));
    }
    // A run that sampling kept out is in no other table.
    let out =
        STATEMENT.replace("FROM ids", "FROM (SELECT record_id AS id FROM removed WHERE record_kind = 'run')");
    for mut row in reader.all("removed", &out, &values)? {
        found.extend(row.take_text("id").map(|id| (Kind::Run, id)));
    }
    found.sort();
    found.dedup();
    let error =
        |reason, hint: &str| Err(Error::Store { reason, code: Code::UnknownId, hint: Some(hint.to_owned()) });
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => error(
            format!("nothing in build {} has an id that begins with `{low}`", reader.build.build_id),
            "`--build` asks another build; `finch builds` lists them",
        ),
        many => {
            let mut reason = format!("more than one id begins with `{low}`:");
            for (kind, id) in many.iter().take(super::SHOWN) {
                reason += &format!("\n{id} ({})", kind.name());
            }
            if many.len() > super::SHOWN {
                reason += "\nand more";
            }
            error(reason, "give more digits")
        }
    }
}
