//! `floodmesh init` and `floodmesh join`: a node with keys and settings where there was none.
//!
//! 1. What was typed is judged as `up` would judge it.
//! 2. Nothing may be there: settings, secret, identity. Nothing is ever overwritten.
//! 3. The state directory is locked; secret, identity and settings are written, in this order, so
//!    that settings never name keys that are not there. If one fails, the others are taken away.

use std::fmt::Write;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use zeroize::Zeroizing;

use super::acting;
use super::args::{DeviceMode, InitArgs, JoinArgs, SetupArgs, UpArgs};
use super::client::print;
use super::clock;
use super::config::{Config, NAME, SEALED_MTU};
use super::error::Failure;
use super::paths::Places;
use super::secrets::file::{self, FileError};
use super::secrets::identity::PrivateKeys;
use super::secrets::membership::Membership;
use super::secrets::{draw, keep_from_dumps};
use super::state::StateDir;
use super::text;
use crate::route::address::Mesh;
use crate::seal::invitation::Invitation;
use crate::seal::keys::MeshSecret;

/// `floodmesh init`: a mesh of one node.
///
/// # Errors
/// What was typed cannot be, something is there already, or the files cannot be written.
pub fn init(args: &InitArgs) -> Result<ExitCode, Failure> {
    keep_from_dumps();
    let up = UpArgs {
        mesh: args.mesh.clone(),
        peer: args.peer.clone(),
        mtu: args.mtu.clone(),
        ..args.setup.up()
    };
    let node = Node::judge(&args.setup, &up)?;
    let secret = MeshSecret::new(*draw()?.bytes());
    let membership = node.write(&secret)?;
    let invite = node.command("invite");
    print(&format!(
        "made the mesh {} and its first node\n{}\n\
         Next:\n  \
         {}\n      starts this node\n  \
         {invite} --address HOST:PORT\n      prints a token for another node, which reaches this one there\n",
        node.config.mesh,
        node.summary(&membership),
        node.command("up"),
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// `floodmesh join`: a node of the mesh that a token tells of.
///
/// # Errors
/// As [`init`]; or the token is damaged or has expired.
pub fn join(args: &JoinArgs) -> Result<ExitCode, Failure> {
    keep_from_dumps();
    let invitation = read_invitation(args)?;
    let up = UpArgs {
        mesh: Some(invitation.mesh.clone()),
        peer: invitation.peers.clone(),
        mtu: (u32::from(invitation.mtu) != SEALED_MTU).then(|| invitation.mtu.to_string()),
        ..args.setup.up()
    };
    let node = Node::judge(&args.setup, &up)?;
    let membership = node.write(&invitation.secret)?;
    print(&format!(
        "made a node of the mesh {}\n{}\n\
         Next:\n  \
         {}\n      starts this node\n",
        node.config.mesh,
        node.summary(&membership),
        node.command("up"),
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Standard input: all of it, or the first line that somebody types. A terminal gives one line at
/// a time.
struct Input {
    file: File,
    is_typed: bool,
    is_over: bool,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_over {
            return Ok(0);
        }
        let len = self.file.read(buffer)?;
        self.is_over = self.is_typed && buffer[..len].ends_with(b"\n");
        Ok(len)
    }
}

/// Reads a secret text from standard input; somebody who types is told what is wanted.
pub(super) fn read_typed(wanted: &str) -> Result<Zeroizing<String>, Failure> {
    // Past the library's own buffer, which nobody wipes.
    let input = io::stdin().as_fd().try_clone_to_owned();
    let input =
        input.map_err(|error| Failure::at_work("cannot read standard input", "").because(error))?;
    let is_typed = input.is_terminal();
    if is_typed {
        eprintln!("{wanted}");
    }
    let input = Input {
        file: File::from(input),
        is_typed,
        is_over: false,
    };
    let text = file::read_text(input, Path::new(file::TYPED))?;
    if text.trim().is_empty() {
        return Err(Failure::misuse(
            format!("{} is empty", file::TYPED),
            "give the one line alone, as it was printed",
        ));
    }
    Ok(text)
}

/// Takes the token from where it was given, and judges it.
fn read_invitation(args: &JoinArgs) -> Result<Invitation, Failure> {
    let token = match (&args.file, args.token.as_ref().map(|token| token.text())) {
        (Some(path), _) => file::read(path)?,
        (None, Some("-")) => {
            read_typed("paste the token that floodmesh invite printed, and press Enter:")?
        }
        (None, typed) => {
            eprintln!(
                "warning: a typed token shows in ps and stays in the shell's history; floodmesh \
                 join - reads it from standard input"
            );
            Zeroizing::new(typed.unwrap_or_default().to_owned())
        }
    };
    let invitation = Invitation::parse(&token).map_err(|error| {
        Failure::misuse(
            format!("cannot join: {error}"),
            "copy the whole line that floodmesh invite printed, or print a new one",
        )
    })?;
    let late = clock::wall_seconds().saturating_sub(invitation.not_after);
    if late > 0 {
        return Err(Failure::misuse(
            format!("cannot join: the token expired {} ago", text::age(late)),
            "print a new one with floodmesh invite; if this is wrong, set this machine's clock",
        ));
    }
    Ok(invitation)
}

/// A node that is to be set up: judged, and nothing written yet.
struct Node {
    config: Config,
    settings: String,
    path: PathBuf,
    path_given: bool,
}

impl Node {
    fn judge(args: &SetupArgs, up: &UpArgs) -> Result<Self, Failure> {
        let places = Places::of_this_process();
        let config = Config::without_file(up, &places)?;
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|error| {
                Failure::at_work(format!("cannot find {}", path.display()), "").because(error)
            })
        };
        let state_dir = up.state_dir.as_deref().map(absolute).transpose()?;
        Ok(Self {
            settings: settings(&config, up, state_dir.as_deref()),
            path: match &args.config {
                Some(path) => absolute(path)?,
                None => places.config(&config.name),
            },
            path_given: args.config.is_some(),
            config,
        })
    }

    /// Writes everything, or nothing.
    fn write(&self, secret: &MeshSecret) -> Result<Membership, Failure> {
        let files = &self.config.files;
        for path in [&self.path, &files.secret, &files.identity] {
            if fs::symlink_metadata(path).is_ok() {
                return Err(self.taken(path));
            }
        }
        if let Some(directory) = self.path.parent() {
            let _acting = acting::as_owner_of(directory)?;
            make_directories(directory).map_err(|error| {
                let what = format!("cannot create {}", directory.display());
                Failure::at_work(what, "name a writable file with --config").because(error)
            })?;
        }
        // A service's user reads what lies in its directory.
        let acting = acting::as_owner_of(&files.state)?;
        let _locked = StateDir::open(&files.state)?;
        let keys = PrivateKeys::draw()?;
        let mut made = Made(Vec::new());
        let text = secret.to_text();
        let mut line = Zeroizing::new(String::with_capacity(text.len() + 1));
        line.push_str(&text);
        line.push('\n');
        file::write_new(&files.secret, &line, 0o600)?;
        made.0.push(&files.secret);
        keys.write(&files.identity)?;
        made.0.push(&files.identity);
        drop(acting);
        let _acting = acting::as_owner_of(file::directory(&self.path))?;
        file::write_new(&self.path, &self.settings, 0o644).map_err(|error| match error {
            FileError::Io { source, path, .. } => Failure::at_work(
                format!("cannot write {}", path.display()),
                "name a writable file with --config",
            )
            .because(source),
            error => error.into(),
        })?;
        made.0.clear();
        Ok(Membership {
            secret: secret.clone(),
            next: None,
            identity: keys.identity(),
        })
    }

    fn taken(&self, path: &Path) -> Failure {
        Failure::at_work(
            format!("{} exists already", path.display()),
            format!(
                "nothing is overwritten: choose another --name, or move away what the node {} has",
                self.config.name
            ),
        )
    }

    fn summary(&self, membership: &Membership) -> String {
        let Config {
            mesh,
            files,
            device,
            ..
        } = &self.config;
        let netid = membership.netid(&self.config);
        let mut lines = format!("  netid     {netid}\n");
        if device.mode != DeviceMode::None {
            let derived = Mesh::new(mesh).address(netid).to_string();
            let own = device.addresses.iter().map(ToString::to_string);
            let all: Vec<_> = std::iter::once(derived).chain(own).collect();
            lines += &format!("  addresses {}\n", all.join(" "));
        }
        lines += &format!("  settings  {}\n", self.path.display());
        lines += &format!(
            "  secret    {} (whoever has it is a member)\n",
            files.secret.display()
        );
        lines + &format!("  identity  {}\n", files.identity.display())
    }

    /// How a command is told which node it is about.
    fn command(&self, command: &str) -> String {
        if self.path_given {
            format!("floodmesh {command} --config {}", self.path.display())
        } else if self.config.name != NAME {
            format!("floodmesh {command} --name {}", self.config.name)
        } else {
            format!("floodmesh {command}")
        }
    }
}

/// Makes a directory and those above it that are not there, so that everybody may read the settings there
/// whatever the umask is: a service does not run as the user who sets it up.
fn make_directories(directory: &Path) -> io::Result<()> {
    let is_there = |place: &&Path| place.as_os_str().is_empty() || place.exists();
    let missing: Vec<_> = directory
        .ancestors()
        .take_while(|place| !is_there(place))
        .collect();
    fs::create_dir_all(directory)?;
    for made in missing {
        let made = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
            .open(made)?;
        made.set_permissions(Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Files made so far; what is still in it when it goes is taken away again.
struct Made<'p>(Vec<&'p Path>);

impl Drop for Made<'_> {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Ok(_acting) = acting::as_owner_of(file::directory(path)) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// The file of settings, with what was given and no more.
fn settings(config: &Config, up: &UpArgs, state_dir: Option<&Path>) -> String {
    let mut file = String::from("# A floodmesh node; floodmesh up --help lists all keys.\n");
    let mut line = |key: &str, value: String| {
        let _ = writeln!(file, "{key} = {value}");
    };
    line("mode", quoted("sealed"));
    line("name", quoted(&config.name));
    line("mesh", quoted(&config.mesh));
    if let Some(netid) = config.netid {
        line("netid", quoted(&netid.to_string()));
    }
    if config.links.listen_given {
        line("listen", list(&config.links.listen));
    }
    if !config.links.peers.is_empty() {
        line("peer", list(&config.links.peers));
    }
    if let Some(path) = state_dir {
        line("state_dir", quoted(&path.display().to_string()));
    }
    let device = &config.device;
    if up.mode.is_some() {
        let mode = match device.mode {
            DeviceMode::Tun => "tun",
            DeviceMode::Tap => "tap",
            DeviceMode::None => "none",
        };
        line("device.mode", quoted(mode));
    }
    if up.dev.is_some() {
        line("device.name", quoted(&device.name));
    }
    if !device.addresses.is_empty() {
        line("device.address", list(&device.addresses));
    }
    if up.mtu.is_some() {
        line("device.mtu", device.mtu.to_string());
    }
    file
}

fn list(values: &[impl ToString]) -> String {
    let values: Vec<_> = values.iter().map(|one| quoted(&one.to_string())).collect();
    format!("[{}]", values.join(", "))
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::config::{Given, Value};

    fn read(text: &str) -> Vec<Given> {
        super::super::file::parse("f".as_ref(), text).unwrap()
    }

    #[test]
    fn every_text_survives_its_quotes() {
        for text in [
            "van",
            "a\"b\\c",
            "tab\tbell\u{7}del\u{7f}c1\u{85}",
            "é ü 日本",
            "",
        ] {
            let given = read(&format!("mesh = {}\n", quoted(text)));
            assert_eq!(given[0].value, Value::Text(text.into()), "{text:?}");
        }
    }

    #[test]
    fn written_settings_mean_what_was_typed() {
        let up = UpArgs {
            name: Some("van".into()),
            mesh: Some("a \"convoy\"".into()),
            netid: Some("2a".into()),
            listen: vec!["192.0.2.1:0".into(), "[::1]:7".into()],
            peer: vec!["truck.example".into(), "[2001:db8::7]:44204".into()],
            address: vec!["10.77.0.1/24".into()],
            mode: Some(DeviceMode::Tap),
            dev: Some("tap7".into()),
            mtu: Some("1300".into()),
            ..SetupArgs::default().up()
        };
        let places = Places::new(true, |_| None);
        let typed = Config::without_file(&up, &places).unwrap();
        let text = settings(&typed, &up, Some("/srv/a b".as_ref()));
        let config = Config::resolve(read(&text), &places).unwrap();
        assert_eq!(config.files.state, Path::new("/srv/a b"));
        assert_eq!(config.files.secret, Path::new("/srv/a b/secret"));
        let same = |config: &Config| {
            let Config {
                name,
                mesh,
                netid,
                links,
                device,
                ..
            } = config;
            format!("{name} {mesh} {netid:?} {links:?} {device:?}")
        };
        assert_eq!(same(&config), same(&typed));
        assert_eq!(config.security, crate::daemon::config::Security::Sealed);
    }
}
