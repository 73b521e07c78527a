-- one row per user
-- user
-- first_event   row of the user's first event
-- end_event     row after the user's last event
with final as (
    select
        user,
        cast(sum(events) over up_to - events as bigint) as first_event,
        cast(sum(events) over up_to as bigint) as end_event
    from users
    window up_to as (order by user rows between unbounded preceding and current row)
)

select * from final
