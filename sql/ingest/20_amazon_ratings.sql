-- one row per line of an Amazon ratings file (view): user,item,rating,timestamp or, from 2018 on, item,user,rating,...
-- fault      null for a good row; user and item are where the layout says
-- behavior   positive above three stars, else negative
with split as (
    select
        source_row,
        line,
        string_split(line, ',') as parts
    from lines
),

named as (
    select
        *,
        if(getvariable('item_first'), parts[2], parts[1]) as user_id,
        if(getvariable('item_first'), parts[1], parts[2]) as item_id
    from split
),

faults as (
    select
        *,
        coalesce(
            line_fault(line, len(parts), 4),
            if(regexp_full_match(user_id, '(A|#oc-R)[0-9A-Z]{1,30}'), null, 'bad_user_id'),
            if(regexp_full_match(item_id, '[0-9A-Z]{10}'), null, 'bad_item_id'),
            stars_fault(parts[3]),
            timestamp_fault(parts[4])
        ) as fault,
        try_cast(parts[3] as double) as stars
    from named
),

final as (
    select
        source_row,
        line,
        fault,
        user_id,
        item_id,
        cast(if(stars > 3, 'positive', 'negative') as behavior) as behavior,
        1000000 * cast(try_cast(parts[4] as uinteger) as bigint) as time_us,
        cast(null as varchar) as category_id,
        stars as value
    from faults
)

select * from final
