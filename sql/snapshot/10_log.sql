-- one row per published event (view)
-- user_id, item_id   as the source has them
-- behavior           code: position in the settings' behaviors (funnel order), 0 is the weakest
-- event_time, category_id   as published
with published as (
    select * from read_parquet(getvariable('event_files'))
),

final as (
    select
        user_id,
        item_id,
        cast(list_position(getvariable('behaviors'), behavior) - 1 as utinyint) as behavior,
        event_time,
        category_id
    from published
)

select * from final
