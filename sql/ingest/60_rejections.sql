-- one row per raw file and reason: how many of its rows were rejected for it, and the first of them
with final as (
    select
        source_file,
        reason,
        count(*) as row_count,
        min(source_row) as first_row,
        arg_min(raw, source_row) as first_raw
    from rejected
    group by source_file, reason
)

select * from final
order by source_file, reason
