//! The flags, and the same from the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};

use crate::environment;
use crate::serve::Grace;

/// What the gateway is told. It prints no secret: the URL of a store, which may hold a password,
/// has a type of its own.
///
/// Only simple values are parsed here; the rest is judged in [`setup`](crate::setup), which names
/// all problems at once.
#[derive(Debug, Parser)]
#[command(
    name = "gateway",
    about = "Puts OpenID Connect sign-in (authorization code + PKCE) before an HTTP service.",
    long_about = None,
    after_help = AFTER_HELP,
    disable_help_subcommand = true
)]
pub struct Options {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, env = "GATEWAY_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    #[arg(help_heading = "Where")]
    pub listen: SocketAddr,

    /// Service behind the gateway: http://, https:// or (gRPC) h2c://host[:port]
    #[arg(long, env = "GATEWAY_UPSTREAM", value_name = "URL", help_heading = "Where")]
    #[arg(required_unless_present = "new_key")]
    pub upstream: Option<String>,

    /// What browsers see [default: http://<listen>, on loopback only]
    #[arg(long, env = "GATEWAY_PUBLIC_URL", value_name = "URL", help_heading = "Where")]
    pub public_url: Option<String>,

    /// Proxy whose X-Forwarded-For is believed, for log and limits (repeatable)
    #[arg(long, env = "GATEWAY_TRUSTED_PROXY", value_name = "CIDR", help_heading = "Where")]
    pub trusted_proxy: Vec<String>,

    /// PEM file of the authorities to trust instead of the web's: provider, upstream, Redis
    #[arg(long, env = "GATEWAY_CA_FILE", value_name = "FILE", help_heading = "Where")]
    pub ca_file: Option<PathBuf>,

    /// The provider's issuer, to the letter
    #[arg(long, env = "GATEWAY_ISSUER", value_name = "URL", help_heading = "Provider")]
    #[arg(required_unless_present = "new_key")]
    pub issuer: Option<String>,

    /// Where this gateway reaches the issuer, if it is not where browsers do
    #[arg(long, env = "GATEWAY_INTERNAL_ISSUER", value_name = "URL", help_heading = "Provider")]
    pub internal_issuer: Option<String>,

    /// Id of this application at the provider
    #[arg(long, env = "GATEWAY_CLIENT_ID", value_name = "ID", help_heading = "Provider")]
    #[arg(required_unless_present = "new_key")]
    pub client_id: Option<String>,

    /// File with the client secret; or GATEWAY_CLIENT_SECRET, which has no flag
    #[arg(long, env = "GATEWAY_CLIENT_SECRET_FILE", value_name = "FILE")]
    #[arg(help_heading = "Provider")]
    pub client_secret_file: Option<PathBuf>,

