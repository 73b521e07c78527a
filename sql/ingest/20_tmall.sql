-- one row per line of a Tmall user_log_format1.csv (view): user,item,category,seller,brand,day,action
-- fault     null for a good row; a last column that is empty is a line that ends too early
-- time_us   midnight of the day (mmdd of 2014) in Beijing, which had no daylight saving: 16:00 UTC of the day before
with split as (
    select
        source_row,
        line,
        string_split(line, ',') as parts
    from lines
),

dated as (
    select
        *,
        try_strptime('2014' || lpad(parts[6], 4, '0'), '%Y%m%d') as day
    from split
),

final as (
    select
        source_row,
        line,
        coalesce(
            line_fault(line, len(parts), 7),
            id_fault(parts[1], 'bad_user_id'),
            id_fault(parts[2], 'bad_item_id'),
            id_fault(parts[3], 'bad_category_id'),
            if(day is not null and regexp_full_match(parts[6], '[0-9]{3,4}'), null, 'bad_timestamp'),
            if(parts[7] = '', 'missing_columns', null),
            if(parts[7] in ('0', '1', '2', '3'), null, 'unknown_behavior')
        ) as fault,
        try_cast(parts[1] as bigint) as user_id,
        try_cast(parts[2] as bigint) as item_id,
        cast(
            case parts[7] when '0' then 'click' when '1' then 'cart' when '2' then 'buy' when '3' then 'fav' end
            as behavior
        ) as behavior,
        epoch_us(day) - 28800000000 as time_us,
        try_cast(parts[3] as bigint) as category_id,
        cast(null as double) as value
    from dated
)

select * from final
