-- one row per row of one raw file, as it waits on disk for the writing of its partition
-- reason           why the row is no event; null: it is one, unless it turns out to be a duplicate
-- raw              the line, for rejected rows only; their other columns mean nothing
-- event_date       first day of the partition; null for rejected rows
-- outside_window   whether a good row is outside [since, until), which the settings then allow
with timed as (
    select
        *,
        make_timestamptz(time_us) as event_time,
        coalesce(time_us < getvariable('since') or time_us >= getvariable('until'), false)
        and fault is null as outside_window
    from parsed
),

judged as (
    select
        *,
        case
            -- A last line without a line end that is no whole row was cut, whatever else it looks like.
            when
                source_row = getvariable('unterminated')
                and (fault in ('missing_columns', 'bad_timestamp', 'bad_json', 'bad_quotes') or outside_window)
                then 'cut_line'
            when fault is not null then fault
            when outside_window and getvariable('outside_window') = 'quarantine' then 'outside_window'
        end as reason
    from timed
),

final as (
    select
        source_row,
        user_id,
        item_id,
        behavior,
        event_time,
        category_id,
        value,
        cast(reason as reason) as reason,
        case when reason is not null then rtrim(line, chr(10)) end as raw,
        case when reason is null then partition_of(event_time) end as event_date,
        outside_window
    from judged
)

select * from final
