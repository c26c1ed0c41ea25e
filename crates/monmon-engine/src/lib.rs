//! Runs a plan: tasks joined by bounded channels of batches, and an orderly end.
