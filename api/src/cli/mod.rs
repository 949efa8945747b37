//! The command line: one file per subcommand, options by flag, environment or file.
//!
//! A flag wins over `STEPWISE_*`, that over `stepwise.toml`, that over the default. Failures are one
//! line on stderr (what, why, what to do) and an exit code that scripts can rely on:
//! 0 done; 1 failed; 2 wrong usage or configuration; 3 a dependency is missing or unreachable;
//! 4 versions do not fit (database, migrations, live sagas).

pub mod bench;
mod broker;
mod bulk;
mod database;
mod doctor;
mod erasure;
mod events;
mod failure;
mod files;
mod folder;
mod gateway;
mod keys;
mod mail;
mod migrate;
mod openapi;
mod operate;
pub(crate) mod output;
mod parked;
mod parts;
mod quarantine;
mod relay;
mod retention;
mod saga;
mod selection;
mod serve;
pub mod settings;
mod shop;
mod shutdown;
mod token;
mod trace;
mod up;
mod work;

use std::{io::Write as _, os::unix::process::CommandExt as _, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use self::{database::Role, settings::Options};
pub use self::{failure::Failure, shutdown::Shutdown};

/// How long the end of the process waits for calls that block. A call to a disk that does not answer may block for ever.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// An order system whose long-running processes survive crashes.
#[derive(Debug, Parser)]
#[command(name = "stepwise", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine: database, shop, sandbox gateway and demo data.
    #[command(after_help = "Example: stepwise up --port 9000 --data-dir ~/shop")]
    Up,
    /// Serve the API. Any number of processes may do so.
    #[command(after_help = "Example: stepwise serve --database-url postgres://localhost/shop")]
    Serve,
    /// Drive sagas. Any number of processes may do so.
    #[command(after_help = "Example: stepwise work --database-url postgres://localhost/shop")]
    Work(work::Args),
    /// Drive the sagas of a dead worker one step. Only workers start this command.
    #[command(hide = true)]
    Quarantine,
    /// Publish events. Any number of processes may do so; they share the work.
    #[command(after_help = "Example: stepwise relay --amqp-url amqp://shop@localhost/shop")]
    Relay(relay::Args),
    /// Run the sandbox payment gateway.
    #[command(after_help = "Example: stepwise gateway --listen 127.0.0.1:8090")]
    Gateway(gateway::Args),
    /// Bring the database up to date.
    #[command(after_help = "Example: stepwise migrate --database-url postgres://localhost/shop")]
    Migrate,
    /// Check whether this version fits the database and can continue every open saga. Changes nothing.
    #[command(after_help = "Example: stepwise check && systemctl restart stepwise")]
    Check(migrate::Args),
    /// Check everything this installation needs, and say how to correct each fault.
    #[command(after_help = "Example: stepwise doctor --database-url postgres://localhost/shop")]
    Doctor(doctor::Args),
    /// List and show sagas, and act on one: retry, edit, done, skip, hand-over, pause, resume, cancel.
    #[command(subcommand, after_help = "Example: stepwise saga list --status stuck")]
    Saga(saga::Verb),
    /// List and show events of the payment gateway that need a person, and act on one: retry, dismiss.
    #[command(subcommand, after_help = "Example: stepwise parked list")]
    Parked(parked::Verb),
    /// Check the log of erased customers, and erase them again after a restore.
    #[command(subcommand, after_help = "Example: stepwise erasure check")]
    Erasure(erasure::Verb),
    /// Read integration events as they are published.
    #[command(subcommand, after_help = "Example: stepwise events tail --from newest")]
    Events(events::Verb),
    /// Create, list or revoke keys of admins, operators, viewers and services.
    #[command(
        subcommand,
        after_help = "Example: stepwise token create --role operator --name alice"
    )]
    Token(token::Verb),
    /// Print the OpenAPI document.
    #[command(after_help = "Example: stepwise openapi > openapi.json")]
    Openapi,
    /// Measure this machine: the engine, latency, children, timers, signals, a backlog, the front door, or orders.
    #[command(after_help = "Example: stepwise bench engine --json")]
    Bench(bench::Args),
}

/// Runs the program.
pub fn main() -> ExitCode {
    if let Err(failure) = forget_session_options() {
        return end_with(&failure);
    }
    // This fails only if a default provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("cannot start the runtime", error))
        .and_then(|runtime| {
            let done = runtime.block_on(run(cli));
            runtime.shutdown_timeout(LAST_CALLS);
            done
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => end_with(&failure),
    }
}

fn end_with(failure: &Failure) -> ExitCode {
    // The reader of standard error may be gone.
    let _ = writeln!(std::io::stderr(), "stepwise: {failure}");
    failure.exit_code()
}

/// Starts this program again without `PGOPTIONS` if that variable is set. The database driver would apply it to every session of this
/// process and of its children, and the settings of a session must not depend on the shell that started the program.
fn forget_session_options() -> Result<(), Failure> {
    const OPTIONS: &str = "PGOPTIONS";
    if std::env::var_os(OPTIONS).is_none() {
        return Ok(());
    }
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    let itself = std::env::current_exe()
        .map_err(|error| Failure::failed("cannot find the executable of this program", error))?;
    let error =
        std::process::Command::new(itself).arg0(name).args(words).env_remove(OPTIONS).exec();
    Err(Failure::failed("cannot start the program again without PGOPTIONS", error))
}

impl Command {
    /// The role of a command that runs until it is stopped. `None` for a command that does one thing and ends.
    fn role(&self) -> Option<Role> {
        match self {
            Self::Up => Some(Role::Everything),
            Self::Serve => Some(Role::FrontDoor),
            Self::Work(_) => Some(Role::Worker),
            Self::Relay(_) => Some(Role::Relay),
            _ => None,
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let settings = cli.options.into_settings()?;
    trace::start(&settings.log)?;
    if let Some(role) = cli.command.role() {
        files::raise_limit(role)?;
    }
    match cli.command {
        Command::Up => up::run(&settings).await,
        Command::Serve => serve::run(&settings).await,
        Command::Work(args) => work::run(&settings, args).await,
        Command::Quarantine => quarantine::run(&settings).await,
        Command::Relay(args) => relay::run(&settings, args).await,
        Command::Gateway(args) => gateway::run(&settings, args).await,
        Command::Migrate => migrate::migrate(&settings).await,
        Command::Check(args) => migrate::check(&settings, args).await,
        Command::Doctor(args) => doctor::run(&settings, args).await,
        Command::Saga(verb) => saga::run(&settings, verb).await,
        Command::Parked(verb) => parked::run(&settings, verb).await,
        Command::Erasure(verb) => erasure::run(&settings, verb).await,
        Command::Events(verb) => events::run(&settings, verb).await,
        Command::Token(verb) => token::run(&settings, verb).await,
        Command::Openapi => openapi::run(&settings),
        Command::Bench(args) => bench::run(args).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// The value of one would be read as that of the other, which may be of another type.
    #[test]
    fn no_option_of_a_command_has_the_name_of_one_that_all_commands_have() {
        fn look(command: &clap::Command, common: &[&clap::Id]) {
            for command in command.get_subcommands() {
                for option in command.get_arguments().map(clap::Arg::get_id) {
                    assert!(!common.contains(&option), "{} {option}", command.get_name());
                }
                look(command, common);
            }
        }
        let all = Cli::command();
        let common: Vec<_> = all.get_arguments().map(clap::Arg::get_id).collect();
        assert!(common.len() > 30, "{common:?}");
        look(&all, &common);
    }
}
