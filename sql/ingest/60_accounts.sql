-- one row per raw file and fate of its lines: reason null is an event, 'duplicate' and 'blank' are what they say, any
-- other is quarantined
-- first_row, first_raw   the first such line
with final as (
    select
        file_number,
        cast(reason as varchar) as reason,
        count(*) as row_count,
        count(*) filter (where outside_window) as outside_window,
        min(source_row) as first_row,
        arg_min(raw, source_row) as first_raw
    from candidates
    where file_number > 0
    group by file_number, reason
)

select * from final
order by file_number, reason nulls first
