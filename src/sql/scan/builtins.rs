//! Words that stand before a parenthesis without calling a stored function: native functions, types and keywords.
//!
//! A stored function of such a name can still be called as `db.name(…)`. Sources: MariaDB 10.11
//! `information_schema.KEYWORDS` and `SQL_FUNCTIONS`, MySQL 8.0 manual 12.1 (names and operators reference).

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::sql::word::Word;

/// Families of native functions, by the beginning of their names.
const FAMILIES: [&[u8]; 14] = [
    b"st_", b"mbr", b"json_", b"wsrep_", b"column_", b"regexp_", b"gtid_", b"ps_", b"uuid_", b"inet", b"is_ipv",
    b"aes_", b"des_", b"vec_",
];

/// True if `name(` calls no stored function.
pub(super) fn is_builtin(name: &[u8], word: Word) -> bool {
    WORDS.contains(&word)
        || FAMILIES.iter().any(|f| name.get(..f.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(f)))
}

static WORDS: LazyLock<HashSet<Word>> =
    LazyLock::new(|| LIST.split_ascii_whitespace().map(|w| Word::pack(w.as_bytes())).collect());

const LIST: &str = "
    analyse
    abs accessible account acos action add add_months adddate addtime admin after against aggregate algorithm all
    alter always analyze and any any_value area as asbinary asc ascii asensitive asin astext aswkb aswkt
    asynchronous_connection_failover_add_source at atan atan2 atomic authors auto auto_increment autoextend_size avg
    avg_row_length backup before begin benchmark between bigint bin bin_to_uuid binary binlog binlog_gtid_pos bit
    bit_and bit_count bit_length bit_or bit_xor blob block body bool boolean both boundary btree buffer by byte
    cache call can_access_table cascade cascaded case cast catalog_name ceil ceiling centroid chain change changed
    channel char char_length character character_length charset check checkpoint checksum chr cipher class_origin
    client clob close coalesce code coercibility collate collation column columns comment commit committed compact
    completion compress compressed concat concat_ws concurrent condition connection connection_id consistent
    constraint constraint_catalog constraint_name constraint_schema contains context continue contributors conv
    convert convert_tz convexhull cos cot count cpu crc32 crc32c create cross crosses cube cume_dist curdate current
    current_date current_pos current_role current_time current_timestamp current_user cursor cursor_name curtime
    cycle data database databases datafile date date_add date_format date_sub datediff datetime day day_hour
    day_microsecond day_minute day_second dayname dayofmonth dayofweek dayofyear deallocate dec decimal declare
    decode decode_histogram default definer degrees delay_key_write delayed delete delete_domain_id dense_rank desc
    describe deterministic diagnostics dimension directory disable discard disjoint disk distance distinct
    distinctrow div do do_domain_ids double drop dual dumpfile duplicate dynamic each else elseif elsif elt empty
    enable enclosed encode encrypt end endpoint ends engine engines enum envelope equals error errors escape escaped
    event events every examined except exception exchange exclude execute exists exit exp expansion expire explain
    export export_set extended extent_size exteriorring extract extractvalue false fast faults federated fetch field
    fields file find_in_set first first_value fixed float float4 float8 floor flush following follows for force
    foreign format format_bytes format_pico_time format_time found found_rows from from_base64 from_days
    from_unixtime full fulltext function general generated geomcollection geometry geometrycollection geometryn
    geometrytype geomfromtext geomfromwkb get get_format get_lock glength global goto grant grants greatest group
    group_concat grouping handler hard hash having help hex high_priority history host hosts hour hour_microsecond
    hour_minute hour_second icu_version id identified if ifnull ignore ignore_domain_ids ignore_server_ids ignored
    immediate import in increment index indexes infile initial_size inner inout insensitive insert insert_method
    install instr int int1 int2 int3 int4 int8 integer interiorringn internal_table_rows intersect intersects
    interval into invisible invoker io io_thread ipc is is_free_lock is_used_lock is_uuid isclosed isempty isnull
    isolation isopen isring issimple issuer iterate join json kdf key key_block_size keys kill lag language last
    last_day last_insert_id last_value lastval lateral lcase lead leading least leave leaves left length lengthb
    less level like limit linear linefromtext linefromwkb lines linestring list ln load load_file local localtime
    localtimestamp locate lock locked locks log log10 log2 logfile logs long longblob longtext loop low_priority
    lower lpad ltrim make_set makedate maketime master master_connect_retry master_delay master_demote_to_replica
    master_demote_to_slave master_gtid_pos master_gtid_wait master_heartbeat_period master_host master_log_file
    master_log_pos master_password master_port master_pos_wait master_server_id master_ssl master_ssl_ca
    master_ssl_capath master_ssl_cert master_ssl_cipher master_ssl_crl master_ssl_crlpath master_ssl_key
    master_ssl_verify_server_cert master_use_gtid master_user match max max_connections_per_hour
    max_queries_per_hour max_rows max_size max_statement_time max_updates_per_hour max_user_connections maxvalue md5
    median medium mediumblob mediumint mediumtext member memory merge message_text microsecond mid middleint migrate
    min min_rows minus minute minute_microsecond minute_second minvalue mod mode modifies modify monitor month
    monthname multilinestring multipoint multipolygon mutex mysql mysql_errno name name_const names national natural
    natural_sort_key nchar nested never next nextval no no_wait no_write_to_binlog nocache nocycle nodegroup
    nomaxvalue nominvalue none not notfound now nowait nth_value ntile null nullif number numeric numgeometries
    numinteriorrings numpoints nvarchar nvl nvl2 oct octet_length of offset old_password on one online only open
    optimize option optionally options or ord order ordinality others out outer outfile over overlaps owner
    pack_keys package page page_checksum parse_vcol_expr parser partial partition partitioning partitions password
    path percent_rank percentile_cont percentile_disc period period_add period_diff persistent phase pi plugin
    plugins point pointfromtext pointfromwkb pointn pointonsurface polyfromtext polyfromwkb polygon port portion
    position pow power precedes preceding precision prepare preserve prev previous primary privileges procedure
    process processlist profile profiles proxy purge quarter query quick quote radians raise rand random_bytes range
    rank raw read read_only read_write reads real rebuild recover recursive redo_buffer_size redofile redundant
    ref_system_id references regexp relay relay_log_file relay_log_pos relay_thread relaylog release
    release_all_locks release_lock reload remove rename reorganize repair repeat repeatable replace replay replica
    replica_pos replicas replication require reset resignal restart restore restrict resume return returned_sqlstate
    returning returns reuse reverse revoke right rlike role roles_graphml rollback rollup round routine row
    row_count row_format row_number rowcount rownum rows rowtype rpad rtree rtrim savepoint schedule schema
    schema_name schemas sec_to_time second second_microsecond security select sensitive separator sequence serial
    serializable server session session_user set setval sformat sha sha1 sha2 share show shutdown sign signal signed
    simple sin skip slave slave_pos slaves sleep slow smallint snapshot socket soft some soname soundex sounds
    source space spatial specific sql sql_big_result sql_buffer_result sql_cache sql_calc_found_rows sql_no_cache
    sql_small_result sql_thread sql_tsi_day sql_tsi_hour sql_tsi_minute sql_tsi_month sql_tsi_quarter sql_tsi_second
    sql_tsi_week sql_tsi_year sqlexception sqlstate sqlwarning sqrt srid ssl stage start starting startpoint starts
    statement statement_digest statement_digest_text stats_auto_recalc stats_persistent stats_sample_pages status
    std stddev stddev_pop stddev_samp stop storage stored str_to_date straight_join strcmp string subclass_origin
    subdate subject subpartition subpartitions substr substring substring_index subtime sum super suspend swaps
    switches sys_guid sysdate system system_time system_user table table_checksum table_name tables tablespace tan
    temporary temptable terminated text than then threads ties time time_format time_to_sec timediff timestamp
    timestampadd timestampdiff tinyblob tinyint tinytext to to_base64 to_char to_days to_number to_seconds touches
    trailing transaction transactional trigger triggers trim true truncate type ucase unbounded uncommitted
    uncompress uncompressed_length undefined undo undo_buffer_size undofile unhex unicode uninstall union unique
    unix_timestamp unknown unlock unsigned until update updatexml upgrade upper usage use use_frm user
    user_resources using utc_date utc_time utc_timestamp uuid validate_password_strength value values var_pop
    var_samp varbinary varchar varchar2 varcharacter variables variance varying version versioning via view virtual
    visible wait wait_for_executed_gtid_set wait_until_sql_thread_after_gtids warnings week weekday weekofyear
    weight_string when where while window with within without work wrapper write x x509 xa xml xmltype xor y year
    year_month yearweek zerofill
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natives_and_others() {
        let builtin = |name: &str| is_builtin(name.as_bytes(), Word::pack(name.as_bytes()));
        for name in
            ["COUNT", "now", "JSON_EXTRACT", "st_astext", "in", "values", "varchar", "Date_Format", "ROW_NUMBER"]
        {
            assert!(builtin(name), "{name}");
        }
        for name in ["my_function", "total_visits", "sites", "pageviews"] {
            assert!(!builtin(name), "{name}");
        }
    }
}
