//! Calls any operator of libtorch by its name, through the dispatcher's C entry; tch has most of them, and not all.
//!
//! `torch_call_dispatcher` is a part of libtorch's stable C interface since 2.10 (torch/csrc/stable/c/shim.h). Each
//! argument and result is 64 bits on a stack: a tensor is an owned handle, an optional is a pointer to a boxed value or
//! null, a list has its own constructor. What is passed in is consumed, whether the call succeeds or not.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_void};

use tch::Tensor;
use torch_sys::C_tensor;

use finch_train::error::{Error, Result};

unsafe extern "C" {
    fn torch_call_dispatcher(
        name: *const c_char,
        overload: *const c_char,
        stack: *mut u64,
        version: u64,
    ) -> i32;
    fn torch_new_list_reserve_size(size: usize, list: *mut *mut c_void) -> i32;
    fn torch_list_push_back(list: *mut c_void, value: u64) -> i32;
    /// C++'s `operator new`, because libtorch frees an optional's box with `delete`.
    #[link_name = "_Znwm"]
    fn cxx_new(size: usize) -> *mut u64;
}

/// The version of the interface that is spoken here: 2.11.0, as `TORCH_ABI_VERSION` packs it.
const VERSION: u64 = (2 << 56) | (11 << 48);

/// An argument.
pub(crate) enum Argument<'a> {
    /// A tensor.
    Tensor(&'a Tensor),
    /// A tensor or none.
    MaybeTensor(Option<&'a Tensor>),
    /// A list of tensors.
    Tensors(&'a [&'a Tensor]),
    /// An integer, symbolic or not.
    Int(i64),
    /// An integer or none.
    MaybeInt(Option<i64>),
    /// A list of integers.
    Ints(&'a [i64]),
    /// A float.
    Float(f64),
    /// A float or none.
    MaybeFloat(Option<f64>),
    /// A truth value.
    Bool(bool),
    /// A list of truth values.
    Bools(&'a [bool]),
}

impl Argument<'_> {
    fn lower(&self) -> u64 {
        match self {
            Self::Tensor(tensor) => handle(tensor),
            Self::MaybeTensor(tensor) => boxed(tensor.map(handle)),
            Self::Tensors(tensors) => list(tensors.iter().map(|tensor| handle(tensor))),
            Self::Int(int) => *int as u64,
            Self::MaybeInt(int) => boxed(int.map(|int| int as u64)),
            Self::Ints(ints) => list(ints.iter().map(|int| *int as u64)),
            Self::Float(float) => float.to_bits(),
            Self::MaybeFloat(float) => boxed(float.map(f64::to_bits)),
            Self::Bool(flag) => u64::from(*flag),
            Self::Bools(flags) => list(flags.iter().map(|flag| u64::from(*flag))),
        }
    }
}

fn handle(tensor: &Tensor) -> u64 {
    // SAFETY: the handle is of a live tensor; the clone is owned by whoever gets it, which is the callee.
    unsafe { torch_sys::at_shallow_clone(tensor.as_ptr().cast_mut()) as u64 }
}

fn boxed(value: Option<u64>) -> u64 {
    value.map_or(0, |value| {
        // SAFETY: `operator new` returns eight writable bytes or ends the process; the callee deletes them.
        unsafe {
            let place = cxx_new(size_of::<u64>());
            *place = value;
            place as u64
        }
    })
}

fn list(values: impl ExactSizeIterator<Item = u64>) -> u64 {
    let mut made = std::ptr::null_mut();
    // SAFETY: the list is made here, grows here, and is consumed by the callee. Neither call fails but for memory.
    unsafe {
        torch_new_list_reserve_size(values.len(), &raw mut made);
        for value in values {
            torch_list_push_back(made, value);
        }
    }
    made as u64
}

/// Calls `aten::<name>` without overload. All of its results must be tensors; there are `results` of them.
pub(crate) fn call(name: &str, arguments: &[Argument<'_>], results: usize) -> Result<Vec<Tensor>> {
    let mut stack: Vec<u64> = arguments.iter().map(Argument::lower).collect();
    stack.resize(stack.len().max(results), 0);
    let no_nul =
        |text: String| CString::new(text).map_err(|_| Error::Torch(format!("`{name}` is no operator")));
    let (operator, overload) = (no_nul(format!("aten::{name}"))?, no_nul(String::new())?);
    // SAFETY: the stack holds every argument in the form above, in the order of the operator's schema, and has room for
    // the results; both names live until the call returns.
    let code =
        unsafe { torch_call_dispatcher(operator.as_ptr(), overload.as_ptr(), stack.as_mut_ptr(), VERSION) };
    if code != 0 {
        // The interface has no way to ask for the reason; it is on standard error by now. The usual one shows otherwise.
        let guess = match super::device::card_memory() {
            Some((free, total)) if free < total / 32 => {
                format!(", most likely out of memory: {free} bytes are free")
            }
            _ => String::new(),
        };
        return Err(Error::Torch(format!("the operator `{name}` failed{guess}; libtorch says above why")));
    }
    stack.truncate(results);
    // SAFETY: after a success these are handles that the callee gave away.
    Ok(stack.into_iter().map(|result| unsafe { Tensor::from_ptr(result as *mut C_tensor) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn an_operator_is_called_by_its_name_and_a_refusal_is_an_error() {
        let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0]).view([2, 2]);
        let y = call("mm", &[Argument::Tensor(&x), Argument::Tensor(&x)], 1).expect("mm").remove(0);
        assert_eq!(Vec::<f32>::try_from(y.view([4])).expect("numbers"), [7.0, 10.0, 15.0, 22.0]);
        let odd = Tensor::zeros([3, 3], (Kind::Float, Device::Cpu));
        assert!(call("mm", &[Argument::Tensor(&x), Argument::Tensor(&odd)], 1).is_err());
        assert!(call("no_such_operator", &[], 0).is_err());
    }
}
