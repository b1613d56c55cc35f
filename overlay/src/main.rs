//! The `floodmesh` command: parse, do it, say in one line why not.

use std::process::ExitCode;

use overlay::daemon::args::{self, Command};
use overlay::daemon::error::{self, Failure};
use overlay::daemon::{authority, client, decode, forget, invite, lab, rotate, setup, up};

fn main() -> ExitCode {
    let command = match args::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(refused) => return error::refuse(&refused),
    };
    match run(&command) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// Does what was asked; the code is that of a command that ended by itself.
fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Up(up) => up::up(up).map(|()| ExitCode::SUCCESS),
        Command::Init(init) => setup::init(init),
        Command::Join(join) => setup::join(join),
        Command::Invite(invite) => invite::invite(invite),
        Command::Key(key) => invite::key(key),
        Command::Ca(ca) => authority::ca(ca),
        Command::Forget(forget) => forget::forget(forget),
        Command::Rotate(rotate) => rotate::rotate(rotate),
        Command::Reload(query) => client::reload(query),
        Command::Status(query) => client::status(query),
        Command::Neighbors(query) => client::neighbors(query),
        Command::Nodes(query) => client::nodes(query),
        Command::Counters(query) => client::counters(query),
        Command::Ping(ping) => client::ping(ping),
        Command::Decode(decode) => decode::decode(decode),
        Command::Lab(lab) => lab::lab(lab),
    }
}
