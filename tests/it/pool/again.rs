//! What holds in `pool: session` holds in `pool: transaction`: the same tests, with `pool: transaction` in their configuration
//! (`support::proxy::in_transaction_mode` knows them by this module's name).

#[path = "../load/flips.rs"]
mod flips;
#[path = "../login.rs"]
mod login;
#[path = "../regression/prepared.rs"]
mod prepared;
#[path = "../routing.rs"]
mod routing;
#[path = "../regression/session_state.rs"]
mod session_state;
#[path = "../shadow/mod.rs"]
mod shadow;
#[path = "../state.rs"]
mod state;
#[path = "../transactions.rs"]
mod transactions;
#[path = "../regression/transactions.rs"]
mod two_stores;
