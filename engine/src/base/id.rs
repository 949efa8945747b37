//! Ids that tell where their row is: the last 6 bits of an instance's UUIDv7 are its shard.

use uuid::Uuid;

/// How many shards there are, fixed for the life of an installation.
pub const SHARDS: i16 = 64;

/// The shard of a subject, 0..63: FNV-1a (64 bit) of its bytes, modulo 64. Never change it.
#[must_use]
pub fn shard_of(subject: &str) -> i16 {
    let hash = subject.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash % SHARDS as u64) as i16
}

/// A new id on that shard.
#[must_use]
pub fn new_id(shard: i16) -> Uuid {
    let mut bytes = Uuid::now_v7().into_bytes();
    bytes[15] = (bytes[15] & 0b1100_0000) | (shard as u8 & 0b0011_1111);
    Uuid::from_bytes(bytes)
}

/// The shard that an id carries.
#[must_use]
pub fn shard_in(id: Uuid) -> i16 {
    i16::from(id.as_bytes()[15] & 0b0011_1111)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_carries_its_shard_and_stays_a_uuid_v7() {
        for shard in 0..SHARDS {
            let id = new_id(shard);
            assert_eq!(shard_in(id), shard);
            assert_eq!(id.get_version_num(), 7);
        }
    }

    #[test]
    fn the_shard_of_a_subject_never_changes() {
        assert_eq!(shard_of(""), 37);
        assert_eq!(
            shard_of("0197a3b0-0000-7000-8000-000000000000"),
            shard_of("0197a3b0-0000-7000-8000-000000000000")
        );
    }
}
