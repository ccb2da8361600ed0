//! What a container may use (runtime specification, config-linux.md, "Control groups").

use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// How long a period of the scheduler is where nothing else is said, in microseconds (100 ms).
const PERIOD: u64 = 100_000;

/// What a container may use of the host. Without a limit it may use what is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Resources {
    /// Bytes of memory; beyond them, processes are ended.
    pub memory: Option<u64>,
    /// Bytes of memory that are left to it when memory is short.
    pub memory_reservation: Option<u64>,
    /// Microseconds of processors in each period: twice the period is two processors.
    pub cpu_quota: Option<u64>,
    /// Microseconds of a period, from 1,000 to 1,000,000. Default: 100,000, where there is a quota.
    pub cpu_period: Option<u64>,
    /// Its part of processors that others want too, from 2 to 262144: 1024 is what everybody has.
    pub cpu_shares: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl Resources {
    /// The part of `config.json`.
    pub(super) fn value(&self, devices: bool) -> Result<Value> {
        let mut resources = Map::new();
        resources.insert("devices".into(), json!([{ "allow": devices, "access": "rwm" }]));
        let mut put = |group: &str, key: &str, value: Option<u64>, least: u64, most: u64| {
            let Some(value) = value else { return Ok(()) };
            if !(least..=most).contains(&value) {
                let reason = format!("it goes from {least} to {most}");
                return Err(Error::invalid(format!("{group} {key} {value}"), reason));
            }
            let members = resources.entry(group).or_insert_with(|| json!({}));
            if let Some(members) = members.as_object_mut() {
                members.insert(key.into(), json!(value));
            }
            Ok(())
        };
        let bytes = i64::MAX.unsigned_abs();
        put("memory", "limit", self.memory, 1, bytes)?;
        put("memory", "reservation", self.memory_reservation, 1, bytes)?;
        let period = self.cpu_period.or_else(|| self.cpu_quota.map(|_| PERIOD));
        put("cpu", "quota", self.cpu_quota, 1_000, bytes)?;
        put("cpu", "period", period, 1_000, 1_000_000)?;
        put("cpu", "shares", self.cpu_shares, 2, 262_144)?;
        put("pids", "limit", self.pids, 1, 1 << 22)?;
        Ok(Value::Object(resources))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// config-linux.md, "Memory", "CPU" and "PIDs".
    #[test]
    fn limits_are_those_of_the_specification() {
        let devices = json!([{ "allow": false, "access": "rwm" }]);
        assert_eq!(Resources::default().value(false).unwrap(), json!({ "devices": devices }));
        let resources = Resources {
            memory: Some(64 << 20),
            memory_reservation: Some(32 << 20),
            cpu_quota: Some(50_000),
            cpu_shares: Some(512),
            pids: Some(100),
            ..Resources::default()
        };
        let expected = json!({
            "devices": devices,
            "memory": { "limit": 67_108_864, "reservation": 33_554_432 },
            "cpu": { "quota": 50_000, "period": 100_000, "shares": 512 },
            "pids": { "limit": 100 },
        });
        assert_eq!(resources.value(false).unwrap(), expected);
        let bad = Resources { cpu_period: Some(10), ..Resources::default() };
        let error = bad.value(false).unwrap_err().to_string();
        assert_eq!(error, "cpu period 10: it goes from 1000 to 1000000");
    }
}
