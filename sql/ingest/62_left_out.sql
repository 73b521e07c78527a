-- one row per partition and raw file: the rows that are left out as duplicates
with final as (
    select
        partition_of(event_time) as event_date,
        cast(source_file as varchar) as source_file,
        count(*) as row_count
    from duplicates
    group by event_date, source_file
)

select * from final
order by event_date, source_file
