-- one row per line of a Taobao UserBehavior.csv (view): user,item,category,behavior,timestamp
-- fault   null for a good row; the pattern passes nearly all of them, only the others are looked at closely
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
        case
            when regexp_full_match(
                line, '[0-9]{1,18},[0-9]{1,18},[0-9]{1,18},(pv|fav|cart|buy),[0-3]?[0-9]{1,9}'
            ) then null
            else coalesce(
                line_fault(line, len(parts), 5),
                id_fault(parts[1], 'bad_user_id'),
                id_fault(parts[2], 'bad_item_id'),
                id_fault(parts[3], 'bad_category_id'),
                if(parts[4] in ('pv', 'fav', 'cart', 'buy'), null, 'unknown_behavior'),
                timestamp_fault(parts[5])
            )
        end as fault
    from split
),

final as (
    select
        source_row,
        line,
        fault,
        try_cast(parts[1] as bigint) as user_id,
        try_cast(parts[2] as bigint) as item_id,
        try_cast(parts[4] as behavior) as behavior,
        1000000 * cast(try_cast(parts[5] as uinteger) as bigint) as time_us,
        try_cast(parts[3] as bigint) as category_id,
        cast(null as double) as value
    from faults
)

select * from final
