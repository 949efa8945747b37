use uuid::Uuid;

use super::*;

fn customer() -> Uuid {
    Uuid::now_v7()
}

#[test]
fn what_is_sealed_opens_with_the_same_key_customer_and_field() {
    let (key, id) = (CustomerKey::random(), customer());
    let sealed = seal(&key, id, "email", "ada@example.com".as_bytes());
    assert!(is_sealed(&sealed));
    assert!(!sealed.contains("ada"));
    assert_eq!(open(&key, id, "email", &sealed), Ok(b"ada@example.com".to_vec()));
    assert_eq!(open(&key, id, "email", &seal(&key, id, "email", b"")), Ok(Vec::new()));
}

#[test]
fn sealing_twice_gives_different_texts() {
    let (key, id) = (CustomerKey::random(), customer());
    assert_ne!(seal(&key, id, "email", b"x"), seal(&key, id, "email", b"x"));
}

#[test]
fn a_sealed_value_opens_in_no_other_place() {
    let (key, id) = (CustomerKey::random(), customer());
    let sealed = seal(&key, id, "email", b"x");
    let wrong = Err(OpenError::WrongKeyOrPlace);
    assert_eq!(open(&CustomerKey::random(), id, "email", &sealed), wrong);
    assert_eq!(open(&key, customer(), "email", &sealed), wrong);
    assert_eq!(open(&key, id, "name", &sealed), wrong);
}

#[test]
fn a_changed_envelope_does_not_open() {
    let (key, id) = (CustomerKey::random(), customer());
    let sealed = seal(&key, id, "email", b"some longer text");
    for at in 0..sealed.len() {
        let mut bytes = sealed.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).expect("ascii stays ascii");
        assert!(open(&key, id, "email", &changed).is_err(), "byte {at}");
    }
    for text in ["", "v1.", "v1.AAAA", "v2.AAAA", "ada@example.com", "v1.\u{fc}"] {
        assert_eq!(open(&key, id, "email", text), Err(OpenError::NotSealed), "{text}");
    }
}

#[test]
fn an_envelope_of_version_one_written_earlier_still_opens() {
    let key = CustomerKey::new([7; KEY_BYTES]);
    let id = Uuid::from_u128(0x0197_0000_0000_7000_8000_0000_0000_0001);
    assert_eq!(open(&key, id, "email", GOLDEN), Ok(b"ada@example.com".to_vec()));
}

const GOLDEN: &str =
    "v1.j8xFlNBxtDp6PqMp3yRWGrlXeAotIoRgeL_wBVqLUX7MVe_YVZR662_3Wd2co27_zq9fKWbVpg";

#[test]
fn a_key_does_not_show_in_debug_output() {
    assert_eq!(format!("{:?}", CustomerKey::new([7; KEY_BYTES])), "CustomerKey(***)");
}
