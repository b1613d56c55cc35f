//! Keeps what is for the device's networks from leaving by any other interface (SECURITY T32).
//!
//! A network that this host joins may hand out routes (DHCP option 121, router advertisements). One that is
//! more specific than the device's own takes the packets for these addresses out in clear; and without the
//! device its routes are gone, and the default route takes them. So the networks get a table of their own,
//! which is asked before the one that holds everybody's routes:
//!
//! ```text
//!   rule 4420   to 10.77.0.0/24 lookup TABLE                  before main, 32766
//!   TABLE       10.77.0.0/24 dev mesh0 src 10.77.0.1          while the device is up
//!               unreachable 10.77.0.0/24 metric 4294967295    always
//! ```
//!
//! Rules and unreachable routes come before the device is up, and stay when its process ends, however it
//! ends, and where an open fails. The next open without [`strict`](crate::OpenConfig::strict) takes them
//! away: all carry the protocol number 172, and the table's number follows from the interface's name. What
//! was left under another name, and overlaps with the networks of this one, goes too: it was asked first.
//!
//! Not kept in: multicast, link-local addresses, and programs that write packets onto an interface by
//! themselves (packet sockets).
//!
//! Sources: ip-rule(8), ip-route(8), rtnetlink(7); CVE-2024-3661.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{IpVersion, RouteMessageBuilder};

use crate::netlink::{self, Netlink, io_error, is_without_ipv6};
use crate::open::OpenConfig;

/// The preference of the rules: well before `main`, 32,766, and the tables that others put before it.
pub const PREFERENCE: u32 = 4_420;
/// Who made rules and routes, as the kernel notes it: 0xAC, which nobody else uses.
const MADE_BY: RouteProtocol = RouteProtocol::Other(172);
/// The metric of what remains without the device: worse than any.
const LAST: u32 = u32::MAX;

/// The table of an interface, by its name: 0xAC and 24 bits of FNV-1a.
pub fn table(interface: &str) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = interface.bytes().fold(0x811c_9dc5, step);
    0xAC00_0000 | (hash ^ hash >> 24) & 0x00FF_FFFF
}

/// Leads the networks of a strict device into it again, after somebody set it down and up: the kernel
/// forgets such routes with the interface going down. Blocks for some milliseconds.
///
/// # Errors
/// The kernel's; the networks stay unreachable then.
pub fn lead_again(config: &OpenConfig, index: u32) -> io::Result<()> {
    netlink::block_on(async |netlink| lead_in(netlink, &config.name, index, config).await)
}

/// Looks whether all of it is still there, and puts back what is not: a network manager may take away rules
/// and routes that it did not make (systemd-networkd does). `index` is the device's, while there is one.
/// Returns whether a rule or an unreachable route had gone; routes into the device also go when somebody
/// sets it down.
///
/// Cost: blocks for some milliseconds, for three requests a network, however many routes there are; nobody
///       is notified where nothing was missing.
///
/// # Errors
/// The kernel's; `PermissionDenied` without CAP_NET_ADMIN.
pub fn keep(config: &OpenConfig, index: Option<u32>) -> io::Result<bool> {
    netlink::block_on(async |netlink| {
        let mut had_gone = false;
        for (net, own) in networks(config) {
            let table = table(&config.name);
            match add(netlink, unreachable(net, table)).await {
                Err(error) if net.addr().is_ipv6() && is_without_ipv6(&error) => continue,
                added => had_gone |= added?,
            }
            had_gone |= add_rule(netlink, net, table).await?;
            let Some(index) = index else { continue };
            match add(netlink, way_in(net, own, table, index)).await {
                Err(error) if own.is_ipv6() && is_refused_ipv6(&error) => {}
                // It is down or gone at the moment.
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENODEV)) => {}
                added => drop(added?),
            }
        }
        Ok(had_gone)
    })
}

/// The networks behind addresses; one of a single address has none.
fn networks(config: &OpenConfig) -> Vec<(IpNet, IpAddr)> {
    let mut all: Vec<_> = config
        .addresses
        .iter()
        .filter(|net| net.prefix_len() < net.max_prefix_len())
        .map(|net| (net.trunc(), net.addr()))
        .collect();
    all.sort_unstable();
    all.dedup_by_key(|(net, _)| *net);
    all
}

/// Shuts the networks in: from now on they lead into the interface or nowhere. What an earlier start left
/// for others goes.
pub(crate) async fn shut(netlink: &mut Netlink, name: &str, config: &OpenConfig) -> io::Result<()> {
    let table = table(name);
    let networks: Vec<IpNet> = networks(config).into_iter().map(|(net, _)| net).collect();
    // 1. First of all nothing leaks; then what is too much goes.
    for &net in &networks {
        match put(netlink, unreachable(net, table)).await {
            // Without IPv6 nothing of it leaks.
            Err(error) if net.addr().is_ipv6() && is_without_ipv6(&error) => continue,
            put => put?,
        }
        add_rule(netlink, net, table).await?;
    }
    // 2.
    remove(netlink, table, &networks, true).await
}

