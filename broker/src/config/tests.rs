//! Precedence, every kind of fault by its exact words, and the table of keys itself.
