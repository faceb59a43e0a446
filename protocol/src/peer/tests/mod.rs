//! Peer messages: there and back, golden bytes, damage, an independent reading, and the page.
