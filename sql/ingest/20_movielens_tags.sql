-- one row per line of a MovieLens tags file (view): user, film, tag, timestamp
-- The tag may hold quotes and separators: user and film are the first two columns, the timestamp is the last.
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
        coalesce(
            line_fault(line, least(len(parts), 4), 4),
            id_fault(parts[1], 'bad_user_id'),
            id_fault(parts[2], 'bad_item_id'),
            timestamp_fault(parts[-1])
        ) as fault
    from split
),

final as (
    select
        source_row,
        line,
        fault,
        try_cast(parts[1] as bigint) as user_id,
        try_cast(parts[2] as bigint) as item_id,
        cast('tag' as behavior) as behavior,
        1000000 * cast(try_cast(parts[-1] as uinteger) as bigint) as time_us,
        cast(null as bigint) as category_id,
        cast(null as double) as value
    from faults
)

select * from final
