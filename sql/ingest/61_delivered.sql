-- one row per partition and raw file of the piece at hand: the good rows that were delivered
-- outside_window   those whose time is outside [since, until)
with final as (
    select
        partition_of(event_time) as event_date,
        cast(source_file as varchar) as source_file,
        count(*) as row_count,
        count(*) filter (
            where epoch_us(event_time) < getvariable('since') or epoch_us(event_time) >= getvariable('until')
        ) as outside_window
    from delivered
    group by event_date, source_file
)

select * from final
order by event_date, source_file
