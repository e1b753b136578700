//! Checks of a spec that need no data: sources exist, and every statement fits the tables that it will see.
//!
//! Columns are followed through the stages: each stage declares what it adds, a `sql` stage yields what its
//! query yields. So a filter on a column that no stage makes is an error before anything runs.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use finch_core::rows::RowsDigest;
use finch_core::training::{Base, files};

use crate::code::Code;
use crate::contract::Contract;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ingest::Discovery;
use crate::spec::{
    Config, DataTest, Diagnostic, Ingest, Input, Of, Pipeline, Span, SpecError, Stage, TestRule,
    TokenizerFrom, Train, did_you_mean,
};
use crate::sql::views::{self, Needed};
use crate::sql::{Engine, Session, Width};
use crate::stage;

type Tables = BTreeMap<String, SchemaRef>;

/// Memory of the engine that only plans.
const PLANNING_MEMORY: u64 = 64 << 20;

/// Reports everything that is wrong with a spec whose graph is sound: its statements, and files that are not there.
pub fn all(pipeline: &Pipeline, graph: &Graph) -> Result<()> {
    let mut diagnostics = statements(pipeline, graph)?;
    diagnostics.extend(files(pipeline));
    finish(pipeline, diagnostics)
}

/// Every file or folder that the spec names and that is not there.
fn files(pipeline: &Pipeline) -> Vec<Diagnostic> {
    let mut missing: Vec<(Span, String)> = Vec::new();
    if let Some((path, span)) = pipeline.tasks.as_ref().filter(|(path, _)| !path.is_file()) {
        missing.push((span.clone(), format!("the task catalogue `{}` is not a file", path.display())));
    }
    for stage in &pipeline.stages {
        match &stage.config {
            Config::Ingest(config) => {
                let sources = config
                    .sources
                    .iter()
                    .filter(|source| source.place.local().is_some_and(|path| !path.exists()));
                let message = |given: &str| format!("source `{given}` does not exist");
                missing.extend(sources.map(|source| (source.span.clone(), message(&source.given))));
            }
            Config::Tokenizer(tokenizer) => {
                if let TokenizerFrom::Path { path, span } = &tokenizer.from
                    && !path.is_file()
                {
                    missing.push((span.clone(), format!("the tokenizer `{}` is not a file", path.display())));
                }
            }
            Config::Train(config) => {
                missing.extend(base_problem(config).map(|problem| (config.base_span.clone(), problem)));
            }
            _ => {}
        }
    }
    let hint = format!("relative paths start at `{}`", pipeline.base.display());
    let diagnostic =
        |(span, message)| Diagnostic::new(Code::MissingSource, span, message).with_hint(hint.clone());
    missing.into_iter().map(diagnostic).collect()
}

/// Why training cannot start from what the spec names.
fn base_problem(config: &Train) -> Option<String> {
    match &config.config.base {
        Base::Config { config, .. } => {
            (!config.is_file()).then(|| format!("the model config `{}` is not a file", config.display()))
        }
        Base::Checkpoint(folder) if !folder.is_dir() => {
            Some(format!("the checkpoint `{}` is not a folder", folder.display()))
        }
        Base::Checkpoint(folder) => (!folder.join(files::CONFIG).is_file())
            .then(|| format!("the checkpoint `{}` has no `{}`", folder.display(), files::CONFIG)),
    }
}

/// Reports every source in which nothing is a log.
pub fn recognised(pipeline: &Pipeline, config: &Ingest, found: &Discovery) -> Result<()> {
    let empty = config.sources.iter().filter(|source| found.empty.contains(&source.given));
    let diagnostics = empty.map(|source| {
        let message = format!("nothing in `{}` is a log that finch knows", source.given);
        let hint = "`finch inspect` shows what it saw there; `{ path = …, mapping = … }` reads what it does not know".to_owned();
        Diagnostic::new(Code::NothingRecognised, source.span.clone(), message).with_hint(hint)
    });
    finish(pipeline, diagnostics.collect())
}

