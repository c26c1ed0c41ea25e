//! What a stage is: kinds, specs, envelopes, acks, and the context a stage runs in.
