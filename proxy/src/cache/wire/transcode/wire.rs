//! Protobuf as the API server writes it: fields by number, each once but for the elements of a list.

use prost::encoding::{WireType, decode_key, decode_varint};

use super::Untold;

/// What one field of a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot<'a> {
    Absent,
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// Those of one number, keys included.
    Repeated(&'a [u8]),
}

impl<'a> Slot<'a> {
    pub(super) fn varint(self) -> Result<u64, Untold> {
        match self {
            Self::Varint(number) => Ok(number),
            _ => Err(Untold::Unlike),
        }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], Untold> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Untold::Unlike),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, Untold> {
        str::from_utf8(self.bytes()?).map_err(|_| Untold::Unlike)
    }

    /// The elements of a list.
    pub(super) fn elements(self) -> Result<impl Iterator<Item = Result<Self, Untold>>, Untold> {
        let Self::Repeated(mut rest) = self else {
            return Err(Untold::Unlike);
        };
        Ok(std::iter::from_fn(move || {
            (!rest.is_empty()).then(|| Ok(next(&mut rest)?.1))
        }))
    }
}

fn next<'a>(rest: &mut &'a [u8]) -> Result<(u32, Slot<'a>), Untold> {
    let (number, wire_type) = decode_key(rest).map_err(|_| Untold::Unlike)?;
    let slot = match wire_type {
        WireType::Varint => Slot::Varint(decode_varint(rest).map_err(|_| Untold::Unlike)?),
        WireType::LengthDelimited => {
            let len = decode_varint(rest).map_err(|_| Untold::Unlike)?;
            let len = usize::try_from(len).map_err(|_| Untold::Unlike)?;
            Slot::Bytes(rest.split_off(..len).ok_or(Untold::Unlike)?)
        }
        WireType::SixtyFourBit => {
            let (number, after) = rest.split_first_chunk().ok_or(Untold::Unlike)?;
            *rest = after;
            Slot::Fixed64(u64::from_le_bytes(*number))
        }
        _ => return Err(Untold::Unlike),
    };
    Ok((number, slot))
}

/// Takes a message apart. `find` says for a field's number which of the slots it has, and whether it is a list or map.
pub(super) fn read<'a>(
    message: &'a [u8],
    slots: &mut [Slot<'a>],
    find: impl Fn(u32) -> Option<(usize, bool)>,
) -> Result<(), Untold> {
    let (mut rest, mut last, mut began) = (message, 0, 0);
    while !rest.is_empty() {
        let start = message.len() - rest.len();
        let (number, slot) = next(&mut rest)?;
        let (index, is_repeated) = find(number).ok_or(Untold::UnknownField)?;
        if number < last || (number == last && !is_repeated) {
            return Err(Untold::Unlike);
        }
        if number > last {
            (last, began) = (number, start);
        }
        slots[index] = match is_repeated {
            true => Slot::Repeated(&message[began..message.len() - rest.len()]),
            false => slot,
        };
    }
    Ok(())
}

/// A message with the fields 1 to `N`, the last of them a list if `is_list`.
pub(super) fn fields<const N: usize>(
    message: &[u8],
    is_list: bool,
) -> Result<[Slot<'_>; N], Untold> {
    let mut slots = [Slot::Absent; N];
    read(message, &mut slots, |number| {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        (index < N).then_some((index, is_list && index + 1 == N))
    })?;
    Ok(slots)
}
