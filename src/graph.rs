//! The stages as a graph: every input exists, nothing goes in circles, and an order to build in.

use std::collections::BTreeMap;

use crate::code::Code;
use crate::error::Result;
use crate::spec::{Diagnostic, Pipeline, SpecError};

/// The stages of a pipeline in an order in which every stage follows what it reads.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Indices into [`Pipeline::stages`].
    order: Vec<usize>,
    /// For each stage, the stages that it reads, as indices.
    inputs: Vec<Vec<usize>>,
}

impl Graph {
    /// Checks the inputs of all stages and orders them; among stages that are ready, the spec's order holds.
    pub fn new(pipeline: &Pipeline) -> Result<Self> {
        let index: BTreeMap<&str, usize> =
            pipeline.stages.iter().enumerate().map(|(i, stage)| (stage.name.as_str(), i)).collect();
        let mut diagnostics = Vec::new();
        let mut inputs = Vec::new();
        for stage in &pipeline.stages {
            let mut of_stage = Vec::new();
            for input in stage.config.inputs() {
                match index.get(input.stage.as_str()) {
                    Some(&i) => of_stage.push(i),
                    None => diagnostics.push(
                        Diagnostic::new(
                            Code::UnknownInput,
                            input.span.clone(),
                            format!("stage `{}` reads `{}`, which is not a stage", stage.name, input.stage),
                        )
                        .with_hint(crate::spec::did_you_mean(
                            &input.stage,
                            index.keys().copied().filter(|name| *name != stage.name),
                        )),
                    ),
                }
            }
            inputs.push(of_stage);
        }
        let mut order = Vec::new();
        let mut placed = vec![false; inputs.len()];
        loop {
            while let Some(next) =
                (0..inputs.len()).find(|&i| !placed[i] && inputs[i].iter().all(|&input| placed[input]))
            {
                placed[next] = true;
                order.push(next);
            }
            if order.len() == inputs.len() {
                break;
            }
            // A circle that is reported counts as placed, so that what it holds up is not blamed too.
            let circle = circle(&inputs, &placed);
            diagnostics.push(in_circle(pipeline, &circle));
            for stage in circle {
                placed[stage] = true;
                order.push(stage);
            }
        }
        if diagnostics.is_empty() {
            Ok(Self { order, inputs })
        } else {
            Err(SpecError::new(&pipeline.path, &pipeline.text, diagnostics).into())
        }
    }

    /// Stage indices in build order.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The stages that a stage reads, as indices.
    pub fn inputs(&self, stage: usize) -> &[usize] {
        &self.inputs[stage]
    }

    /// The stages that must be there for `wanted`, itself included, in build order.
    pub fn needed(&self, wanted: usize) -> Vec<usize> {
        let mut needed = vec![false; self.inputs.len()];
        needed[wanted] = true;
        for &stage in self.order.iter().rev() {
            if needed[stage] {
                for &input in &self.inputs[stage] {
                    needed[input] = true;
                }
            }
        }
        self.order.iter().copied().filter(|&stage| needed[stage]).collect()
    }
}

/// The mistake of stages that read from each other, at the input that leads on.
fn in_circle(pipeline: &Pipeline, circle: &[usize]) -> Diagnostic {
    let names: Vec<&str> = circle.iter().map(|&i| pipeline.stages[i].name.as_str()).collect();
    let stage = &pipeline.stages[circle[0]];
    let next = names.get(1).unwrap_or(&names[0]);
    let span = stage.config.inputs().into_iter().find(|input| input.stage == **next);
    let span = span.map_or(stage.span.clone(), |input| input.span.clone());
    let message = format!("stages read from each other in a circle: {} -> {}", names.join(" -> "), names[0]);
    Diagnostic::new(Code::Cycle, span, message)
}

/// A circle among the stages that could not be placed: follow first unplaced inputs until one comes again.
fn circle(inputs: &[Vec<usize>], placed: &[bool]) -> Vec<usize> {
    let mut at = placed.iter().position(|placed| !placed).unwrap_or(0);
    let mut path: Vec<usize> = Vec::new();
    loop {
        if let Some(start) = path.iter().position(|&stage| stage == at) {
            return path.split_off(start);
        }
        path.push(at);
        // A stage that could not be placed has an input that could not.
        at = inputs[at].iter().copied().find(|&input| !placed[input]).unwrap_or(at);
    }
}