/// Leads the networks into the interface, which is up.
pub(crate) async fn lead_in(
    netlink: &mut Netlink,
    name: &str,
    index: u32,
    config: &OpenConfig,
) -> io::Result<()> {
    for (net, own) in networks(config) {
        match put(netlink, way_in(net, own, table(name), index)).await {
            // The device has no IPv6: it goes without these addresses.
            Err(error) if own.is_ipv6() && is_refused_ipv6(&error) => {}
            put => put?,
        }
    }
    Ok(())
}

/// Removes what an earlier start of a strict device left that had this name or these networks.
pub(crate) async fn release(
    netlink: &mut Netlink,
    name: &str,
    config: &OpenConfig,
) -> io::Result<()> {
    let networks: Vec<IpNet> = networks(config).into_iter().map(|(net, _)| net).collect();
    remove(netlink, table(name), &networks, false).await
}

fn is_refused_ipv6(error: &io::Error) -> bool {
    is_without_ipv6(error)
        || matches!(
            error.raw_os_error(),
            Some(libc::EACCES | libc::EINVAL | libc::ENODEV | libc::ENETDOWN)
        )
}

/// The route into the device, from our own address.
fn way_in(net: IpNet, own: IpAddr, table: u32, index: u32) -> RouteMessage {
    let mut route = route(net, table).output_interface(index);
    if own.is_ipv4() {
        let source = RouteAttribute::PrefSource(own.into());
        route.get_mut().attributes.push(source);
        route = route.scope(RouteScope::Link);
    }
    route.build()
}

/// What remains without it.
fn unreachable(net: IpNet, table: u32) -> RouteMessage {
    let route = route(net, table).kind(RouteType::Unreachable);
    route.priority(LAST).build()
}

fn route(net: IpNet, table: u32) -> RouteMessageBuilder {
    let mut route = RouteMessageBuilder::<IpAddr>::new()
        .table_id(table)
        .protocol(MADE_BY);
    let message = route.get_mut();
    message.header.address_family = family(net);
    message.header.destination_prefix_length = net.prefix_len();
    let to = RouteAttribute::Destination(net.addr().into());
    message.attributes.push(to);
    route
}

const fn family(net: IpNet) -> AddressFamily {
    match net {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    }
}

/// Adds a route, or replaces one to the same network with the same metric.
async fn put(netlink: &mut Netlink, route: RouteMessage) -> io::Result<()> {
    let request = netlink.handle.route().add(route).replace();
    netlink
        .run(async { request.execute().await.map_err(io_error) })
        .await
}

/// Adds a route. Returns whether there was none to the same network with the same metric.
async fn add(netlink: &mut Netlink, route: RouteMessage) -> io::Result<bool> {
    let request = netlink.handle.route().add(route);
    let added = netlink.run(async { request.execute().await.map_err(io_error) });
    unless_there(added.await)
}

/// Adds a rule. Returns whether it was not there.
async fn add_rule(netlink: &mut Netlink, net: IpNet, table: u32) -> io::Result<bool> {
    let mut request = netlink
        .handle
        .rule()
        .add()
        .table_id(table)
        .priority(PREFERENCE)
        .action(RuleAction::ToTable);
    let rule = request.message_mut();
    rule.header.family = family(net);
    rule.header.dst_len = net.prefix_len();
    rule.attributes.push(RuleAttribute::Destination(net.addr()));
    rule.attributes.push(RuleAttribute::Protocol(MADE_BY));
    let added = netlink.run(async { request.execute().await.map_err(io_error) });
    unless_there(added.await)
}

/// Whether it was added; not if it was there, as what an earlier start left is.
fn unless_there(added: io::Result<()>) -> io::Result<bool> {
    match added {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        added => added.map(|()| true),
    }
}

/// Removes our rules to a table and the routes in it, where `keeps` is set but those to `networks`; and what
/// stands in the way of these from other tables that lead into no device any more. The routes of lost
/// devices went with them.
async fn remove(
    netlink: &mut Netlink,
    table: u32,
    networks: &[IpNet],
    keeps: bool,
) -> io::Result<()> {
    let overlaps = |to: IpNet| {
        networks
            .iter()
            .any(|net| net.contains(&to) || to.contains(net))
    };
    let is_stale = |at: u32, to: Option<IpNet>| match to {
        Some(to) if at == table => !(keeps && networks.contains(&to)),
        Some(to) => overlaps(to),
        None => at == table,
    };
    let families = [
        (IpVersion::V4, AddressFamily::Inet),
        (IpVersion::V6, AddressFamily::Inet6),
    ];
    for (version, family) in families {
        let mut rules = match rules(netlink, version).await {
            Err(error) if is_without_ipv6(&error) => continue,
            rules => rules?,
        };
        rules.retain(|(at, rule)| *at == table || is_stale(*at, rule_to(rule)));
        // There may be a million routes, and without a rule none of ours counts.
        if rules.is_empty() {
            continue;
        }
        let tables: BTreeSet<u32> = rules.iter().map(|(at, _)| *at).collect();
        let mut routes = routes(netlink, family, &tables).await?;
        // Another node of this host, which is up, keeps what it has.
        let in_use: BTreeSet<u32> = (routes.iter())
            .filter(|(at, route)| *at != table && route.header.kind == RouteType::Unicast)
            .map(|(at, _)| *at)
            .collect();
        rules.retain(|(at, rule)| is_stale(*at, rule_to(rule)) && !in_use.contains(at));
        routes.retain(|(at, route)| is_stale(*at, route_to(route)) && !in_use.contains(at));
        for (_, rule) in rules {
            let request = netlink.handle.rule().del(rule);
            let deleted = netlink.run(async { request.execute().await.map_err(io_error) });
            unless_gone(deleted.await)?;
        }
        for (_, route) in routes {
            let request = netlink.handle.route().del(route);
            let deleted = netlink.run(async { request.execute().await.map_err(io_error) });
            unless_gone(deleted.await)?;
        }
    }
    Ok(())
}

