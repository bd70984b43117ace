//! Every label, by hand; and answers against themselves in another order, at random.

use proptest::prelude::*;

use super::*;

const INT: u8 = 0x03;
const BIGINT: u8 = 0x08;
const DOUBLE: u8 = 0x05;
const DECIMAL: u8 = 0xF6;
const DATETIME: u8 = 0x0C;
const DATE: u8 = 0x0A;
const VARCHAR: u8 = 0xFD;

fn column(name: &str, kind: u8, collation: u16) -> Column {
    Column { name: name.into(), kind, collation, flags: 0 }
}

fn text(name: &str) -> Column {
    column(name, VARCHAR, 45)
}

fn answer(columns: &[Column], rows: &[&[&str]]) -> Rows {
    let cell = |v: &&str| (*v != "NULL").then(|| v.as_bytes().to_vec());
    Rows { columns: columns.to_vec(), rows: rows.iter().map(|r| r.iter().map(cell).collect()).collect() }
}

const FREE: Form = Form { ordered: false, limited: false };
const FIXED: Form = Form { ordered: true, limited: false };

/// One column of each kind, the same rows or not.
fn of(kinds: [u8; 2], serving: &[&str], shadow: &[&str], form: Form) -> Verdict {
    let with = |kind: u8, values: &[&str]| {
        let rows: Vec<[&str; 1]> = values.iter().map(|v| [*v]).collect();
        let rows: Vec<&[&str]> = rows.iter().map(|r| r.as_slice()).collect();
        answer(&[column("a", kind, if kind == VARCHAR { 45 } else { 63 })], &rows)
    };
    compare(&with(kinds[0], serving), &with(kinds[1], shadow), form)
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Equal => "equal",
        Verdict::Order(_) => "order",
        Verdict::Type(_) => "type",
        Verdict::Different(_) => "different",
    }
}

#[test]
fn the_same_is_equal_and_order_counts_only_where_it_is_fixed() {
    let (a, b) = (["1", "2", "2", "NULL"], ["2", "NULL", "1", "2"]);
    assert_eq!(of([INT; 2], &a, &a, FIXED), Verdict::Equal);
    assert_eq!(of([INT; 2], &a, &b, FREE), Verdict::Equal);
    let Verdict::Order(found) = of([INT; 2], &a, &b, FIXED) else { panic!() };
    assert_eq!((found.place.as_str(), found.serving.as_str(), found.shadow.as_str()), ("row 1, column a", "1", "2"));
    assert_eq!(of([INT; 2], &[], &[], FREE), Verdict::Equal);
}

#[test]
fn duplicates_count() {
    for form in [FREE, FIXED] {
        assert_eq!(word(&of([INT; 2], &["1", "2", "2"], &["1", "1", "2"], form)), "different");
        let Verdict::Different(found) = of([INT; 2], &["1", "2", "2"], &["1", "2"], form) else { panic!() };
        assert_eq!((found.place.as_str(), found.serving.as_str()), ("3 rows, 2 on the shadow store", "2"));
    }
}

#[test]
fn null_is_no_value() {
    assert_eq!(word(&of([VARCHAR; 2], &["NULL"], &[""], FREE)), "different");
    assert_eq!(word(&of([DOUBLE; 2], &["NULL"], &["0"], FREE)), "different");
    assert_eq!(of([INT; 2], &["NULL"], &["NULL"], FREE), Verdict::Equal);
}

#[test]
fn floats_are_near_and_no_more() {
    let near = (&["1.000000001", "3.5"][..], &["3.5000001", "1"][..]);
    assert_eq!(word(&of([DOUBLE; 2], near.0, near.1, FREE)), "type");
    assert_eq!(word(&of([DOUBLE; 2], near.0, near.1, FIXED)), "order");
    assert_eq!(word(&of([DOUBLE; 2], &["1.0"], &["1.00001"], FREE)), "different");
    assert_eq!(word(&of([DOUBLE; 2], &["1e100"], &["1.0000001e100"], FREE)), "type");
    assert_eq!(word(&of([DOUBLE, DECIMAL], &["0.1"], &["0.1000"], FREE)), "type");
}

#[test]
fn numbers_compare_as_numbers() {
    assert_eq!(word(&of([DECIMAL; 2], &["1.50"], &["1.5"], FREE)), "type");
    assert_eq!(word(&of([INT, DECIMAL], &["7"], &["7.00"], FIXED)), "type");
    assert_eq!(word(&of([INT, VARCHAR], &["7"], &["7"], FIXED)), "type");
    assert_eq!(of([INT, BIGINT], &["7"], &["7"], FIXED), Verdict::Equal);
    let Verdict::Different(found) = of([DECIMAL; 2], &["123456789012345678.01"], &["123456789012345678.02"], FREE)
    else {
        panic!("decimals are exact")
    };
    assert_eq!(found.place, "row 1, column a");
}

