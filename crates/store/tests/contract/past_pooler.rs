//! The cases that are not true behind a real pooler. A run through one shows its exceptions as ignored, with the reason; docs/TESTING.md
//! has more. Most are exceptions in one of the two ways to limit statements and locks alone.

use crate::through::pooler;

const ONE_SESSION: &str = "what one session has counted and planned";
const ROUND_TRIPS: &str = "a change is three round trips";
const OWN_LIMITS: &str = "limits are the database's";

/// They read the counters of the session that they work on, and its plans. Behind a pooler the next statement may have another.
const NEVER: &[&str] = &[
    "costs::each_operation_costs_what_the_table_says",
    "costs_growth::past_stays_cost_nothing",
    "costs_growth::seats_cost_a_sweep_of_nodes_nothing",
    "costs_growth::a_page_of_the_trail_costs_its_rows_and_the_partitions",
];

/// What is counted there: a change's one statement, and nothing beside it.
const NOT_WITH_LIMITS_OF_TRANSACTIONS: &[&str] = &[
    "export::an_export_reads_as_it_is_polled",
    "hot_rooms::a_queue_takes_one_connection_and_two_statements_and_who_is_alone_one",
    "hot_rooms_failures::a_group_whose_answer_is_lost_leaves_nobody_waiting",
    "logins::hot_operations_are_one_statement",
    "recordings_races::each_change_is_one_statement",
    "roles::a_ban_and_a_change_of_role_are_one_statement_each",
    "traffic::a_unit_adds_begin_and_commit_alone",
    "traffic::a_unit_that_fails_sends_a_rollback",
    "traffic::an_end_is_two_statements_in_a_transaction",
    "traffic::each_operation_alone_is_one_statement",
    "writer::waiting_events_share_statements",
];

/// They have limits of a few hundred milliseconds.
const NOT_WITH_LIMITS_OF_THE_DATABASE: &[&str] = &[
    "limits::a_group_that_waits_for_a_stuck_row_is_told_in_time",
    "limits::a_limit_of_the_unit_is_not_left_in_the_session",
    "limits::a_statement_that_takes_too_long_is_given_up",
    "limits::behind_a_pooler_each_change_has_its_limits",
    "limits::who_waits_for_a_stuck_row_is_told_in_time",
];

/// With TEST_POOLER_LIMITS=database each database of a case has limits for its sessions.
pub fn is_limited_by_the_database() -> bool {
    std::env::var("TEST_POOLER_LIMITS").is_ok_and(|limits| limits == "database")
}

/// Why a case is not true of this run.
pub fn reason(case: &str) -> Option<&'static str> {
    pooler()?;
    if NEVER.contains(&case) {
        return Some(ONE_SESSION);
    }
    let (exceptions, why) = if is_limited_by_the_database() {
        (NOT_WITH_LIMITS_OF_THE_DATABASE, OWN_LIMITS)
    } else {
        (NOT_WITH_LIMITS_OF_TRANSACTIONS, ROUND_TRIPS)
    };
    exceptions.contains(&case).then_some(why)
}

/// Those that are of no case any more.
pub fn stale(cases: &[&str]) -> Vec<&'static str> {
    let all = [NEVER, NOT_WITH_LIMITS_OF_TRANSACTIONS, NOT_WITH_LIMITS_OF_THE_DATABASE].concat();
    all.into_iter().filter(|name| !cases.contains(name)).collect()
}
