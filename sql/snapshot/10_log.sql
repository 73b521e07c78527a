-- one row per published event (view)
-- user_id, item_id   as the source has them
-- behavior           code: position in the settings' behaviors (funnel order), 0 is the weakest
-- event_time, category_id   as published; the time goes through a function so that what DuckDB knows of the input
--                           files (are there nulls?) cannot show in the bytes of the files written from it
with published as (
    select * from read_parquet(getvariable('event_files'))
),

final as (
    select
        user_id,
        item_id,
        cast(list_position(getvariable('behaviors'), behavior) - 1 as utinyint) as behavior,
        make_timestamptz(epoch_us(event_time)) as event_time,
        category_id
    from published
)

select * from final
