-- one row per user
-- user         dense id, 0-based, by (first_seen, user_id): arrivals never move an id
-- user_id      as the source has it
-- first_seen   time of the user's first event
-- events       number of the user's events
with summary as (
    select
        user_id,
        min(event_time) as first_seen,
        count(*) as events
    from kept
    group by user_id
),

final as (
    select
        cast(row_number() over (order by first_seen, user_id) - 1 as integer) as user,
        user_id,
        first_seen,
        events
    from summary
)

select * from final