/// Plans every statement of the spec against the columns that its inputs will have.
fn statements(pipeline: &Pipeline, graph: &Graph) -> Result<Vec<Diagnostic>> {
    let engine = Engine::new(1, PLANNING_MEMORY, &std::env::temp_dir())?;
    let mut tables: BTreeMap<usize, Tables> = BTreeMap::new();
    let mut diagnostics = Vec::new();
    for &index in graph.order() {
        let stage = &pipeline.stages[index];
        let inputs: Vec<&Tables> = graph.inputs(index).iter().filter_map(|input| tables.get(input)).collect();
        // After a mistake the stages behind it would only repeat it.
        if inputs.len() < graph.inputs(index).len() {
            continue;
        }
        let session = engine.session(Width::Narrow);
        let made = read_kinds(pipeline, stage).and_then(|()| after(stage, &inputs, &session));
        match made {
            Ok(made) => {
                tables.insert(index, made);
            }
            Err(diagnostic) => diagnostics.push(*diagnostic),
        }
    }
    for test in &pipeline.tests {
        let Some(index) = pipeline.stages.iter().position(|stage| stage.name == test.stage.stage) else {
            let message = format!(
                "test `{}` names the stage `{}`, which the spec does not have",
                test.name, test.stage.stage
            );
            let hint =
                did_you_mean(&test.stage.stage, pipeline.stages.iter().map(|stage| stage.name.as_str()));
            diagnostics
                .push(Diagnostic::new(Code::UnknownInput, test.stage.span.clone(), message).with_hint(hint));
            continue;
        };
        let needed = graph.needed(index);
        let known: Vec<(&str, &Tables)> = needed
            .iter()
            .filter_map(|stage| Some((pipeline.stages[*stage].name.as_str(), tables.get(stage)?)))
            .collect();
        if known.len() == needed.len() {
            let session = engine.session(Width::Narrow);
            diagnostics.extend(
                data_test(test, &pipeline.stages[index], &known, &session).err().map(|mistake| *mistake),
            );
        }
    }
    Ok(diagnostics)
}

/// Plans a data test over the tables of its stage and those that it comes from.
fn data_test(
    test: &DataTest,
    stage: &Stage,
    known: &[(&str, &Tables)],
    session: &Session<'_>,
) -> Result<(), Box<Diagnostic>> {
    let own = stage.config.own_table();
    let names_own = match &test.rule {
        TestRule::Query(_) => false,
        TestRule::Rows { table, .. } | TestRule::Unique { table, .. } => table.is_none(),
    };
    if names_own && own.is_empty() {
        let message = format!("stage `{}` makes no table that `{}` could look at", stage.name, test.name);
        return Err(Box::new(Diagnostic::new(Code::BadValue, test.stage.span.clone(), message)));
    }
    let query = test.rule.query(&stage.name, own);
    for (name, tables) in known {
        declare(session, name, tables, &query, &test.span)?;
    }
    let all: Tables = known.iter().flat_map(|(_, tables)| (*tables).clone()).collect();
    match test.rule {
        TestRule::Query(_) => {
            plan(session, &query, &test.span, &all)?;
            session.check_deterministic(&query).map_err(|error| sql_mistake(&error, &test.span, &all))
        }
        _ => part(session, &query, &test.span, &all),
    }
}

fn finish(pipeline: &Pipeline, diagnostics: Vec<Diagnostic>) -> Result<()> {
    if diagnostics.is_empty() {
        return Ok(());
    }
    Err(SpecError::new(&pipeline.path, &pipeline.text, diagnostics).into())
}

