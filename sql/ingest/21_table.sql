-- one row per row of one's own log (view): fields are texts in the view fields, here they have types
-- fault     null for a good row
-- user_id, item_id, category_id   texts; of an int64 kind they are digits only
with clocked as (
    select
        *,
        table_clock_us(
            time_text,
            getvariable('table_unit'),
            getvariable('table_scale_us'),
            coalesce(getvariable('table_time_format'), '%Y')
        ) as clock_us,
        coalesce(
            case getvariable('table_unit')
                when 'date' then true
                when 'iso8601' then not regexp_matches(time_text, ':[^Z+-]*(Z|[+-][0-9:]+)$')
                when 'format' then not contains(getvariable('table_time_format'), '%z')
            end
            and getvariable('table_zone') != 'UTC',
            false
        ) as is_local
    from fields
),

-- Daylight saving: a local time is taken at the offset after the change and at the one before it. Neither gives the
-- local time back where the clocks skipped it, both do where it came twice.
late as (
    select
        *,
        if(
            is_local,
            epoch_us(timezone(getvariable('table_zone'), make_timestamp(clock_us))),
            clock_us
        ) as later_us
    from clocked
),

early as (
    select
        *,
        if(
            is_local,
            clock_us
            - epoch_us(timezone(getvariable('table_zone'), make_timestamptz(later_us - 86400000000)))
            + (later_us - 86400000000),
            later_us
        ) as earlier_us
    from late
),

timed as (
    select
        *,
        is_local
        and epoch_us(timezone(getvariable('table_zone'), make_timestamptz(later_us))) != clock_us as is_skipped,
        is_local
        and earlier_us != later_us
        and epoch_us(timezone(getvariable('table_zone'), make_timestamptz(earlier_us))) = clock_us as is_twice
    from early
),

named as (
    select
        *,
        try_cast(behavior_text as double) as number,
        case getvariable('table_rule')
            when 'codes'
                then
                    getvariable('table_behaviors')[list_position(getvariable('table_codes'), behavior_text)]
            when 'numbers'
                then
                    getvariable('table_behaviors')[
                        1 + len(list_filter(getvariable('table_bounds'), lambda b: number >= b))
                    ]
            else getvariable('table_behaviors')[1]
        end as behavior_name
    from timed
),

judged as (
    select
        *,
        coalesce(
            fault,
            table_id_fault(user_text, getvariable('table_user_type'), 'bad_user_id'),
            table_id_fault(item_text, getvariable('table_item_type'), 'bad_item_id'),
            if(
                category_text is null,
                null,
                table_id_fault(category_text, getvariable('table_category_type'), 'bad_category_id')
            ),
            if(
                getvariable('table_rule') = 'numbers',
                case
                    when behavior_text is null then 'bad_rating'
                    when number not between getvariable('table_lowest') and getvariable('table_highest')
                        then 'rating_off_scale'
                    else coalesce(
                        table_number_fault(behavior_text, 'bad_rating'),
                        if(behavior_name is null, 'rating_off_scale', null)
                    )
                end,
                null
            ),
            if(behavior_name is null, 'unknown_behavior', null),
            if(value_text is null, null, table_number_fault(value_text, 'bad_value')),
            table_time_fault(time_text, getvariable('table_unit'), clock_us),
            if(is_skipped, 'nonexistent_local_time', null),
            if(is_twice and getvariable('table_ambiguous') = 'quarantine', 'ambiguous_local_time', null)
        ) as reason
    from named
),

final as (
    select
        source_row,
        line,
        reason as fault,
        if(reason is null, user_text, null) as user_id,
        if(reason is null, item_text, null) as item_id,
        cast(if(reason is null, behavior_name, null) as behavior) as behavior,
        if(
            reason is null,
            if(is_twice and getvariable('table_ambiguous') = 'earlier', earlier_us, later_us),
            null
        ) as time_us,
        if(reason is null, category_text, null) as category_id,
        if(reason is null, try_cast(value_text as double), null) as value
    from judged
)

select * from final
