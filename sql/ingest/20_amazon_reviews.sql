-- one row per line of an Amazon review file (view): a JSON object
-- fault      null for a good row: one JSON object that has the keys that are read, of their types
-- behavior   positive above three stars, else negative
with objects as (
    select
        source_row,
        line,
        if(
            json_valid(line) and starts_with(ltrim(line), '{'),
            cast(json_extract(line, ['$.reviewerID', '$.asin', '$.overall', '$.unixReviewTime']) as varchar[]),
            null
        ) as found
    from lines
),

faults as (
    select
        *,
        coalesce(
            line_fault(line, 1, 1),
            if(found is null, 'bad_json', null),
            key_fault(found[1], '(A|#oc-R)[0-9A-Z]{1,30}', 'bad_user_id'),
            key_fault(found[2], '[0-9A-Z]{10}', 'bad_item_id'),
            if(found[3] is null or found[4] is null, 'missing_key', null),
            stars_fault(found[3]),
            timestamp_fault(found[4])
        ) as fault,
        try_cast(found[3] as double) as stars
    from objects
),

final as (
    select
        source_row,
        line,
        fault,
        found[1][2:-2] as user_id,
        found[2][2:-2] as item_id,
        cast(if(stars > 3, 'positive', 'negative') as behavior) as behavior,
        1000000 * cast(try_cast(found[4] as uinteger) as bigint) as time_us,
        cast(null as varchar) as category_id,
        stars as value
    from faults
)

select * from final