/// Refuses an input of the wrong kind, where a stage needs more of it than its tables.
fn read_kinds(pipeline: &Pipeline, stage: &Stage) -> Result<(), Box<Diagnostic>> {
    let (input, kind): (&Input, &str) = match &stage.config {
        Config::Pack(config) => (&config.input, "render"),
        Config::Train(config) => (&config.input, "pack"),
        _ => return Ok(()),
    };
    match pipeline.stage(&input.stage) {
        Some(read) if read.config.kind() != kind => {
            let message = format!("`{}` is not a {kind} stage, which `{}` needs", input.stage, stage.name);
            let stages = pipeline.stages.iter().filter(|stage| stage.config.kind() == kind);
            let names: Vec<String> = stages.map(|stage| format!("`{}`", stage.name)).collect();
            let hint = (!names.is_empty()).then(|| format!("{kind} stages here: {}", names.join(", ")));
            Err(Box::new(Diagnostic::new(Code::BadValue, input.span.clone(), message).with_hint(hint)))
        }
        _ => Ok(()),
    }
}

/// Refuses a stage that makes tables where a tokenizer is needed, which makes none.
fn counts_tokens(input: &Input, tables: Option<&Tables>) -> Result<(), Box<Diagnostic>> {
    if tables.is_none_or(BTreeMap::is_empty) {
        return Ok(());
    }
    let message = format!("`{}` is not a tokenizer stage", input.stage);
    Err(Box::new(Diagnostic::new(Code::BadValue, input.span.clone(), message)))
}