#[test]
fn moments_and_texts_have_several_forms() {
    let (short, long) = (["2020-01-02 03:04:05"], ["2020-01-02 03:04:05.000000"]);
    assert_eq!(word(&of([DATETIME; 2], &short, &long, FREE)), "type");
    assert_eq!(word(&of([DATE, DATETIME], &["2020-01-02"], &["2020-01-02 00:00:00"], FREE)), "type");
    assert_eq!(word(&of([DATETIME; 2], &short, &["2020-01-02 03:04:05.5"], FREE)), "different");
    assert_eq!(word(&of([VARCHAR; 2], &["Ärger  "], &["ÄRGER"], FREE)), "type");
    assert_eq!(word(&of([VARCHAR; 2], &[" a"], &["a"], FREE)), "different");
    let mut bytes = [column("a", VARCHAR, 45), column("a", VARCHAR, 45)];
    bytes.iter_mut().for_each(|c| c.flags = 128);
    let [one, other] = [("A", &bytes[0]), ("a", &bytes[1])].map(|(v, c)| answer(std::slice::from_ref(c), &[&[v]]));
    assert_eq!(word(&compare(&one, &other, FREE)), "different");
    let blob = column("a", 0xFC, 63);
    let [one, other] = ["A", "a"].map(|v| answer(std::slice::from_ref(&blob), &[&[v]]));
    assert_eq!(word(&compare(&one, &other, FREE)), "different");
    let json = column("a", 0xF5, 45);
    let [one, other] =
        [r#"{"a":1,"b":[2]}"#, r#"{"b": [2], "a": 1}"#].map(|v| answer(std::slice::from_ref(&json), &[&[v]]));
    assert_eq!(word(&compare(&one, &other, FREE)), "type");
}

#[test]
fn columns_count_and_have_names() {
    let one = answer(&[text("a"), text("b")], &[&["1", "2"]]);
    let found = |other: &Rows| match compare(&one, other, FREE) {
        Verdict::Different(d) => d.place,
        other => word(&other).to_owned(),
    };
    assert_eq!(found(&answer(&[text("a")], &[&["1"]])), "number of columns");
    assert_eq!(found(&answer(&[text("a"), text("c")], &[&["1", "2"]])), "name of column 2");
    assert_eq!(found(&answer(&[text("A"), text("b")], &[&["1", "2"]])), "type");
    assert_eq!(found(&answer(&[column("a", 6, 63), text("b")], &[&["1", "2"]])), "equal");
}

#[test]
fn which_rows_a_limit_takes_is_free_without_an_order() {
    let limited = Form { limited: true, ordered: false };
    assert_eq!(word(&of([INT; 2], &["1", "2"], &["1", "3"], limited)), "order");
    assert_eq!(word(&of([INT; 2], &["1", "2"], &["1"], limited)), "different");
    assert_eq!(word(&of([INT; 2], &["1", "2"], &["1", "3"], Form { limited: true, ordered: true })), "different");
}

#[test]
fn the_place_is_where_they_differ() {
    let columns = [column("id", INT, 63), text("name")];
    let one = answer(&columns, &[&["2", "b"], &["1", "a"], &["3", "c"]]);
    let other = answer(&columns, &[&["3", "c"], &["2", "x"], &["1", "a"]]);
    let Verdict::Different(found) = compare(&one, &other, FREE) else { panic!() };
    let wanted = ("row 1, column name", "b", "x");
    assert_eq!((found.place.as_str(), found.serving.as_str(), found.shadow.as_str()), wanted);
}

#[test]
fn long_values_are_cut_and_no_bytes_escape() {
    assert_eq!(shown("x".repeat(500).as_bytes()).chars().count(), SHOWN + 1);
    assert_eq!(shown("é".repeat(99).as_bytes()), format!("{}…", "é".repeat(50)));
    assert_eq!(shown(b"a\nb"), "a·b");
    assert_eq!(shown(b"\xff\x00"), "X'ff00");
}

fn cell() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        Just(None),
        (-5i32..5).prop_map(|n| Some(n.to_string().into_bytes())),
        (-3.0f64..3.0).prop_map(|n| Some(n.to_string().into_bytes())),
        "[a-bA-B ]{0,2}".prop_map(|t| Some(t.into_bytes())),
        proptest::collection::vec(any::<u8>(), 0..3).prop_map(Some),
    ]
}

const KINDS: [(u8, u16); 6] = [(INT, 63), (DOUBLE, 63), (DECIMAL, 63), (DATETIME, 63), (VARCHAR, 45), (0xFC, 63)];

fn answers() -> impl Strategy<Value = Rows> {
    let columns = proptest::collection::vec(0usize..KINDS.len(), 1..4);
    columns.prop_flat_map(|kinds| {
        let row = proptest::collection::vec(cell(), kinds.len());
        proptest::collection::vec(row, 0..12).prop_map(move |rows| {
            let columns = kinds.iter().map(|k| column("c", KINDS[*k].0, KINDS[*k].1)).collect();
            Rows { columns, rows }
        })
    })
}

proptest! {
    #[test]
    fn a_permutation_of_itself(one in answers(), seed in any::<u64>()) {
        let mut other = one.clone();
        let mut state = seed | 1;
        for n in (1..other.rows.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            other.rows.swap(n, (state >> 33) as usize % (n + 1));
        }
        prop_assert_eq!(compare(&one, &other, FREE), Verdict::Equal);
        let ordered = compare(&one, &other, FIXED);
        prop_assert!(matches!(ordered, Verdict::Equal | Verdict::Order(_) | Verdict::Type(_)), "{:?}", ordered);
    }

    #[test]
    fn a_row_less_is_never_equal(one in answers(), at in any::<prop::sample::Index>()) {
        prop_assume!(!one.rows.is_empty());
        let mut other = one.clone();
        other.rows.remove(at.index(one.rows.len()));
        for form in [FREE, FIXED] {
            prop_assert!(matches!(compare(&one, &other, form), Verdict::Different(_)));
            prop_assert!(matches!(compare(&other, &one, form), Verdict::Different(_)));
        }
    }
}
