-- one row per line of a Yelp review or tip file (view): a JSON object
-- fault         null for a good row: one JSON object that has the keys that are read, of their types
-- category_id   of the business, from the view categories; null where it has none
-- value         the stars of a review
with objects as (
    select
        source_row,
        line,
        if(
            json_valid(line) and starts_with(ltrim(line), '{'),
            cast(json_extract(line, ['$.user_id', '$.business_id', '$.date', '$.stars']) as varchar[]),
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
            key_fault(found[1], '[0-9A-Za-z_-]{22}', 'bad_user_id'),
            key_fault(found[2], '[0-9A-Za-z_-]{22}', 'bad_item_id'),
            key_fault(found[3], '[^"]*', 'bad_timestamp'),
            date_fault(found[3][2:-2]),
            case
                when not getvariable('rated') then null
                when found[4] is null then 'missing_key'
                else stars_fault(found[4])
            end
        ) as fault,
        if(getvariable('rated'), try_cast(found[4] as double), null) as stars
    from objects
),

final as (
    select
        faults.source_row,
        faults.line,
        faults.fault,
        faults.found[1][2:-2] as user_id,
        faults.found[2][2:-2] as item_id,
        cast(
            case
                when not getvariable('rated') then 'tip'
                when faults.stars <= 2 then 'dislike'
                when faults.stars < 4 then 'neutral'
                else 'like'
            end as behavior
        ) as behavior,
        if(faults.fault is null, epoch_us(try_cast(faults.found[3][2:-2] as timestamp)), null) as time_us,
        categories.category_id,
        faults.stars as value
    from faults
    left join categories on faults.found[2][2:-2] = categories.business_id
)

select * from final
