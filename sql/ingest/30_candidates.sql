-- one row per line of one raw file (appended to the table candidates)
-- reason           why the line is no event; null: it is one, unless it turns out to be a duplicate
-- outside_window   whether its time is outside [since, until), whatever the settings do about that
-- event_date       first day of its partition
-- raw              the line, for rejected rows only; their other columns mean nothing
with timed as (
    select
        *,
        -- 32 bits of seconds reach beyond 2099, so nothing here can overflow.
        make_timestamptz(cast(seconds as bigint) * 1000000) as event_time,
        date '1970-01-01' + cast(seconds // 86400 as integer) as event_day,
        coalesce(seconds < getvariable('since') or seconds >= getvariable('until'), false)
        and fault is null as outside_window
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
        behavior,
        event_time,
        category_id,
        value,
        case getvariable('partition')
            when 'day' then event_day
            else cast(date_trunc(getvariable('partition'), event_day) as date)
        end as event_date,
        case when reason is not null then line end as raw
    from judged
)

select * from final
