//! Which addresses upstreams, token services and redirects may have: public ones, and those that the administrator allows.
//!
//! The check is on the address that is connected to, after resolution, so a name that resolves differently the second
//! time gains nothing (CVE-2026-32591, CVE-2026-2376).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Resolves names, and leaves out the addresses that may not be connected to.
pub(super) struct Guard {
    allowed: Vec<IpNet>,
    /// Hosts of the egress proxies that the environment names: the administrator chose them.
    proxies: Vec<String>,
}

/// A name or address that may not be connected to.
#[derive(Debug, thiserror::Error)]
#[error("{0} has no permitted address")]
pub(super) struct Forbidden(pub String);

impl Guard {
    pub(super) fn new(allowed: &[IpNet]) -> Arc<Self> {
        Arc::new(Self { allowed: allowed.to_vec(), proxies: proxy_hosts() })
    }

    /// Checks a URL whose host is an address; names are checked when they are resolved.
    pub(super) fn check(&self, url: &Url) -> Result<(), Forbidden> {
        let address = match url.host() {
            Some(Host::Ipv4(v4)) => IpAddr::V4(v4),
            Some(Host::Ipv6(v6)) => IpAddr::V6(v6),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(Forbidden(url.to_string())),
        };
        if self.permits(address) { Ok(()) } else { Err(Forbidden(address.to_string())) }
    }

    fn permits(&self, address: IpAddr) -> bool {
        let address = embedded(address);
        !is_link_local(address)
            && (is_public(address) || self.allowed.iter().any(|net| net.contains(&address)))
    }
}

/// The resolver half of the guard, for reqwest.
pub(super) struct Resolver(pub Arc<Guard>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            if guard.proxies.contains(&host) {
                return Ok(Box::new(found.into_iter()) as Addrs);
            }
            let permitted: Vec<_> = found.into_iter().filter(|address| guard.permits(address.ip())).collect();
            if permitted.is_empty() {
                return Err(Forbidden(host).into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// The IPv4 address inside an IPv6 one, where there is one: `::ffff:a.b.c.d` and NAT64's `64:ff9b::a.b.c.d`.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address.to_canonical() else { return address.to_canonical() };
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        // `::a.b.c.d`, long deprecated, but parsed; `::` and `::1` are themselves.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        _ => IpAddr::V6(v6),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Global unicast by the IANA special-purpose registries (RFC 6890 and its updates).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol = a == 192 && b == 0 && c == 0;
    let relay = a == 192 && b == 88 && c == 99;
    let benchmark = a == 198 && (b == 18 || b == 19);
    let special = v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_documentation()
        || v4.is_multicast();
    !(special || shared || protocol || relay || benchmark || a == 0 || a >= 240)
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let [a, b, ..] = v6.segments();
    let global = a & 0xe000 == 0x2000;
    // Teredo, ORCHID and the like; documentation; 6to4, which embeds an IPv4 address.
    let special = match a {
        0x2001 => b < 0x0200 || b == 0x0db8,
        0x2002 => true,
        0x3fff => b < 0x1000,
        _ => false,
    };
    global && !special
}

fn proxy_hosts() -> Vec<String> {
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .filter_map(|value| Url::parse(&value).or_else(|_| Url::parse(&format!("http://{value}"))).ok())
        .filter_map(|url| url.host_str().map(str::to_owned))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn guard(allowed: &[&str]) -> Guard {
        Guard { allowed: allowed.iter().map(|net| net.parse().unwrap()).collect(), proxies: Vec::new() }
    }

    #[test]
    fn private_and_special_addresses_are_refused() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "203.0.113.1",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "2001:db8::1",
            "2002:a00:1::",
            "ff02::1",
        ] {
            assert!(!guard(&[]).permits(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn public_addresses_are_permitted() {
        for text in ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "172.32.0.1"] {
            assert!(guard(&[]).permits(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn an_allowed_network_opens_private_addresses_but_never_link_local_ones() {
        let open = guard(&["10.0.0.0/8", "169.254.0.0/16", "fe80::/10", "::/0", "0.0.0.0/0"]);
        assert!(open.permits("10.9.9.9".parse().unwrap()));
        assert!(open.permits("::ffff:10.9.9.9".parse().unwrap()));
        assert!(!open.permits("169.254.169.254".parse().unwrap()));
        assert!(!open.permits("::ffff:169.254.169.254".parse().unwrap()));
        assert!(!open.permits("64:ff9b::169.254.169.254".parse().unwrap()));
        assert!(!open.permits("fe80::1".parse().unwrap()));
    }

    #[test]
    fn an_address_in_a_url_is_checked_without_resolution() {
        for text in ["http://127.0.0.1/", "http://[::1]:5000/v2/", "http://2130706433/", "http://0x7f.1/"] {
            assert!(guard(&[]).check(&Url::parse(text).unwrap()).is_err(), "{text}");
        }
        assert!(guard(&[]).check(&Url::parse("https://registry.example/").unwrap()).is_ok());
    }
}
