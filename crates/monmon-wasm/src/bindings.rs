//! The contract of `plugins/wit/matcher.wit` as Rust.

wasmtime::component::bindgen!({
    path: "../../plugins/wit",
    world: "matcher",
    // A page goes into the guest's memory from where it lies.
    ownership: Borrowing { duplicate_if_necessary: true },
});
