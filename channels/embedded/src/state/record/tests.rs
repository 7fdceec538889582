//! The records of a state file: written and read back, damaged, cut, and of a later version.

use std::time::UNIX_EPOCH;

use super::*;

fn sample() -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    let time = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
    let tried = Attempts {
        failed: 3,
        last_status: Some(503),
        first_at: time(5),
        next_at: time(9),
        retry_after: Some(Duration::from_millis(2500)),
    };
    put_created(&mut bytes, 0, Offset(10), "team/a");
    ends.push(bytes.len());
    put_created(&mut bytes, 1, Offset(0), "team/b");
    ends.push(bytes.len());
    put_settled(&mut bytes, 0, Offset(12), [Offset(14)..Offset(16)].into_iter());
    ends.push(bytes.len());
    put_tried(&mut bytes, 0, Offset(13), &tried);
    ends.push(bytes.len());
    put_deleted(&mut bytes, 1);
    ends.push(bytes.len());
    put_owned(&mut bytes, 0, "uid-1");
    ends.push(bytes.len());
    (bytes, ends)
}

/// Proves: DL-4
#[test]
fn what_was_written_is_read_back() {
    let (bytes, _) = sample();
    let parsed = parse(&bytes, 0);
    let cursor = &parsed.saved.cursors[&0];
    assert_eq!(
        (parsed.end, parsed.damaged, parsed.saved.cursors.len()),
        (bytes.len(), vec![], 1)
    );
    assert_eq!(
        (cursor.settled.settled_below(), cursor.settled.top()),
        (Offset(12), Offset(16))
    );
    assert_eq!((&*cursor.name, cursor.owner.as_deref()), ("team/a", Some("uid-1")));
    let attempts = cursor.attempts[&Offset(13)];
    assert_eq!((attempts.failed, attempts.last_status), (3, Some(503)));
    assert_eq!(attempts.next_at, Some(UNIX_EPOCH + Duration::from_secs(9)));
    assert_eq!(attempts.retry_after, Some(Duration::from_millis(2500)));
}

/// Proves: DL-4
#[test]
fn attempts_without_a_retry_after_are_read() {
    let mut bytes = Vec::new();
    put_created(&mut bytes, 0, Offset(10), "team/a");
    put(&mut bytes, |out| {
        out.put_u8(TRIED);
        out.put_u32_le(0);
        out.put_u64_le(13);
        out.put_u32_le(3);
        out.put_u16_le(503);
        out.put_u64_le(5000);
        out.put_u64_le(9000);
    });
    let attempts = parse(&bytes, 0).saved.cursors[&0].attempts[&Offset(13)];
    assert_eq!((attempts.failed, attempts.retry_after), (3, None));
    assert_eq!(attempts.next_at, Some(UNIX_EPOCH + Duration::from_secs(9)));
}

/// Proves: CH-9
#[test]
fn a_record_with_a_place_no_event_can_have_is_damage() {
    let (bytes, _) = sample();
    for offset in [OFFSETS_END + 1, u64::MAX] {
        let impossible = Offset(offset);
        let mut records = vec![Vec::new(); 5];
        put_created(&mut records[0], 9, impossible, "late");
        put_settled(&mut records[1], 0, impossible, std::iter::empty());
        put_settled(&mut records[2], 0, Offset(12), [Offset(20)..impossible].into_iter());
        put_checkpoint(
            &mut records[3],
            &Checkpoint {
                segment: 0,
                position: 64,
                next: offset,
                last_ms: 0,
                salt: 1,
            },
        );
        let gap = Gap {
            from: Offset(3),
            to: impossible,
            found_at: UNIX_EPOCH,
            reason: GapReason::Damage,
        };
        put_gap(&mut records[4], &gap);
        for record in records {
            let with = [&bytes[..], &record].concat();
            let (parsed, without) = (parse(&with, 0), parse(&bytes, 0));
            assert_eq!(parsed.damaged, vec![bytes.len()..with.len()], "place {offset}");
            assert_eq!(parsed.saved, without.saved);
        }
    }
}

#[test]
fn a_record_of_a_later_version_and_fields_it_added_are_stepped_over() {
    let (mut bytes, _) = sample();
    put(&mut bytes, |out| out.extend_from_slice(b"\xeesomething new"));
    put(&mut bytes, |out| {
        out.put_u8(GAP);
        for number in [3, 5, 9] {
            out.put_u64_le(number);
        }
        out.put_u8(DAMAGE);
        out.put_slice(b"and who found it");
    });
    let parsed = parse(&bytes, 0);
    assert_eq!((parsed.end, parsed.damaged), (bytes.len(), vec![]));
    assert_eq!(
        (parsed.saved.gaps[0].from, parsed.saved.gaps[0].to),
        (Offset(3), Offset(5))
    );
    assert_eq!(parsed.saved.cursors.len(), 1);
}

/// Proves: OP-2
#[test]
fn a_torn_end_is_no_damage_and_a_flipped_bit_costs_one_record() {
    let (bytes, ends) = sample();
    for cut in 0..bytes.len() {
        let parsed = parse(&bytes[..cut], 0);
        assert_eq!(
            (parsed.end, parsed.damaged),
            (ends.iter().rev().find(|end| **end <= cut).copied().unwrap_or(0), vec![])
        );
    }
    for byte in ends[1]..ends[2] {
        let mut flipped = bytes.clone();
        flipped[byte] ^= 4;
        let parsed = parse(&flipped, 0);
        let damaged: Vec<_> = parsed.damaged.iter().map(|range| (range.start, range.end)).collect();
        assert_eq!(
            (parsed.end, damaged),
            (bytes.len(), vec![(ends[1], ends[2])]),
            "byte {byte}"
        );
        assert_eq!(parsed.saved.cursors[&0].settled.settled_below(), Offset(10));
    }
}
