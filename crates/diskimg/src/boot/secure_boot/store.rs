//! The variables that firmware of EDK2 (OVMF) keeps in its flash memory, as a file.
//!
//! All numbers are little-endian (EDK2, `MdePkg/Include/Pi/PiFirmwareVolume.h` and
//! `MdeModulePkg/Include/Guid/VariableFormat.h`).
//!
//! | at | what |
//! |---|---|
//! | 0 | firmware volume: type at 16, length at 32, `_FVH` at 40, header's length at 48 |
//! | after that header | variable store: type (16 bytes), length (4, header included), 0x5a, 0xfe, zeroes up to 28 bytes |
//! | after that header, and at multiples of 4 | a variable: 0xaa55 (2 bytes), state, 0, attributes (4), count (8), time (16), key (4), lengths of name and data (4 each), vendor (16); name in UTF-16 with its end; data |
//! | after the last variable | 0xff, as erased flash memory is |
//!
//! Flash memory can only clear bits until a whole block is erased. So a variable is changed by
//! writing a new one and clearing bits of the old one's state.

use std::ops::Range;

use super::{Timestamp, attribute};
use crate::error::Problems;
use crate::field::{array, index, narrow32, put, u16_le, u32_le, u64_le};
use crate::guid::Guid;
use crate::{Error, Limits, Result};

/// The type of a firmware volume with variables (EFI_SYSTEM_NV_DATA_FV_GUID).
const VOLUME: Guid = Guid::from_u128(0xfff12b8d_7696_4c8b_a985_2747075b4f50);
/// The type of a store of variables with times (EFI_AUTHENTICATED_VARIABLE_GUID).
const AUTHENTICATED: Guid = Guid::from_u128(0xaaf32c78_947b_439a_a180_2e144ec37792);
/// Bytes of the store's header, and of a variable's.
const STORE_HEADER: usize = 28;
const HEADER: usize = 60;
const START: u16 = 0x55aa;
const ALIGNMENT: usize = 4;
/// States: valid, and valid until its successor is.
const ADDED: u8 = 0x3f;
const IN_TRANSITION: u8 = 0x3e;

/// A variable of the firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Variable {
    /// Whose it is; names are unique for a vendor.
    pub vendor: Guid,
    /// Its name.
    pub name: String,
    /// See [`attribute`]. Default: kept while the machine is off, not for operating systems.
    pub attributes: u32,
    /// When it was signed; zero for one that needs no signature.
    pub timestamp: Timestamp,
    /// Its value.
    pub data: Vec<u8>,
    /// Two fields that newer firmware does not use.
    legacy: (u64, u32),
}

impl Variable {
    /// A variable that needs no signature.
    #[must_use]
    pub fn new(vendor: Guid, name: &str, data: impl Into<Vec<u8>>) -> Self {
        Self {
            vendor,
            name: name.to_owned(),
            attributes: attribute::NON_VOLATILE | attribute::BOOT_SERVICE,
            timestamp: Timestamp::default(),
            data: data.into(),
            legacy: (0, 0),
        }
    }

    fn emit(&self, out: &mut Vec<u8>) {
        let name: Vec<u8> =
            self.name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        let mut header = [0; HEADER];
        put(&mut header, 0, &START.to_le_bytes());
        put(&mut header, 2, &[ADDED, 0]);
        put(&mut header, 4, &self.attributes.to_le_bytes());
        put(&mut header, 8, &self.legacy.0.to_le_bytes());
        put(&mut header, 16, &self.timestamp.emit());
        put(&mut header, 32, &self.legacy.1.to_le_bytes());
        put(&mut header, 36, &narrow32(name.len() as u64).to_le_bytes());
        put(&mut header, 40, &narrow32(self.data.len() as u64).to_le_bytes());
        put(&mut header, 44, &self.vendor.to_disk());
        out.extend_from_slice(&header);
        out.extend_from_slice(&name);
        out.extend_from_slice(&self.data);
    }
}

/// A variable store: the content of such a file.
#[derive(Debug, Clone)]
pub struct Store {
    image: Vec<u8>,
    /// Where variables can be.
    area: Range<usize>,
    variables: Vec<Variable>,
}

impl Store {
    /// Reads the file of a firmware's variables (`OVMF_VARS_4M.fd`), which may be hostile. Deleted
    /// variables are left out.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the byte, [`Error::Unsupported`] for a store without times,
    /// [`Error::Limit`] when it is longer than the limits allow.
    pub fn parse(image: &[u8], limits: &Limits) -> Result<Self> {
        let bad = |at: usize, reason: &str| Error::malformed("variable store", at as u64, reason);
        let (found, limit) = (image.len() as u64, limits.tables);
        if found > limit {
            return Err(Error::Limit {
                format: "variable store",
                what: "its length",
                found,
                limit,
            });
        }
        if array(image, 16).map(Guid::from_disk) != Some(VOLUME)
            || array(image, 40) != Some(*b"_FVH")
        {
            let reason = "there is no firmware volume with variables (expected OVMF_VARS.fd)";
            return Err(bad(0, reason));
        }
        let header = usize::from(u16_le(image, 48).unwrap_or_default());
        let sum = image.get(..header).map(|header| {
            header.chunks_exact(2).fold(0_u16, |sum, word| {
                sum.wrapping_add(u16::from_le_bytes(word.try_into().unwrap_or_default()))
            })
        });
        if sum != Some(0) || header < 56 {
            return Err(bad(50, "the checksum of the volume's header is wrong"));
        }
        let kind = array(image, header).map(Guid::from_disk);
        if kind != Some(AUTHENTICATED) {
            let what = "a store of another type than of variables with times";
            return Err(Error::unsupported("variable store", what));
        }
        if array(image, header + 20) != Some([0x5a, 0xfe]) {
            return Err(bad(header + 20, "the store is not formatted and healthy"));
        }
        let len = index(u64::from(u32_le(image, header + 16).unwrap_or_default()));
        let volume = u64_le(image, 32).map_or(0, index).min(image.len());
        let end = header.checked_add(len).filter(|end| *end <= volume && len > STORE_HEADER);
        let end = end.ok_or_else(|| bad(header + 16, "the store ends after its volume"))?;
        let area = header + STORE_HEADER..end;
        let mut store = Self { image: image.to_vec(), area, variables: Vec::new() };
        store.scan(limits)?;
        Ok(store)
    }