/// The tables of a stage's dataset, from those of its inputs; or what is wrong with the stage.
fn after(stage: &Stage, inputs: &[&Tables], session: &Session<'_>) -> Result<Tables, Box<Diagnostic>> {
    let contract = |name: &str| (name.to_owned(), Contract::of(name).schema(&[]));
    let main = inputs.first().copied().cloned().unwrap_or_default();
    let needs = |table: &str, column: Option<&str>, span: &Span| match main.get(table) {
        None => {
            let message =
                format!("stage `{}` reads the table `{table}`, which its input does not have", stage.name);
            let tables: Vec<String> = main.keys().map(|name| format!("`{name}`")).collect();
            let hint = match tables.is_empty() {
                true => "a tokenizer makes no table".to_owned(),
                false => format!("its tables: {}", tables.join(", ")),
            };
            Err(Box::new(Diagnostic::new(Code::MissingColumn, span.clone(), message).with_hint(hint)))
        }
        Some(schema) => match column.filter(|column| schema.column_with_name(column).is_none()) {
            None => Ok(schema.clone()),
            Some(column) => {
                let message = format!(
                    "stage `{}` needs the column `{column}` of `{table}`, which its input does not have",
                    stage.name
                );
                let kind = Contract::of(table).columns.iter().find(|known| known.name == column);
                let hint = kind.and_then(|known| known.added_by.as_ref());
                let hint = hint.map(|kind| match kind.split_once(' ') {
                    None => format!("a {kind} stage adds it; read from one"),
                    Some((kind, key)) => format!("a {kind} stage with `{key}` adds it; read from one"),
                });
                Err(Box::new(Diagnostic::new(Code::MissingColumn, span.clone(), message).with_hint(hint)))
            }
        },
    };
    let extend = |table: &str, kind: &str, schema: &SchemaRef| {
        (table.to_owned(), stage::extended(schema, table, kind))
    };
    let mut made = main.clone();
    match &stage.config {
        Config::Ingest(_) => {
            made.extend(
                [
                    "runs",
                    "programs",
                    "texts",
                    "candidates",
                    "attempts",
                    "transitions",
                    "tasks",
                    "objectives",
                    "removed",
                    "quarantine",
                ]
                .map(contract),
            );
        }
        Config::Dedup(config) => {
            let schema = needs("transitions", None, &config.input.span)?;
            fresh(stage, "transitions", "dedup", &schema, &config.input.span)?;
            made.extend([extend("transitions", "dedup", &schema)]);
            if config.near.is_some() {
                fresh(stage, "transitions", stage::NEAR, &schema, &config.input.span)?;
                let schema = stage::extended(&made["transitions"], "transitions", stage::NEAR);
                made.extend([("transitions".to_owned(), schema), contract("clusters")]);
            }
        }
        Config::Label(config) => {
            let schema = needs("transitions", None, &config.input.span)?;
            needs("candidates", None, &config.input.span)?;
            needs("objectives", None, &config.input.span)?;
            fresh(stage, "transitions", "label", &schema, &config.input.span)?;
            made.extend([extend("transitions", "label", &schema)]);
        }
        Config::Filter(config) => {
            let column = config.condition.is_none().then_some("outcome");
            needs("transitions", column, &config.input.span)?;
            let judged = stage::judged(config);
            declare(session, "input", &main, &judged, &config.input.span)?;
            if let Some(budget) = &config.tokens {
                needs("transitions", Some("response_id"), &config.input.span)?;
                counts_tokens(&budget.tokenizer, inputs.get(1).copied())?;
                let side: Tables = [("step_tokens".to_owned(), stage::step_tokens())].into();
                declare(session, "side", &side, &judged, &config.input.span)?;
            }
            // Each part alone first, so that a complaint is about what the spec says and points there.
            if let Some(condition) = &config.condition {
                let alone = format!("SELECT * FROM input.transitions WHERE\n{condition}");
                part(session, &alone, &config.condition_span, &main)?;
            }
            if let Some(cap) = &config.per_task
                && let Some(order) = &cap.order_by
            {
                let alone = format!("SELECT * FROM input.transitions ORDER BY\n{order}\n, transition_id");
                part(session, &alone, &cap.order_span, &main)?;
            }
            part(session, &judged, &config.condition_span, &main).map_err(|mut mistake| {
                if config.condition.is_some() {
                    mistake.message = "`where` is more than one condition".to_owned();
                    mistake.hint = Some("ORDER BY and LIMIT are `per_task`'s".to_owned());
                }
                mistake
            })?;
        }
        Config::Balance(config) => {
            let schema = needs("transitions", None, &config.input.span)?;
            needs("tasks", None, &config.input.span)?;
            for of in config.caps.keys().chain(config.weights.keys()) {
                match of {
                    Of::Outcome => drop(needs("transitions", Some("outcome"), &config.input.span)?),
                    Of::AliasGroup => drop(needs("tasks", Some("alias_group"), &config.input.span)?),
                    Of::Run | Of::Task | Of::Domain => {}
                }
            }
            fresh(stage, "transitions", "balance", &schema, &config.input.span)?;
            made.extend([extend("transitions", "balance", &schema)]);
        }
        Config::Split(config) => {
            let schema = needs("transitions", None, &config.input.span)?;
            let tasks = needs("tasks", None, &config.input.span)?;
            needs("candidates", None, &config.input.span)?;
            needs("runs", None, &config.input.span)?;
            fresh(stage, "transitions", "split", &schema, &config.input.span)?;
            made.extend([extend("transitions", "split", &schema), extend("tasks", "split", &tasks)]);
            made.extend([contract("splits"), contract("leaks")]);
            if config.propose_aliases {
                made.extend([contract("alias_proposals")]);
            }
        }
        Config::Tokenizer(tokenizer) => match &tokenizer.from {
            TokenizerFrom::Path { .. } => made.clear(),
            TokenizerFrom::Trained { input, .. } => {
                needs("transitions", Some("response_id"), &input.span)?;
                made.clear();
            }
        },
        Config::Render(config) => {
            needs("transitions", Some("response_id"), &config.input.span)?;
            counts_tokens(&config.tokenizer, inputs.get(1).copied())?;
            made.extend([contract("examples"), contract("removed")]);
        }
        Config::Pack(config) => {
            needs("examples", None, &config.input.span)?;
            made.extend([contract("packs")]);
        }
        Config::Train(config) => {
            needs("packs", None, &config.input.span)?;
            made.extend([contract("losses")]);
        }
        Config::Sql(config) => {
            for (input, tables) in config.inputs.iter().zip(inputs) {
                declare(session, &input.stage, tables, &config.query, &config.query_span)?;
            }
            let query = stage::trimmed(&config.query);
            let all: Tables = inputs.iter().flat_map(|tables| (*tables).clone()).collect();
            let schema = plan(session, query, &config.query_span, &all)?;
            session
                .check_deterministic(query)
                .map_err(|error| sql_mistake(&error, &config.query_span, &all))?;
            if let Some(column) = config.key.iter().find(|column| schema.column_with_name(column).is_none()) {
                let message = format!("`key` names the column `{column}`, which the query does not yield");
                let names = schema.fields().iter().map(|field| field.name().as_str());
                let hint = did_you_mean(column, names.collect::<Vec<_>>());
                return Err(Box::new(
                    Diagnostic::new(Code::MissingColumn, config.key_span.clone(), message).with_hint(hint),
                ));
            }
            let schema = stage::storable(&schema);
            RowsDigest::new(&schema).map_err(|error| {
                let hint =
                    "CAST it to text, a number, a truth value, a timestamp or a list of them".to_owned();
                Box::new(
                    Diagnostic::new(Code::SpecSql, config.query_span.clone(), error.to_string())
                        .with_hint(hint),
                )
            })?;
            made.insert(config.table.clone(), schema);
        }
    }
    Ok(made)
}

