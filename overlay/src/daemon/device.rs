//! Keeps the device: opens it at start, and again when it was deleted.
//!
//! A lost device ends no node (unless `device.on_loss = "exit"`): the worker goes on forwarding for
//! others, and a thread tries to open the device again, after 1, 2, 4 .. 30 s.

use std::io;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::mpsc;
use tuntap::{Device, MergingEnded, Offload, OpenConfig, OpenError, Opened};

use super::config::OnLoss;
use super::duty::Duty;
use super::shared::Command;
use super::strict::Strictness;
use crate::time::Instant;

/// First and longest wait before another try.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How the device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It works.
    Up,
    /// Somebody set it down.
    Down,
    /// It is gone and being opened again.
    Lost,
    /// There is none, as asked.
    None,
}

/// A handle for each queue of a device, at least one.
pub type Queues = Vec<Box<dyn Device>>;

/// What the driver knows of the device; the worker has it.
#[derive(Debug)]
pub struct DeviceKeeper {
    config: Option<OpenConfig>,
    on_loss: OnLoss,
    state: State,
    name: Option<String>,
    index: Option<u32>,
    offload: Offload,
    merging_ended: MergingEnded,
    queues: u16,
    /// To each worker.
    workers: Vec<(Duty, SyncSender<Command>)>,
    reopened: mpsc::Receiver<Queues>,
    /// For the thread that opens it again.
    reopens: mpsc::Sender<Queues>,
    ends: bool,
    strictness: Strictness,
}

impl DeviceKeeper {
    /// Opens the device of `config`, if there is to be one.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is left behind then.
    pub fn open(
        config: Option<OpenConfig>,
        on_loss: OnLoss,
        workers: Vec<(Duty, SyncSender<Command>)>,
    ) -> Result<(Self, Option<Opened>), OpenError> {
        let opened = config.as_ref().map(tuntap::open).transpose()?;
        let (reopens, reopened) = mpsc::channel(1);
        let first = opened.as_ref().and_then(|opened| opened.queues.first());
        let info = first.map(|device| device.info().clone());
        let keeper = Self {
            config,
            on_loss,
            state: if info.is_some() {
                State::Up
            } else {
                State::None
            },
            index: info.as_ref().map(|info| info.index),
            offload: info.as_ref().map(|info| info.offload).unwrap_or_default(),
            merging_ended: MergingEnded::default(),
            name: info.map(|info| info.name),
            queues: opened.as_ref().map_or(0, |opened| count(&opened.queues)),
            workers,
            reopened,
            reopens,
            ends: false,
            strictness: Strictness::default(),
        };
        Ok((keeper, opened))
    }

    /// How it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its name, as the kernel gave it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The kernel's number of it, while it exists.
    pub fn index(&self) -> Option<u32> {
        self.index
    }

    /// What it moves many packets at a time of.
    pub fn offload(&self) -> Offload {
        self.offload
    }

    /// How many queues it has, each read by a thread; 0 without a device.
    pub fn queues(&self) -> u16 {
        self.queues
    }

    /// What it no longer merges, since the kernel refused it.
    pub fn merging_ended(&self) -> MergingEnded {
        self.merging_ended
    }

    /// The worker tells what the device no longer merges: warned of once for each protocol.
    pub fn merges_less(&mut self, ended: MergingEnded) {
        let before = std::mem::replace(&mut self.merging_ended, ended);
        for ((protocol, was), (_, is)) in before.by_protocol().into_iter().zip(ended.by_protocol())
        {
            if let (None, Some(errno)) = (was, is) {
                let error = io::Error::from_raw_os_error(errno);
                tracing::warn!(
                    protocol,
                    %error,
                    "the kernel refuses merged packets; they are written one by one from now on, \
                     which costs speed and loses nothing"
                );
            }
        }
    }

    /// The table that alone leads into it, where nothing for its networks may leave elsewhere.
    pub fn strict_table(&self) -> Option<u32> {
        let strict = self.config.as_ref().is_some_and(|config| config.strict);
        let name = self.name.as_deref().filter(|_| strict)?;
        Some(tuntap::strict::table(name))
    }

    /// Its addresses, the link-local one excepted.
    pub fn addresses(&self) -> &[IpNet] {
        self.config
            .as_ref()
            .map_or(&[], |config| config.addresses.as_slice())
    }

    /// Somebody set it up or down.
    pub fn is_up(&mut self, up: bool) {
        match self.state {
            State::Up | State::Down => self.state = if up { State::Up } else { State::Down },
            State::Lost | State::None => {}
        }
        if up {
            self.lead_again();
        }
    }

    /// Looks after what keeps a strict device strict; once a second. Returns whether it had gone, and was
    /// put back.
    pub fn was_not_strict(&mut self, now: Instant) -> bool {
        let Some(config) = self.strict_config() else {
            return false;
        };
        self.strictness.poll(now, &config, self.index)
    }

    /// The configuration of a strict device, under the name that the kernel gave it.
    fn strict_config(&self) -> Option<OpenConfig> {
        let config = self.config.as_ref().filter(|config| config.strict)?;
        Some(OpenConfig {
            name: self.name.clone()?,
            ..config.clone()
        })
    }

