-- one row per good row of the delivered files that is in the piece at hand (view)
with final as (
    select
        user_id,
        item_id,
        cast(behavior as behavior) as behavior,
        event_time,
        category_id,
        value,
        cast(getvariable('names')[file] as source_file) as source_file,
        source_row
    from read_parquet(getvariable('piece'), hive_partitioning = true, hive_types = { 'file': usmallint })
)

select * from final