    /// How the client authenticates: basic, post, or none (a public client)
    #[arg(
        long,
        env = "GATEWAY_CLIENT_AUTH",
        value_name = "HOW",
        hide_possible_values = true,
        default_value = "basic"
    )]
    #[arg(help_heading = "Provider")]
    pub client_auth: ClientAuthentication,

    /// Scope to ask for beside openid (repeatable)
    #[arg(long, env = "GATEWAY_SCOPE", value_name = "SCOPE", help_heading = "Provider")]
    #[arg(default_values = ["openid", "profile", "email"])]
    pub scope: Vec<String>,

    /// How the provider hands the code over: query or form_post
    #[arg(
        long,
        env = "GATEWAY_RESPONSE_MODE",
        value_name = "HOW",
        hide_possible_values = true,
        default_value = "query"
    )]
    #[arg(help_heading = "Provider")]
    pub response_mode: ResponseMode,

    /// Path everybody gets: /about, "GET /status", /assets/* (repeatable)
    #[arg(long, env = "GATEWAY_PUBLIC", value_name = "PATH", help_heading = "Access")]
    pub public: Vec<String>,

    /// Let in verified e-mail addresses of this domain only (repeatable)
    #[arg(
        long,
        env = "GATEWAY_ALLOW_EMAIL_DOMAIN",
        value_name = "DOMAIN",
        help_heading = "Access"
    )]
    pub allow_email_domain: Vec<String>,

    /// Let in members of this group only (repeatable)
    #[arg(long, env = "GATEWAY_ALLOW_GROUP", value_name = "GROUP", help_heading = "Access")]
    pub allow_group: Vec<String>,

    /// Also hand the client's Authorization field to the upstream
    #[arg(long, env = "GATEWAY_PASS_AUTHORIZATION", help_heading = "Access")]
    #[arg(action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub pass_authorization: bool,

    /// memory, sealed (no server at all), redis://…, redis+sentinel://… or redis+cluster://…
    #[arg(long, env = "GATEWAY_STORE", value_name = "STORE", default_value = "sealed")]
    #[arg(help_heading = "Sessions")]
    pub store: StoreText,

    /// Certificate (PEM) to show to a store behind TLS (rediss://…)
    #[arg(long, env = "GATEWAY_STORE_CERT_FILE", value_name = "PEM", help_heading = "Sessions")]
    pub store_cert_file: Option<PathBuf>,

    /// Key (PEM) of that certificate
    #[arg(long, env = "GATEWAY_STORE_KEY_FILE", value_name = "PEM", help_heading = "Sessions")]
    pub store_key_file: Option<PathBuf>,

    /// Where sessions live [default: stored in Redis, else sealed in cookies]
    #[arg(
        long,
        env = "GATEWAY_SESSIONS",
        value_name = "sealed|stored",
        hide_possible_values = true,
        help_heading = "Sessions"
    )]
    pub sessions: Option<SessionPlace>,

    /// Where logins wait [default: the store, else sealed in cookies]
    #[arg(
        long,
        env = "GATEWAY_PENDING",
        value_name = "sealed|store",
        hide_possible_values = true,
        help_heading = "Sessions"
    )]
    pub pending: Option<PendingPlace>,

    /// Let the provider end sessions by a frame in browsers too; needs redis
    #[arg(long, env = "GATEWAY_FRONTCHANNEL_LOGOUT", help_heading = "Sessions")]
    #[arg(action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub frontchannel_logout: bool,

    /// Take logout tokens without exp, of providers of an early draft
    #[arg(long, env = "GATEWAY_LOGOUT_TOKEN_WITHOUT_EXP", help_heading = "Sessions")]
    #[arg(action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub logout_token_without_exp: bool,

    /// Keys that seal cookies: base64 of 32 bytes a line, newest first
    #[arg(long, env = "GATEWAY_COOKIE_KEY_FILE", value_name = "FILE", help_heading = "Sessions")]
    pub cookie_key_file: Option<PathBuf>,

    /// Print a new line for that file, and exit
    #[arg(long, help_heading = "Sessions")]
    pub new_key: bool,

    /// A session ends after so long without a request [default: 3600]
    #[arg(long, env = "GATEWAY_SESSION_IDLE", value_name = "SECONDS", help_heading = "Sessions")]
    pub session_idle: Option<u64>,

    /// A session ends after so long whatever happens [default: 43200]
    #[arg(long, env = "GATEWAY_SESSION_ABSOLUTE", value_name = "SECONDS")]
    #[arg(help_heading = "Sessions")]
    pub session_absolute: Option<u64>,

    /// A login may take so long [default: 600]
    #[arg(long, env = "GATEWAY_LOGIN_TTL", value_name = "SECONDS", help_heading = "Sessions")]
    pub login_ttl: Option<u64>,

    /// Logins one client address may start in a minute, or off
    #[arg(long, env = "GATEWAY_CLIENT_LIMIT", value_name = "NUMBER|off", default_value = "1000")]
    #[arg(help_heading = "Sessions", value_parser = PerMinute::parse)]
    pub client_limit: PerMinute,

    /// 504 if the upstream is silent for so long before it answers
    #[arg(long, env = "GATEWAY_UPSTREAM_TIMEOUT", value_name = "SECONDS", default_value = "300")]
    #[arg(help_heading = "Running", value_parser = clap::value_parser!(u32).range(1..))]
    pub upstream_timeout: u32,

    /// On SIGTERM, go on accepting for so long, with ready red
    #[arg(long, env = "GATEWAY_DRAIN_DELAY", value_name = "SECONDS", default_value = "5")]
    #[arg(help_heading = "Running")]
    pub drain_delay: u32,

    /// After that, finish what runs for at most so long
    #[arg(long, env = "GATEWAY_DRAIN", value_name = "SECONDS", default_value = "30")]
    #[arg(help_heading = "Running")]
    pub drain: u32,
}

/// How the client authenticates at the token endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ClientAuthentication {
    Basic,
    Post,
    None,
}

/// How the provider hands the code over.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ResponseMode {
    Query,
    #[value(name = "form_post")]
    FormPost,
}

/// Where sessions live.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum SessionPlace {
    Sealed,
    Stored,
}

/// Where logins wait for their callback.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum PendingPlace {
    Sealed,
    Store,
}

/// How many logins a client may start in a minute, if there is a limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PerMinute(pub Option<u32>);

impl PerMinute {
    fn parse(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "off" => Ok(Self(None)),
            Ok(number) if number > 0 => Ok(Self(Some(number))),
            _ => Err("a number from 1 on, or off".to_owned()),
        }
    }
}

/// The value of `--store`. It may hold a password and does not print.
#[derive(Clone)]
pub struct StoreText(pub String);

impl From<&str> for StoreText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl std::fmt::Debug for StoreText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreText(..)")
    }
}

