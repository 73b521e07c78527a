-- one row per plain line of one's own CSV or TSV file (view): what 21_table gives for it
-- Ids are digits that fit, behaviors are known codes; only the time can be wrong.
-- A column that the log does not have is picked from the user's, so that there is one, and left empty.
with picked as (
    select
        source_row,
        line,
        user_id,
        item_id,
        clock,
        cast(
            columns(lambda c: c = if(getvariable('table_behavior') is null, 'user_id', 'behavior')) as varchar
        ) as code,
        columns(lambda c: c = if(getvariable('table_category') is null, 'user_id', 'category_id')) as category
    from plain
),

judged as (
    select
        *,
        if(
            getvariable('table_unit') = 'seconds',
            seconds_fault(clock),
            if(clock >= 4102444800000000 // getvariable('table_scale_us'), 'timestamp_out_of_range', null)
        ) as fault
    from picked
),

final as (
    select
        source_row,
        line,
        fault,
        user_id,
        item_id,
        cast(
            getvariable('table_behaviors')[
                if(getvariable('table_rule') = 'codes', list_position(getvariable('table_codes'), code), 1)
            ] as behavior
        ) as behavior,
        if(fault is null, clock * getvariable('table_scale_us'), null) as time_us,
        if(getvariable('table_category') is null, null, category) as category_id,
        cast(null as double) as value
    from judged
)

select * from final
