//! The kafka source and the kafka sink.
