-- one row per plain line of a Taobao UserBehavior.csv (view): what 20_taobao gives for it
with judged as (
    select
        *,
        seconds_fault(seconds) as fault
    from plain
),

final as (
    select
        source_row,
        line,
        fault,
        user_id,
        item_id,
        cast(behavior as behavior) as behavior,
        case when fault is null then 1000000 * seconds end as time_us,
        category_id,
        cast(null as double) as value
    from judged
)

select * from final
