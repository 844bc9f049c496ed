//! The end-to-end suite of all drivers: real sockets on loopback and real clients. A driver's tests are a few lines:
//!
//! ```ignore
//! vestibule_suite::suite!(vestibule_std::Std);
//! mod threads {
//!     vestibule_suite::suite!(vestibule_std::Std, |b| b.topology(vestibule_std::Topology::Threads));
//! }
//! ```
//!
//! Each case is a `#[test]` of its own that is bounded in connections and time, and ends by itself.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)] // tests, in a crate that is never published

pub mod client;
pub mod crowd;
pub mod doors;
pub mod ends;
pub mod h2;
pub mod http1;
pub mod http2;
pub mod pools;
pub mod probe;
pub mod secure;
pub mod server;
pub mod service;
pub mod site;
pub mod tools;
pub mod topologies;

pub use server::{Layout, Running, start};
pub use site::Site;

/// This machine has not what the driver needs: said once for each case, which then does nothing.
pub fn is_missing<D: vestibule_driver::Driver>() -> bool {
    match D::check(vestibule_driver::Topology::default()) {
        Err(why) => {
            println!("skipped: {why}");
            true
        }
        Ok(()) => false,
    }
}

/// A `#[test]` for each case, on this driver and, if one is given, in this layout: a function from `Builder` to `Builder`. Paths in it have to be
/// absolute.
#[macro_export]
macro_rules! suite {
    ($driver:ty) => {
        $crate::suite!($driver, |builder| builder);
        $crate::cases! {
            ($driver, |builder| builder)
            topologies: single, workers, workers_that_listen_for_themselves, acceptor_round_robin, acceptor_least_loaded, stages,
                threads, each_times_its_stages_and_counts_its_answers;
            tools: curl_in_each_version_plain_and_over_tls, openssl_with_its_own_choices, python_keeps_its_connections,
                the_client_of_the_h2_crate;
        }
    };
    ($driver:ty, $layout:expr) => {
        $crate::cases! {
            ($driver, $layout)
            http1: hello_on_one_connection_again_and_again, a_thousand_requests_in_one_write_are_answered_in_order,
                answers_of_all_kinds_keep_the_order_of_their_requests, head_says_what_get_would_and_sends_no_content,
                three_megabytes_go_in_and_come_back, an_upload_comes_whole_with_a_length_and_in_chunks,
                a_slow_reader_gets_all_of_a_big_download, a_client_that_expects_100_gets_it_before_its_body,
                trailers_come_in_and_go_out, a_body_is_decoded_by_a_job, a_request_may_come_byte_by_byte,
                a_panic_costs_its_own_connection_alone, an_exchange_without_an_answer_gets_500,
                half_a_close_at_every_offset, a_client_that_half_closes_gets_its_answers,
                resets_are_counted_and_make_no_lines, the_answer_reaches_a_peer_that_is_still_sending,
                a_broken_head_is_refused_and_its_connection_ends, many_clients_at_once_each_get_their_own_answers;
            http2: hello_with_prior_knowledge_again_and_again, a_hundred_streams_at_once,
                exchanges_mix_and_each_keeps_its_own_state, three_megabytes_go_in_and_come_back_beside_small_answers,
                an_exchange_without_an_answer_gets_500_and_the_others_go_on,
                no_mistake_of_a_service_hangs_a_stream_or_its_connection, nor_do_those_that_no_other_event_would_show,
                a_panic_refuses_what_is_left_of_its_connection_alone,
                a_shutdown_says_goaway_twice_and_answers_what_is_in_flight,
                a_shutdown_cuts_off_streams_that_outlast_its_grace, a_broken_rule_ends_the_connection_with_its_code,
                an_endless_answer_ends_with_its_reader, answers_of_all_kinds_come_on_streams_of_one_connection,
                a_client_that_half_closes_gets_its_answers_on_all_streams, half_a_close_at_every_offset_of_streams,
                a_reset_connection_takes_all_its_streams_along;
            secure: requests_over_tls_and_sessions_that_are_resumed, without_a_choice_the_port_decides,
                two_megabytes_each_way_over_tls, alpn_chooses_the_version, a_handshake_may_come_byte_by_byte,
                plain_http_on_the_tls_port_gets_an_alert, a_client_hello_on_the_plain_port_gets_400,
                half_a_handshake_is_no_burden, tls_1_2_serves_both_versions_and_resumes,
                a_handshake_of_tls_1_2_may_come_byte_by_byte;
            probe: answers_are_counted_by_class_in_both_versions, reading_and_writing_take_time_and_waiting_takes_none,
                without_a_probe_there_is_none;
            ends: a_shutdown_ends_the_idle_and_answers_what_is_in_flight, a_shutdown_cuts_off_what_outlasts_its_grace,
                a_shutdown_of_an_idle_server_is_quick, beyond_the_cap_connections_wait_in_the_kernel,
                everybody_has_a_turn_below_a_small_cap,
                a_head_that_trickles_ends_in_time_and_silence_ends_in_silence,
                slow_bodies_and_slow_readers_are_given_up,
                an_answer_may_take_longer_than_an_idle_connection_may_last,
                a_reset_is_noticed_while_an_answer_is_awaited, answers_for_those_who_have_gone_are_dropped, a_worker_that_is_replaced_under_load_loses_no_request,
                a_worker_that_is_replaced_finishes_what_it_has, what_cannot_be_built_says_why;
            doors: a_trusted_proxy_names_its_clients_and_they_are_counted, nobody_else_can_name_himself,
                a_unix_socket_serves_and_its_file_goes_with_it, newcomers_above_the_soft_cap_are_told_to_go_away,
                a_successor_takes_over_and_no_request_is_lost;
            pools: a_full_process_pool_refuses_with_503_and_recovers,
                a_request_that_is_under_way_waits_for_a_full_pool, handshakes_wait_for_a_full_pool,
                everything_offloaded_under_load;
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! cases {
    (($driver:ty, $layout:expr) $($module:ident: $($case:ident),+;)+) => {
        $(mod $module {
            $(#[test]
            fn $case() {
                if $crate::is_missing::<$driver>() {
                    return;
                }
                $crate::$module::$case::<$driver>($layout);
            })+
        })+
    };
}

#[cfg(test)]
mod tests {
    /// A case that is written and listed nowhere would never run.
    #[test]
    fn every_case_is_listed() {
        let list = include_str!("lib.rs");
        let list: Vec<&str> = list.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for source in [
            include_str!("http1.rs"),
            include_str!("http2.rs"),
            include_str!("secure.rs"),
            include_str!("ends.rs"),
            include_str!("doors.rs"),
            include_str!("pools.rs"),
            include_str!("probe.rs"),
            include_str!("tools.rs"),
            include_str!("topologies.rs"),
        ] {
            let cases = source
                .lines()
                .filter_map(|line| line.strip_prefix("pub fn ")?.split_once("<D: Driver>("))
                .map(|case| case.0);
            let missing: Vec<_> = cases.filter(|case| !list.contains(case)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    }
}
