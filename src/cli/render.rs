//! Errors for people: code, place with the line of the spec, and what to do.

use std::io::Write;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity};

use crate::error::Error;
use crate::spec::masked;

/// Prints an error to standard error.
pub(super) fn error(error: &Error) {
    let text = match error {
        Error::Spec(spec) => spec
            .diagnostics
            .iter()
            .map(|diagnostic| {
                let name = masked(&spec.path.display().to_string());
                let label = (!spec.text.is_empty())
                    .then(|| LabeledSpan::new(None, diagnostic.span.start, diagnostic.span.len().max(1)));
                let mut report = miette::MietteDiagnostic::new(diagnostic.message.clone())
                    .with_severity(Severity::Error)
                    .with_labels(label);
                report.help.clone_from(&diagnostic.hint);
                let source = NamedSource::new(name.clone(), spec.text.clone());
                let body = graphical(&miette::Report::new(report).with_source_code(source));
                // Editors and scripts look for file:line:column at the start of a line.
                let (line, column) = spec.position(&diagnostic.span);
                format!("{name}:{line}:{column}: error {}\n{body}", diagnostic.code)
            })
            .collect::<Vec<_>>()
            .join("\n"),
        other => {
            // Whoever typed a URL with a password must not find it in a log.
            let mut report = miette::MietteDiagnostic::new(masked(&other.to_string()));
            report.help = other.hint().map(|hint| masked(&hint));
            format!("error {}\n{}", other.code(), graphical(&miette::Report::new(report)))
        }
    };
    // A closed or full standard error is no reason to panic.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn graphical(report: &miette::Report) -> String {
    use std::io::IsTerminal;
    let plain = !std::io::stderr().is_terminal() || std::env::var_os("NO_COLOR").is_some();
    let theme = if plain { GraphicalTheme::unicode_nocolor() } else { GraphicalTheme::unicode() };
    let handler =
        GraphicalReportHandler::new_themed(theme).with_width(110).with_wrap_lines(false).with_links(false);
    let mut text = String::new();
    match handler.render_report(&mut text, report.as_ref()) {
        Ok(()) => text,
        Err(_) => format!("{report}\n"),
    }
}
