-- one row per user
-- user         dense id, 0-based: known users keep theirs, new ones follow by (first_seen, user_id)
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

matched as (
    select
        summary.*,
        known_users.user as known
    from summary
    left join known_users on summary.user_id = known_users.user_id
),

numbered as (
    select
        *,
        row_number() over (partition by known is null order by first_seen, user_id) - 1 as arrival
    from matched
),

final as (
    select
        cast(coalesce(known, getvariable('users_known') + arrival) as integer) as user,
        user_id,
        first_seen,
        events
    from numbered
)

select * from final
