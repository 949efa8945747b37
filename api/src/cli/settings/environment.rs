//! The settings of a process as variables, for a process that it starts.

use std::ffi::OsString;

use clap::{Args as _, Command};
use toml::{Table, Value};

use super::{Options, Settings};
use crate::cli::Failure;

/// Options whose value is not handed over as it was given, each with the value that takes its place. The settings in effect already contain
/// those of the settings file, which may have changed since.
const REPLACED: [(&str, &str); 1] = [("config", "/dev/null")];

impl Settings {
    /// The variables that give another process these settings, whether they come from flags, variables or the settings file. The addresses are
    /// those in effect: `up` gives none and finds its own. Some variables are secrets, so nobody may log them.
    pub fn environment(
        &self,
        database_url: &str,
        gateway_url: &str,
        paypal_url: Option<&str>,
    ) -> Result<Vec<(String, OsString)>, Failure> {
        let options = Options {
            database_url: Some(database_url.into()),
            gateway_url: Some(gateway_url.into()),
            paypal_url: paypal_url.map(Into::into),
            data_dir: Some(self.data_dir.clone()),
            ..self.given.clone()
        };
        variables(options)
    }
}

/// The variables of all options that are given. The list of options is that of the command line, so a new option is handed over as well.
fn variables(mut options: Options) -> Result<Vec<(String, OsString)>, Failure> {
    // A path need not be UTF-8, which TOML must be.
    let data_dir = options.data_dir.take();
    let given = Table::try_from(options)
        .map_err(|error| Failure::failed("cannot write the settings as variables", error))?;
    let value = |name: &str| match REPLACED.iter().find(|(replaced, _)| *replaced == name) {
        Some((_, value)) => Some(OsString::from(value)),
        None if name == "data-dir" => data_dir.clone().map(OsString::from),
        None => given.get(name).and_then(text).map(OsString::from),
    };
    let command = Options::augment_args(Command::new("stepwise"));
    let all = command.get_arguments().filter_map(|option| {
        let variable = option.get_env()?.to_str()?;
        Some((variable.to_owned(), value(option.get_long()?)?))
    });
    Ok(all.collect())
}

/// A value as a variable has it. A variable cannot say that a list is empty.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) => Some(items.iter().filter_map(text).collect::<Vec<_>>().join(",")),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;

    fn command() -> Command {
        Options::augment_args(Command::new("stepwise"))
    }

    /// The options that these flags give.
    fn parse(flags: impl Iterator<Item = OsString>) -> Options {
        let line = std::iter::once("stepwise".into()).chain(flags);
        let matches = command().try_get_matches_from(line).expect("the flags are right");
        Options::from_arg_matches(&matches).expect("the flags are right")
    }

    fn flag(name: &str, value: impl Into<OsString>) -> OsString {
        let mut flag = OsString::from(format!("--{name}="));
        flag.push(value.into());
        flag
    }

    /// The options of a process that has these variables.
    fn receive(variables: &[(String, OsString)]) -> Options {
        let command = command();
        let name = |variable: &str| {
            let mut options = command.get_arguments();
            let option = options.find(|option| option.get_env().is_some_and(|it| it == variable));
            option.and_then(clap::Arg::get_long).expect("an option has this variable")
        };
        parse(variables.iter().map(|(variable, value)| flag(name(variable), value)))
    }

    #[test]
    fn every_option_is_handed_to_another_process() {
        let command = command();
        let names: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        // 1 is a text, a number, a switch and a list.
        let given = parse(names.iter().map(|name| flag(name, "1")));
        let handed = variables(given.clone()).expect("it is UTF-8");
        for option in command.get_arguments() {
            let name = option.get_long().expect("an option has a name");
            let variable = option.get_env().expect("an option has a variable");
            let value = handed.iter().find(|(it, _)| variable == it.as_str());
            let (_, value) = value.unwrap_or_else(|| panic!("--{name} is not handed over"));
            let replaced = REPLACED.iter().find(|(it, _)| *it == name);
            let expected = match (replaced, option.get_long()) {
                (Some((_, value)), _) => value,
                (None, Some("plain-network" | "no-demo")) => "true",
                (None, _) => "1",
            };
            assert_eq!(value, expected, "--{name}");
        }
        let received = receive(&handed);
        assert_eq!(received.data_dir, given.data_dir);
        assert_eq!(Table::try_from(received), Table::try_from(given));
    }

    #[test]
    fn an_option_that_is_not_given_is_left_to_its_default_and_a_list_keeps_its_items() {
        let handed = variables(Options {
            return_origins: Some(vec!["https://a.example".into(), "https://b.example".into()]),
            plain_network: Some(false),
            ..Options::default()
        });
        let expected = [
            ("STEPWISE_CONFIG", "/dev/null"),
            ("STEPWISE_PLAIN_NETWORK", "false"),
            ("STEPWISE_RETURN_ORIGINS", "https://a.example,https://b.example"),
        ]
        .map(|(variable, value)| (variable.to_owned(), value.into()));
        assert_eq!(handed.expect("it is UTF-8"), expected);
    }

    #[test]
    fn the_addresses_in_effect_are_handed_over_instead_of_the_given_ones() {
        let given = Options { smtp_url: Some("smtps://m.example".into()), ..Options::default() };
        let given = Options { mail_from: Some("Shop <shop@example.com>".into()), ..given };
        let settings = given.into_settings().unwrap_or_else(|error| panic!("{error}"));
        let handed = settings.environment("postgres://localhost/shop", "http://[::1]:9", None);
        let received = receive(&handed.unwrap_or_else(|error| panic!("{error}")));
        assert_eq!(received.database_url.as_deref(), Some("postgres://localhost/shop"));
        assert_eq!(received.gateway_url.as_deref(), Some("http://[::1]:9"));
        assert_eq!(received.paypal_url, None);
        assert_eq!(received.smtp_url.as_deref(), Some("smtps://m.example"));
        assert_eq!(received.data_dir, Some(settings.data_dir));
    }
}