    fn scan(&mut self, limits: &Limits) -> Result<()> {
        let bad = |at: usize, reason: &str| Error::malformed("variable store", at as u64, reason);
        let mut at = self.area.start;
        let mut replaced = Vec::new();
        while u16_le(&self.image, at) == Some(START) && at < self.area.end {
            let image = self.image.get(..self.area.end).unwrap_or_default();
            let short = || bad(at, "a variable ends after the store");
            let number = |place| u32_le(image, at + place).map(|it| index(u64::from(it)));
            let (name_len, data_len) =
                (number(36).ok_or_else(short)?, number(40).ok_or_else(short)?);
            let name_at = at + HEADER;
            let data_at = name_at.checked_add(name_len).ok_or_else(short)?;
            let end = data_at.checked_add(data_len).ok_or_else(short)?;
            let name = image.get(name_at..data_at).ok_or_else(short)?;
            let data = image.get(data_at..end).ok_or_else(short)?;
            let state = image.get(at + 2).copied().unwrap_or_default();
            if matches!(state, ADDED | IN_TRANSITION) {
                if self.variables.len() + replaced.len() >= limits.files {
                    let (found, limit) = (limits.files as u64 + 1, limits.files as u64);
                    let format = "variable store";
                    return Err(Error::Limit { format, what: "variables", found, limit });
                }
                let units: Vec<u16> = name
                    .chunks_exact(2)
                    .map(|unit| u16::from_le_bytes(unit.try_into().unwrap_or_default()))
                    .take_while(|unit| *unit != 0)
                    .collect();
                let variable = Variable {
                    vendor: Guid::from_disk(array(image, at + 44).unwrap_or_default()),
                    name: String::from_utf16(&units)
                        .map_err(|_| bad(name_at, "a variable's name is no UTF-16"))?,
                    attributes: u32_le(image, at + 4).unwrap_or_default(),
                    timestamp: Timestamp::parse(image, at + 16).unwrap_or_default(),
                    data: data.to_vec(),
                    legacy: (
                        u64_le(image, at + 8).unwrap_or_default(),
                        u32_le(image, at + 32).unwrap_or_default(),
                    ),
                };
                // One in transition counts only if its successor was never finished.
                let list = if state == ADDED { &mut self.variables } else { &mut replaced };
                list.push(variable);
            }
            at = end.next_multiple_of(ALIGNMENT);
        }
        for variable in replaced {
            if self.get(variable.vendor, &variable.name).is_none() {
                self.variables.push(variable);
            }
        }
        Ok(())
    }

    /// The variables in the order of the store.
    #[must_use]
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// A variable.
    #[must_use]
    pub fn get(&self, vendor: Guid, name: &str) -> Option<&Variable> {
        self.variables.iter().find(|it| it.vendor == vendor && it.name == name)
    }

    /// Sets a variable, in place of one of that vendor and name.
    pub fn set(&mut self, variable: Variable) {
        self.remove(variable.vendor, &variable.name);
        self.variables.push(variable);
    }

    /// Takes a variable out; says whether it was there.
    pub fn remove(&mut self, vendor: Guid, name: &str) -> bool {
        let before = self.variables.len();
        self.variables.retain(|it| it.vendor != vendor || it.name != name);
        self.variables.len() < before
    }

    /// The file with these variables, as if it had just been erased and written. What is outside of
    /// the store stays as it was.
    ///
    /// # Errors
    /// [`Error::Plan`] when they do not fit.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut variables = Vec::new();
        for variable in &self.variables {
            variables.resize((variables.len()).next_multiple_of(ALIGNMENT), 0xff);
            variable.emit(&mut variables);
        }
        let room = self.area.len();
        let mut problems = Problems(Vec::new());
        if let Some(missing) = variables.len().checked_sub(room).filter(|missing| *missing > 0) {
            problems.0.push(format!(
                "the variables are {missing} bytes longer than the store's {room}; take a larger \
                 one (OVMF_VARS_4M.fd)"
            ));
        }
        problems.check("variable store")?;
        let mut image = self.image.clone();
        if let Some(area) = image.get_mut(self.area.clone()) {
            area.fill(0xff);
        }
        put(&mut image, self.area.start, &variables);
        Ok(image)
    }
}
