-- one row per pooled row whose user, item, behavior and time another one has that comes before it
-- A hash per row finds the few that may be duplicates; only those are compared for real.
with hashed as (
    select hash(user_id, item_id, behavior, event_time) as identity
    from pooled
),

suspects as (
    select identity
    from hashed
    group by identity
    having count(*) > 1
),

final as (
    select
        source_file,
        source_row,
        event_time
    from pooled
    where hash(user_id, item_id, behavior, event_time) in (select suspects.identity from suspects)
    qualify
        row_number() over (
            partition by user_id, item_id, behavior, event_time
            order by value nulls last, category_id nulls last, source_file, source_row
        ) > 1
)

select * from final
