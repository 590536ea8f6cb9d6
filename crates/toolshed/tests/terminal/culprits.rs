//! C code that crashes on purpose is in the program only if its feature is.

use crate::program::Installation;

const IS_BUILT_IN: bool = cfg!(feature = "culprits");

#[test]
fn the_program_contains_no_c_code_that_crashes_on_purpose_unless_asked_for() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_toolshed")).unwrap();
    let contains = |name: &str| program.windows(name.len()).any(|bytes| bytes == name.as_bytes());
    // A name that is always there: the program is not stripped, so the others would be visible, too.
    assert!(contains("sqlite3_open_v2"));
    for name in ["culprit_segv", "culprit_double_free", "culprit_overrun", "culprit_malloc"] {
        assert_eq!(contains(name), IS_BUILT_IN, "{name}");
    }
}

#[test]
fn the_program_has_no_table_of_a_later_version() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_toolshed")).unwrap();
    let contains = |sql: &str| program.windows(sql.len()).any(|bytes| bytes == sql.as_bytes());
    // It would be seen: this one is there if diagnostics has tables at all.
    assert_eq!(contains("CREATE TABLE diagnostics_numbers"), IS_BUILT_IN);
    for later in ["diagnostics_numbers ADD COLUMN", "diagnostics_numbers DROP COLUMN"] {
        assert!(!contains(later), "{later}");
    }
}

#[test]
fn diagnostics_offers_only_what_is_built_in() {
    let (code, page) = Installation::new().run(&["request", "GET", "/tools/diagnostics"], &[]);
    assert_eq!(code, 0, "{page}");
    for (how, is_offered) in [("abort", true), ("segv", IS_BUILT_IN), ("overrun", IS_BUILT_IN)] {
        assert_eq!(page.contains(&format!("crash?how={how}")), is_offered, "{how}: {page}");
    }
    assert_eq!(page.contains("built without the C code"), !IS_BUILT_IN, "{page}");
}
