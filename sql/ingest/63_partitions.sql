-- one row per written file, raw file and behavior: events, first and last time in microseconds since 1970, and two sums
-- over hashes of the events
-- The sums do not depend on order and add up over partitions: together they are the digest of the content.
with final as (
    select
        filename,
        source_file,
        behavior,
        count(*) as row_count,
        epoch_us(min(event_time)) as first_us,
        epoch_us(max(event_time)) as last_us,
        sum(hash(user_id, item_id, behavior, event_time, category_id, value)) as first_sum,
        sum(hash('second', user_id, item_id, behavior, event_time, category_id, value)) as second_sum
    from read_parquet(getvariable('written'), filename = true, hive_partitioning = false)
    group by filename, source_file, behavior
)

select * from final
order by filename, source_file, behavior
