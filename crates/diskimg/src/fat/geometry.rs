//! How a volume is divided: boot sectors, tables, clusters.

use super::Kind;
use crate::units::{ByteLen, SECTOR};

/// The copies of the table; everything expects two.
pub(crate) const FATS: u64 = 2;
/// Sectors before the first table of FAT32, as every formatter reserves: boot sector, FSInfo, their
/// backup at sector 6.
const RESERVED_32: u64 = 32;
/// The data area begins at a multiple of this many sectors, so that clusters do not straddle the
/// 4 KiB blocks of flash and of host file systems.
const DATA_ALIGNMENT: u64 = 8;
/// How far sizes that are chosen here stay from the cluster counts at which the kind changes,
/// because implementations disagree about them by a few (Microsoft's specification, "FAT Type
/// Determination", recommends 16).
const MARGIN: u64 = 16;

/// The division of a volume. All lengths in sectors unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Geometry {
    /// 12, 16 or 32 bits per table entry.
    pub kind: Kind,
    /// The whole volume.
    pub sectors: u64,
    /// Before the first table.
    pub reserved: u64,
    /// One table.
    pub fat: u64,
    /// Entries (of 32 bytes) of the root directory; 0 on FAT32, where it is made of clusters.
    pub root_entries: u64,
    /// One cluster.
    pub cluster: u64,
    /// How many clusters hold data.
    pub clusters: u64,
}

impl Geometry {
    /// Sectors of the root directory that is not made of clusters.
    #[must_use]
    pub fn root(&self) -> u64 {
        (self.root_entries * 32).div_ceil(SECTOR)
    }

    /// First sector of the root directory that is not made of clusters.
    #[must_use]
    pub fn root_start(&self) -> u64 {
        self.reserved + FATS * self.fat
    }

    /// First sector of cluster 2.
    #[must_use]
    pub fn data_start(&self) -> u64 {
        self.root_start() + self.root()
    }

    /// First sector of a cluster (which are counted from 2).
    #[must_use]
    pub fn sector_of(&self, cluster: u64) -> u64 {
        self.data_start() + cluster.saturating_sub(2).saturating_mul(self.cluster)
    }

    /// Bytes of a cluster.
    #[must_use]
    pub fn cluster_len(&self) -> u64 {
        self.cluster * SECTOR
    }

    /// Divides so many sectors; `None` when the number of clusters does not suit the kind.
    fn divide(kind: Kind, sectors: u64, cluster: u64, root_entries: u64) -> Option<Self> {
        let mut reserved = if kind == Kind::Fat32 { RESERVED_32 } else { 1 };
        let root = (root_entries * 32).div_ceil(SECTOR);
        // Larger tables leave fewer clusters, which need smaller tables: there is one smallest table
        // that suffices, and every larger one does too.
        let suffices = |fat: u64| {
            let data = sectors.saturating_sub(reserved + FATS * fat + root);
            kind.table_sectors(data / cluster) <= fat
        };
        let (mut low, mut fat) = (1, kind.table_sectors(sectors / cluster));
        while low < fat {
            let middle = low.midpoint(fat);
            if suffices(middle) {
                fat = middle;
            } else {
                low = middle + 1;
            }
        }
        let start = reserved + FATS * fat + root;
        reserved += start.next_multiple_of(DATA_ALIGNMENT) - start;
        let clusters = sectors.checked_sub(reserved + FATS * fat + root)? / cluster;
        kind.clusters().contains(&clusters).then_some(Self {
            kind,
            sectors,
            reserved,
            fat,
            root_entries,
            cluster,
            clusters,
        })
    }

    /// The smallest volume with so many clusters.
    fn holding(kind: Kind, clusters: u64, cluster: u64, root_entries: u64) -> Option<Self> {
        let clusters = clusters.max(*kind.clusters().start() + MARGIN);
        if clusters > *kind.clusters().end() - MARGIN {
            return None;
        }
        let fixed = RESERVED_32
            + FATS * kind.table_sectors(clusters)
            + (root_entries * 32).div_ceil(SECTOR);
        let sectors = (fixed + DATA_ALIGNMENT + clusters.checked_mul(cluster)?)
            .next_multiple_of(DATA_ALIGNMENT);
        if sectors > u64::from(u32::MAX) {
            return None;
        }
        // `fixed` allows for the most that is reserved, so a few clusters more may come out.
        Self::divide(kind, sectors, cluster, root_entries)
    }
}

/// What is asked of a geometry.
pub(crate) struct Request<'need> {
    pub(crate) kind: Option<Kind>,
    /// Sectors per cluster.
    pub(crate) cluster: Option<u64>,
    /// Entries that the root directory has.
    pub(crate) root_entries: u64,
    /// How many clusters of so many bytes the content takes on such a kind.
    pub(crate) need: &'need dyn Fn(Kind, u64) -> u64,
}

