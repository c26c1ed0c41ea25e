//! From a pipeline's text to a checked graph of stages: resolve and compile, both pure.
