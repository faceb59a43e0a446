//! Whole frames: negotiation, refusals, and bytes that real clients sent.
