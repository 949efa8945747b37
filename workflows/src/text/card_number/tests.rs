//! Card numbers in any form are found; numbers of other kinds are not taken for them.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;

/// The numbers that Stripe, PayPal and Adyen publish for tests, of all issuers.
const TEST_CARDS: &[&str] = &[
    "4242424242424242",
    "4000056655665556",
    "4012888888881881",
    "4111111111111111",
    "4222222222222",
    "4035501000000008",
    "4571000000000001",
    "4917610000000000003",
    "5555555555554444",
    "5200828282828210",
    "5105105105105100",
    "2223003122003222",
    "2223000048410010",
    "378282246310005",
    "371449635398431",
    "378734493671000",
    "6011111111111117",
    "6011000990139424",
    "6011981111111113",
    "6445644564456445",
    "3056930009020004",
    "30569309025904",
    "38520000023237",
    "36227206271667",
    "36006666333344",
    "6555900000604105",
    "3566002020360505",
    "3530111333300000",
    "6200000000000005",
    "6243030000000001",
    "6205500000000000004",
    "5610591081018250",
    "5019717010103742",
    "6331101999990016",
    "6703444444444449",
    "6759649826438453",
    "6771798021000008",
    "6799990100000000019",
    "5066991111111118",
    "6062828888666688",
    "2201382000000013",
];

const SEPARATORS: &[&str] = &[
    "",
    " ",
    "  ",
    "\u{a0}",
    "\u{202f}",
    "\u{2007}",
    "\u{3000}",
    "\t",
    "\n",
    ".",
    "-",
    "\u{2010}",
    "\u{2011}",
    "\u{2013}",
    "\u{2014}",
    "\u{2212}",
    "/",
    " / ",
    " - ",
    "_",
    ",",
    ", ",
    ":",
    "|",
    "*",
    "·",
    "•",
    "'",
    ") (",
    "\u{200b}",
    "\u{2060}",
    "\u{ad}",
    "\u{feff}",
    "\u{fe0f}\u{20e3}",
];

/// Numbers that are drawn from the same seed in each run.
fn dice() -> StdRng {
    StdRng::seed_from_u64(20_261_127)
}

/// The number in groups of these sizes, and of the last size again and again.
fn grouped(number: &str, sizes: &[usize], separator: &str) -> String {
    let (mut rest, mut groups, mut sizes) = (number, Vec::new(), sizes.iter().copied().peekable());
    let mut size = 1;
    while !rest.is_empty() {
        size = sizes.next().unwrap_or(size);
        let (group, more) = rest.split_at(size.min(rest.len()));
        groups.push(group);
        rest = more;
    }
    groups.join(separator)
}

fn digits(dice: &mut StdRng, count: usize) -> String {
    (0..count).map(|_| char::from(dice.random_range(b'0'..=b'9'))).collect()
}

#[test]
fn no_published_card_number_gets_through_whatever_separates_its_digits() {
    let mut dice = dice();
    for card in TEST_CARDS {
        for separator in SEPARATORS {
            let random: Vec<usize> = (0..19).map(|_| dice.random_range(1..6)).collect();
            for sizes in [&[4][..], &[4, 6, 5], &[1], &[2], &[3], &[6, 13], &[8], &random] {
                let number = grouped(card, sizes, separator);
                for text in [
                    number.clone(),
                    format!("Apt 5 {number} 12/25"),
                    format!("card:{number}."),
                    format!("7 {number} 123"),
                    format!("ring +49 30 123456 or {number}"),
                ] {
                    assert!(has_card_number(&text), "{text:?}");
                }
            }
        }
    }
}

#[test]
fn digits_of_every_script_count() {
    let full_width = |c: char| char::from_u32(u32::from(c) - 0x30 + 0xFF10).expect("a digit");
    for card in TEST_CARDS {
        assert!(has_card_number(&card.chars().map(full_width).collect::<String>()), "{card}");
        for zero in ZEROS {
            let digit = |c: char| char::from_u32(u32::from(c) - 0x30 + zero).expect("a digit");
            let text: String = grouped(card, &[4], " ")
                .chars()
                .map(|c| match c {
                    ' ' => ' ',
                    c => digit(c),
                })
                .collect();
            assert!(has_card_number(&text), "{text}");
        }
    }
    for text in ["④②④②④②④②④②④②④②④②", "𝟒𝟐𝟒𝟐𝟒𝟐𝟒𝟐𝟒𝟐𝟒𝟐𝟒𝟐𝟒𝟐", "4²4²4²4²4²4²4²4²"]
    {
        assert!(has_card_number(text), "{text}");
    }
}