impl Request<'_> {
    fn root_entries(&self, kind: Kind) -> u64 {
        if kind == Kind::Fat32 { 0 } else { self.root_entries.max(512).next_multiple_of(16) }
    }

    /// The smallest volume that holds the content and so many bytes more. FAT32 unless asked
    /// otherwise: it is what firmware expects.
    pub(crate) fn smallest(&self, headroom: ByteLen) -> Option<Geometry> {
        let kind = self.kind.unwrap_or(Kind::Fat32);
        self.clusters().find_map(|cluster| {
            let len = cluster * SECTOR;
            let clusters = (self.need)(kind, len).checked_add(headroom.0.div_ceil(len))?;
            let found = Geometry::holding(kind, clusters, cluster, self.root_entries(kind))?;
            (self.cluster.is_some() || cluster >= usual_cluster(kind, found.sectors))
                .then_some(found)
        })
    }

    /// A volume of so many sectors, or what is wrong with that.
    pub(crate) fn fixed(&self, sectors: u64) -> Result<Geometry, String> {
        let kinds: &[Kind] = match self.kind {
            Some(Kind::Fat12) => &[Kind::Fat12],
            Some(Kind::Fat16) => &[Kind::Fat16],
            Some(Kind::Fat32) => &[Kind::Fat32],
            None => &[Kind::Fat32, Kind::Fat16, Kind::Fat12],
        };
        if sectors > u64::from(u32::MAX) {
            return Err(format!("{sectors} sectors, a FAT volume has at most {}", u32::MAX));
        }
        let shown = ByteLen(sectors * SECTOR);
        let mut found = None;
        for kind in kinds {
            // From the usual size down on FAT32, where large clusters make too few of them.
            let mut sizes: Vec<u64> = self.clusters().collect();
            if self.cluster.is_none() && *kind == Kind::Fat32 {
                let usual = usual_cluster(*kind, sectors);
                sizes.retain(|size| *size <= usual);
                sizes.reverse();
            }
            found = sizes.into_iter().find_map(|cluster| {
                Geometry::divide(*kind, sectors, cluster, self.root_entries(*kind))
            });
            if found.is_some() {
                break;
            }
        }
        let Some(found) = found else {
            let least = self.smallest(ByteLen::ZERO);
            let needed = least.map_or_else(String::new, |least| {
                format!("; it needs {} bytes", least.sectors * SECTOR)
            });
            let kind = self.kind.map_or_else(|| "FAT".to_owned(), |kind| kind.to_string());
            return Err(format!("{shown} cannot be divided into a {kind} volume{needed}"));
        };
        let need = (self.need)(found.kind, found.cluster_len());
        if need > found.clusters {
            let missing = (need - found.clusters).saturating_mul(found.cluster_len());
            let same = Request { kind: Some(found.kind), ..*self };
            let raise = same
                .smallest(ByteLen::ZERO)
                .or_else(|| self.smallest(ByteLen::ZERO))
                .map_or_else(String::new, |least| {
                    format!("; raise the volume's size to {} bytes", least.sectors * SECTOR)
                });
            return Err(format!("the content is {missing} bytes too large for {shown}{raise}"));
        }
        Ok(found)
    }

    fn clusters(&self) -> impl Iterator<Item = u64> + use<> {
        let only = self.cluster;
        (0..=6).map(|shift| 1 << shift).filter(move |size| only.is_none_or(|only| only == *size))
    }
}

/// Sectors per cluster that Windows takes for a volume of so many sectors.
fn usual_cluster(kind: Kind, sectors: u64) -> u64 {
    if kind != Kind::Fat32 {
        return 1;
    }
    match sectors {
        0..=532_480 => 1,
        532_481..=16_777_216 => 8,
        16_777_217..=33_554_432 => 16,
        33_554_433..=67_108_864 => 32,
        _ => 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: Option<Kind>, need: &dyn Fn(Kind, u64) -> u64) -> Request<'_> {
        Request { kind, cluster: None, root_entries: 0, need }
    }

    #[test]
    fn kinds_follow_the_number_of_clusters() {
        let need = |_, _| 1;
        let ask = request(None, &need);
        for (mib, kind) in
            [(1, Kind::Fat12), (16, Kind::Fat16), (64, Kind::Fat32), (8192, Kind::Fat32)]
        {
            let found = ask.fixed(mib * 2048).unwrap();
            assert_eq!(found.kind, kind, "{mib} MiB");
            assert!(kind.clusters().contains(&found.clusters));
            assert!(found.data_start() + found.clusters * found.cluster <= found.sectors);
            assert!(found.data_start().is_multiple_of(8));
        }
    }

    #[test]
    fn the_smallest_volume_is_enough() {
        for kind in [Kind::Fat12, Kind::Fat16, Kind::Fat32] {
            for megabytes in [0_u64, 1, 3, 40, 90, 700] {
                let need = move |_, len: u64| (megabytes << 20).div_ceil(len) + 1;
                let ask = request(Some(kind), &need);
                let Some(found) = ask.smallest(ByteLen::ZERO) else {
                    assert_eq!(kind, Kind::Fat12, "{megabytes} MB");
                    continue;
                };
                assert!(need(kind, found.cluster_len()) <= found.clusters, "{kind} {megabytes}");
                assert!(ask.fixed(found.sectors).is_ok(), "{kind} {megabytes}: {found:?}");
            }
        }
    }

    #[test]
    fn too_small_says_how_much_is_needed() {
        let need = |_, len: u64| (100_u64 << 20).div_ceil(len);
        let message = request(None, &need).fixed(64 * 2048).unwrap_err();
        assert!(message.contains("raise the volume's size to"), "{message}");
        let message = request(Some(Kind::Fat32), &need).fixed(2048).unwrap_err();
        assert!(message.contains("it needs"), "{message}");
    }
}
