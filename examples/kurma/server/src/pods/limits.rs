//! What apps may use, as the files of control groups have it.

use kiln_oci::bundle::Resources;
use kiln_supervisor::{Bytes, Cgroup};

/// What a container may use, for its control group (cgroup-v2.rst of the kernel).
pub(super) fn of(resources: &Resources) -> Cgroup {
    let mut cgroup = Cgroup::default();
    cgroup.memory_max = resources.memory.map(Bytes);
    // what may be used is not got around by what is swapped out
    cgroup.memory_swap_max = resources.memory.map(|_| Bytes(0));
    cgroup.memory_min = resources.memory_reservation.map(Bytes);
    cgroup.cpu_percent = resources.cpu_quota.map(|quota| {
        let period = resources.cpu_period.unwrap_or(100_000).max(1);
        let percent = quota.saturating_mul(100).div_ceil(period).max(1);
        percent.try_into().unwrap_or(u32::MAX)
    });
    cgroup.cpu_weight = resources.cpu_shares.map(weight);
    cgroup.pids_max = resources.pids.map(|tasks| tasks.try_into().unwrap_or(u32::MAX));
    cgroup
}

/// The weight that takes the place of shares, which go from 2 to 262144 where 1024 is usual: the OCI's
/// runtimes count so.
fn weight(shares: u64) -> u32 {
    let above = shares.clamp(2, 262_144) - 2;
    (1 + above * 9_999 / 262_142).try_into().unwrap_or(10_000)
}

/// Whether anything is bounded.
pub(super) fn any(cgroup: &Cgroup) -> bool {
    !cgroup.settings().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_have() {
        let mut resources = Resources::default();
        assert!(!any(&of(&resources)));
        resources.memory = Some(64 << 20);
        resources.cpu_quota = Some(50_000);
        resources.cpu_shares = Some(1024);
        resources.pids = Some(9);
        let settings = of(&resources).settings();
        assert_eq!(
            settings.iter().map(|(file, value)| format!("{file} {value}")).collect::<Vec<_>>(),
            [
                "cpu.weight 39",
                "cpu.max 50000 100000",
                "memory.max 67108864",
                "memory.swap.max 0",
                "pids.max 9"
            ]
        );
    }

    #[test]
    fn the_least_and_the_most() {
        assert_eq!((weight(2), weight(262_144), weight(0)), (1, 10_000, 1));
    }
}
