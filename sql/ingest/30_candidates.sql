-- one row per line of one raw file (appended to the table candidates)
-- reason           why the line is no event; null: it is one, unless it turns out to be a duplicate
-- outside_window   whether its time is outside [since, until), whatever the settings do about that
-- event_date       first day of its partition
-- raw              the line, for rejected rows only
with timed as (
    select
        *,
        case when fault is null then make_timestamptz(seconds * 1000000) end as event_time,
        fault is null and (
            coalesce(seconds < getvariable('since'), false)
            or coalesce(seconds >= getvariable('until'), false)
        ) as outside_window
    from parsed
),

judged as (
    select
        *,
        case
            when fault is not null then fault
            when outside_window and getvariable('outside_window') = 'quarantine' then 'outside_window'
        end as reason
    from timed
),

final as (
    select
        cast(getvariable('file_number') as usmallint) as file_number,
        source_row,
        cast(reason as reason) as reason,
        outside_window,
        user_id,
        item_id,
        if(reason is null, cast(behavior as behavior), null) as behavior,
        event_time,
        category_id,
        value,
        if(
            reason is null,
            cast(date_trunc(
                getvariable('partition'), date '1970-01-01' + cast(seconds // 86400 as integer)
            ) as date),
            null
        ) as event_date,
        if(reason is null, null, line) as raw
    from judged
)

select * from final