impl Options {
    /// Reads the command line and the environment; ends the process where they cannot be read.
    pub fn read() -> Self {
        let mut command = Self::command();
        // The environment is said once, at the end; and no value of it is shown.
        command = command.mut_args(|argument| argument.hide_env(true));
        let matches = command.try_get_matches_from_mut(std::env::args_os());
        if let Err(error) = &matches
            && error.kind() == ErrorKind::DisplayHelp
        {
            error.exit();
        }
        // Judged first: it names variables, where the flags' own rules would name flags.
        if let Err(problem) = environment::judge(std::env::vars_os(), &known_variables()) {
            command.error(ErrorKind::UnknownArgument, problem).exit();
        }
        let matches = matches.unwrap_or_else(|error| error.exit());
        let mut options = Self::from_arg_matches(&matches)
            .unwrap_or_else(|error| error.format(&mut command).exit());
        if let Err(problem) = options.split_lists(&matches) {
            command.error(ErrorKind::InvalidValue, problem).exit();
        }
        options
    }

    /// Lists stand in one variable of the environment, with commas between.
    fn split_lists(&mut self, matches: &ArgMatches) -> Result<(), String> {
        for (id, list) in [
            ("scope", &mut self.scope),
            ("public", &mut self.public),
            ("allow_email_domain", &mut self.allow_email_domain),
            ("allow_group", &mut self.allow_group),
            ("trusted_proxy", &mut self.trusted_proxy),
        ] {
            if matches.value_source(id) == Some(ValueSource::EnvVariable) {
                let name = format!("GATEWAY_{}", id.to_uppercase());
                *list = environment::split(&name, &list.join(","))?;
            }
        }
        Ok(())
    }

    pub fn upstream_timeout(&self) -> Duration {
        Duration::from_secs(self.upstream_timeout.into())
    }

    pub fn grace(&self) -> Grace {
        let seconds = |number: u32| Duration::from_secs(number.into());
        Grace { delay: seconds(self.drain_delay), limit: seconds(self.drain) }
    }
}

/// The names in the environment that mean something.
fn known_variables() -> Vec<String> {
    Options::command()
        .get_arguments()
        .filter_map(|argument| argument.get_env())
        .filter_map(|name| name.to_str())
        .map(str::to_owned)
        .chain([environment::CLIENT_SECRET.to_owned()])
        .collect()
}

const AFTER_HELP: &str = "\
Every flag but --new-key can stand in the environment: --public-url is GATEWAY_PUBLIC_URL; repeatable
ones have commas between. An empty variable is refused. The client secret is GATEWAY_CLIENT_SECRET or
--client-secret-file. A password in --store is seen in the list of processes; GATEWAY_STORE is better.

gRPC needs an upstream of h2c://, or of https:// that speaks HTTP/2. With neither --allow-email-domain
nor --allow-group, everybody whom the issuer signs in is let in.

The upstream gets x-auth-request-user, x-auth-request-email (verified addresses only) and
x-auth-request-groups; nobody else can send them. What is neither a letter, a digit nor a plain sign
is percent-encoded in them. Register <public url>/auth/callback as redirect URI at the provider, and
<public url>/auth/signed-out as post-logout redirect URI. With Redis, register
<public url>/auth/backchannel-logout as back-channel logout URI too, or the same path at the address
of a gateway, under whatever host the provider reaches it.

Example:
  gateway --new-key > cookie.keys
  gateway --listen 0.0.0.0:8080 --public-url https://metrics.example.com \\
      --upstream http://prometheus:9090 --public '/-/healthy' \\
      --issuer https://login.example.com/realms/staff --client-id metrics \\
      --client-secret-file client.secret --cookie-key-file cookie.keys";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_in_the_environment_under_its_own_name() {
        Options::command().debug_assert();
        for argument in Options::command().get_arguments() {
            let long = argument.get_long().unwrap_or_default();
            if matches!(long, "new-key" | "help") {
                continue;
            }
            let name = format!("GATEWAY_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(&*name), "{long}");
        }
    }

    #[test]
    fn every_flag_is_one_line_of_help() {
        let mut command = Options::command().mut_args(|argument| argument.hide_env(true));
        let help = command.render_help().to_string();
        for argument in Options::command().get_arguments() {
            let long = argument.get_long().unwrap_or_default();
            let line = help.lines().find(|line| line.contains(&format!("--{long} "))).unwrap();
            let text = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(line.contains(&text), "--{long} is not said in one line: {line}");
        }
    }

    #[test]
    fn a_client_limit_is_a_number_or_off() {
        for (given, expected) in
            [("1", Ok(Some(1))), ("off", Ok(None)), ("0", Err(())), ("-1", Err(())), ("", Err(()))]
        {
            let parsed = PerMinute::parse(given).map(|limit| limit.0).map_err(drop);
            assert_eq!(parsed, expected, "{given}");
        }
        assert_eq!(Options::parse_from(["gateway", "--new-key"]).client_limit.0, Some(1000));
    }

    #[test]
    fn no_secret_prints() {
        let options =
            Options::parse_from(["gateway", "--new-key", "--store", "redis://u:CANARY@h"]);
        assert!(!format!("{options:?}").contains("CANARY"));
    }
}