    /// Leads the networks of a strict device into it again: the kernel forgot that with its going down.
    fn lead_again(&self) {
        let (Some(config), Some(index)) = (self.strict_config(), self.index) else {
            return;
        };
        if let Err(error) = tuntap::strict::lead_again(&config, index) {
            tracing::error!(%error, "the overlay stays unreachable: its routes cannot be set again");
        }
    }

    /// Whether the node is to end because it was lost.
    pub fn ends_node(&self) -> bool {
        self.ends
    }

    /// A worker has lost the device of this index: starts to open it again, or ends the node.
    /// Returns whether that is news.
    pub fn lost(&mut self, index: u32) -> bool {
        let is_news = self.index == Some(index);
        if is_news {
            self.lose();
        }
        is_news
    }

    fn lose(&mut self) {
        self.state = State::Lost;
        self.index = None;
        if self.on_loss == OnLoss::Exit {
            self.ends = true;
            return;
        }
        let Some(mut config) = self.config.clone() else {
            return;
        };
        // The name that the kernel chose, not the pattern: users have written it down.
        config.name = self.name.clone().unwrap_or(config.name);
        let sender = self.reopens.clone();
        let spawned = std::thread::Builder::new()
            .name("device".to_owned())
            .spawn(move || open_again(&config, &sender));
        if let Err(error) = spawned {
            tracing::error!(%error, "the device is not opened again");
        }
    }

    /// Waits for the device to be opened again; for ever while it is not lost.
    pub async fn opened(&mut self) -> Option<Queues> {
        let queues = self.reopened.recv().await?;
        if let Some(info) = queues.first().map(|device| device.info()) {
            self.state = State::Up;
            self.index = Some(info.index);
            self.offload = info.offload;
            self.merging_ended = MergingEnded::default();
            self.queues = count(&queues);
        }
        Some(queues)
    }

    /// Hands each worker that reads the device a queue, and each other one a handle to write to;
    /// wake them then. Where there are fewer queues than asked for, some workers rest.
    pub fn hand_over(&self, queues: Queues) {
        let readers = self.workers.iter().filter(|(duty, _)| duty.reads_device());
        let writers = self.workers.iter().filter(|(duty, _)| !duty.reads_device());
        if queues.len() < readers.clone().count() {
            let queues = queues.len();
            tracing::warn!(
                queues,
                "an interface that is there has one queue: some threads rest"
            );
        }
        if let Some(device) = queues.first() {
            for (_, worker) in writers {
                match device.share() {
                    Ok(device) => give(worker, device),
                    Err(error) => tracing::error!(%error, "the device cannot be shared"),
                }
            }
        }
        for ((_, worker), device) in readers.zip(queues) {
            give(worker, device);
        }
    }
}

fn count(queues: &Queues) -> u16 {
    u16::try_from(queues.len()).unwrap_or(u16::MAX)
}

fn give(worker: &SyncSender<Command>, device: Box<dyn Device>) {
    if worker.try_send(Command::Device(device)).is_err() {
        tracing::error!("a worker takes no commands");
    }
}

fn open_again(config: &OpenConfig, sender: &mpsc::Sender<Queues>) {
    let (mut wait, longest) = BACK_OFF;
    while !sender.is_closed() {
        std::thread::sleep(wait);
        match tuntap::open(config) {
            Ok(opened) => {
                let _ = sender.blocking_send(opened.queues);
                return;
            }
            Err(error) => tracing::warn!(%error, "cannot open the device again"),
        }
        wait = (wait * 2).min(longest);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use tuntap::{DeviceInfo, MemoryDevice, Mode};

    use super::*;

    /// A device of this name, by which its handles can be told.
    fn device(name: &str) -> Box<dyn Device> {
        let info = DeviceInfo {
            name: name.to_owned(),
            mode: Mode::Tun,
            index: 1,
            mtu: 1_400,
            offload: Offload::None,
        };
        Box::new(MemoryDevice::pair(info).0)
    }

    /// The names of what workers of these duties are handed of these queues.
    fn handed(duties: &[Duty], queues: &[&str]) -> Vec<Option<String>> {
        let (workers, seats): (Vec<_>, Vec<Receiver<Command>>) = duties
            .iter()
            .map(|&duty| {
                let (sender, seat) = sync_channel(1);
                ((duty, sender), seat)
            })
            .unzip();
        let (keeper, _) = DeviceKeeper::open(None, OnLoss::Keep, workers).unwrap();
        keeper.hand_over(queues.iter().map(|name| device(name)).collect());
        let name = |seat: &Receiver<Command>| match seat.try_recv() {
            Ok(Command::Device(device)) => Some(device.info().name.clone()),
            Err(_) => None,
        };
        seats.iter().map(name).collect()
    }

    #[test]
    fn each_reader_has_a_queue_of_its_own_and_who_only_writes_shares_one() {
        use Duty::{All, In, Out};
        for (duties, queues, expected) in [
            (vec![All], vec!["a"], vec![Some("a")]),
            (vec![Out, In], vec!["a"], vec![Some("a"); 2]),
            (
                vec![Out, Out, In],
                vec!["a", "b"],
                vec![Some("a"), Some("b"), Some("a")],
            ),
            // An interface that was there has one queue.
            (
                vec![Out, Out, In],
                vec!["a"],
                vec![Some("a"), None, Some("a")],
            ),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|name| name.map(str::to_owned))
                .collect();
            assert_eq!(handed(&duties, &queues), expected, "{duties:?}");
        }
    }
}
