-- one row per line of a Tianchi mobile log (view): user,item,behavior,geohash,category,hour
-- fault     null for a good row
-- time_us   the hour (YYYY-MM-DD HH) in Beijing, which had no daylight saving, minus eight hours
with split as (
    select
        source_row,
        line,
        string_split(line, ',') as parts
    from lines
),

timed as (
    select
        *,
        epoch_us(try_strptime(parts[6], '%Y-%m-%d %H')) - 28800000000 as time_us
    from split
),

final as (
    select
        source_row,
        line,
        coalesce(
            line_fault(line, len(parts), 6),
            id_fault(parts[1], 'bad_user_id'),
            id_fault(parts[2], 'bad_item_id'),
            if(parts[3] in ('1', '2', '3', '4'), null, 'unknown_behavior'),
            id_fault(parts[5], 'bad_category_id'),
            date_fault(parts[6] || ':00:00'),
            if(time_us < 0, 'timestamp_out_of_range', null)
        ) as fault,
        try_cast(parts[1] as bigint) as user_id,
        try_cast(parts[2] as bigint) as item_id,
        cast(
            case parts[3] when '1' then 'click' when '2' then 'fav' when '3' then 'cart' when '4' then 'buy' end
            as behavior
        ) as behavior,
        time_us,
        try_cast(parts[5] as bigint) as category_id,
        cast(null as double) as value
    from timed
)

select * from final
