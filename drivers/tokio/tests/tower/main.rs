//! The adapter for tower services: one connection over memory, and an axum router over sockets beside the same router on `axum::serve`.
#![allow(missing_docs)]

mod connection;
mod h2_client;
mod parity;
mod router;
mod serve;
mod streams;
mod support;
mod tls_client;
mod websocket;