/// Refuses a stage whose columns are there already: what came before would be lost without a word.
fn fresh(
    stage: &Stage,
    table: &str,
    kind: &str,
    schema: &SchemaRef,
    span: &Span,
) -> Result<(), Box<Diagnostic>> {
    let twice =
        Contract::of(table).added_by(kind).find(|column| schema.column_with_name(&column.name).is_some());
    match twice {
        None => Ok(()),
        Some(column) => {
            let message = format!(
                "stage `{}` adds the column `{}`, which its input has already",
                stage.name, column.name
            );
            Err(Box::new(Diagnostic::new(Code::BadValue, span.clone(), message)))
        }
    }
}

fn declare(
    session: &Session<'_>,
    schema: &str,
    tables: &Tables,
    query: &str,
    span: &Span,
) -> Result<(), Box<Diagnostic>> {
    views::declare(session, schema, tables, &Needed::by(query))
        .map_err(|error| sql_mistake(&error, span, tables))
}

fn plan(
    session: &Session<'_>,
    query: &str,
    span: &Span,
    tables: &Tables,
) -> Result<SchemaRef, Box<Diagnostic>> {
    session.columns_of(query).map_err(|error| sql_mistake(&error, span, tables))
}

/// Plans a statement that finch made around a part of the spec: lines and columns in it would mean nothing.
fn part(session: &Session<'_>, query: &str, span: &Span, tables: &Tables) -> Result<(), Box<Diagnostic>> {
    let checked = session.columns_of(query).and_then(|_| session.check_deterministic(query));
    checked.map_err(|error| {
        let mut mistake = sql_mistake(&error, span, tables);
        if let Some((message, _)) = mistake.message.split_once(" (line ") {
            mistake.message = message.to_owned();
        }
        mistake
    })
}

/// The engine's complaint at the place of the statement, with the nearest column when a name is unknown.
fn sql_mistake(error: &Error, span: &Span, tables: &Tables) -> Box<Diagnostic> {
    let text = error.to_string();
    let diagnostic = |message: String| Diagnostic::new(Code::SpecSql, span.clone(), message);
    if error.code() == Code::ReadOnly {
        let hint = "a query is one SELECT; what it yields is the stage's table".to_owned();
        let statement = text.rsplit(": ").next().unwrap_or(&text);
        return Box::new(diagnostic(format!("a query only reads, unlike {statement}")).with_hint(hint));
    }
    let unknown = text.split("No field named ").nth(1).and_then(|rest| rest.split([' ', '\n']).next());
    // DataFusion lists every column that it knows; one name is enough.
    let Some(unknown) = unknown.map(|name| name.trim_end_matches('.').replace(['"', '`'], "")) else {
        return Box::new(diagnostic(text).with_hint(error.hint()));
    };
    let fields = tables.values().flat_map(|schema| schema.fields().iter());
    let columns: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
    let name = unknown.rsplit('.').next().unwrap_or(&unknown);
    let hint = crate::spec::nearest(name, columns).map(|near| format!("did you mean `{near}`?"));
    Box::new(diagnostic(format!("no column is named `{unknown}`")).with_hint(hint.or_else(|| error.hint())))
}
