//! Who is known to a server: `kurma enroll`, `kurma access`.

use std::path::PathBuf;
use std::time::SystemTime;

use kurma_client::enroll::{Issued, Known};
use kurma_client::tls::Identity;
use kurma_client::{Client, Endpoint};

use crate::arguments::{self, address};
use crate::problem::Problem;
use crate::show;

/// Where a program keeps who it is for a server, by the server's address.
pub(crate) fn directory(address: &str) -> Result<PathBuf, Problem> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = match (set("KURMA_CONFIG"), set("HOME")) {
        (Some(base), _) => PathBuf::from(base),
        (None, Some(home)) => PathBuf::from(home).join(".config/kurma"),
        (None, None) => return Err(Problem::Home),
    };
    let plain: String = address.chars().filter(|one| !"[]".contains(*one)).collect();
    let name = plain.rsplit_once(':').map(|(host, port)| format!("{host}_{port}"));
    Ok(base.join(name.unwrap_or(plain)))
}

/// A server, as who this program is for it.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, Problem> {
    let directory = directory(address)?;
    if !directory.exists() {
        let host = format!("https://{address}");
        return Err(Problem::Unknown { host, directory: directory.display().to_string() });
    }
    Ok(Endpoint::tls(address, &Identity::read(&directory)?)?)
}

/// What this machine calls itself, as far as others can be told.
fn own_name() -> String {
    let user = std::env::var("USER").ok().filter(|name| !name.is_empty());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = user.map_or_else(|| host.clone(), |user| format!("{user}@{host}"));
    name.chars()
        .filter(|one| one.is_ascii_alphanumeric() || "-._@".contains(*one))
        .take(64)
        .collect()
}

/// Has a server know this program from now on.
pub(crate) async fn enroll(asked: &arguments::Enroll, json: bool) -> Result<(), Problem> {
    let Some(("https", address)) = address(&asked.host) else {
        return Err(Problem::Host(asked.host.clone()));
    };
    let directory = directory(&address)?;
    if directory.join("client.pem").exists() && !asked.force {
        return Err(Problem::Enrolled { directory: directory.display().to_string() });
    }
    let name = asked.name.clone().unwrap_or_else(own_name);
    let (identity, enrolled) = kurma_client::enroll::enroll(&address, &asked.code, &name).await?;
    identity.write(&directory)?;
    show::enrolled(&enrolled, &format!("https://{address}"), &directory, json)?;
    Ok(())
}

/// Says, asks for and takes back what others may do.
pub(crate) async fn run(
    client: &Client,
    asked: &arguments::Access,
    host: &str,
    json: bool,
) -> Result<(), Problem> {
    match asked {
        arguments::Access::List => show::known(&client.known().await?, json)?,
        arguments::Access::Code { role } => {
            let issued: Issued = client.code(*role).await?;
            show::issued(&issued, host, json)?;
        }
        arguments::Access::Revoke { names } => {
            for name in names {
                let _: Known = client.revoke(name).await?;
            }
        }
    }
    Ok(())
}

/// Seconds from now until then.
pub(crate) fn left(then: u64) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    then.saturating_sub(now.as_secs())
}
