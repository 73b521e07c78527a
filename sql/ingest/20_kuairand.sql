-- one row per line of a KuaiRand log (view): one impression; user,video,date,hour,ms, 7 flags, 4 durations, 3 more
-- fault      null for a good row; a last column that is empty is a line that ends too early
-- behavior   the strongest feedback of the impression: hate, follow, like, long_view, click (or a comment or forward
--            without any of these), and skip if there is none
-- value      the feedback label: 0 negative (hate, skip), 1 positive
with split as (
    select
        source_row,
        line,
        string_split(line, ',') as parts
    from lines
),

faults as (
    select
        *,
        coalesce(
            line_fault(line, len(parts), 19),
            if(parts[19] = '', 'missing_columns', null),
            id_fault(parts[1], 'bad_user_id'),
            id_fault(parts[2], 'bad_item_id'),
            if(
                regexp_full_match(parts[5], '[0-9]+'),
                milliseconds_fault(coalesce(try_cast(parts[5] as bigint), 9223372036854775807)),
                'bad_timestamp'
            ),
            if(regexp_full_match(array_to_string(parts[6:12], ','), '[01](,[01]){6}'), null, 'bad_flag')
        ) as fault
    from split
),

named as (
    select
        *,
        case
            when parts[11] = '1' then 'hate'
            when parts[8] = '1' then 'follow'
            when parts[7] = '1' then 'like'
            when parts[12] = '1' then 'long_view'
            when '1' in (parts[6], parts[9], parts[10]) then 'click'
            else 'skip'
        end as feedback
    from faults
),

final as (
    select
        source_row,
        line,
        fault,
        try_cast(parts[1] as bigint) as user_id,
        try_cast(parts[2] as bigint) as item_id,
        cast(feedback as behavior) as behavior,
        case when fault is null then 1000 * cast(parts[5] as bigint) end as time_us,
        cast(null as bigint) as category_id,
        cast(feedback not in ('hate', 'skip') as double) as value
    from named
)

select * from final