/// Takes what was gone already for removed: with the device of a process that is just ending go its routes.
fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(()),
        removed => removed,
    }
}

/// Our rules, each with the table that it leads to.
async fn rules(netlink: &mut Netlink, version: IpVersion) -> io::Result<Vec<(u32, RuleMessage)>> {
    let request = netlink.handle.rule().get(version);
    let all: Vec<RuleMessage> = netlink
        .run(async { request.execute().try_collect().await.map_err(io_error) })
        .await?;
    let ours = all.into_iter().filter_map(|rule| {
        let is_ours = rule.attributes.contains(&RuleAttribute::Protocol(MADE_BY));
        let table = is_ours.then(|| leads_to(&rule))?;
        Some((table, rule))
    });
    Ok(ours.collect())
}

/// What is in tables, each with its table.
async fn routes(
    netlink: &mut Netlink,
    family: AddressFamily,
    tables: &BTreeSet<u32>,
) -> io::Result<Vec<(u32, RouteMessage)>> {
    let mut every = RouteMessage::default();
    every.header.address_family = family;
    let request = netlink.handle.route().get(every);
    let all: Vec<RouteMessage> = netlink
        .run(async { request.execute().try_collect().await.map_err(io_error) })
        .await?;
    let inside = all.into_iter().map(|route| (table_of(&route), route));
    Ok(inside.filter(|(at, _)| tables.contains(at)).collect())
}

/// The table of a rule.
fn leads_to(rule: &RuleMessage) -> u32 {
    let large = rule.attributes.iter().find_map(|one| match one {
        RuleAttribute::Table(table) => Some(*table),
        _ => None,
    });
    large.unwrap_or_else(|| rule.header.table.into())
}

fn rule_to(rule: &RuleMessage) -> Option<IpNet> {
    let to = rule.attributes.iter().find_map(|one| match one {
        RuleAttribute::Destination(to) => Some(*to),
        _ => None,
    })?;
    IpNet::new(to, rule.header.dst_len).ok()
}

fn table_of(route: &RouteMessage) -> u32 {
    let large = route.attributes.iter().find_map(|one| match one {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    // A number above 255 stands in an attribute.
    large.unwrap_or_else(|| route.header.table.into())
}

fn route_to(route: &RouteMessage) -> Option<IpNet> {
    let to = route.attributes.iter().find_map(|one| match one {
        RouteAttribute::Destination(RouteAddress::Inet(to)) => Some(IpAddr::V4(*to)),
        RouteAttribute::Destination(RouteAddress::Inet6(to)) => Some(IpAddr::V6(*to)),
        _ => None,
    })?;
    IpNet::new(to, route.header.destination_prefix_length).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, OffloadChoice};

    #[test]
    fn a_name_has_one_table_beyond_those_that_people_number() {
        assert_eq!(table("mesh0"), table("mesh0"));
        let tables: BTreeSet<u32> = (0..100)
            .map(|number| table(&format!("mesh{number}")))
            .collect();
        assert_eq!(tables.len(), 100);
        assert!(tables.iter().all(|table| table >> 24 == 0xAC));
    }

    #[test]
    fn each_network_is_shut_in_once_and_single_addresses_are_none() {
        let addresses = [
            "10.77.0.1/24",
            "10.77.0.9/24",
            "10.88.0.1/32",
            "fd00::1/64",
            "fd00::2/128",
        ];
        let config = OpenConfig {
            name: "mesh0".into(),
            mode: Mode::Tun,
            mtu: 1400,
            mac: None,
            link_local: Some("fe80::1".parse().unwrap()),
            addresses: addresses.map(|text| text.parse().unwrap()).to_vec(),
            offload: OffloadChoice::Auto,
            queues: 1,
            strict: true,
        };
        let found = networks(&config).into_iter();
        let found: Vec<_> = found.map(|(net, own)| format!("{net} {own}")).collect();
        assert_eq!(found, ["10.77.0.0/24 10.77.0.1", "fd00::/64 fd00::1"]);
    }
}
