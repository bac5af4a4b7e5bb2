//! Addresses of databases, for every test binary that makes its own.

/// The same server's other database.
pub fn with_database(server: &str, name: &str) -> String {
    let (address, parameters) = server.split_once('?').map_or((server, None), |(a, p)| (a, Some(p)));
    let authority_end = address.find("://").map_or(0, |at| at + 3);
    let host_end = address[authority_end..]
        .find('/')
        .map_or(address.len(), |at| authority_end + at);
    let parameters = parameters.map(|p| format!("?{p}")).unwrap_or_default();
    format!("{}/{name}{parameters}", &address[..host_end])
}
