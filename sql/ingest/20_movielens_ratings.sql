-- one row per line of a MovieLens ratings file (view): user, film, rating, timestamp
-- fault   null for a good row; the pattern passes nearly all of them, only the others are looked at closely
with split as (
    select
        source_row,
        line,
        string_split(line, getvariable('separator')) as parts
    from lines
),

faults as (
    select
        *,
        case
            when regexp_full_match(
                line,
                concat_ws(
                    getvariable('separator'),
                    '[0-9]{1,18}', '[0-9]{1,18}', '(0[.]5|[1-4]([.][05])?|5([.]0)?)', '[0-3]?[0-9]{1,9}'
                )
            ) then null
            else coalesce(
                line_fault(line, len(parts), 4),
                id_fault(parts[1], 'bad_user_id'),
                id_fault(parts[2], 'bad_item_id'),
                rating_fault(parts[3]),
                timestamp_fault(parts[4])
            )
        end as fault,
        try_cast(parts[3] as double) as rating
    from split
),

final as (
    select
        source_row,
        line,
        fault,
        try_cast(parts[1] as bigint) as user_id,
        try_cast(parts[2] as bigint) as item_id,
        cast(
            case when rating <= 2 then 'dislike' when rating < 4 then 'neutral' else 'like' end as behavior
        ) as behavior,
        1000000 * cast(try_cast(parts[4] as uinteger) as bigint) as time_us,
        cast(null as bigint) as category_id,
        rating as value
    from faults
)

select * from final
