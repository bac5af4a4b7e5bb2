//! The pooler that a run goes through, for every test binary that can.

/// The pooler of TEST_POOLER, its host and port. It stands before the server of TEST_DATABASE_URL.
pub fn pooler() -> Option<String> {
    std::env::var("TEST_POOLER").ok().filter(|place| !place.is_empty())
}

/// How a service reaches the database at `url`: through the pooler, if there is one and it is one of its server's.
pub fn as_service(url: &str) -> String {
    let server = std::env::var("TEST_DATABASE_URL").unwrap_or_default();
    let (Some(pooler), Some((scheme, rest))) = (pooler(), url.split_once("://")) else {
        return url.to_owned();
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if Some(host(authority)) != authority_of(&server).map(host) {
        return url.to_owned();
    }
    let user = authority.strip_suffix(host(authority)).unwrap_or_default();
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{scheme}://{user}{pooler}/{path}{separator}pgbouncer=true")
}

fn authority_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.split(['/', '?']).next()
}

/// Host and port, without who asks.
fn host(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}