#[test]
fn an_imei_is_no_card_number() {
    let mut dice = dice();
    let mut found = 0;
    while found < 1_000 {
        let imei = ["35", "86", "01", "99"][dice.random_range(0..4)].to_owned();
        let imei = imei + &digits(&mut dice, 13);
        let is_valid = passes_luhn(&imei.bytes().map(|digit| digit - b'0').collect::<Vec<_>>());
        if is_valid {
            assert!(!has_card_number(&format!("Phone, IMEI {imei}, as new")), "{imei}");
            found += 1;
        }
    }
    assert!(!has_card_number("IMEI 35-209900-176148-1"));
}

#[test]
fn numbers_of_orders_phones_parcels_and_goods_are_no_card_numbers() {
    let mut dice = dice();
    let of = |dice: &mut StdRng, shape: &str| -> String {
        shape
            .chars()
            .map(|c| match c {
                '#' => char::from(dice.random_range(b'0'..=b'9')),
                '~' => char::from(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[dice.random_range(0..32)]),
                '^' => char::from(dice.random_range(b'A'..=b'Z')),
                c => c,
            })
            .collect()
    };
    for _ in 0..5_000 {
        for shape in [
            // Orders
            "ORD-202611##-~~~~~~",
            "order ORD-202611##-######, paid",
            "#######",
            "##########",
            "R-####-#####",
            // Phones
            "+49 ### #######",
            "+49 (0)### ####-##",
            "+44 20 #### ####",
            "+44 20 #### #### / +44 20 #### ####",
            "+43 ### #### ####",
            "+#############",
            "+1 (###) ###-####",
            "(###) ###-####",
            "###-###-####",
            "###.###.####",
            "01## / ### ## ##",
            // Parcels: UPS, FedEx, USPS, Royal Mail, DHL, DPD
            "1Z~~~~~~~~~~~~~~~~",
            "1Z################",
            "############",
            "9400##################",
            "9261##################",
            "^^#########GB",
            "JJD0#################",
            "01############",
            // Times, places, sizes
            "2026-11-## 1#:##:##.###",
            "2026-11-## - 2026-12-##",
            "52.#####, 13.#####",
            "sizes 36, 38, 40, 42, 44, 46, 48, 50, 52",
        ] {
            let number = of(&mut dice, shape);
            assert!(!has_card_number(&number), "{number}");
        }
        let id = uuid::Uuid::from_u128(dice.random());
        assert!(!has_card_number(&format!("saga={id}, {}", id.simple())), "{id}");
    }
}

#[test]
fn a_barcode_is_no_card_number() {
    let mut dice = dice();
    for _ in 0..5_000 {
        let body = format!("4{}", digits(&mut dice, 11));
        let barcode = (0..10).map(|check| format!("{body}{check}")).find(|number| {
            is_barcode(&number.bytes().map(|digit| digit - b'0').collect::<Vec<_>>())
        });
        let barcode = barcode.expect("one of ten digits is right");
        assert!(!has_card_number(&format!("EAN {barcode}")), "{barcode}");
    }
    assert!(!has_card_number("EAN 4006381333931"), "a text marker's");
}

#[test]
fn a_number_of_a_phone_may_follow_a_plus_and_a_card_number_may_not() {
    assert!(has_card_number("+4242 4242 4242 4242"));
    assert!(has_card_number("+1 555 0100 4242 4242 4242 4242"));
    assert!(!has_card_number("+4 222 222 222 222"), "as long as a phone number");
}

#[test]
fn ten_thousand_digits_are_looked_at_quickly() {
    let began = std::time::Instant::now();
    for text in ["4 ".repeat(10_000), "4".repeat(10_000), "42-".repeat(10_000)] {
        has_card_number(&text);
    }
    assert!(began.elapsed().as_secs() < 2, "{:?}", began.elapsed());
}
