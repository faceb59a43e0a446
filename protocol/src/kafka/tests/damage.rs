//! Requests that are cut off, that lie about lengths, or that flood.
