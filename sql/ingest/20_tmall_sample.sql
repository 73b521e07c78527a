-- one row per line of the reduced Tmall log (view): index,user,item,day,action
-- columns as in 20_tmall; the index is the row's number in the full log and is not kept
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
        try_strptime('2014' || lpad(parts[4], 4, '0'), '%Y%m%d') as day
    from split
),

final as (
    select
        source_row,
        line,
        coalesce(
            line_fault(line, len(parts), 5),
            id_fault(parts[2], 'bad_user_id'),
            id_fault(parts[3], 'bad_item_id'),
            if(day is not null and regexp_full_match(parts[4], '[0-9]{3,4}'), null, 'bad_timestamp'),
            if(parts[5] = '', 'missing_columns', null),
            if(parts[5] in ('0', '1', '2', '3'), null, 'unknown_behavior')
        ) as fault,
        try_cast(parts[2] as bigint) as user_id,
        try_cast(parts[3] as bigint) as item_id,
        cast(
            case parts[5] when '0' then 'click' when '1' then 'cart' when '2' then 'buy' when '3' then 'fav' end
            as behavior
        ) as behavior,
        epoch_us(day) - 28800000000 as time_us,
        cast(null as bigint) as category_id,
        cast(null as double) as value
    from dated
)

select * from final
