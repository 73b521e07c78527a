-- one row per event whose user, item, behavior and time another event has that comes before it
-- A hash per event finds the few that may be duplicates; only those are compared for real.
with hashed as (
    select hash(user_id, item_id, behavior, event_time) as identity
    from candidates
    where reason is null
),

suspects as (
    select identity
    from hashed
    group by identity
    having count(*) > 1
),

final as (
    select rowid as candidate
    from candidates
    where
        reason is null
        and hash(user_id, item_id, behavior, event_time) in (select suspects.identity from suspects)
    qualify
        row_number() over (
            partition by user_id, item_id, behavior, event_time
            order by value nulls last, category_id nulls last, file_number, source_row
        ) > 1
)

select * from final
