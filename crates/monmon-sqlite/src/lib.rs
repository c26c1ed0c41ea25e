//! The sqlite sink, its migrations, and reading the store back.
