//! What monmon measures and how it is written down: checks, measurements, matches, the wire format.
