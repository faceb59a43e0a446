//! Stories of one shard.
