-- one row per row that may be an event of the partitions at hand, delivered now or published earlier (view)
-- Displaced files are left out: published earlier, and their content is delivered again under a name before theirs.
with published as (
    select
        user_id,
        item_id,
        cast(behavior as behavior) as behavior,
        event_time,
        category_id,
        value,
        cast(source_file as source_file) as source_file,
        source_row
    from read_parquet(getvariable('published'), hive_partitioning = false)
    where not list_contains(getvariable('displaced'), source_file)
),

final as (
    select * from delivered
    union all by name
    select * from published
)

select * from final
