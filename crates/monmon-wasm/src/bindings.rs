//! The contract of `plugins/wit/matcher.wit` as Rust.

#![expect(
    clippy::allow_attributes_without_reason,
    clippy::allow_attributes,
    reason = "the macro writes them"
)]

wasmtime::component::bindgen!({
    path: "../../plugins/wit",
    world: "matcher",
    // A page goes into the guest's memory from where it lies.
    ownership: Borrowing { duplicate_if_necessary: true },
});
